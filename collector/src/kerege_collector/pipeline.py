"""The worker: takes messages in batches and sees each record through: admit → store → ledger → PUBACK → ack.

The order is the promise. A crash before the ledger's commit repeats the batch (the store overwrites, or ignores, what it has);
after it the agent's next try is a repeat and is acknowledged. Nothing is acknowledged before both have committed, nor refused before
the quarantine has it.
"""

import logging
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from kerege_collector.ack import Acks
from kerege_collector.admit import (
    ACCEPTED,
    BAD_TOPIC,
    HELD,
    KEPT,
    TOO_MANY_EPOCHS,
    UNKNOWN_CENTER,
    WRONG_CLOCK,
    Admission,
    Admitted,
    unreadable,
)
from kerege_collector.alarm import Alarm
from kerege_collector.books import Books
from kerege_collector.gaps import GapCounts
from kerege_collector.inbox import Message
from kerege_collector.ledger import Ledger, Quarantined
from kerege_collector.persistence import Persistence, StoppedError
from kerege_collector.stages import Stages
from kerege_collector.stores import INTERNAL, Rejected, RetryLater, Row, Store
from kerege_collector.trouble import LEDGER, QUARANTINE, STORE
from kerege_collector.witness import Witness
from kerege_wire import Presence, Report, WireError, decode_presence
from kerege_wire.topics import center_of

log = logging.getLogger(__name__)

IDLE_S: Final = 0.5
"""Longest wait for a first message: acks that fall due and the housekeeping are looked at this often."""

MAX_RECORDS: Final = 20_000
"""Most records of a batch, but for the last report's: two thousand reports can hold two million, and all are in memory at once."""

GREEDY_RECORDS: Final = MAX_RECORDS // 4
"""A center that takes so many of them lets the others go first: what else it has sent waits behind theirs."""

QUARANTINE_FULL_S: Final = 900.0
"""How long it is said that something found no room in quarantine: its agent tries again several times meanwhile."""

SNAPSHOT_EVERY_S: Final = 10.0
"""The board is written with the ledger at most this often: after a crash the page may show a state of some seconds ago."""

BAD_PRESENCE: Final = "bad-presence"

CURES: Final[Mapping[str | None, str]] = {
    UNKNOWN_CENTER: "add it to centers.toml and reload, or set unknown_centers to admit",
    TOO_MANY_EPOCHS: "its agent starts again and again: look at the log there",
    WRONG_CLOCK: "set this machine's clock",
}
"""Why a center is held → what to do."""


class Mail(Protocol):
    """What the worker needs of the inbox."""

    def take(self, max_messages: int, wait_s: float, idle_s: float) -> list[Message]: ...

    def put_back(self, first: Sequence[Message], last: Sequence[Message]) -> None: ...

    def done(self, messages: Sequence[Message]) -> None: ...

    def announce(self, state: str) -> None: ...


class LiveBoard(Protocol):
    """What the worker tells the board."""

    def report(self, center: str, report: Report, received_s: int) -> None: ...

    def presence(self, center: str, presence: Presence, received_s: int) -> None: ...

    def trouble(self, center: str, what: str, received_s: int) -> None: ...

    def snapshots(self) -> Mapping[str, Any]: ...


class Counts(Protocol):
    """What is counted (see `metrics`)."""

    def records(self, outcome: str, count: int) -> None: ...

    def payloads(self, outcome: str, count: int) -> None: ...

    def store_failure(self, place: str, reason: str) -> None: ...

    def batch(self, seconds: float, records: int) -> None: ...


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """How large a batch may get, and how long it may wait for more."""

    max_reports: int = 2000
    wait_s: float = 0.2


@dataclass(frozen=True, slots=True)
class Parts:
    """What the worker works with."""

    mail: Mail
    admission: Admission
    books: Books
    store: Store
    ledger: Ledger
    acks: Acks
    board: LiveBoard
    gaps: GapCounts
    witness: Witness
    counts: Counts
    stages: Stages


class Pipeline:
    """The worker's life: `run` in a thread of its own, until `stop`."""

    def __init__(self, parts: Parts, limits: BatchLimits, *, now_s: Callable[[], int] = lambda: int(time.time())) -> None:
        self._parts = parts
        self._limits = limits
        self._now_s = now_s
        self._stopping = threading.Event()
        self._alarm = Alarm()
        self._snapshot_due_s = 0.0
        self._greedy: frozenset[str] = frozenset()
        self._homeless_s = -math.inf
        self._has_written = False
        self._persistence = Persistence(
            self._stopping, failed=parts.counts.store_failure, announce=parts.mail.announce, meanwhile=self._breathe
        )
        self.alive_s = time.monotonic()
        """When the worker last showed that it lives (monotonic): while it waits for a store it does."""

    @property
    def trouble(self) -> str | None:
        """Why nothing, or not everything, can be kept at present; None where all is well."""
        if self._persistence.trouble is None and time.monotonic() - self._homeless_s < QUARANTINE_FULL_S:
            return QUARANTINE
        return self._persistence.trouble

    def stop(self) -> None:
        """Finish the batch under way if the store lets us, send the acks that are held back, and end."""
        self._stopping.set()

    def run(self) -> None:
        """Work until `stop`."""
        try:
            while not self._stopping.is_set():
                self.step()
            self._commit(())
        except StoppedError:
            log.warning("pipeline.stopped_with_unwritten", extra={"fields": {"trouble": self.trouble}})
        self._parts.acks.flush_all()

    def step(self) -> None:
        """One turn: see through what has come. Raises StoppedError where it was told to stop while the store or the ledger was away."""
        try:
            self._step()
        except StoppedError:
            raise
        except Exception:  # a mistake of ours in the housekeeping must not end the work
            if self._alarm.due("step", time.monotonic()):
                log.exception("pipeline.step_failed")
            self._stopping.wait(IDLE_S)

    def _step(self) -> None:
        self._breathe()
        messages = self._parts.mail.take(self._limits.max_reports, self._limits.wait_s, IDLE_S)
        if messages:
            left = messages[self._process_guarded(messages) :]
            patient = [message for message in left if message.topic not in self._greedy]
            self._parts.mail.put_back(patient, [message for message in left if message.topic in self._greedy])
        self._tidy()

    def _process_guarded(self, messages: Sequence[Message]) -> int:
        try:
            return self._process(messages)
        except StoppedError:
            raise
        except Exception:
            # unacknowledged, so its agents send it again; told to the broker, or it would soon deliver nothing more
            if self._alarm.due("batch", time.monotonic()):
                log.exception("pipeline.batch_failed")
            self._parts.books.end_batch()
            self._parts.witness.forget()
            self._parts.mail.done(messages)
            return len(messages)

    def _breathe(self) -> None:
        self.alive_s = time.monotonic()
        with self._parts.stages.measure("ack"):
            self._parts.acks.flush(self.alive_s)

    def _tidy(self) -> None:
        try:
            self._parts.store.tidy(self._now_s())
        except RetryLater as trouble:
            if self._alarm.due(trouble.reason, time.monotonic()):
                log.warning("pipeline.cannot_tidy", extra={"fields": {"reason": trouble.reason, "detail": trouble.detail}})

    def _process(self, messages: Sequence[Message]) -> int:
        """See the first of these messages through, all of them unless they hold too many records; returns how many."""
        parts = self._parts
        started = time.monotonic()
        with parts.stages.measure("admit"):
            admitted = self._persistence.until_done(LEDGER, lambda: self._admit(messages))
            rows = [row for item in admitted if item is not None for row in item.rows]
        messages = messages[: len(admitted)]
        rejected = self._persistence.until_done(STORE, lambda: self._write(rows)) if rows else []
        reports = [item for item in admitted if item is not None]
        self._settle(reports, rejected)
        with parts.stages.measure("evidence"):
            self._persistence.until_done(LEDGER, lambda: self._testify(messages, admitted))
        self._commit([kept for item in reports for kept in item.quarantined])
        with parts.stages.turn, parts.stages.measure("ack"):
            parts.mail.done(messages)
            now = time.monotonic()
            for item in reports:
                parts.acks.add(item, now)
        with parts.stages.turn, parts.stages.measure("board"):
            self._show(messages, admitted)
        parts.books.end_batch()
        self._count(reports, time.monotonic() - started)
        return len(messages)

    # --- admit --------------------------------------------------------------------------------------------------------

    def _admit(self, messages: Sequence[Message]) -> list[Admitted | None]:
        """What becomes of each message, up to MAX_RECORDS records; None where it is no report.

        Raises RetryLater; then all must be admitted again.
        """
        self._parts.books.forget_pending()
        self._greedy = frozenset()
        admitted: list[Admitted | None] = []
        records: Counter[str] = Counter()
        total = 0
        with self._parts.stages.turn:
            for message in messages:
                item = None if message.topic.endswith("/presence") else self._admit_one(message)
                admitted.append(item)
                if item is not None and item.records > 1:  # one is the rule, and adds up to no more than the messages taken
                    total += item.records
                    records[message.topic] += item.records
                    if total >= MAX_RECORDS:
                        self._greedy = frozenset(topic for topic, count in records.items() if count >= GREEDY_RECORDS)
                        break
        return admitted

    def _admit_one(self, message: Message) -> Admitted:
        try:
            return self._parts.admission.admit(message.topic, message.payload, message.received_ms)
        except RetryLater:
            raise
        except Exception as error:
            if self._alarm.due(f"{type(error).__name__} {error}"[:100], time.monotonic()):
                log.exception("pipeline.admit_failed", extra={"fields": {"topic": message.topic, "bytes": len(message.payload)}})
            center = center_of(message.topic, "report") or ""
            return unreadable(center, message.payload, message.received_ms, INTERNAL, f"{type(error).__name__}: {error}")

    # --- store --------------------------------------------------------------------------------------------------------

    def _write(self, rows: Sequence[Row]) -> list[Rejected]:
        try:
            with self._parts.stages.measure("store", without="points"):
                rejected = self._parts.store.write(rows)
        except RetryLater:
            raise
        except Exception as error:
            if self._alarm.due(f"{type(error).__name__} {error}"[:100], time.monotonic()):
                log.exception("pipeline.store_failed", extra={"fields": {"rows": len(rows)}})
            return self._isolate(rows, error)
        self._has_written = True
        return rejected

    def _isolate(self, rows: Sequence[Row], error: Exception) -> list[Rejected]:
        """One row that upsets the store must not keep the others out: find it by halving."""
        found = self._upsetting(rows, error)
        if len(found) == len(rows) > 1 and not self._has_written:  # not the rows' fault, it seems
            raise RetryLater(INTERNAL, f"{type(error).__name__}: {error}") from error
        return found

    def _upsetting(self, rows: Sequence[Row], error: Exception) -> list[Rejected]:
        if len(rows) == 1:
            return [Rejected(rows[0], f"{type(error).__name__}: {error}", INTERNAL)]
        middle = len(rows) // 2
        found = []
        for half in (rows[:middle], rows[middle:]):
            try:
                found += self._parts.store.write(half)
            except RetryLater:
                raise
            except Exception as again:  # noqa: BLE001 - it was said above
                found += self._upsetting(half, again)
        return found

    def _settle(self, reports: Sequence[Admitted], rejected: Sequence[Rejected]) -> None:
        """Enter in the books what is in the store; what is refused goes to quarantine, or stays with its agent where there is no room."""
        reasons: dict[tuple[str, str], list[Rejected]] = {}
        for bad in rejected:
            reasons.setdefault(bad.row[:2], []).append(bad)
        for item in reports:
            if item.book is not None and item.rows:
                if reasons:
                    seqs = {row.seq for row in item.rows}
                    item.reject([bad for bad in reasons.get((item.book.center, item.book.epoch), ()) if bad.row.seq in seqs])
                item.book.store([row.seq for row in item.rows])
        quarantined = [kept for item in reports for kept in item.quarantined]
        if quarantined:
            homeless = self._persistence.until_done(LEDGER, lambda: self._parts.ledger.homeless(quarantined))
            for item in reports:
                item.leave(homeless)
                item.excuse()
            if homeless:
                self._say_homeless(len(homeless))

    def _say_homeless(self, count: int) -> None:
        self._homeless_s = now = time.monotonic()
        if self._alarm.due("quarantine full", now):
            fields = {"left_with_their_agents": count, "cure": "kerege-collector quarantine list, readmit, drop"}
            log.error("quarantine.full", extra={"fields": fields})

    def _testify(self, messages: Sequence[Message], admitted: Sequence[Admitted | None]) -> None:
        """Let the witness see what is stored. Raises RetryLater; then nothing was seen, and all is seen again."""
        witness = self._parts.witness
        witness.forget()
        for message, item in zip(messages, admitted, strict=True):
            if item is not None:
                self._take(item.rows)
            elif (found := self._presence(message)) is not None and found[1].state == "goodbye":
                witness.goodbye(*found, message.received_ms // 1000)

    def _take(self, rows: Sequence[Row]) -> None:
        try:
            self._parts.witness.take(rows)
        except RetryLater:
            raise
        except Exception:  # a record that upsets the witness is stored all the same, and must not keep the others out
            if self._alarm.due("witness", time.monotonic()):
                log.exception("pipeline.witness_failed", extra={"fields": {"records": len(rows)}})

    # --- ledger -------------------------------------------------------------------------------------------------------

    def _commit(self, quarantined: Sequence[Quarantined]) -> None:
        parts = self._parts
        now = time.monotonic()
        with parts.stages.measure("ledger"):
            snapshots: Mapping[str, Any] = {}
            if now >= self._snapshot_due_s or self._stopping.is_set():
                snapshots = parts.board.snapshots()
                self._snapshot_due_s = now + SNAPSHOT_EVERY_S
            books = parts.books.changed()
            findings = parts.witness.findings()
            if not (books or quarantined or snapshots or findings):
                return
            self._persistence.until_done(
                LEDGER, lambda: parts.ledger.commit(books, quarantined, snapshots, self._now_s(), findings=findings)
            )
            parts.witness.committed()
        parts.gaps.note(books)

    # --- show, count --------------------------------------------------------------------------------------------------

    def _show(self, messages: Sequence[Message], admitted: Sequence[Admitted | None]) -> None:
        for message, item in zip(messages, admitted, strict=True):
            try:
                if item is None:
                    self._show_presence(message)
                elif item.center is None:
                    continue
                elif item.outcome == ACCEPTED and item.report is not None:
                    self._parts.board.report(item.center, item.report, message.received_ms // 1000)
                    if item.left:
                        self._parts.board.trouble(item.center, f"{KEPT}: {item.left[0][1]}", message.received_ms // 1000)
                else:
                    self._parts.board.trouble(item.center, f"{item.outcome}: {item.reason}", message.received_ms // 1000)
            except Exception:
                if self._alarm.due("board", time.monotonic()):
                    log.exception("pipeline.board_failed", extra={"fields": {"topic": message.topic}})

    def _show_presence(self, message: Message) -> None:
        found = self._presence(message)
        if found is not None:
            self._parts.board.presence(*found, message.received_ms // 1000)
        elif center_of(message.topic, "presence") is None:
            self._parts.counts.payloads(BAD_TOPIC, 1)
        elif message.payload and not self._is_readable(message):
            self._parts.counts.payloads(BAD_PRESENCE, 1)

    def _presence(self, message: Message) -> tuple[str, Presence] | None:
        """The center and what is said of it; None where it is none of ours, is not readable, or was removed by hand."""
        center = center_of(message.topic, "presence")
        if center is None or not self._is_readable(message) or not self._parts.admission.knows(center):
            return None
        return center, decode_presence(message.payload)

    def _is_readable(self, message: Message) -> bool:
        try:
            presence = decode_presence(message.payload)
        except WireError:
            return False
        return presence.center in (None, center_of(message.topic, "presence"))

    def _count(self, reports: Sequence[Admitted], seconds: float) -> None:
        counts = self._parts.counts
        accepted = sum([len(item.rows) for item in reports])
        outcomes = {
            "accepted": accepted,
            "repeated": sum([len(item.repeats) for item in reports]),
            "refused": sum([len(item.refused) for item in reports]),
            "kept": sum([len(item.left) for item in reports]),
        }
        for outcome, count in outcomes.items():
            if count:
                counts.records(outcome, count)
        for outcome, count in Counter(item.outcome for item in reports).items():
            counts.payloads(outcome, count)
        counts.batch(seconds, accepted)
        self._say(reports)

    def _say(self, reports: Sequence[Admitted]) -> None:
        """What people should know, once per center and reason, and again every few minutes while it lasts."""
        now = time.monotonic()
        for item in reports:
            if item.outcome == HELD and self._alarm.due(f"held {item.center}", now):
                log.warning("center.held", extra={"fields": {"center": item.center, "why": item.reason, "cure": CURES.get(item.reason)}})
            for kept in item.quarantined:
                if self._alarm.due(f"{kept.reason} {kept.center}", now):
                    fields = {"center": kept.center, "epoch": kept.epoch, "seq": kept.seq, "reason": kept.reason, "detail": kept.detail}
                    log.warning("quarantine.added", extra={"fields": fields})
