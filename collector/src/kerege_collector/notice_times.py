"""Times and durations inside a notice: in the library's own zone, in whole words. Pure.

A Kazakh time in "since 14:05" takes the ending of the ablative, which follows the last numeral that is spoken: 14:05-тен, 14:06-дан.
"""

from collections.abc import Iterable
from datetime import UTC, datetime, tzinfo
from gettext import NullTranslations
from typing import Final
from zoneinfo import ZoneInfo

from babel.dates import format_date

from kerege_collector.figures import DAY_S, HOUR_S, MINUTE_S

_ENDINGS: Final = ("ден", "ден", "ден", "тен", "тен", "тен", "дан", "ден", "ден", "дан")
"""Of numerals that end in 0 (as in 14:00, нөл) to 9; the tens have their own."""

_TENS: Final = {10: "нан", 20: "дан", 30: "дан", 40: "тан", 50: "ден"}


_DAYS: Final = {"kk": ("d MMMM", "y 'ж'. d MMMM"), "ru": ("d MMMM", "d MMMM y 'года'"), "en": ("d MMMM", "d MMMM y")}
"""Language → a day of this year, and of another one, as CLDR patterns."""


class Place:
    """The wall clock by which a notice is read: that of the first library. Where libraries' clocks differ, the offset is said."""

    def __init__(self, zones: Iterable[str], now_s: int, language: str) -> None:
        known = [zone for zone in map(_zone, zones) if zone is not None]
        self._zone: tzinfo = known[0] if known else UTC
        self._now = datetime.fromtimestamp(now_s, self._zone)
        self._doubtful = len({self._now.astimezone(zone).utcoffset() for zone in known}) != 1
        self._language = language

    def at(self, time_s: int) -> str:
        """``14:05``, with the day where it is not today."""
        return self._said(time_s, "")

    def since(self, time_s: int) -> str:
        """The same as it stands after "since"."""
        if self._language != "kk":
            return self.at(time_s)
        minute = datetime.fromtimestamp(time_s, self._zone).minute
        return self._said(time_s, f"-{_TENS.get(minute) or _ENDINGS[minute % 10]}")

    def _said(self, time_s: int, ending: str) -> str:
        then = datetime.fromtimestamp(time_s, self._zone)
        text = f"{then:%H:%M}{ending}"
        if self._language == "kk":
            text = f"сағат {text}"
        if self._doubtful:
            text = f"{text} ({_offset(then)})"
        if then.date() == self._now.date():
            return text
        day = format_date(then, _DAYS[self._language][then.year != self._now.year], locale=self._language)
        if self._language == "kk":
            return f"{day}, {text}"
        return f"{text} on {day}" if self._language == "en" else f"{text} {day}"


def _offset(then: datetime) -> str:
    """``UTC+05:00``; ``UTC`` alone where there is none."""
    text = then.strftime("%z")
    return "UTC" if text == "+0000" else f"UTC{text[:3]}:{text[3:5]}"


def duration(seconds: int, catalog: NullTranslations) -> str:
    """``2 hours 5 minutes``: two units at most. In Russian it is the accusative, as after уже and длилось."""
    minutes = max(seconds, 0) // MINUTE_S
    if minutes == 0:
        return catalog.gettext("less than a minute")
    if seconds < HOUR_S:
        return _minutes(minutes, catalog)
    hours = seconds // HOUR_S
    if seconds < DAY_S:
        larger, smaller = _hours(hours, catalog), minutes % 60 and _minutes(minutes % 60, catalog)
    else:
        larger, smaller = _days(hours // 24, catalog), hours % 24 and _hours(hours % 24, catalog)
    return f"{larger} {smaller}" if smaller else larger


def _minutes(number: int, catalog: NullTranslations) -> str:
    return catalog.ngettext("%(n)d minute", "%(n)d minutes", number) % {"n": number}


def _hours(number: int, catalog: NullTranslations) -> str:
    return catalog.ngettext("%(n)d hour", "%(n)d hours", number) % {"n": number}


def _days(number: int, catalog: NullTranslations) -> str:
    return catalog.ngettext("%(n)d day", "%(n)d days", number) % {"n": number}


def _zone(name: str) -> ZoneInfo | None:
    """None for a name that nobody knows: a notice must go out all the same, with its times in UTC."""
    try:
        return ZoneInfo(name)
    except (LookupError, OSError, ValueError):  # not found; a directory; no name at all
        return None
