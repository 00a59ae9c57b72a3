"""ledger.db: what was accepted, what is in quarantine, what the board showed last. The collector's memory of its promises.

One transaction a batch, WAL and synchronous=FULL: what was acknowledged is remembered after a power cut.

    RetryLater (see `stores`)   the disk is full, read-only or locked: the batch is tried again, nothing is acknowledged
    LedgerError                 the file is of a newer version of the collector, or no ledger at all
"""

import json
import logging
import sqlite3
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.exc import DBAPIError

from kerege_collector.books import Book
from kerege_collector.sqlite_trouble import retry_later
from kerege_wire.ranges import RangeSet

log = logging.getLogger(__name__)

SCHEMA_VERSION: Final = 1
BUSY_TIMEOUT_S: Final = 5.0
"""How long a write waits for a command (`quarantine readmit`, a backup) to let go of the file."""

_schema = sa.MetaData()

meta = sa.Table("meta", _schema, sa.Column("name", sa.Text, primary_key=True), sa.Column("value", sa.Text, nullable=False))

accepted = sa.Table(
    "accepted",
    _schema,
    sa.Column("center", sa.Text, primary_key=True),
    sa.Column("epoch", sa.Text, primary_key=True),
    sa.Column("ranges", sa.Text, nullable=False),  # JSON [[first, last], ...]
    sa.Column("excused", sa.Text, nullable=False),  # likewise
    sa.Column("expected_last", sa.Integer),
    sa.Column("first_seen", sa.Integer, nullable=False),
    sa.Column("updated", sa.Integer, nullable=False),
    sqlite_with_rowid=False,
)

quarantine = sa.Table(
    "quarantine",
    _schema,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("center", sa.Text, nullable=False),
    sa.Column("epoch", sa.Text, nullable=False),  # "" where the payload could not be read
    sa.Column("seq", sa.Integer, nullable=False),  # 0 for a whole payload
    sa.Column("time", sa.Integer),
    sa.Column("received", sa.Integer, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("detail", sa.Text, nullable=False),
    sa.Column("payload", sa.LargeBinary, nullable=False),
    sa.Column("digest", sa.Integer, nullable=False),
    sa.Column("resolved", sa.Text),  # how it ended: "readmitted", "dropped"; null while it waits
    sa.UniqueConstraint("center", "epoch", "seq", "reason", "digest"),  # a record that is sent and refused again is one row
    sqlite_autoincrement=True,
)

board = sa.Table("board", _schema, sa.Column("center", sa.Text, primary_key=True), sa.Column("snapshot", sa.Text, nullable=False))


class LedgerError(Exception):
    """This file cannot be our ledger; waiting will not help."""


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


class Ledger:
    """ledger.db at ``path``. Raises LedgerError, or RetryLater, where it cannot be opened."""

    def __init__(self, path: Path, *, max_quarantine_rows: int = 100_000) -> None:
        self._path = path
        self._max_rows = max_quarantine_rows
        self._engine = sa.create_engine(f"sqlite:///{path}", connect_args={"timeout": BUSY_TIMEOUT_S, "check_same_thread": False})
        event.listen(self._engine, "connect", _prepare_connection)
        try:
            with self._transaction() as connection:
                self._check_schema(connection)
                self._rows = self._count(connection)
        except BaseException:
            self._engine.dispose()
            raise

    def commit(self, books: Sequence[Book], quarantined: Sequence[Quarantined], snapshots: Mapping[str, Any], now_s: int) -> int:
        """One transaction: ranges, quarantine, board. Returns how many quarantined items were not kept for want of room.

        Raises RetryLater; then nothing has changed, and the books are still dirty.
        """
        with self._transaction() as connection:
            if books:
                connection.exec_driver_sql(_PUT_BOOK, [_book_values(book, now_s) for book in books])
            unkept = self._put_quarantined(connection, quarantined) if quarantined else 0
            if snapshots:
                rows = [{"center": center, "snapshot": json.dumps(snapshot)} for center, snapshot in snapshots.items()]
                connection.execute(_PUT_SNAPSHOT, rows)
        for book in books:
            book.dirty = False
        return unkept

    def book(self, center: str, epoch: str) -> Book | None:
        """The book of one epoch, None where it is new. Raises RetryLater."""
        with self._transaction() as connection:
            found = connection.execute(_wanted_book(center, epoch)).one_or_none()
        return _book(found) if found else None

    def books(self) -> Iterator[Book]:
        """All books, those of one center together. Raises RetryLater."""
        with self._transaction() as connection:
            for found in connection.execute(sa.select(accepted).order_by(accepted.c.center, accepted.c.first_seen)):
                yield _book(found)

    def snapshots(self) -> dict[str, Any]:
        """What the board looked like at the last commit: center → snapshot. Raises RetryLater."""
        with self._transaction() as connection:
            return {found.center: json.loads(found.snapshot) for found in connection.execute(sa.select(board))}

    def meta(self, name: str) -> str | None:
        """A remembered word. Raises RetryLater."""
        with self._transaction() as connection:
            return _meta(connection, name)

    def set_meta(self, name: str, value: str) -> None:
        """Remember a word. Raises RetryLater."""
        with self._transaction() as connection:
            _set_meta(connection, name, value)

    def quarantined(self, *, waiting_only: bool = True, after_id: int = 0, limit: int = 1000) -> list[QuarantineRow]:
        """Quarantined items in the order of arrival. Raises RetryLater."""
        wanted = sa.select(quarantine).where(quarantine.c.id > after_id).order_by(quarantine.c.id).limit(limit)
        if waiting_only:
            wanted = wanted.where(quarantine.c.resolved.is_(None))
        with self._transaction() as connection:
            return [_quarantine_row(found) for found in connection.execute(wanted)]

    def quarantine_item(self, number: int) -> QuarantineRow | None:
        """One quarantined item. Raises RetryLater."""
        with self._transaction() as connection:
            found = connection.execute(sa.select(quarantine).where(quarantine.c.id == number)).one_or_none()
        return _quarantine_row(found) if found else None

    def resolve(self, number: int, how: str) -> None:
        """Note how a quarantined item ended. Raises RetryLater."""
        with self._transaction() as connection:
            connection.execute(sa.update(quarantine).where(quarantine.c.id == number).values(resolved=how))

    def readmitted(self, number: int, center: str, epoch: str, seqs: Sequence[int], how: str | None) -> None:
        """Records of a quarantined item are in the store after all: enter them, and how the item ended where it has. Raises RetryLater."""
        with self._transaction() as connection:
            # the write comes first: it takes the lock, so that the service cannot commit the same book between our reading and writing
            connection.execute(sa.update(quarantine).where(quarantine.c.id == number).values(resolved=how))
            if seqs:
                found = connection.execute(_wanted_book(center, epoch)).one_or_none()
                book = _book(found) if found else Book(center, epoch)
                book.accept(seqs)
                connection.exec_driver_sql(_PUT_BOOK, [_book_values(book, book.updated_s)])

    @property
    def quarantine_rows(self) -> int:
        """Rows in quarantine, resolved ones included, as of the last commit."""
        return self._rows

    def close(self) -> None:
        self._engine.dispose()

    @contextmanager
    def _transaction(self) -> Iterator[sa.Connection]:
        try:
            with self._engine.begin() as connection:
                yield connection
        except DBAPIError as error:
            self._engine.dispose()  # a connection that has met a full disk is not trusted again
            raise _translated(error, self._path) from error
        except sqlite3.Error as error:  # from the pragmas of a new connection
            self._engine.dispose()
            raise retry_later(error, str(self._path)) or error from error

    def _check_schema(self, connection: sa.Connection) -> None:
        if not sa.inspect(connection).has_table("meta"):
            _schema.create_all(connection)
            _set_meta(connection, "schema", str(SCHEMA_VERSION))
            return
        version = int(_meta(connection, "schema") or 0)
        if version > SCHEMA_VERSION:
            made = f"made by a newer version of the collector (schema {version}, this one knows {SCHEMA_VERSION})"
            raise LedgerError(f"{self._path}: {made}: upgrade this one, or name another state_directory")

    def _count(self, connection: sa.Connection) -> int:
        return connection.execute(sa.select(sa.func.count()).select_from(quarantine)).scalar_one()

    def _put_quarantined(self, connection: sa.Connection, items: Sequence[Quarantined]) -> int:
        self._rows = self._count(connection)
        room = self._max_rows - self._rows
        if room < len(items):
            room += self._forget_resolved(connection, len(items) - room)
        if kept := items[: max(room, 0)]:
            connection.execute(insert(quarantine).on_conflict_do_nothing(), [_quarantine_values(item) for item in kept])
        self._rows = self._count(connection)
        return len(items) - len(kept)

    def _forget_resolved(self, connection: sa.Connection, count: int) -> int:
        oldest = sa.select(quarantine.c.id).where(quarantine.c.resolved.is_not(None)).order_by(quarantine.c.id).limit(count)
        return connection.execute(sa.delete(quarantine).where(quarantine.c.id.in_(oldest))).rowcount


# the one statement of the hot path goes to the driver as it is: SQLAlchemy's own way costs three times as much a row
_PUT_BOOK: Final = """
INSERT INTO accepted (center, epoch, ranges, excused, expected_last, first_seen, updated) VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (center, epoch) DO UPDATE SET ranges = excluded.ranges, excused = excluded.excused,
expected_last = excluded.expected_last, updated = excluded.updated
"""
_new_snapshot = insert(board)
_PUT_SNAPSHOT: Final = _new_snapshot.on_conflict_do_update(index_elements=["center"], set_={"snapshot": _new_snapshot.excluded.snapshot})


def _prepare_connection(connection: sqlite3.Connection, _: object) -> None:
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")


def _translated(error: DBAPIError, path: Path) -> Exception:
    original = error.orig
    found = retry_later(original, str(path)) if isinstance(original, sqlite3.Error) else None
    return found or error


def _book_values(book: Book, now_s: int) -> tuple[object, ...]:
    book.updated_s = now_s
    return (book.center, book.epoch, _ranges(book.accepted), _ranges(book.excused), book.expected_last, book.first_seen_s, now_s)


def _wanted_book(center: str, epoch: str) -> sa.Select[Any]:
    return sa.select(accepted).where(accepted.c.center == center, accepted.c.epoch == epoch)


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


def _meta(connection: sa.Connection, name: str) -> str | None:
    return connection.execute(sa.select(meta.c.value).where(meta.c.name == name)).scalar_one_or_none()


def _set_meta(connection: sa.Connection, name: str, value: str) -> None:
    connection.execute(insert(meta).values(name=name, value=value).on_conflict_do_update(index_elements=["name"], set_={"value": value}))


def _quarantine_values(item: Quarantined) -> dict[str, object]:
    return {
        "center": item.center,
        "epoch": item.epoch,
        "seq": item.seq,
        "time": item.time,
        "received": item.received_s,
        "reason": item.reason,
        "detail": item.detail.encode(errors="replace").decode(),
        "payload": item.payload,
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
