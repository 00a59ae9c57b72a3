"""Opening hours as ``centers.toml`` writes them, and the `hours.Calendar` that they come to.

[hours.village]
mon-fri = ["09:00-13:00", "14:00-18:00"]
sat = ["10:00-15:00"]
seasons = [{ from = "06-01", to = "08-31", mon-fri = ["08:00-16:00"] }]
exceptions = [{ from = 2026-12-31, open = ["09:00-13:00"] }, { from = 2027-07-01, to = 2027-07-31, open = [] }]
"""

import re
from collections.abc import Iterator, Mapping
from datetime import date
from functools import cache
from typing import Annotated, Any, Final, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import holidays
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from kerege_collector.hours import Calendar, Minutes, Season, Special, Week, overlap

DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
RANGE: Final = re.compile(r"([01]\d|2[0-4]):([0-5]\d)-([01]\d|2[0-4]):([0-5]\d)")
_DAY_OF_YEAR: Final = re.compile(r"(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])")
MINUTES: Final = 24 * 60


def _range(text: str) -> str:
    if (found := RANGE.fullmatch(text)) is None:
        raise ValueError(f'wanted a range such as "09:00-18:00", got "{text[:60]}"')
    hours_from, minutes_from, hours_to, minutes_to = map(int, found.groups())
    first, last = hours_from * 60 + minutes_from, hours_to * 60 + minutes_to
    if not first < last <= MINUTES:
        raise ValueError(f'"{text}" ends before it begins: a range past midnight is two, the second on the next day')
    return text


def _day_of_year(text: str) -> str:
    if _DAY_OF_YEAR.fullmatch(text) is None:
        raise ValueError(f'wanted a day of the year as "MM-DD", got "{text[:60]}"')
    return text


def _zone(text: str) -> str:
    try:
        ZoneInfo(text)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f'wanted a time zone such as "Asia/Almaty", got "{text[:60]}"') from None
    return text


Zone = Annotated[str, AfterValidator(_zone)]
Ranges = list[Annotated[str, AfterValidator(_range)]]
DayOfYear = Annotated[str, AfterValidator(_day_of_year)]


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class WeekEntry(_Entry):
    """Weekdays and spans of them (``mon-fri``), each with its ranges; a day that is not named is closed."""

    days: dict[str, Ranges] = {}

    @model_validator(mode="before")
    @classmethod
    def _gather(cls, members: Any) -> Any:
        if not isinstance(members, dict):
            return members
        days = {name: value for name, value in members.items() if _days_of(name)}
        return {name: value for name, value in members.items() if name not in days} | ({"days": days} if days else {})

    def week(self) -> Week:
        """The ranges of each day."""
        found: list[tuple[Minutes, ...]] = [() for _ in DAYS]
        for name, ranges in self.days.items():
            for day in _days_of(name):
                found[day] = (*found[day], *minutes_of(ranges))
        return tuple(tuple(sorted(day)) for day in found)

    def contradictions(self) -> Iterator[str]:
        """Ranges of one day that overlap."""
        for name, ranges in zip(DAYS, self.week(), strict=True):
            if both := overlap(ranges):
                yield f"{name}: {text_of(both[0])} and {text_of(both[1])} overlap"


class SeasonEntry(WeekEntry):
    """A week for a part of each year."""

    first: DayOfYear = Field(alias="from", description="its first day, as MM-DD")
    last: DayOfYear = Field(alias="to", description="its last day, as MM-DD")

    def season(self) -> Season:
        return Season(_pair(self.first), _pair(self.last), self.week())


class ExceptionEntry(_Entry):
    """A date, or several, with hours of their own."""

    first: date = Field(alias="from", description="its first date")
    last: date | None = Field(default=None, alias="to")
    open: Ranges = Field(description="its hours; [] where it is closed")
    why: str = ""

    def exception(self) -> Special:
        return Special(self.first, self.last or self.first, tuple(minutes_of(self.open)))


class Hours(WeekEntry):
    """One set of opening hours, by whose name centers choose it."""

    seasons: list[SeasonEntry] = []
    exceptions: list[ExceptionEntry] = []
    on_holidays: Ranges = []

    def contradictions(self) -> Iterator[str]:
        yield from super().contradictions()
        for number, season in enumerate(self.seasons, start=1):
            yield from (f"seasons[{number}].{line}" for line in season.contradictions())
            for other in range(number):
                if other and _meet(self.seasons[other - 1].season(), season.season()):
                    yield f"seasons[{number}]: overlaps seasons[{other}]"
        for number, entry in enumerate(self.exceptions, start=1):
            place = f"exceptions[{number}]"
            if entry.last is not None and entry.last < entry.first:
                yield f"{place}.to: {entry.last} is before {entry.first}"
            if both := overlap(minutes_of(entry.open)):
                yield f"{place}.open: {text_of(both[0])} and {text_of(both[1])} overlap"
            for other in range(1, number):
                if _share_days(self.exceptions[other - 1], entry):
                    yield f"{place}: has days in common with exceptions[{other}]"


class Public(_Entry):
    """Public holidays: those of a country as the library `holidays` knows them, more of them, and such as are worked on."""

    country: Literal["KZ"] | None = "KZ"
    more: list[date] = []
    worked: list[date] = []


class PublicHolidays:
    """A container of dates."""

    def __init__(self, public: Public) -> None:
        self._public = public
        self._known = _country(public.country) if public.country else {}
        self._more, self._worked = frozenset(public.more), frozenset(public.worked)

    def __contains__(self, day: object) -> bool:
        return isinstance(day, date) and day not in self._worked and (day in self._more or day in self._known)

    def __repr__(self) -> str:
        return f"PublicHolidays({self._public!r})"


@cache
def _country(code: str) -> Mapping[Any, str]:
    found: Mapping[Any, str] = holidays.country_holidays(code)  # it fills itself, year by year, when it is asked
    return found


def calendar_of(hours: Hours, public: Public, zone: ZoneInfo) -> Calendar:
    """The calendar of a center that keeps these hours in this zone."""
    return Calendar(
        zone,
        week=hours.week(),
        seasons=tuple(entry.season() for entry in hours.seasons),
        exceptions=tuple(entry.exception() for entry in hours.exceptions),
        holidays=PublicHolidays(public),
        holiday_ranges=tuple(minutes_of(hours.on_holidays)),
    )


def minutes_of(ranges: Ranges) -> list[Minutes]:
    """``09:00-18:00`` → (540, 1080)."""
    return [(int(text[0:2]) * 60 + int(text[3:5]), int(text[6:8]) * 60 + int(text[9:11])) for text in ranges]


def text_of(minutes: Minutes) -> str:
    """The reverse of `minutes_of`, for one range."""
    first, last = minutes
    return f"{first // 60:02}:{first % 60:02}-{last // 60:02}:{last % 60:02}"


def _days_of(name: str) -> range:
    first, _dash, last = name.partition("-")
    if first not in DAYS or (last or first) not in DAYS:
        return range(0)
    return range(DAYS.index(first), DAYS.index(last or first) + 1)


def _pair(text: str) -> tuple[int, int]:
    return int(text[:2]), int(text[3:])


def _meet(one: Season, other: Season) -> bool:
    leap = 2024  # a year that has all days
    return any(one.holds(day) and other.holds(day) for day in (date.fromordinal(date(leap, 1, 1).toordinal() + n) for n in range(366)))


def _share_days(one: ExceptionEntry, other: ExceptionEntry) -> bool:
    return one.first <= (other.last or other.first) and other.first <= (one.last or one.first)
