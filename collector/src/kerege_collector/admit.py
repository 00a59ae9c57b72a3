"""Decide what becomes of one message: every record in it ends accepted, refused or kept, each with its name (docs/wire.md).

No I/O of its own: the books come from memory, or from the ledger where an epoch was not seen for long.
"""

import json
from collections.abc import Callable, Container
from dataclasses import dataclass, field
from typing import Final

from kerege_collector.books import Book, Books
from kerege_collector.ledger import Quarantined
from kerege_collector.stores import Row
from kerege_wire import Boot, Drop, Record, Refused, Report, WireError, decode_report, encode_report, kind_of
from kerege_wire.errors import BAD_FIELD
from kerege_wire.ranges import ranges_from_text
from kerege_wire.topics import center_of

ACCEPTED: Final = "accepted"
UNREADABLE: Final = "unreadable"
WRONG_CENTER: Final = "wrong-center"
BAD_TOPIC: Final = "bad-topic"
HELD: Final = "held"
"""Outcomes of a payload, counted under these names."""

TIME_FUTURE: Final = "time-future"
TIME_BEFORE_2020: Final = "time-before-2020"
TOO_MANY_GAPS: Final = "too-many-gaps"
TWO_AGENTS: Final = "two-agents"
"""Reasons for which a record is refused, besides those of the wire's readers."""

UNKNOWN_CENTER: Final = "unknown center"
"""What the `hold` of an ack says to a center that is not registered."""

MAX_AHEAD_S: Final = 300
"""How far ahead of the collector's clock a record's time may lie: the error of an estimate over a bad link, and to spare."""

FIRST_TIME: Final = 1_577_836_800
"""2020-01-01: what is older was measured by a clock that nobody has set."""


@dataclass(slots=True)
class Admitted:
    """What one message comes to. ``rows`` are still to be stored, ``quarantined`` to be kept; then both can be acknowledged.

    center: by the topic; None where that is no center's. reason: why a whole payload was not accepted, in one word.
    repeats: numbers that are stored already. refused: (number, reason).
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
    quarantined: list[Quarantined] = field(default_factory=list)


class Admission:
    """The rules, with what they look at.

    registered: the known centers. admit_unknown: take in others too. two_agents: is this center known to have two?
    """

    def __init__(self, books: Books, registered: Container[str], *, admit_unknown: bool, two_agents: Callable[[str], bool]) -> None:
        self._books = books
        self._two_agents = two_agents
        self._admit_unknown = admit_unknown
        self.registered = registered

    def knows(self, center: str) -> bool:
        """Are records of this center taken in?"""
        return self._admit_unknown or center in self.registered

    def admit(self, topic: str, payload: bytes, received_ms: int) -> Admitted:
        """What becomes of this message. Raises RetryLater where the ledger is needed and away; else nothing."""
        center = center_of(topic, "report")
        if center is None:
            return Admitted(BAD_TOPIC, None, received_ms)
        if not self.knows(center):
            return self._hold(center, payload, received_ms)
        try:
            report = decode_report(payload)
        except WireError as error:
            return unreadable(center, payload, received_ms, error.reason, error.detail)
        if report.center is not None and report.center != center:
            return self._wrong_center(center, report, payload, received_ms)
        admitted = Admitted(ACCEPTED, center, received_ms, report)
        if report.records or report.refused:
            self._take(admitted, center, report, received_ms // 1000)
        else:  # a question: its answer names what is held of the epoch
            admitted.book = self._books.of(center, report.epoch, received_ms // 1000)
        return admitted

    def _hold(self, center: str, payload: bytes, received_ms: int) -> Admitted:
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

    def _take(self, admitted: Admitted, center: str, report: Report, received_s: int) -> None:
        book = admitted.book = self._books.of(center, report.epoch, received_s)
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
            else:
                kept = Quarantined(center, report.epoch, record.seq, record.time, received_s, *problem, alone(report, record))
                _refuse(admitted, book, kept)
        for item in report.refused:
            if book.holds(item.seq):
                admitted.repeats.append(item.seq)  # stored in another form before; it cannot be both
            else:
                payload = alone_as_it_came(report, item)
                kept = Quarantined(center, report.epoch, item.seq, item.time, received_s, item.reason, item.detail, payload)
                _refuse(admitted, book, kept)

    def _accept(self, admitted: Admitted, book: Book, report: Report, record: Record) -> None:
        body, received_s = record.body, admitted.received_ms // 1000
        kind = kind_of(body)
        admitted.rows.append(Row(book.center, report.epoch, record.seq, record.time, kind, report.clock, report.within_s, body, received_s))
        book.pending.add(record.seq)
        if type(body) is Drop:
            self._books.of(book.center, body.dropped_epoch, received_s).excuse(ranges_from_text(body.dropped_seqs))
        elif type(body) is Boot and body.previous_epoch is not None and body.previous_seq:
            self._books.of(book.center, body.previous_epoch, received_s).expect(body.previous_seq)


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


def _refuse(admitted: Admitted, book: Book, kept: Quarantined) -> None:
    admitted.quarantined.append(kept)
    admitted.refused.append((kept.seq, kept.reason))
    if kept.reason != TWO_AGENTS:  # there the number itself is stored
        book.excuse([(kept.seq, kept.seq)])


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
