"""Which month of the provider's plan a moment belongs to. Pure, on time-zone data that the agent ships."""

from datetime import UTC, date, datetime

from kerege_agent.timezones import zone


def period_of(utc_s: float, *, timezone: str, reset_day: int) -> str:
    """The first day, as ``2026-11-01``, of the plan's month that holds ``utc_s`` (seconds since 1970 UTC).

    In a month that is shorter than ``reset_day`` the plan starts anew on its last day.
    """
    today = datetime.fromtimestamp(utc_s, UTC).astimezone(zone(timezone)).date()
    start = _reset_in(today.year, today.month, reset_day)
    if today < start:
        year, month = (today.year, today.month - 1) if today.month > 1 else (today.year - 1, 12)
        start = _reset_in(year, month, reset_day)
    return start.isoformat()


def _reset_in(year: int, month: int, reset_day: int) -> date:
    following = date(year + month // 12, month % 12 + 1, 1)
    last_day = date.fromordinal(following.toordinal() - 1).day
    return date(year, month, min(reset_day, last_day))
