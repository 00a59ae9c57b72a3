"""Verdicts in the ledger: the intervals of now, what was said before, and the account of each day.

All functions work in the transaction of their caller.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import pairwise
from typing import Any, Final, NamedTuple

import sqlalchemy as sa

from kerege_collector import verdict_tables as tables
from kerege_collector.rollup import Day
from kerege_collector.schema import put
from kerege_collector.timeline import Interval

BEGINNING: Final = 0
FAR: Final = 1 << 40
"""Beyond all times that records may have."""


@dataclass(frozen=True, slots=True)
class Revision:
    """Of a span we had said one thing and say another since ``said_s``, because of ``why``."""

    start_s: int
    end_s: int
    said_s: int
    why: str
    before: list[Interval]
    after: list[Interval]


class Judged(NamedTuple):
    """By which settings a center is judged from a moment on (`verdict_tables.judged_by`)."""

    since_s: int
    settings: str
    heartbeat_s: int


# asked of each center each minute: built once
_START_S: Final = sa.bindparam("start_s", type_=sa.BigInteger)
_END_S: Final = sa.bindparam("end_s", type_=sa.BigInteger)
_MINE: Final = tables.interval.c.center == sa.bindparam("center", type_=sa.Text)
_IN_ORDER: Final = sa.select(tables.interval).where(_MINE).order_by(tables.interval.c.start_s)
_WITHIN: Final = _IN_ORDER.where(tables.interval.c.start_s < _END_S, tables.interval.c.end_s > _START_S)
_TOUCHING: Final = _IN_ORDER.where(tables.interval.c.start_s <= _END_S, tables.interval.c.end_s >= _START_S)
_SAID_UNTIL: Final = sa.select(sa.func.max(tables.interval.c.end_s)).where(_MINE)
_JUDGED_BY: Final = (
    sa.select(tables.judged_by)
    .where(tables.judged_by.c.center == sa.bindparam("center", type_=sa.Text))
    .order_by(tables.judged_by.c.since_s)
)


def judged_by(connection: sa.Connection, center: str) -> list[Judged]:
    """By which settings a center was and is judged, the oldest first."""
    return [Judged(row.since_s, row.settings, row.heartbeat_s) for row in connection.execute(_JUDGED_BY, {"center": center})]


def judge_by(connection: sa.Connection, center: str, settings: Judged) -> None:
    """From now on by these."""
    put(connection, tables.judged_by, [{"center": center, **settings._asdict()}])


def said_until(connection: sa.Connection, center: str) -> int | None:
    """Up to when there are verdicts; None where there is none."""
    found: int | None = connection.execute(_SAID_UNTIL, {"center": center}).scalar_one()
    return found


def read(connection: sa.Connection, center: str, start_s: int, end_s: int) -> list[Interval]:
    """The verdicts on [start_s, end_s), clipped to it."""
    rows = connection.execute(_WITHIN, {"center": center, "start_s": start_s, "end_s": end_s})
    return [_clipped(_interval(row), start_s, end_s) for row in rows]


def around(connection: sa.Connection, center: str, time_s: int) -> list[Interval]:
    """The interval that holds a second, whole; empty where there is no verdict on it."""
    return [_interval(row) for row in connection.execute(_WITHIN, {"center": center, "start_s": time_s, "end_s": time_s + 1})]


def write(connection: sa.Connection, center: str, found: Sequence[Interval], said_s: int, why: str) -> list[tuple[int, int]]:
    """Let these intervals be what we say of their span; returns the parts that are revised."""
    start_s, end_s = found[0].start_s, found[-1].end_s
    rows = connection.execute(_TOUCHING, {"center": center, "start_s": start_s, "end_s": end_s}).all()
    before = [_interval(row) for row in rows]
    overlapping = [_clipped(each, start_s, end_s) for each in before if each.start_s < end_s and each.end_s > start_s]
    changed = differences(overlapping, found)
    for first, last in changed:
        old = [_clipped(each, first, last) for each in overlapping if each.start_s < last and each.end_s > first]
        new = [_clipped(each, first, last) for each in found if each.start_s < last and each.end_s > first]
        values = {"center": center, "start_s": first, "end_s": last, "said_s": said_s, "why": why}
        connection.execute(sa.insert(tables.revision).values(**values, before=_text(old), after=_text(new)))
    left = [each._replace(end_s=min(each.end_s, start_s)) for each in before if each.start_s < start_s]
    right = [each._replace(start_s=max(each.start_s, end_s)) for each in before if each.end_s > end_s]
    _replace(connection, center, rows, _joined([*left, *found, *right]), said_s)
    return changed


def trim(connection: sa.Connection, center: str, kept: tuple[int, int], said_s: int, why: str) -> list[tuple[int, int]]:
    """Outside the span that is kept nothing is said of a center any more; returns the spans of which something was."""
    revised = []
    for first_s, last_s in ((BEGINNING, kept[0]), (kept[1], FAR)):
        rows = connection.execute(_WITHIN, {"center": center, "start_s": first_s, "end_s": last_s}).all()
        gone = [_clipped(_interval(row), first_s, last_s) for row in rows]
        if not gone:
            continue
        values = {"center": center, "start_s": gone[0].start_s, "end_s": gone[-1].end_s, "said_s": said_s, "why": why}
        connection.execute(sa.insert(tables.revision).values(**values, before=_text(gone), after=_text([])))
        left = [each._replace(end_s=min(each.end_s, first_s)) for each in map(_interval, rows) if each.start_s < first_s]
        right = [each._replace(start_s=max(each.start_s, last_s)) for each in map(_interval, rows) if each.end_s > last_s]
        _replace(connection, center, rows, [*left, *right], said_s)
        revised.append((gone[0].start_s, gone[-1].end_s))
    return revised


def account_revised(connection: sa.Connection, center: str, span: tuple[int, int], said_s: int, why: str) -> None:
    """In a span no state has changed, and by which opening hours its days are accounted has."""
    values = {"center": center, "start_s": span[0], "end_s": span[1], "said_s": said_s, "why": why}
    connection.execute(sa.insert(tables.revision).values(**values, before=_text([]), after=_text([])))


def differences(before: Sequence[Interval], after: Sequence[Interval]) -> list[tuple[int, int]]:
    """The spans, neighbours joined, in which two accounts differ in state or cause; of what the first does not speak is no difference."""
    moments = sorted({moment for each in (*before, *after) for moment in each[:2]})
    old, new = iter(before), iter(after)
    found: list[tuple[int, int]] = []
    one, other = next(old, None), next(new, None)
    for first, last in pairwise(moments):
        while one is not None and one.end_s <= first:
            one = next(old, None)
        while other is not None and other.end_s <= first:
            other = next(new, None)
        if one is None or other is None or one.start_s > first or other.start_s > first or one[2:4] == other[2:4]:
            continue
        if found and found[-1][1] == first:
            found[-1] = found[-1][0], last
        else:
            found.append((first, last))
    return found


def revisions(connection: sa.Connection, center: str, start_s: int, end_s: int) -> list[Revision]:
    """What was said of a span before, in the order in which it was revised."""
    column = tables.revision.c
    wanted = sa.select(tables.revision).where(column.center == center, column.start_s < end_s, column.end_s > start_s).order_by(column.id)
    return [
        Revision(row.start_s, row.end_s, row.said_s, row.why, _intervals(row.before), _intervals(row.after))
        for row in connection.execute(wanted)
    ]


def put_day(connection: sa.Connection, center: str, day: date, seconds: Day) -> None:
    """The account of one local date."""
    put(connection, tables.rollup, [{"center": center, "day": day.isoformat(), "seconds": seconds.to_json()}])


def days(connection: sa.Connection, center: str, first: date, last: date) -> Iterator[tuple[date, Day]]:
    """The accounts of the local dates from first to last."""
    column = tables.rollup.c
    wanted = sa.select(tables.rollup).where(column.center == center, column.day >= first.isoformat(), column.day <= last.isoformat())
    for row in connection.execute(wanted.order_by(column.day)):
        yield date.fromisoformat(row.day), Day.from_json(row.seconds)


def drop_days(connection: sa.Connection, center: str, first: date, last: date) -> None:
    """Only the local dates from first to last have an account."""
    column = tables.rollup.c
    outside = sa.or_(column.day < first.isoformat(), column.day > last.isoformat())
    connection.execute(sa.delete(tables.rollup).where(column.center == center, outside))


def due(connection: sa.Connection, center: str, spans: Iterable[tuple[int, int]]) -> None:
    """The ``state`` points of these spans must be written again."""
    rows = [{"center": center, "start_s": start_s, "end_s": end_s} for start_s, end_s in spans]
    if rows:
        connection.execute(sa.insert(tables.points_due), rows)


def met(connection: sa.Connection, centers: Iterable[str], now_s: int) -> dict[str, int]:
    """Since when each center is known; those that are met for the first time are from now on."""
    since = {row.center: row.since_s for row in connection.execute(sa.select(tables.known))}
    new = [{"center": center, "since_s": now_s} for center in centers if center not in since]
    put(connection, tables.known, new)
    return since | {row["center"]: now_s for row in new}


def _replace(connection: sa.Connection, center: str, rows: Sequence[sa.Row[Any]], wanted: Sequence[Interval], said_s: int) -> None:
    """Only rows that change are written: an ordinary minute lengthens one."""
    column = tables.interval.c
    old = {row.start_s: row for row in rows}
    new = {each.start_s: each for each in wanted}
    gone = [start_s for start_s in old if start_s not in new]
    for start_s in gone:
        connection.execute(sa.delete(tables.interval).where(column.center == center, column.start_s == start_s))
    values = []
    for start_s, each in new.items():
        was = old.get(start_s)
        if was is not None and _interval(was) == each:
            continue
        same = was is not None and (was.state, was.cause, was.rule) == each[2:]
        values.append({"center": center, **each._asdict(), "said_s": was.said_s if was is not None and same else said_s})
    put(connection, tables.interval, values)


def _joined(parts: Sequence[Interval]) -> list[Interval]:
    joined: list[Interval] = []
    for each in parts:
        if joined and joined[-1][2:] == each[2:]:
            joined[-1] = joined[-1]._replace(end_s=each.end_s)
        else:
            joined.append(each)
    return joined


def _clipped(each: Interval, start_s: int, end_s: int) -> Interval:
    return each._replace(start_s=max(each.start_s, start_s), end_s=min(each.end_s, end_s))


def _interval(row: sa.Row[Any]) -> Interval:
    return Interval(row.start_s, row.end_s, row.state, row.cause, row.rule)


def _text(found: Sequence[Interval]) -> str:
    return json.dumps([list(each) for each in found], separators=(",", ":"))


def _intervals(text: str) -> list[Interval]:
    return [Interval(*each) for each in json.loads(text)]
