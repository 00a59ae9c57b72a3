"""Numbers, durations and times as readers of a language write them. Pure."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from babel.dates import format_date
from babel.numbers import format_decimal

MINUTE_S: Final = 60
HOUR_S: Final = 3600
DAY_S: Final = 86_400

Say = Callable[[str], str]
"""gettext: the English text → that of the language."""


def span(seconds: int, _: Say = str) -> str:
    """A duration as people say it: ``12 s``, ``5 min``, ``3 h 12 min``, ``5 d 3 h``."""
    seconds = max(seconds, 0)
    if seconds < MINUTE_S:
        return _("%(s)d s") % {"s": seconds}
    if seconds < HOUR_S:
        return _("%(min)d min") % {"min": seconds // MINUTE_S}
    if seconds < 2 * DAY_S:
        return _("%(h)d h %(min)d min") % {"h": seconds // HOUR_S, "min": seconds % HOUR_S // MINUTE_S}
    return _("%(d)d d %(h)d h") % {"d": seconds // DAY_S, "h": seconds % DAY_S // HOUR_S}


def number(value: float, language: str = "en") -> str:
    """At most three significant digits, no exponent, in groups of three: ``0.73``, ``612``, ``1,250``; ``0,73``, ``1 250``."""
    return format_decimal(round(value) if value >= 100 else float(f"{value:.3g}"), locale=language)


def utc(time_s: int) -> str:
    """``2026-11-23 20:30:00 UTC``."""
    return _at(time_s).strftime("%Y-%m-%d %H:%M:%S UTC")


def iso(time_s: int) -> str:
    """``2026-11-23T20:30:00Z``."""
    return _at(time_s).strftime("%Y-%m-%dT%H:%M:%SZ")


def clock(time_s: int, now_s: int, language: str = "en") -> str:
    """``20:30 UTC``, with the day where it is not today."""
    then = _at(time_s)
    day = "" if time_s // DAY_S == now_s // DAY_S else f"{format_date(then, 'd MMM', locale=language)} "
    return f"{day}{then:%H:%M} UTC"


def _at(time_s: int) -> datetime:
    return datetime.fromtimestamp(time_s, UTC)
