"""Trouble is said when it comes, again every few minutes while it lasts, and once more when it has gone."""

from collections import OrderedDict
from typing import Final

AGAIN_S: Final = 300.0
"""A trouble that lasts is said again this often."""

MAX_NAMES: Final = 1000


class Alarm:
    """Remembers what has been said. ``now_s`` is monotonic."""

    def __init__(self, *, again_s: float = AGAIN_S) -> None:
        self._again_s = again_s
        self._said: OrderedDict[str, float] = OrderedDict()

    def due(self, name: str, now_s: float) -> bool:
        """Is it time to say this?"""
        last = self._said.get(name)
        if last is not None and now_s - last < self._again_s:
            return False
        self._said[name] = now_s
        self._said.move_to_end(name)
        if len(self._said) > MAX_NAMES:
            self._said.popitem(last=False)
        return True

    def over(self, name: str) -> bool:
        """Forget it; True where it had been said."""
        return self._said.pop(name, None) is not None
