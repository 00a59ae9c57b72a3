"""The ledger: what was accepted, what is in quarantine, what the board showed last. The collector's memory of its promises.

One transaction a batch, durable when it is over: what was acknowledged is remembered after a power cut.

    RetryLater (see `stores`)   the database is locked, read-only, full or away: the batch is tried again, nothing is acknowledged
    LedgerError                 it is of another version of the collector, or no ledger at all
"""

import json
import logging
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa

from kerege_collector import evidence, evidence_tables, migrations, verdict_tables
from kerege_collector.books import Book
from kerege_collector.database import Database, SqliteDatabase
from kerege_collector.migrations import LedgerError, meta_word, set_meta_word
from kerege_collector.quarantine_room import DEFAULT_BOUNDS, Bounds, Room
from kerege_collector.schema import METADATA, NUMBER, TEXT, put, put_new
from kerege_collector.timeline import Run
from kerege_collector.witness import Findings
from kerege_wire.ranges import RangeSet

__all__ = ["Ledger", "LedgerError", "QuarantineRow", "Quarantined"]

log = logging.getLogger(__name__)

FORGET_STEP: Final = 100
"""Resolved items of the quarantine that are forgotten at a time where it is crowded."""

_schema = METADATA
_OTHERS: Final = (evidence_tables, verdict_tables)
"""Whoever makes a ledger makes these tables too."""

accepted = sa.Table(
    "accepted",
    _schema,
    sa.Column("center", TEXT, primary_key=True),
    sa.Column("epoch", TEXT, primary_key=True),
    sa.Column("ranges", TEXT, nullable=False),  # JSON [[first, last], ...]
    sa.Column("excused", TEXT, nullable=False),  # likewise
    sa.Column("expected_last", sa.BigInteger),
    sa.Column("first_seen", sa.BigInteger, nullable=False),
    sa.Column("updated", sa.BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

quarantine = sa.Table(
    "quarantine",
    _schema,
    sa.Column("id", NUMBER, primary_key=True),
    sa.Column("center", TEXT, nullable=False),
    sa.Column("epoch", TEXT, nullable=False),  # "" where the payload could not be read
    sa.Column("seq", sa.BigInteger, nullable=False),  # 0 for a whole payload
    sa.Column("time", sa.BigInteger),
    sa.Column("received", sa.BigInteger, nullable=False),
    sa.Column("reason", TEXT, nullable=False),
    sa.Column("detail", TEXT, nullable=False),
    sa.Column("payload", sa.LargeBinary, nullable=False),
    sa.Column("bytes", sa.BigInteger, nullable=False),  # of the payload
    sa.Column("digest", sa.BigInteger, nullable=False),
    sa.Column("resolved", TEXT),  # how it ended: "readmitted", "dropped"; null while it waits
    sa.UniqueConstraint("center", "epoch", "seq", "reason", "digest"),  # a record that is sent and refused again is one row
    sa.Index("quarantine_use", "center", "resolved", "bytes"),  # what is in use is counted from it alone
    sqlite_autoincrement=True,
)

board = sa.Table("board", _schema, sa.Column("center", TEXT, primary_key=True), sa.Column("snapshot", TEXT, nullable=False))


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A record or a whole payload that could not be stored, with the bytes to try again.

    payload: for one record a plain JSON report that holds it alone, else the message as it came.
    seq: 0 for a whole payload; epoch: "" where it could not be read.
    """

    center: str
    epoch: str
    seq: int
    time: int | None
    received_s: int
    reason: str
    detail: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class QuarantineRow:
    """`Quarantined` as kept, with its number, and how it ended where it has."""

    id: int
    what: Quarantined
    resolved: str | None


@dataclass(frozen=True, slots=True)
class _Doubt:
    """Findings whose commit may have happened though it seemed to fail."""

    findings: Findings
    mark: str | None


class Ledger:
    """The ledger in a database; a path is one of SQLite. Raises LedgerError, or RetryLater, where it cannot be opened."""

    def __init__(self, database: Database | Path, *, bounds: Bounds = DEFAULT_BOUNDS, may_make: bool = True) -> None:
        """``bounds``: of what waits in quarantine; what has ended there (readmitted, dropped) is kept as long as there is room.

        may_make: where there is no ledger yet, make one; else LedgerError.
        """
        self._database = SqliteDatabase(database) if isinstance(database, Path) else database
        self._bounds = bounds
        self._doubt: _Doubt | None = None
        try:
            self._check_schema(may_make=may_make)
            with self.transaction() as connection:
                self._rows = self._count(connection)
        except BaseException:
            self._database.close()
            raise

    def commit(
        self,
        books: Sequence[Book],
        quarantined: Sequence[Quarantined],
        snapshots: Mapping[str, Any],
        now_s: int,
        *,
        findings: Findings | None = None,
    ) -> None:
        """One transaction: ranges, evidence, quarantine (see `homeless`), board. Then what the books had in the store alone is accepted.

        Raises RetryLater; then nothing has changed, and the books are still dirty.
        """
        with self.writing() as connection:
            self._put_books(connection, books, now_s)
            if findings:
                self._put_findings(connection, findings)
            if quarantined:
                self._put_quarantined(connection, quarantined)
            put(connection, board, [{"center": center, "snapshot": json.dumps(snapshot)} for center, snapshot in snapshots.items()])
        self._doubt = None
        for book in books:
            book.committed()

    def homeless(self, items: Sequence[Quarantined]) -> frozenset[Quarantined]:
        """Those of the items for which there is no room in quarantine, and that are not there already. Raises RetryLater."""
        with self.transaction() as connection:
            use = _waiting_use(connection)
            if not self._without_room(use, items):
                return frozenset()  # nearly always; else what is there already is looked for, which takes a query each
            holds = self._database.statement(_HOLDS)
            return self._without_room(use, [item for item in items if connection.exec_driver_sql(holds, _key_of(item)).first() is None])

    def _without_room(self, use: Mapping[str, tuple[int, int]], items: Iterable[Quarantined]) -> frozenset[Quarantined]:
        room = Room(self._bounds, use)
        return frozenset(item for item in items if not room.take(item.center, len(item.payload)))

    def book(self, center: str, epoch: str) -> Book | None:
        """The book of one epoch, None where it is new. Raises RetryLater."""
        with self.transaction() as connection:
            found = connection.execute(_wanted_book(center, epoch)).one_or_none()
        return _book(found) if found else None

    def books(self) -> Iterator[Book]:
        """All books, those of one center together. Raises RetryLater."""
        with self.transaction() as connection:
            for found in connection.execute(sa.select(accepted).order_by(accepted.c.center, accepted.c.first_seen)):
                yield _book(found)

    def runs(self, center: str, epoch: str) -> list[Run]:
        """What the ticks of one epoch said. Raises RetryLater."""
        with self.transaction() as connection:
            return evidence.runs_of(connection, center, epoch)

    def snapshots(self) -> dict[str, Any]:
        """What the board looked like at the last commit: center → snapshot. Raises RetryLater."""
        with self.transaction() as connection:
            return {found.center: json.loads(found.snapshot) for found in connection.execute(sa.select(board))}

    def meta(self, name: str) -> str | None:
        """A remembered word. Raises RetryLater."""
        with self.transaction() as connection:
            return meta_word(connection, name)

    def set_meta(self, name: str, value: str) -> None:
        """Remember a word. Raises RetryLater."""
        with self.transaction() as connection:
            set_meta_word(connection, name, value)

    def quarantined(self, *, waiting_only: bool = True, after_id: int = 0, limit: int = 1000) -> list[QuarantineRow]:
        """Quarantined items in the order of arrival. Raises RetryLater."""
        wanted = sa.select(quarantine).where(quarantine.c.id > after_id).order_by(quarantine.c.id).limit(limit)
        if waiting_only:
            wanted = wanted.where(quarantine.c.resolved.is_(None))
        with self.transaction() as connection:
            return [_quarantine_row(found) for found in connection.execute(wanted)]

    def quarantine_item(self, number: int) -> QuarantineRow | None:
        """One quarantined item. Raises RetryLater."""
        with self.transaction() as connection:
            found = connection.execute(sa.select(quarantine).where(quarantine.c.id == number)).one_or_none()
        return _quarantine_row(found) if found else None

    def resolve(self, number: int, how: str) -> None:
        """Note how a quarantined item ended. Raises RetryLater."""
        with self.transaction() as connection:
            connection.execute(sa.update(quarantine).where(quarantine.c.id == number).values(resolved=how))

    def readmitted(self, number: int, books: Sequence[Book], how: str | None, now_s: int, *, findings: Findings | None = None) -> None:
        """Records of a quarantined item are in the store after all: enter what that changed, and how the item ended where it has.

        Raises RetryLater.
        """
        with self.writing() as connection:
            self._put_books(connection, books, now_s)
            if findings:
                self._put_findings(connection, findings)
            connection.execute(sa.update(quarantine).where(quarantine.c.id == number).values(resolved=how))
        for book in books:
            book.committed()

    @property
    def quarantine_rows(self) -> int:
        """Rows in quarantine, resolved ones included, as of the last commit."""
        return self._rows

    def close(self) -> None:
        self._database.close()

    def writing(self) -> AbstractContextManager[sa.Connection]:
        """A transaction that nobody else's can come between: what is read in it is still so when it writes. Raises RetryLater."""
        return self._database.writing()

    def transaction(self) -> AbstractContextManager[sa.Connection]:
        """All or nothing. Raises RetryLater."""
        return self._database.transaction()

    def _check_schema(self, *, may_make: bool) -> None:
        where = self._database.where
        with self.transaction() as connection:
            version = migrations.current_version(connection, where)
        if version == 0 and not may_make:
            raise LedgerError(f"{where}: there is no ledger in it yet; has a collector run on these settings?")
        if version == 0:
            migrations.make(self._database)

    def _put_books(self, connection: sa.Connection, books: Sequence[Book], now_s: int) -> None:
        """Write the books, with what another process (`quarantine readmit`, the service) has entered in them since they were read."""
        state = self._database.state(connection)
        for book in books:
            if book.as_of != state:
                found = connection.execute(_wanted_book(book.center, book.epoch)).one_or_none()
                if found is not None:
                    book.merge(_book(found))
                book.as_of = state
        if books:
            connection.exec_driver_sql(self._database.statement(_PUT_BOOK), [_book_values(book, now_s) for book in books])

    def _put_findings(self, connection: sa.Connection, findings: Findings) -> None:
        """Once: they are added to what is there, and all else is written over itself."""
        doubt = self._doubt
        if doubt is not None and doubt.findings is findings and self._database.has_landed(connection, doubt.mark):
            log.warning("ledger.had_committed")
            return
        self._doubt = _Doubt(findings, self._database.mark(connection))
        evidence.put_findings(connection, findings)

    def _put_quarantined(self, connection: sa.Connection, items: Sequence[Quarantined]) -> None:
        put_new(connection, quarantine, [_quarantine_values(item) for item in items])
        while self._is_crowded(connection) and self._forget_resolved(connection):
            continue
        self._rows = self._count(connection)

    def _is_crowded(self, connection: sa.Connection) -> bool:
        rows, size = connection.exec_driver_sql("SELECT count(*), coalesce(sum(bytes), 0) FROM quarantine").one()
        return bool(rows > self._bounds.rows or size > self._bounds.payload_bytes)

    def _count(self, connection: sa.Connection) -> int:
        return connection.execute(sa.select(sa.func.count()).select_from(quarantine)).scalar_one()

    def _forget_resolved(self, connection: sa.Connection) -> bool:
        """The oldest of those that have ended go; False where there is none."""
        oldest = sa.select(quarantine.c.id).where(quarantine.c.resolved.is_not(None)).order_by(quarantine.c.id).limit(FORGET_STEP)
        return connection.execute(sa.delete(quarantine).where(quarantine.c.id.in_(oldest))).rowcount > 0


# the one statement of the hot path goes to the driver as it is: SQLAlchemy's own way costs three times as much a row
_PUT_BOOK: Final = """
INSERT INTO accepted (center, epoch, ranges, excused, expected_last, first_seen, updated) VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (center, epoch) DO UPDATE SET ranges = excluded.ranges, excused = excluded.excused,
expected_last = excluded.expected_last, updated = excluded.updated
"""
_HOLDS: Final = "SELECT 1 FROM quarantine WHERE center = ? AND epoch = ? AND seq = ? AND reason = ? AND digest = ?"


def _book_values(book: Book, now_s: int) -> tuple[object, ...]:
    book.updated_s = now_s
    return (book.center, book.epoch, _ranges(book.to_commit()), _ranges(book.excused), book.expected_last, book.first_seen_s, now_s)


def _wanted_book(center: str, epoch: str) -> sa.Select[Any]:
    return sa.select(accepted).where(accepted.c.center == center, accepted.c.epoch == epoch)


def _waiting_use(connection: sa.Connection) -> dict[str, tuple[int, int]]:
    """Center → rows and payload bytes that wait in quarantine."""
    found = connection.exec_driver_sql("SELECT center, count(*), sum(bytes) FROM quarantine WHERE resolved IS NULL GROUP BY center")
    return {center: (rows, int(size)) for center, rows, size in found}


def _key_of(item: Quarantined) -> tuple[object, ...]:
    return (item.center, item.epoch, item.seq, item.reason, zlib.crc32(item.payload))


def _ranges(ranges: RangeSet) -> str:
    return "[" + ",".join([f"[{first},{last}]" for first, last in ranges]) + "]"


def _book(found: sa.Row[Any]) -> Book:
    return Book(
        center=found.center,
        epoch=found.epoch,
        accepted=RangeSet(json.loads(found.ranges)),
        excused=RangeSet(json.loads(found.excused)),
        expected_last=found.expected_last,
        first_seen_s=found.first_seen,
        updated_s=found.updated,
    )


def _quarantine_values(item: Quarantined) -> dict[str, object]:
    return {
        "center": item.center,
        "epoch": item.epoch,
        "seq": item.seq,
        "time": item.time,
        "received": item.received_s,
        "reason": item.reason,
        "detail": item.detail.encode(errors="replace").decode().replace("\0", "?"),  # neither is text to every database
        "payload": item.payload,
        "bytes": len(item.payload),
        "digest": zlib.crc32(item.payload),
    }


def _quarantine_row(found: sa.Row[Any]) -> QuarantineRow:
    what = Quarantined(
        center=found.center,
        epoch=found.epoch,
        seq=found.seq,
        time=found.time,
        received_s=found.received,
        reason=found.reason,
        detail=found.detail,
        payload=found.payload,
    )
    return QuarantineRow(found.id, what, found.resolved)
