"""A quarter of an hour in the life of a collector, in a process that ends itself (SIGKILL) at a chosen step.

Four libraries tick each minute, and one of them is silent for six; two minutes after it is back it brings what it had measured meanwhile,
so that verdicts are revised. Everything from the evidence on is the product's: ledger, judge, store, incidents, outbox, sender.
Its progress is the time of the turn that is under way: a collector that starts again goes on there.
"""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa

from kerege_collector import clerk as clerks
from kerege_collector import incidents, outbox, verdict_tables, verdicts
from kerege_collector.board import Board
from kerege_collector.centers import load_region
from kerege_collector.clerk import Clerk, Desk
from kerege_collector.incident import CLOSED, OPENED
from kerege_collector.judge import Judge
from kerege_collector.ledger import Ledger
from kerege_collector.opening import ledger_database
from kerege_collector.outbox import LedgerOutbox
from kerege_collector.postman import Postman
from kerege_collector.settings import load
from kerege_collector.stores import Row
from kerege_collector.stores.sqlite import SqliteStore
from kerege_collector.timeline import DOWN
from kerege_collector.witness import Witness
from kerege_wire import Record, Report, Tick

T: Final = 1_795_500_000
MINUTES: Final = 17
CENTERS: Final = ("aa", "bb", "cc", "dd")
MUTE: Final = "bb"
SILENT: Final = range(6, 12)
BROUGHT: Final = 14
"""In this minute come the records of the silence."""

STEP_S: Final = 10
EPOCH: Final = "epochAAA"


def dies_in(owner: Any, name: str, *, after: bool, counts: Callable[[Any], bool] = lambda _: True, turn: int = 1) -> None:
    """Let a function die: before, or after, its turn that counts."""
    whole, turns = getattr(owner, name), count(1)

    def dying(*arguments: Any, **more: Any) -> Any:
        if not after and counts(arguments) and next(turns) == turn:
            die()
        found = whole(*arguments, **more)
        if after and counts(found) and next(turns) == turn:
            die()
        return found

    setattr(owner, name, dying)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def has(what: str) -> Callable[[Any], bool]:
    return lambda changes: any(change.what == what for change in changes)


def has_notice(arguments: Any) -> bool:
    """Of a function that is called with the transaction: is there a notice in it?"""
    return arguments[0].execute(sa.select(verdict_tables.notice.c.id)).first() is not None


def tells(what: str) -> Callable[[Any], bool]:
    """Of `outbox.tell`, which returns nothing: looked at as it is called."""
    return lambda arguments: has(what)(arguments[2])


def says_down(arguments: Any) -> bool:
    """Of points that are to be written: only those that the backlog has revised say so."""
    return any(point.state == DOWN for point in arguments[1])


def half_of_the_points() -> None:
    """Dies with two of the revised points written."""
    clerks.POINTS_AT_ONCE = 1  # type: ignore[misc]
    dies_in(SqliteStore, "write_states", after=False, counts=says_down, turn=3)


def incident_committed() -> None:
    """Dies as soon as a transaction with a notice in it is durable: what belongs to the incident and is not in it is lost."""
    whole = Ledger.writing

    @contextmanager
    def dying(self: Ledger) -> Iterator[sa.Connection]:
        with whole(self) as connection:
            yield connection
            fatal = has_notice((connection,))
        if fatal:
            die()

    Ledger.writing = dying  # type: ignore[method-assign]


STEPS: Final[dict[str, Callable[[], object]]] = {
    "none": lambda: None,
    "before-the-judge": lambda: dies_in(Judge, "step", after=False, turn=4),
    "verdicts-not-committed": lambda: dies_in(verdicts, "write", after=True, turn=10),
    "points-not-yet-due": lambda: dies_in(verdicts, "due", after=True, turn=10),
    "day-not-accounted-for": lambda: dies_in(verdicts, "put_day", after=True, turn=2),
    "between-two-centers": lambda: dies_in(Judge, "_judge", after=False, turn=11),
    "before-the-points": lambda: dies_in(Clerk, "_points_due", after=False, turn=4),
    "before-the-backlog-is-judged": lambda: dies_in(Judge, "step", after=False, turn=BROUGHT + 1),
    "revision-not-committed": lambda: dies_in(verdicts, "write", after=True, counts=bool),
    "revised-and-not-in-the-points": lambda: dies_in(Clerk, "_points_due", after=False, turn=BROUGHT + 1),
    "half-of-the-points-written": half_of_the_points,
    "points-written-and-still-due": lambda: dies_in(SqliteStore, "write_states", after=True, turn=2 * BROUGHT + 1),
    "incident-without-its-notice": lambda: dies_in(incidents, "advance", after=True, counts=has(OPENED)),
    "notice-not-begun": lambda: dies_in(outbox, "tell", after=False, counts=tells(OPENED)),
    "incident-not-committed": lambda: dies_in(outbox, "remind", after=False, counts=has_notice),
    "incident-committed": incident_committed,
    "before-the-sending": lambda: dies_in(LedgerOutbox, "due", after=True, counts=bool),
    "marked-as-being-sent": lambda: dies_in(LedgerOutbox, "sending", after=True),
    "handed-over-and-not-noted": lambda: dies_in(LedgerOutbox, "taken", after=False),
    "taken-and-not-sent": lambda: dies_in(LedgerOutbox, "sent", after=False),
    "sent": lambda: dies_in(LedgerOutbox, "sent", after=True),
    "end-without-its-notice": lambda: dies_in(incidents, "advance", after=True, counts=has(CLOSED)),
    "end-handed-over-and-not-noted": lambda: dies_in(LedgerOutbox, "taken", after=False, turn=2),
}


def measured(center: str, minute: int) -> tuple[Record, ...]:
    """What a library brings in this minute, newest last."""
    if center != MUTE:
        return (tick(minute, "online"),)
    if minute in SILENT:
        return ()
    backlog = tuple(tick(each, "offline") for each in SILENT) if minute == BROUGHT else ()
    return (*backlog, tick(minute, "online"))


def tick(minute: int, result: str) -> Record:
    return Record(minute + 1, T + minute * 60, Tick(result=result, broken="internet" if result == "offline" else None))


def live(step: str, settings_file: Path, progress: Path) -> None:
    """From what is under way to the end, or to where it dies."""
    STEPS[step]()
    settings = load(settings_file)
    region = load_region(settings.centers_file)
    now_s = T
    ledger = Ledger(ledger_database(settings))
    board = Board(lambda: region.centers)
    board.restore(ledger.snapshots())
    witness = Witness(ledger.runs, lambda: region)
    begin_s = int(progress.read_text()) if progress.exists() else T
    store = SqliteStore(settings.records_path, retention_days=400)
    clerk = Clerk(Desk(ledger, store, board, lambda: region, lambda: ""), now_s=lambda: now_s)
    postman = Postman(ledger, lambda: region, is_well=lambda: True, now_s=lambda: now_s)
    for now_s in range(begin_s, T + MINUTES * 60, STEP_S):
        minute, second = divmod(now_s - T, 60)
        if second == 0 and (now_s > begin_s or not progress.exists()):
            for center in CENTERS:
                records = measured(center, minute)
                if records:
                    board.report(center, Report(EPOCH, records=records), now_s)
                witness.take([Row(center, EPOCH, each.seq, each.time, "tick", "synced", None, each.body, now_s) for each in records])
            ledger.commit([], [], board.snapshots(), now_s, findings=witness.findings())
            witness.committed()
        progress.write_text(str(now_s))
        if second == 0:
            clerk.step(now_s)
        clerk.watch(now_s)
        postman.step()
