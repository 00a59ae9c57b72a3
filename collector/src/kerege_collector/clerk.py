"""The thread that judges: incidents every few seconds; each minute verdicts, live ``state`` points, and those that revisions have changed.

What cannot be written now waits where it is (``dirty`` and ``points_due`` in the ledger) and is said; nothing here ever stops an ack.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa

from kerege_collector import incidents, outbox, verdict_tables, verdicts
from kerege_collector.alarm import Alarm
from kerege_collector.board import Board
from kerege_collector.centers import Region
from kerege_collector.incident import CLOSED, NOTED, OWN, Rules, Seen, World
from kerege_collector.incidents import scopes_of
from kerege_collector.judge import Judge, counts_now
from kerege_collector.ledger import Ledger
from kerege_collector.state_points import MINUTE_S, StatePoint, of_intervals
from kerege_collector.stores import RetryLater, StateStore
from kerege_collector.timeline import OFF

log = logging.getLogger(__name__)

LOOK_S: Final = 1.0
"""How often it is looked whether a minute has begun."""

WATCH_EVERY_S: Final = 5
"""How often it is looked for incidents: a part of the time from cut to notice."""

OWN_AFTER_S: Final = 60
"""Our own trouble that passes sooner is nobody's business; until a while after it nothing is said of the centers all the same."""

SPANS_AT_ONCE: Final = 100
POINTS_AT_ONCE: Final = 5000


@dataclass(frozen=True, slots=True)
class Desk:
    """What the clerk works with. store: its own, not the worker's."""

    ledger: Ledger
    store: StateStore
    board: Board
    region: Callable[[], Region]
    own: Callable[[], str]
    """What keeps us from hearing the centers, "" where nothing does."""


class Clerk:
    """`run` in a thread of its own, until `stop`."""

    def __init__(self, desk: Desk, *, now_s: Callable[[], int] = lambda: int(time.time())) -> None:
        self._desk = desk
        self._now_s = now_s
        self._judge = Judge(desk.ledger)
        self._stopping = threading.Event()
        self._alarm = Alarm()
        self._minute = 0
        self._rules = Rules()
        self._watched_s = 0
        self._well_since_s = now_s()
        self._in_trouble_since_s: int | None = None
        self._afflicted: frozenset[str] = frozenset()
        self._failures: dict[str, str] = {}
        self.cpu_s = 0.0

    def run(self) -> None:
        while not self._stopping.wait(LOOK_S):
            now_s = self._now_s()
            if not 0 <= now_s - self._watched_s < WATCH_EVERY_S:
                self._watched_s = now_s
                self.watch(now_s)
            minute = now_s // MINUTE_S
            if minute != self._minute:
                self._minute = minute
                self.step(minute * MINUTE_S)
        self._desk.store.close()

    def stop(self) -> None:
        self._stopping.set()

    def step(self, minute_s: int) -> None:
        """The work of one minute. Raises nothing."""
        self._try("live", self._live, minute_s)
        self._try("verdicts", self._verdicts, minute_s)

    def watch(self, now_s: int) -> None:
        """Look for incidents. Raises nothing."""
        self._try("incidents", self._watch, now_s)

    @property
    def trouble(self) -> str | None:
        """Why something cannot be written at present."""
        return "; ".join(self._failures.values()) or None

    def _try(self, what: str, work: Callable[[int], None], at_s: int) -> None:
        started = time.thread_time()
        try:
            work(at_s)
        except RetryLater as error:
            self._say(what, str(error))
        except Exception as error:  # a mistake of ours must not end the thread
            if self._alarm.due(f"mistake {what}", time.monotonic()):
                log.exception("clerk.failed", extra={"fields": {"what": what}})
            self._say(what, f"{type(error).__name__}: {error}")
        else:
            if self._failures.pop(what, None) is not None:
                self._alarm.over(what)
                log.warning("clerk.works_again", extra={"fields": {"what": what}})
        self.cpu_s += time.thread_time() - started

    def _say(self, what: str, why: str) -> None:
        self._failures[what] = f"{what}: {why}"
        if self._alarm.due(what, time.monotonic()):
            log.error("clerk.cannot_write", extra={"fields": {"what": what, "why": why}})

    def _watch(self, now_s: int) -> None:
        """One step of the incidents, from what the board shows now."""
        region, rules = self._desk.region(), self._rules
        own = self._own(now_s)
        seen = [
            Seen(
                row.center,
                scopes_of(entry),
                entry.heartbeat_s,
                region.calendar(row.center).open_since(now_s),
                row.state,
                row.cause,
                row.since_s,
                row.last_seen_s,
                row.state == OFF,
            )
            for row in self._desk.board.rows(now_s)
            if (entry := region.centers.get(row.center)) is not None
            and counts_now(entry, region.calendar(entry.id), row.last_seen_s, now_s)
        ]
        with self._desk.ledger.writing() as connection:
            quiet = incidents.quiet(connection, region.centers.values(), now_s)
            lately = incidents.openings(connection, now_s - rules.flap_within_s)
            world = World(now_s, seen, own, self._well_since_s, quiet, lately)
            changes = incidents.advance(connection, world, rules)
            outbox.tell(connection, region, changes, now_s)
            outbox.remind(connection, region, now_s)
            self._afflicted = incidents.centers_of(incidents.current(connection))
        for change in changes:
            if change.what == CLOSED and change.incident.kind == OWN:
                self._well_since_s = now_s
            if change.what != NOTED:
                incident = change.incident
                fields: dict[str, object] = {"what": change.what, "number": incident.number, "scope": " ".join(incident.scope)}
                fields |= {"kind": incident.kind, "cause": incident.cause, "centers": len(incident.centers)}
                log.warning("clerk.incident", extra={"fields": fields})

    def _own(self, now_s: int) -> str:
        """Our own trouble, once it lasts; while there is any, nothing that we do not hear means anything."""
        trouble = self._desk.own()
        if not trouble:
            self._in_trouble_since_s = None
            return ""
        self._well_since_s = now_s
        if self._in_trouble_since_s is None:
            self._in_trouble_since_s = now_s
        return trouble if now_s - self._in_trouble_since_s >= OWN_AFTER_S else ""

    def _live(self, minute_s: int) -> None:
        """What is known now, of every registered center."""
        region = self._desk.region()
        points = [
            StatePoint(
                row.center,
                minute_s,
                row.state,
                row.cause,
                None if row.last_seen_s is None else max(minute_s - row.last_seen_s, 0),
                region.calendar(row.center).is_open(minute_s),
                row.center in self._afflicted,
            )
            for row in self._desk.board.rows(minute_s)
            if row.registered
        ]
        self._desk.store.write_states(points)

    def _verdicts(self, minute_s: int) -> None:
        self._judge.step(self._desk.region(), minute_s)
        while self._points_due():
            continue

    def _points_due(self) -> bool:
        """Write the points of some spans that wait; False where none does."""
        table = verdict_tables.points_due
        with self._desk.ledger.transaction() as connection:
            spans = connection.execute(sa.select(table).order_by(table.c.id).limit(SPANS_AT_ONCE)).all()
            found = {span.id: verdicts.read(connection, span.center, span.start_s, span.end_s) for span in spans}
        points = [point for span in spans for point in of_intervals(span.center, found[span.id])]
        for start in range(0, len(points), POINTS_AT_ONCE):
            self._desk.store.write_states(points[start : start + POINTS_AT_ONCE])
        if spans:
            with self._desk.ledger.transaction() as connection:
                connection.execute(sa.delete(table).where(table.c.id.in_([span.id for span in spans])))
        return len(spans) == SPANS_AT_ONCE
