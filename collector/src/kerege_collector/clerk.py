"""The thread that makes verdicts: each minute the judge's step and the live ``state`` points, and the points that revisions have changed.

What cannot be written now waits where it is (``dirty`` and ``points_due`` in the ledger) and is said; nothing here ever stops an ack.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa

from kerege_collector import verdict_tables, verdicts
from kerege_collector.alarm import Alarm
from kerege_collector.board import Board
from kerege_collector.centers import Region
from kerege_collector.judge import Judge
from kerege_collector.ledger import Ledger
from kerege_collector.state_points import MINUTE_S, StatePoint, of_intervals
from kerege_collector.stores import RetryLater, StateStore

log = logging.getLogger(__name__)

LOOK_S: Final = 1.0
"""How often it is looked whether a minute has begun."""

SPANS_AT_ONCE: Final = 100
POINTS_AT_ONCE: Final = 5000


@dataclass(frozen=True, slots=True)
class Desk:
    """What the clerk works with. store: its own, not the worker's."""

    ledger: Ledger
    store: StateStore
    board: Board
    region: Callable[[], Region]


class Clerk:
    """`run` in a thread of its own, until `stop`."""

    def __init__(self, desk: Desk, *, now_s: Callable[[], int] = lambda: int(time.time())) -> None:
        self._desk = desk
        self._now_s = now_s
        self._judge = Judge(desk.ledger)
        self._stopping = threading.Event()
        self._alarm = Alarm()
        self._minute = 0
        self.trouble: str | None = None
        """Why verdicts or their points cannot be written at present."""
        self.cpu_s = 0.0

    def run(self) -> None:
        while not self._stopping.wait(LOOK_S):
            minute = self._now_s() // MINUTE_S
            if minute != self._minute:
                self._minute = minute
                self.step(minute * MINUTE_S)
        self._desk.store.close()

    def stop(self) -> None:
        self._stopping.set()

    def step(self, minute_s: int) -> None:
        """The work of one minute. Raises nothing."""
        started = time.thread_time()
        trouble = [said for said in (self._try("live", self._live, minute_s), self._try("verdicts", self._verdicts, minute_s)) if said]
        self.trouble = "; ".join(trouble) or None
        self.cpu_s += time.thread_time() - started

    def _try(self, what: str, work: Callable[[int], None], minute_s: int) -> str | None:
        try:
            work(minute_s)
        except RetryLater as error:
            reason = str(error)
        except Exception as error:  # a mistake of ours must not end the thread
            reason = f"{type(error).__name__}: {error}"
            if self._alarm.due(f"{what} {reason}", time.monotonic()):
                log.exception("clerk.failed", extra={"fields": {"what": what}})
        else:
            if self._alarm.over(what):
                log.warning("clerk.works_again", extra={"fields": {"what": what}})
            return None
        if self._alarm.due(what, time.monotonic()):
            log.error("clerk.cannot_write", extra={"fields": {"what": what, "why": reason}})
        return f"{what}: {reason}"

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
