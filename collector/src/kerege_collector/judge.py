"""From evidence to verdicts: each step judges the spans that new evidence concerns, and what time has added since the last.

One transaction a center: intervals, revisions, the accounts of the days, and which points of the store must be written again. A crash
between two centers repeats nothing and loses nothing: a span waits in ``dirty`` until the transaction that has judged it.
"""

import logging
from collections.abc import Iterator
from datetime import date, datetime, time
from typing import Final
from zoneinfo import ZoneInfo

import sqlalchemy as sa

from kerege_collector import evidence, verdicts
from kerege_collector.centers import Center, Region
from kerege_collector.evidence import Dirty
from kerege_collector.hours import Calendar
from kerege_collector.ledger import Ledger
from kerege_collector.rollup import account
from kerege_collector.timeline import HELD_HEARTBEATS, Interval, Run, Standing, intervals
from kerege_collector.witness import HEARTBEAT_S

log = logging.getLogger(__name__)

DAY_AGAIN_S: Final = 600
"""How often the account of the day that is under way is brought up to date."""

TIME_PASSED: Final = "time"
"""Why verdicts are made where no evidence has come."""


class Judge:
    """Used by one thread. Raises what the ledger raises (RetryLater)."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._day_due_s: dict[str, int] = {}

    def step(self, region: Region, now_s: int) -> int:
        """Judge all that waits; returns how many centers have changed."""
        with self._ledger.transaction() as connection:
            waiting = evidence.dirty(connection)
            since = verdicts.met(connection, {*region.centers, *waiting}, now_s)
        changed = 0
        for center in {**dict.fromkeys(region.centers), **waiting}:
            with self._ledger.writing() as connection:
                changed += self._judge(connection, region, center, since[center], now_s)
        return changed

    def _judge(self, connection: sa.Connection, region: Region, center: str, since_s: int, now_s: int) -> bool:
        entry, calendar = region.centers.get(center), region.calendar(center)
        waiting = evidence.dirty(connection, [center]).get(center)
        met = evidence.first_and_last(connection, center)
        first_s = _begin(entry, calendar, since_s if met is None else min(since_s, met[0]))
        heartbeat_s = entry.heartbeat_s if entry else HEARTBEAT_S
        until_s = _end(entry, calendar, now_s if met is None else _settled(met[1], heartbeat_s, now_s))
        said_s = verdicts.said_until(connection, center)
        window = _window(connection, center, waiting, first_s=first_s, said_s=said_s, until_s=until_s, heartbeat_s=heartbeat_s)
        evidence.clean(connection, center)
        if window is None:
            return False
        start_s, end_s = window
        standing = list(_standing(entry, calendar, first_s, end_s, heard_s=met[0] if met else None))
        known = evidence.load(connection, center, start_s, end_s, heartbeat_s=heartbeat_s, standing=standing)
        found = intervals(known, start_s, end_s)
        why = waiting.why if waiting else TIME_PASSED
        revised = verdicts.write(connection, center, found, now_s, why)
        new = [(said_s, end_s)] if said_s is not None and said_s < end_s else [(start_s, end_s)] if said_s is None else []
        verdicts.due(connection, center, [*revised, *new])
        self._account(connection, center, calendar, [*revised, *new], now_s)
        return True

    def _account(self, connection: sa.Connection, center: str, calendar: Calendar, spans: list[tuple[int, int]], now_s: int) -> None:
        days = {day for start_s, end_s in spans for day in calendar.days(start_s, end_s)}
        today = calendar.day_of(now_s)
        if days == {today} and now_s < self._day_due_s.get(center, 0):
            return
        self._day_due_s[center] = now_s + DAY_AGAIN_S
        for day in sorted(days):
            start_s, end_s = calendar.day_span(day)
            found: list[Interval] = verdicts.read(connection, center, start_s, end_s)
            verdicts.put_day(connection, center, day, account(found, calendar.open_spans(start_s, end_s)))


def _window(
    connection: sa.Connection, center: str, waiting: Dirty | None, *, first_s: int, said_s: int | None, until_s: int, heartbeat_s: int
) -> tuple[int, int] | None:
    """What is to be judged: around the new evidence, and up to the present; never what was not said yet alone in the middle."""
    start_s = first_s if said_s is None else said_s
    end_s = max(until_s, said_s or first_s)
    if waiting is not None:
        early_s, late_s = evidence.widened(connection, center, waiting, heartbeat_s)
        start_s = max(min(start_s, early_s), first_s)
        end_s = max(until_s, said_s or first_s) if said_s is None or late_s >= said_s or until_s > said_s else late_s
    return (start_s, end_s) if start_s < end_s else None


def _settled(latest: Run, heartbeat_s: int, now_s: int) -> int:
    """Up to when something can be said: to the last tick of a center that is alive, else to the present."""
    return latest.last_s if now_s - latest.alive_s <= heartbeat_s * HELD_HEARTBEATS else now_s


def _begin(entry: Center | None, calendar: Calendar, since_s: int) -> int:
    """A library that is registered from a certain day counts from then on, be it heard before or not."""
    return since_s if entry is None or entry.registered is None else max(since_s, _midnight(entry.registered, calendar.zone))


def _end(entry: Center | None, calendar: Calendar, until_s: int) -> int:
    return until_s if entry is None or entry.closed is None else min(until_s, _midnight(entry.closed, calendar.zone))


def _standing(entry: Center | None, calendar: Calendar, first_s: int, end_s: int, *, heard_s: int | None) -> Iterator[Standing]:
    """When a library had no link: as the registry says; where it says nothing, one without a link until it is first heard."""
    if entry is None:
        return
    connected = entry.connected
    if isinstance(connected, bool):
        until_s = first_s if connected else end_s
    elif connected is not None:
        until_s = _midnight(connected, calendar.zone)
    elif entry.link is None:
        until_s = end_s if heard_s is None else heard_s
    else:
        return
    if until_s > first_s:
        yield Standing(first_s, until_s)


def _midnight(day: date, zone: ZoneInfo) -> int:
    return int(datetime.combine(day, time(), zone).timestamp())


def counts_now(entry: Center, calendar: Calendar, heard_s: int | None, now_s: int) -> bool:
    """Is this library registered, not closed, and connected at this moment? heard_s: when it was last heard."""
    if entry.closed is not None and now_s >= _midnight(entry.closed, calendar.zone):
        return False
    if entry.registered is not None and now_s < _midnight(entry.registered, calendar.zone):
        return False
    return not any(each.start_s <= now_s < each.end_s for each in _standing(entry, calendar, 0, now_s + 1, heard_s=heard_s))
