"""What each center may cause only so often: a token bucket a center. The clock is passed in."""

from collections import OrderedDict
from typing import Final

MAX_REMEMBERED: Final = 10_000
"""Most centers whose buckets are remembered; one that is forgotten is full again."""


class Seldom:
    """Lets through ``burst`` events of each center, and then one every ``every_s``."""

    def __init__(self, every_s: float, *, burst: int) -> None:
        self._every_s = every_s
        self._burst = burst
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # center → (tokens, as of when)

    def allows(self, center: str, now_s: float) -> bool:
        """May this happen now? Then it counts."""
        tokens, then_s = self._buckets.pop(center, (float(self._burst), now_s))
        tokens = min(float(self._burst), tokens + max(now_s - then_s, 0.0) / self._every_s)
        allowed = tokens >= 1.0
        self._buckets[center] = (tokens - 1.0 if allowed else tokens, now_s)
        if len(self._buckets) > MAX_REMEMBERED:
            self._buckets.popitem(last=False)
        return allowed
