"""One record a second and series: a time-series store would overwrite the first of two. Pure."""

from typing import Final

ABSURD_AHEAD_S: Final = 60
"""A series whose last time is further ahead of now than this was stamped by a clock that was wrong: not waited for."""

Series = tuple[str, str]


class Seconds:
    """The last second that each series has used; ``floor_s`` stands for series of which nothing is remembered."""

    def __init__(self, floor_s: int | None = None) -> None:
        self.floor_s = floor_s
        self._last_s: dict[Series, int] = {}

    def take(self, series: Series, time_s: int, floor_s: int | None = None) -> int:
        """The second for the next record of a series: its own, or the one after the last where that is taken."""
        taken_s = self._last_s.get(series, self.floor_s if floor_s is None else floor_s)
        if taken_s is not None and 0 <= taken_s - time_s <= ABSURD_AHEAD_S:
            time_s = taken_s + 1
        self._last_s[series] = time_s
        return time_s

    def used(self, series: Series, time_s: int) -> None:
        """A record of the series was given this second elsewhere."""
        self._last_s[series] = max(time_s, self._last_s.get(series, time_s))

    def clear(self) -> None:
        self._last_s.clear()
