"""What could not be stored, for people: list it, look at it, try again after a fix, or let it go.

All of it lives in the ledger; these functions may run beside the service. What was refused is worth another try when its reason is gone: a
newer collector knows the kind, the store's fault is cured, the collector's own clock was wrong.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from kerege_collector.admit import ACCEPTED, TWO_AGENTS, Admission, Admitted
from kerege_collector.books import Books
from kerege_collector.centers import Region
from kerege_collector.ledger import Ledger, QuarantineRow
from kerege_collector.stores import Store
from kerege_collector.witness import Witness
from kerege_wire.topics import topic

READMITTED: Final = "readmitted"
DROPPED: Final = "dropped"
"""How an item ended."""

STEP: Final = 500


@dataclass(frozen=True, slots=True)
class Readmitted:
    """What came of another try. Resolved when nothing was refused again.

    refused: (sequence number, reason, detail); number 0 stands for a whole payload.
    """

    stored: int
    repeats: int
    refused: tuple[tuple[int, str, str], ...]

    @property
    def resolved(self) -> bool:
        return not self.refused


class AlreadyResolvedError(Exception):
    """The item was readmitted or dropped before."""


def listing(ledger: Ledger, *, waiting_only: bool = True) -> Iterator[QuarantineRow]:
    """Items in the order of arrival, read in steps. Raises RetryLater."""
    after_id = 0
    while rows := ledger.quarantined(waiting_only=waiting_only, after_id=after_id, limit=STEP):
        yield from rows
        after_id = rows[-1].id


def show(ledger: Ledger, number: int) -> QuarantineRow | None:
    """One item with its bytes, None where there is none of that number. Raises RetryLater."""
    return ledger.quarantine_item(number)


def drop(ledger: Ledger, number: int) -> bool:
    """Let an item go; False where there is none of that number. Raises RetryLater, AlreadyResolvedError."""
    row = ledger.quarantine_item(number)
    if row is None:
        return False
    _check_waiting(row)
    ledger.resolve(number, DROPPED)
    return True


def readmit(ledger: Ledger, store: Store, number: int, *, region: Region, admit_unknown: bool, now_ms: int) -> Readmitted | None:
    """Take an item through decoding, admission and the store again; None where there is none of that number.

    Raises RetryLater (the item stays as it is), AlreadyResolvedError.
    """
    row = ledger.quarantine_item(number)
    if row is None:
        return None
    _check_waiting(row)
    books = Books(ledger.book)
    admission = Admission(
        books,
        region.centers,
        admit_unknown=admit_unknown,
        two_agents=lambda _: row.what.reason == TWO_AGENTS,
        clock_is_right=lambda: True,  # or what is refused for its time would be left to an agent that has let go of it
    )
    admitted = admission.admit(topic(row.what.center, "report"), row.what.payload, now_ms)
    admitted.rows = [item._replace(received_s=row.what.received_s) for item in admitted.rows]
    admitted.reject(store.write(admitted.rows) if admitted.rows else [])
    if admitted.book is not None and admitted.rows:
        admitted.book.store([item.seq for item in admitted.rows])
    witness = Witness(ledger.runs, lambda: region)
    witness.take(admitted.rows)
    refused = _refusals(admitted)
    ledger.readmitted(row.id, books.changed(), None if refused else READMITTED, now_ms // 1000, findings=witness.findings())
    return Readmitted(len(admitted.rows), len(admitted.repeats), tuple(refused))


def _refusals(admitted: Admitted) -> list[tuple[int, str, str]]:
    if admitted.quarantined:
        return [(item.seq, item.reason, item.detail) for item in admitted.quarantined]
    return [] if admitted.outcome == ACCEPTED else [(0, admitted.reason or admitted.outcome, "")]


def _check_waiting(row: QuarantineRow) -> None:
    if row.resolved is not None:
        raise AlreadyResolvedError(f"item {row.id} was {row.resolved} before")
