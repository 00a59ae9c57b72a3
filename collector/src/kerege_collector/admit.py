"""Decide what becomes of one message: every record in it ends accepted, refused or kept, each with its name (docs/wire.md).

No I/O of its own: the books come from memory, or from the ledger where an epoch was not seen for long.
"""

import json
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, field
from typing import Final

from kerege_collector.books import Book, Books
from kerege_collector.ledger import Quarantined
from kerege_collector.seldom import Seldom
from kerege_collector.stores import Rejected, Row
from kerege_wire import Boot, Drop, Record, Refused, Report, WireError, decode_report, encode_report, kind_of
from kerege_wire.errors import BAD_FIELD
from kerege_wire.ranges import ranges_from_text
from kerege_wire.topics import center_of

ACCEPTED: Final = "accepted"
UNREADABLE: Final = "unreadable"
WRONG_CENTER: Final = "wrong-center"
BAD_TOPIC: Final = "bad-topic"
HELD: Final = "held"
KEPT: Final = "kept"
"""Outcomes of a payload, counted under these names."""

TIME_FUTURE: Final = "time-future"
TIME_BEFORE_2020: Final = "time-before-2020"
TOO_MANY_GAPS: Final = "too-many-gaps"
TWO_AGENTS: Final = "two-agents"
"""Reasons for which a record is refused, besides those of the wire's readers."""

UNKNOWN_CENTER: Final = "unknown center"
TOO_MANY_EPOCHS: Final = "too many epochs"
WRONG_CLOCK: Final = "the collector's clock is wrong"
"""What the `hold` of an ack says: the center is not registered; it takes a new epoch too often; we live before 2020."""

QUARANTINE_FULL: Final = "quarantine-full"
OWN_CLOCK: Final = "collector-clock"
"""Why a record is kept, neither acknowledged nor refused: there is no room for it in quarantine; it looks as if it came from the future,
but our own clock is not synchronised."""

EPOCHS_BURST: Final = 500
EPOCH_EVERY_S: Final = 10.0
"""So many new epochs of a center at once, and then one in this time: an agent takes one at each start, and each is a row in the ledger for
ever."""

MAX_AHEAD_S: Final = 300
"""How far ahead of the collector's clock a record's time may lie: the error of an estimate over a bad link, and to spare."""

FIRST_TIME: Final = 1_577_836_800
"""2020-01-01: what is older was measured by a clock that nobody has set."""


@dataclass(slots=True)
class Admitted:
    """What one message comes to. ``rows`` are still to be stored, ``quarantined`` to be kept; then both can be acknowledged.

    center: by the topic; None where that is no center's. reason: why a whole payload was not accepted, in one word.
    repeats: numbers that are stored already. refused: (number, reason). left: likewise, of those that stay with their agent.
    """

    outcome: str
    center: str | None
    received_ms: int
    report: Report | None = None
    book: Book | None = None
    reason: str | None = None
    rows: list[Row] = field(default_factory=list)
    repeats: list[int] = field(default_factory=list)
    refused: list[tuple[int, str]] = field(default_factory=list)
    left: list[tuple[int, str]] = field(default_factory=list)
    quarantined: list[Quarantined] = field(default_factory=list)

    @property
    def records(self) -> int:
        """How many records came with it, whatever became of them."""
        return 0 if self.report is None else len(self.report.records) + len(self.report.refused)

    def reject(self, rejected: Sequence[Rejected]) -> None:
        """The store can never take these of the rows: they are refused after all."""
        if not rejected or self.report is None:
            return
        bad = {item.row.seq for item in rejected}
        self.rows = [row for row in self.rows if row.seq not in bad]
        for item in rejected:
            row = item.row
            payload = alone(self.report, Record(row.seq, row.time, row.body))
            kept = Quarantined(row.center, row.epoch, row.seq, row.time, row.received_s, item.reason, item.detail, payload)
            _refuse(self, kept)

    def leave(self, homeless: Container[Quarantined]) -> None:
        """Of these nobody would keep the bytes: their records stay with the agent, which sends them again."""
        without = {kept.seq for kept in self.quarantined if kept in homeless}
        if not without:
            return
        self.quarantined = [kept for kept in self.quarantined if kept.seq not in without]
        leaving = [seq for seq, _ in self.refused if seq in without or 0 in without]  # 0 stands for the whole payload
        self.left += [(seq, QUARANTINE_FULL) for seq in leaving]
        self.refused = [(seq, reason) for seq, reason in self.refused if seq not in set(leaving)]

    def excuse(self) -> None:
        """What is in quarantine is no gap."""
        # a number of which there are two is stored (`two-agents`), and 0 is that of a whole payload
        kept = [(item.seq, item.seq) for item in self.quarantined if item.seq and item.reason != TWO_AGENTS]
        if self.book is not None and kept:
            self.book.excuse(kept)


class Admission:
    """The rules, with what they look at.

    registered: the known centers. admit_unknown: take in others too. two_agents: is this center known to have two?
    clock_is_right: is our own clock synchronised?
    """

    def __init__(
        self,
        books: Books,
        registered: Container[str],
        *,
        admit_unknown: bool,
        two_agents: Callable[[str], bool],
        clock_is_right: Callable[[], bool],
    ) -> None:
        self._books = books
        self._two_agents = two_agents
        self._clock_is_right = clock_is_right
        self._admit_unknown = admit_unknown
        self._new_epochs = Seldom(EPOCH_EVERY_S, burst=EPOCHS_BURST)
        self.registered = registered

    def knows(self, center: str) -> bool:
        """Are records of this center taken in?"""
        return self._admit_unknown or center in self.registered

    def admit(self, topic: str, payload: bytes, received_ms: int) -> Admitted:
        """What becomes of this message. Raises RetryLater where the ledger is needed and away; else nothing."""
        center = center_of(topic, "report")
        if center is None:
            return Admitted(BAD_TOPIC, None, received_ms)
        if received_ms < FIRST_TIME * 1000 or not self.knows(center):
            return self._hold(center, payload, received_ms)
        try:
            report = decode_report(payload)
        except WireError as error:
            return unreadable(center, payload, received_ms, error.reason, error.detail)
        if report.center is not None and report.center != center:
            return self._wrong_center(center, report, payload, received_ms)
        book = self._books.of(center, report.epoch, received_ms // 1000)
        if (report.records or report.refused) and not self._may_begin(book, received_ms // 1000):
            return Admitted(HELD, center, received_ms, report, reason=TOO_MANY_EPOCHS)
        # one without records is a question: its answer names what is held of the epoch
        admitted = Admitted(ACCEPTED, center, received_ms, report, book)
        self._take(admitted, book, report, received_ms // 1000)
        return admitted

    def _may_begin(self, book: Book, now_s: int) -> bool:
        """May this epoch go into the ledger, where it is not yet?"""
        if book.fresh and not self._new_epochs.allows(book.center, now_s):
            return False
        book.fresh = False
        return True

    def _hold(self, center: str, payload: bytes, received_ms: int) -> Admitted:
        if (
            received_ms < FIRST_TIME * 1000
        ):  # without a report, hence without its time stamps: no agent shall date its records by this clock
            return Admitted(HELD, center, received_ms, reason=WRONG_CLOCK)
        try:
            report = decode_report(payload)  # for its time stamps only: the ack that holds tells the time as well
        except WireError:
            report = None
        return Admitted(HELD, center, received_ms, report, reason=UNKNOWN_CENTER)

    def _wrong_center(self, center: str, report: Report, payload: bytes, received_ms: int) -> Admitted:
        numbers = sorted([record.seq for record in report.records] + [item.seq for item in report.refused])
        detail = f"the report says center {report.center}, its topic {center}"
        kept = Quarantined(center, report.epoch, 0, None, received_ms // 1000, WRONG_CENTER, detail, payload)
        refused = [(seq, WRONG_CENTER) for seq in numbers]
        return Admitted(WRONG_CENTER, center, received_ms, report, reason=WRONG_CENTER, refused=refused, quarantined=[kept])

    def _take(self, admitted: Admitted, book: Book, report: Report, received_s: int) -> None:
        center = book.center
        suspicious = self._two_agents(center)
        for record in report.records:
            if book.holds(record.seq):
                if not suspicious:
                    admitted.repeats.append(record.seq)
                    continue
                problem: tuple[str, str] | None = (TWO_AGENTS, "two agents say that they are this center, and the number is taken")
            else:
                problem = _problem(book, record, received_s)
            if problem is None:
                self._accept(admitted, book, report, record)
            elif problem[0] == TIME_FUTURE and not self._clock_is_right():
                admitted.left.append((record.seq, OWN_CLOCK))
            else:
                kept = Quarantined(center, report.epoch, record.seq, record.time, received_s, *problem, alone(report, record))
                _refuse(admitted, kept)
        for item in report.refused:
            if book.holds(item.seq):
                admitted.repeats.append(item.seq)  # stored in another form before; it cannot be both
            else:
                payload = alone_as_it_came(report, item)
                kept = Quarantined(center, report.epoch, item.seq, item.time, received_s, item.reason, item.detail, payload)
                _refuse(admitted, kept)

    def _accept(self, admitted: Admitted, book: Book, report: Report, record: Record) -> None:
        body, received_s = record.body, admitted.received_ms // 1000
        kind = kind_of(body)
        admitted.rows.append(Row(book.center, report.epoch, record.seq, record.time, kind, report.clock, report.within_s, body, received_s))
        book.pending.add(record.seq)
        if type(body) is Drop:
            named = self._books.of(book.center, body.dropped_epoch, received_s)
            if self._may_begin(named, received_s):
                named.excuse(ranges_from_text(body.dropped_seqs))
        elif type(body) is Boot and body.previous_epoch is not None and body.previous_seq:
            named = self._books.of(book.center, body.previous_epoch, received_s)
            if self._may_begin(named, received_s):
                named.expect(body.previous_seq)


def _problem(book: Book, record: Record, received_s: int) -> tuple[str, str] | None:
    """(reason, detail) for which this record cannot be accepted."""
    if record.time > received_s + MAX_AHEAD_S:
        return TIME_FUTURE, f"{record.time - received_s} s ahead of the collector's clock"
    if record.time < FIRST_TIME:
        return TIME_BEFORE_2020, f"time {record.time}"
    if not book.has_room_for(record.seq):
        return TOO_MANY_GAPS, "a thousand separate ranges of this epoch are stored, and this would be one more"
    if type(record.body) is Drop and not _runs_forward(record.body):
        return BAD_FIELD, f"dropped_seqs: a range of {record.body.dropped_seqs} runs backwards"
    return None


def _refuse(admitted: Admitted, kept: Quarantined) -> None:
    admitted.quarantined.append(kept)
    admitted.refused.append((kept.seq, kept.reason))


def unreadable(center: str, payload: bytes, received_ms: int, reason: str, detail: str) -> Admitted:
    """A payload that cannot be read at all: its bytes are kept, and its agent is told."""
    kept = Quarantined(center, "", 0, None, received_ms // 1000, reason, detail, payload)
    return Admitted(UNREADABLE, center, received_ms, reason=reason, quarantined=[kept])


def alone(report: Report, record: Record) -> bytes:
    """One record of a report as a report of its own, in plain JSON, for people and for another try."""
    return encode_report(Report(report.epoch, clock=report.clock, within_s=report.within_s, records=(record,)), "json")


def alone_as_it_came(report: Report, item: Refused) -> bytes:
    """A record that was not understood as a report of its own, in plain JSON, every value as it came."""
    values = [0, item.item[1], 0, *item.item[3:]] if isinstance(item.item, list) else item.item | {"after": 0, "skip": 0}
    members: dict[str, object] = {"epoch": report.epoch, "clock": report.clock}
    if report.within_s is not None:
        members["within_s"] = report.within_s
    members |= {"seq": item.seq, "time": item.time, "records": [values]}
    return json.dumps(members, ensure_ascii=True, separators=(",", ":")).encode()


def _runs_forward(drop: Drop) -> bool:
    try:
        ranges_from_text(drop.dropped_seqs)
    except ValueError:
        return False
    return True
