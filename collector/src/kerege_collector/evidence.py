"""Evidence in the ledger: written with the promises of a batch, read back around a window for the timeline.

All functions work in the transaction of their caller; what the database raises is the caller's to map.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from typing import Any, Final

import sqlalchemy as sa

from kerege_collector import evidence_tables as tables
from kerege_collector import verdict_tables
from kerege_collector.quality import Quality
from kerege_collector.schema import put
from kerege_collector.timeline import ALONE_HEARTBEATS, HELD_HEARTBEATS, PAIR_S, Bad, Correction, Evidence, Goodbye, Run, Standing, Start
from kerege_collector.witness import Findings

BEGINNING: Final = 0
FAR: Final = 1 << 40
"""Beyond all times that records may have."""

MAX_BOUND: Final = 500
"""Bound variables of a statement have a limit."""

# asked of each center each minute, or of each batch: built once
_CENTER: Final = sa.bindparam("center", type_=sa.Text)
_TIME_S: Final = sa.bindparam("time_s", type_=sa.BigInteger)
_START_S: Final = sa.bindparam("start_s", type_=sa.BigInteger)
_END_S: Final = sa.bindparam("end_s", type_=sa.BigInteger)
_DIRTY: Final = sa.select(tables.dirty)
_DIRTY_OF: Final = _DIRTY.where(tables.dirty.c.center.in_(sa.bindparam("centers", expanding=True)))
_CLEAN: Final = sa.delete(tables.dirty).where(tables.dirty.c.center == _CENTER)
_SKETCH: Final = sa.select(tables.quality.c.sketch).where(
    tables.quality.c.center == _CENTER, tables.quality.c.day == sa.bindparam("day"), tables.quality.c.open == sa.bindparam("open")
)
_SKETCHES: Final = sa.select(tables.quality.c.sketch).where(
    tables.quality.c.center == _CENTER,
    tables.quality.c.day >= sa.bindparam("first"),
    tables.quality.c.day <= sa.bindparam("last"),
    tables.quality.c.open == sa.bindparam("open"),
)
_MINE: Final = tables.run.c.center == _CENTER
_RUNS_OF_EPOCH: Final = sa.select(tables.run).where(_MINE, tables.run.c.epoch == sa.bindparam("epoch", type_=sa.Text))
_FIRST_S: Final = sa.select(sa.func.min(tables.run.c.first_s)).where(_MINE)
_LATEST: Final = sa.select(tables.run).where(_MINE).order_by(tables.run.c.alive_s.desc(), tables.run.c.first_seq.desc()).limit(1)
_ALIVE_BEFORE: Final = sa.select(sa.func.max(tables.run.c.alive_s)).where(_MINE, tables.run.c.alive_s < _TIME_S)
_FIRST_AFTER: Final = sa.select(sa.func.min(tables.run.c.first_s)).where(_MINE, tables.run.c.first_s > _TIME_S)
_COVERING: Final = (
    sa.select(tables.run.c.epoch)
    .where(_MINE, tables.run.c.first_s <= _TIME_S, tables.run.c.alive_s >= _TIME_S, tables.run.c.state.is_not(None))
    .limit(1)
)
_RUNS: Final = sa.select(tables.run).where(_MINE, tables.run.c.alive_s >= _START_S, tables.run.c.first_s <= _END_S)
_STARTS: Final = sa.select(tables.start).where(tables.start.c.center == _CENTER, tables.start.c.time_s >= _START_S)
_GOODBYES: Final = sa.select(tables.goodbye).where(
    tables.goodbye.c.center == _CENTER, tables.goodbye.c.time_s >= _START_S, tables.goodbye.c.time_s <= _END_S
)
_BAD: Final = sa.select(tables.bad).where(tables.bad.c.center == _CENTER, tables.bad.c.time_s >= _START_S, tables.bad.c.time_s <= _END_S)
_CORRECTIONS: Final = (
    sa.select(verdict_tables.correction)
    .where(
        verdict_tables.correction.c.center == _CENTER,
        verdict_tables.correction.c.start_s < _END_S,
        verdict_tables.correction.c.end_s > _START_S,
    )
    .order_by(verdict_tables.correction.c.id)
)


@dataclass(frozen=True, slots=True)
class Dirty:
    """Of this center evidence has come that verdicts have not seen."""

    start_s: int
    end_s: int
    why: str


def put_findings(connection: sa.Connection, found: Findings) -> None:
    """Write what the worker has found, and the spans that it concerns."""
    for center, epoch, first_seq in found.gone:
        run = tables.run.c
        connection.execute(sa.delete(tables.run).where(run.center == center, run.epoch == epoch, run.first_seq == first_seq))
    put(connection, tables.run, [{"center": center, **run._asdict()} for center, run in found.runs])
    put(connection, tables.start, _unique({(center, start.epoch): {"center": center, **start._asdict()} for center, start in found.starts}))
    for center, birth, goodbye in found.goodbyes:
        _put_goodbye(connection, center, birth, goodbye)
    signs = {(center, sign.time_s, target): {"center": center, "target": target, **sign._asdict()} for center, target, sign in found.bad}
    put(connection, tables.bad, _unique(signs))
    for (center, day, is_open), quality in found.quality.items():
        _add_quality(connection, {"center": center, "day": day.isoformat(), "open": is_open}, quality)
    touch(connection, found.dirty)


def touch(connection: sa.Connection, spans: dict[str, tuple[int, int, str]]) -> None:
    """Let the verdicts look at these spans again: center → (from, to, why)."""
    if not spans:
        return
    waiting = dirty(connection, spans)
    rows = []
    for center, (start_s, end_s, why) in spans.items():
        was = waiting.get(center, Dirty(start_s, end_s, why))
        rows.append({"center": center, "start_s": min(start_s, was.start_s), "end_s": max(end_s, was.end_s), "why": was.why})
    put(connection, tables.dirty, rows)


def dirty(connection: sa.Connection, centers: Iterable[str] | None = None) -> dict[str, Dirty]:
    """The spans that wait, of these centers or of all."""
    names = None if centers is None else list(centers)
    few = names is not None and len(names) < MAX_BOUND
    found = connection.execute(_DIRTY_OF, {"centers": names}) if few else connection.execute(_DIRTY)
    return {row.center: Dirty(row.start_s, row.end_s, row.why) for row in found}


def clean(connection: sa.Connection, center: str) -> None:
    """The verdicts have looked."""
    connection.execute(_CLEAN, {"center": center})


def runs_of(connection: sa.Connection, center: str, epoch: str) -> list[Run]:
    """The runs of one epoch."""
    return [_run(row) for row in connection.execute(_RUNS_OF_EPOCH, {"center": center, "epoch": epoch})]


def first_and_last(connection: sa.Connection, center: str) -> tuple[int, Run] | None:
    """When a center was first measured, and its latest run; None where it never was."""
    first_s = connection.execute(_FIRST_S, {"center": center}).scalar_one()
    return None if first_s is None else (first_s, _run(connection.execute(_LATEST, {"center": center}).one()))


def widened(connection: sa.Connection, center: str, span: Dirty, heartbeat_s: int) -> tuple[int, int]:
    """The span with all seconds of which its evidence may speak: as far as the evidence next to it on either side."""
    held_s = max(int(heartbeat_s * HELD_HEARTBEATS), PAIR_S * 2)
    early_s, late_s = span.start_s - held_s, span.end_s + held_s
    if not _covers(connection, center, early_s):
        before_s = connection.execute(_ALIVE_BEFORE, {"center": center, "time_s": early_s}).scalar_one()
        early_s = BEGINNING if before_s is None else before_s
    if not _covers(connection, center, late_s):
        after_s = connection.execute(_FIRST_AFTER, {"center": center, "time_s": late_s}).scalar_one()
        late_s = FAR if after_s is None else after_s
    return early_s, late_s


def load(connection: sa.Connection, center: str, start_s: int, end_s: int, *, heartbeat_s: int, standing: Iterable[Standing]) -> Evidence:
    """All evidence that may speak for a second of [start_s, end_s)."""
    margin_s = int(heartbeat_s * (1 + ALONE_HEARTBEATS))
    before_s = connection.execute(_ALIVE_BEFORE, {"center": center, "time_s": start_s - margin_s}).scalar_one()
    after_s = connection.execute(_FIRST_AFTER, {"center": center, "time_s": end_s + margin_s}).scalar_one()
    early_s = start_s - margin_s if before_s is None else before_s
    late_s = end_s + margin_s if after_s is None else after_s
    around = {"center": center, "start_s": early_s, "end_s": late_s}
    nearby = {"center": center, "start_s": start_s - 2 * PAIR_S, "end_s": end_s + 2 * PAIR_S}
    return Evidence(
        runs=[_run(row) for row in connection.execute(_RUNS, around)],
        starts=[_start(row) for row in connection.execute(_STARTS, {"center": center, "start_s": early_s})],
        goodbyes=[Goodbye(row.epoch, row.time_s, row.why) for row in connection.execute(_GOODBYES, around)],
        bad=[Bad(row.time_s, row.why, row.strong) for row in connection.execute(_BAD, nearby)],
        corrections=corrections(connection, center, start_s, end_s),
        standing=list(standing),
        heartbeat_s=heartbeat_s,
    )


def corrections(connection: sa.Connection, center: str, start_s: int, end_s: int) -> list[Correction]:
    """What people have corrected in a span, in the order in which they did."""
    found = connection.execute(_CORRECTIONS, {"center": center, "start_s": start_s, "end_s": end_s})
    return [Correction(row.start_s, row.end_s, row.state, row.cause) for row in found]


def _covers(connection: sa.Connection, center: str, time_s: int) -> bool:
    return connection.execute(_COVERING, {"center": center, "time_s": time_s}).first() is not None


def quality(connection: sa.Connection, center: str, first: date, last: date, *, is_open: bool) -> Quality:
    """How good a link was on the local dates from first to last, inside or outside opening hours; no samples where it was not measured."""
    days = {"center": center, "first": first.isoformat(), "last": last.isoformat(), "open": is_open}
    total = Quality()
    for text in connection.execute(_SKETCHES, days).scalars():
        total.merge(Quality.from_json(text))
    return total


def _put_goodbye(connection: sa.Connection, center: str, birth: int, goodbye: Goodbye) -> None:
    """The first arrival counts: the broker may say a retained one again, weeks later."""
    key = tables.goodbye.c
    known = sa.select(key.epoch).where(key.center == center, key.epoch == goodbye.epoch, key.birth == birth)
    if connection.execute(known).first() is None:
        connection.execute(sa.insert(tables.goodbye).values(center=center, birth=birth, **goodbye._asdict()))


def _add_quality(connection: sa.Connection, key: dict[str, Any], quality: Quality) -> None:
    text = connection.execute(_SKETCH, key).scalar_one_or_none()
    total = Quality.from_json(text) if text else Quality()
    total.merge(quality)
    put(connection, tables.quality, [{**key, "sketch": total.to_json()}])


def _unique(rows: dict[Any, dict[str, Any]]) -> list[dict[str, Any]]:
    return list(rows.values())


def _run(row: sa.Row[Any]) -> Run:
    return Run(*(getattr(row, name) for name in Run._fields))


def _start(row: sa.Row[Any]) -> Start:
    return Start(*(getattr(row, name) for name in Start._fields))
