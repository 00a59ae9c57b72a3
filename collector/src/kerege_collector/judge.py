"""From evidence to verdicts: each step judges the spans that new evidence concerns, and what time has added since the last.

One transaction a center: intervals, revisions, the accounts of the days, and which points of the store must be written again. A crash
between two centers repeats nothing and loses nothing: a span waits in ``dirty`` until the transaction that has judged it.

A center whose settings in ``centers.toml`` have changed (since when it counts and is connected, its opening hours, its zone) is judged anew
from its beginning, in one transaction with the note that it now is judged by these. The ledger knows by which it was, so a restart with
another file is as a reload.
"""

import hashlib
import logging
from collections.abc import Iterator, Sequence
from datetime import date, datetime, time
from itertools import zip_longest
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
from kerege_collector.verdicts import BEGINNING, FAR, Judged
from kerege_collector.witness import HEARTBEAT_S

log = logging.getLogger(__name__)

DAY_AGAIN_S: Final = 600
"""How often the account of the day that is under way is brought up to date."""

TIME_PASSED: Final = "time"
"""Why verdicts are made where no evidence has come."""

SETTINGS: Final = "settings changed"
"""Why the whole past is judged anew."""


class Judge:
    """Used by one thread. Raises what the ledger raises (RetryLater)."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._day_due_s: dict[str, int] = {}
        self._digests: tuple[Region | None, dict[str, str]] = None, {}

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
        history = self._history(connection, region, center, now_s)
        anew = len(history) > 1 and history[-1].since_s == now_s and history[-1].settings != history[-2].settings
        gone = verdicts.trim(connection, center, _counted(entry, calendar), now_s, SETTINGS) if anew else []
        waiting = evidence.dirty(connection, [center]).get(center)
        met = evidence.first_and_last(connection, center)
        first_s = _begin(entry, calendar, since_s if met is None else min(since_s, met[0]))
        heartbeat_s = history[-1].heartbeat_s
        until_s = _end(entry, calendar, now_s if met is None else _settled(met[1], heartbeat_s, now_s))
        said_s = verdicts.said_until(connection, center)
        if anew:
            waiting = Dirty(first_s, max(said_s or first_s, until_s), SETTINGS)
        longest_s = max(each.heartbeat_s for each in history)
        window = _window(connection, center, waiting, first_s=first_s, said_s=said_s, until_s=until_s, heartbeat_s=longest_s)
        evidence.clean(connection, center)
        if window is None:
            if anew:
                _account_anew(connection, center, calendar, gone, now_s)
            return anew
        start_s, end_s = window
        standing = list(_standing(entry, calendar, first_s, end_s, heard_s=met[0] if met else None))
        found = _found(connection, center, window, history, standing)
        why = waiting.why if waiting else TIME_PASSED
        revised = verdicts.write(connection, center, found, now_s, why)
        new = [(said_s, end_s)] if said_s is not None and said_s < end_s else [(start_s, end_s)] if said_s is None else []
        verdicts.due(connection, center, [*revised, *new])
        if anew:
            _account_anew(connection, center, calendar, [*gone, *revised], now_s)
        else:
            self._account(connection, center, calendar, [*revised, *new], now_s)
        return True

    def _history(self, connection: sa.Connection, region: Region, center: str, now_s: int) -> list[Judged]:
        """By which settings the center was judged, and is; where they have changed the last begins now."""
        if self._digests[0] is not region:
            self._digests = region, {}
        digests = self._digests[1]
        entry = region.centers.get(center)
        settings = digests.get(center)
        if settings is None:
            settings = digests[center] = _digest(entry, region.calendar(center))
        heartbeat_s = entry.heartbeat_s if entry else HEARTBEAT_S
        history = verdicts.judged_by(connection, center)
        if not history or history[-1][1:] != (settings, heartbeat_s):
            now = Judged(now_s if history else BEGINNING, settings, heartbeat_s)
            verdicts.judge_by(connection, center, now)
            history = [*(each for each in history if each.since_s != now.since_s), now]
            if len(history) > 1:
                log.info("judge.settings_changed", extra={"fields": {"center": center}})
        return history

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


def _found(
    connection: sa.Connection, center: str, window: tuple[int, int], history: Sequence[Judged], standing: Sequence[Standing]
) -> list[Interval]:
    """What the evidence says of a window, each part of it by the heartbeat that the center had then."""
    start_s, end_s = window
    found: list[Interval] = []
    for each, later in zip_longest(history, history[1:]):
        first_s, last_s = max(start_s, each.since_s), end_s if later is None else min(end_s, later.since_s)
        if first_s < last_s:
            known = evidence.load(connection, center, first_s, last_s, heartbeat_s=each.heartbeat_s, standing=standing)
            found += intervals(known, first_s, last_s)
    return found


def _account_anew(connection: sa.Connection, center: str, calendar: Calendar, revised: Sequence[tuple[int, int]], now_s: int) -> None:
    """All days of a center whose settings have changed. Days of which only the account is another are a revision too."""
    found = verdicts.read(connection, center, BEGINNING, FAR)
    if not found:
        verdicts.drop_days(connection, center, date.max, date.min)
        return
    days = list(calendar.days(found[0].start_s, found[-1].end_s))
    before = dict(verdicts.days(connection, center, days[0], days[-1]))
    verdicts.drop_days(connection, center, days[0], days[-1])
    changed: list[tuple[int, int]] = []
    for day in days:
        start_s, end_s = calendar.day_span(day)
        verdicts.put_day(
            connection, center, day, account(verdicts.read(connection, center, start_s, end_s), calendar.open_spans(start_s, end_s))
        )
        if day not in before or any(first < end_s and last > start_s for first, last in revised):
            continue
        first_s = max(start_s, found[0].start_s)
        until_s = first_s + before[day].total  # the day that is under way was accounted for up to then
        if before[day] != account(verdicts.read(connection, center, first_s, until_s), calendar.open_spans(first_s, until_s)):
            joined = bool(changed) and changed[-1][1] == start_s
            changed = [*changed[:-1], (changed[-1][0], end_s)] if joined else [*changed, (start_s, end_s)]
    for start_s, end_s in changed:
        span = (max(start_s, found[0].start_s), min(end_s, found[-1].end_s))
        verdicts.account_revised(connection, center, span, now_s, SETTINGS)


def _digest(entry: Center | None, calendar: Calendar) -> str:
    """Of all settings by which the past is judged too."""
    judged = None if entry is None else (entry.registered, entry.connected, entry.closed, entry.link is None)
    return hashlib.sha256(repr((judged, calendar)).encode()).hexdigest()[:32]


def _counted(entry: Center | None, calendar: Calendar) -> tuple[int, int]:
    """From when to when a library counts."""
    return _begin(entry, calendar, BEGINNING), _end(entry, calendar, FAR)


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
