"""When is a library open? Pure: dates and clock times of one zone in, spans of UTC seconds out.

What decides a day, the strongest first: an exception for its date, a public holiday, a season, the usual week. A calendar without a
week is open at all times. Zone rules come from the IANA data, so that a day on which the zone changes has its true length.
"""

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from functools import lru_cache
from itertools import pairwise
from typing import Final
from zoneinfo import ZoneInfo

MINUTES: Final = 24 * 60

Minutes = tuple[int, int]
"""From and to, in minutes since local midnight; `MINUTES` is the midnight at the day's end."""

Span = tuple[int, int]
"""From and to (not included), in seconds since 1970 UTC."""

Week = tuple[tuple[Minutes, ...], ...]
"""The ranges of Monday to Sunday."""


@dataclass(frozen=True, slots=True)
class Season:
    """A week that holds from one day of the year to another, both included; across New Year where ``first`` is the later one."""

    first: tuple[int, int]
    last: tuple[int, int]
    week: Week

    def holds(self, day: date) -> bool:
        """Is this day in the season?"""
        now = (day.month, day.day)
        return self.first <= now <= self.last if self.first <= self.last else now >= self.first or now <= self.last


@dataclass(frozen=True, slots=True)
class Special:
    """Dates with ranges of their own, both ends included; none: closed."""

    first: date
    last: date
    ranges: tuple[Minutes, ...]


@dataclass(frozen=True)
class Calendar:
    """The opening hours of one library. week: None where it is always open. holidays: closed days, or such with ``holiday_ranges``."""

    zone: ZoneInfo
    week: Week | None = None
    seasons: tuple[Season, ...] = ()
    exceptions: tuple[Special, ...] = ()
    holidays: Container[date] = frozenset()
    holiday_ranges: tuple[Minutes, ...] = ()

    def ranges(self, day: date) -> tuple[Minutes, ...]:
        """The hours of a local date."""
        for exception in self.exceptions:
            if exception.first <= day <= exception.last:
                return exception.ranges
        if self.week is None:
            return ((0, MINUTES),)
        if day in self.holidays:
            return self.holiday_ranges
        week = next((season.week for season in self.seasons if season.holds(day)), self.week)
        return week[day.weekday()]

    def day_of(self, time_s: int) -> date:
        """The local date of a moment."""
        return datetime.fromtimestamp(time_s, self.zone).date()

    def day_span(self, day: date) -> Span:
        """A local date, from midnight to midnight."""
        return _moment(self.zone, day, 0), _moment(self.zone, day + timedelta(days=1), 0)

    def days(self, start_s: int, end_s: int) -> Iterator[date]:
        """The local dates that a span of time touches."""
        day = self.day_of(start_s)
        while day <= self.day_of(max(end_s - 1, start_s)):
            yield day
            day += timedelta(days=1)

    def open_spans(self, start_s: int, end_s: int) -> list[Span]:
        """When the library is open in [start_s, end_s): disjoint spans in order."""
        found: list[Span] = []
        for day in self.days(start_s, end_s):
            for opens_s, closes_s in self._spans_of(day):
                first, last = max(opens_s, start_s), min(closes_s, end_s)
                if found and first <= found[-1][1] < last:
                    found[-1] = found[-1][0], last
                elif first < last and (not found or first > found[-1][1]):
                    found.append((first, last))
        return found

    def is_open(self, time_s: int) -> bool:
        """Is the library open at this moment?"""
        return any(opens_s <= time_s < closes_s for opens_s, closes_s in self._spans_of(self.day_of(time_s)))

    def open_since(self, time_s: int) -> int | None:
        """When the library opened that is open at this moment; None where it is closed, 0 where it never closes."""
        if self.week is None and not self.exceptions:
            return 0
        return next((opens_s for opens_s, closes_s in self._spans_of(self.day_of(time_s)) if opens_s <= time_s < closes_s), None)

    def _spans_of(self, day: date) -> Sequence[Span]:
        return _spans(self.zone, day, self.ranges(day))


@lru_cache(maxsize=100_000)
def _spans(zone: ZoneInfo, day: date, ranges: tuple[Minutes, ...]) -> tuple[Span, ...]:
    return tuple((_moment(zone, day, first), _moment(zone, day, last)) for first, last in ranges)


def _moment(zone: ZoneInfo, day: date, minutes: int) -> int:
    """A local clock time as a moment; one that comes twice is the first of them, except that a day begins where the day before ends."""
    day += timedelta(days=minutes // MINUTES)
    local = datetime.combine(day, time(minutes % MINUTES // 60, minutes % 60), zone)
    return int(local.timestamp())


def overlap(ranges: Sequence[Minutes]) -> tuple[Minutes, Minutes] | None:
    """Two ranges of one day that overlap, where there are such."""
    ordered = sorted(ranges)
    return next(((a, b) for a, b in pairwise(ordered) if b[0] < a[1]), None)
