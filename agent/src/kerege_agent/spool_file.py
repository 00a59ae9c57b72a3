"""The spool's file: SQLite, one transaction a change, as few bytes written as can be. Raises sqlite3.Error; `spool` decides what then.

Measured for a day of default cadence (3,000 records put one by one, 300 acknowledgements): pages of 1 KiB write 18 MB, of 4 KiB 27 MB.
Pages below 1 KiB gain little, because a file system writes 4 KiB anyway.
"""

import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from kerege_agent.rows import Found, Row, Span, row_from, span_from
from kerege_agent.thinning import ORDER

FILE_NAME: Final = "spool.db"
PAGE_BYTES: Final = 1024
CHECKPOINT_PAGES: Final = 256
"""The write-ahead log is folded into the file after this many pages, and its space used again: it never grows much beyond 256 KiB."""

FORMAT: Final = 1
"""``user_version`` of the file."""

_SPANS: Final = "span,epoch,boot_id,begin_ms,after_s,offset_ms,clock,within_s,last_seq,last_s,why,crc"
_RECORDS: Final = "key,epoch,kind,mono_ms,wall_ms,time_s,clock,within_s,body,crc"
TABLES: Final = ("kept", *ORDER)
"""One table for each kind that may be thinned, one for all others: the oldest of a kind then fill whole pages, and free them as they go."""

_SPAN_TABLE: Final = """CREATE TABLE spans(
  span INTEGER PRIMARY KEY, epoch TEXT NOT NULL, boot_id TEXT NOT NULL, begin_ms INTEGER NOT NULL, after_s INTEGER, offset_ms INTEGER,
  clock TEXT NOT NULL, within_s INTEGER, last_seq INTEGER NOT NULL, last_s INTEGER, why TEXT, crc INTEGER NOT NULL
)"""
_RECORD_TABLE: Final = """CREATE TABLE {table}(
  key INTEGER PRIMARY KEY, epoch TEXT NOT NULL, kind TEXT NOT NULL, mono_ms INTEGER NOT NULL, wall_ms INTEGER NOT NULL, time_s INTEGER,
  clock TEXT NOT NULL, within_s INTEGER, body TEXT NOT NULL, crc INTEGER NOT NULL
)"""
_SCHEMA: Final = (
    _SPAN_TABLE,
    *(_RECORD_TABLE.format(table=table) for table in TABLES),
    "CREATE VIEW records AS " + " UNION ALL ".join(f"SELECT {_RECORDS} FROM {table}" for table in TABLES),
    "CREATE TABLE notes(name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
)
_DAMAGE_CODES: Final = frozenset(
    {
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_ERROR,  # our statements are right, so the tables are wrong; so for the next three
        sqlite3.SQLITE_SCHEMA,
        sqlite3.SQLITE_CONSTRAINT,
        sqlite3.SQLITE_MISMATCH,
    }
)
_PRIMARY_CODE: Final = 0xFF


class DamagedError(sqlite3.DatabaseError):
    """The file is not what was written."""


class RefusedError(Exception):
    """The disk took not all of what was salvaged: the damaged file stays the spool, and another attempt follows."""


def is_damage(error: Exception) -> bool:
    """Does the error mean that the file's content is broken, rather than that the disk refuses?"""
    if isinstance(error, (DamagedError, UnicodeDecodeError)):  # SQLite quotes broken bytes in its messages
        return True
    code = getattr(error, "sqlite_errorcode", None)
    return isinstance(error, sqlite3.Error) and code is not None and code & _PRIMARY_CODE in _DAMAGE_CODES


@dataclass(frozen=True, slots=True)
class Changes:
    """What one transaction shall do. gone: (key, kind) of the records to delete."""

    rows: Sequence[Row] = ()
    gone: Iterable[tuple[int, str]] = ()
    spans: Sequence[Span] = ()
    notes: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Census:
    """What is in the file: records by kind, how many have no time yet, the latest time, and the epoch of each span that has records."""

    kinds: Counter[str]
    unfixed: int
    latest_s: int | None
    epochs: dict[int, str]


def _table(kind: str) -> str:
    return kind if kind in ORDER else "kept"


def _sorted_out(found: Iterable[tuple[Any, ...]]) -> tuple[list[Row], list[Found]]:
    rows: list[Row] = []
    damaged: list[Found] = []
    for columns in found:
        row = row_from(columns)
        if row is None:
            damaged.append((columns[0], columns[2], columns[5]))
        else:
            rows.append(row)
    return rows, damaged


class SpoolFile:
    """An open file. Not thread-safe: `Spool` holds its lock around every call."""

    def __init__(self, path: Path) -> None:
        """Open or create. Raises DamagedError where the content is broken, other sqlite3.Error where the disk refuses."""
        self.path = path
        self._db = sqlite3.connect(path, timeout=2.0, isolation_level=None, check_same_thread=False)
        try:
            self._prepare()
        except BaseException:
            self._db.close()
            raise

    def _prepare(self) -> None:
        self._db.text_factory = lambda raw: raw.decode("utf-8", "replace")  # a flipped bit shows in the checksum
        self._run(f"PRAGMA page_size={PAGE_BYTES}")
        self._run("PRAGMA locking_mode=EXCLUSIVE")  # no shared-memory file: fewer bytes to flash, and none that is mapped on a full disk
        self._run("PRAGMA journal_mode=WAL")
        self._run(f"PRAGMA wal_autocheckpoint={CHECKPOINT_PAGES}")
        self._run(f"PRAGMA journal_size_limit={4 * CHECKPOINT_PAGES * PAGE_BYTES}")
        self._run("PRAGMA temp_store=MEMORY")
        self._run("PRAGMA secure_delete=FAST")  # no old records in pages that are written anyway: less to wade through in a salvage
        self._run("PRAGMA cache_size=-256")
        version = self._value("PRAGMA user_version")
        found = {sql for (sql,) in self._run("SELECT sql FROM sqlite_schema")}
        if version == 0 and not found:
            self._create()
        elif version != FORMAT or found != set(_SCHEMA):
            raise DamagedError(f"format {version} with {len(found)} tables is not ours")
        verdict = self._value("PRAGMA quick_check(1)")
        if verdict != "ok":
            raise DamagedError(str(verdict)[:200])

    def _create(self) -> None:
        self._run("PRAGMA synchronous=FULL")
        self._run("BEGIN IMMEDIATE")
        for statement in _SCHEMA:
            self._run(statement)
        self._run(f"PRAGMA user_version={FORMAT}")
        self._run("COMMIT")

    def _run(self, statement: str, values: Sequence[Any] = ()) -> sqlite3.Cursor:
        return self._db.execute(statement, values)

    def _value(self, statement: str, values: Sequence[Any] = ()) -> Any:
        found = self._db.execute(statement, values).fetchone()
        return None if found is None else found[0]

    def apply(self, changes: Changes, *, durable: bool) -> None:
        """All of the changes or none. ``durable``: on the medium when this returns; else soon, and never out of order."""
        self._run(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
        self._run("BEGIN IMMEDIATE")
        try:
            for key, kind in changes.gone:
                self._run(f"DELETE FROM {_table(kind)} WHERE key=?", (key,))
            for row in changes.rows:
                self._run(f"INSERT OR REPLACE INTO {_table(row.kind)}({_RECORDS}) VALUES(?,?,?,?,?,?,?,?,?,?)", row.columns)
            self._db.executemany(
                f"INSERT OR REPLACE INTO spans({_SPANS}) VALUES(?,?,?,?,?,?,?,?,?,?,?,?)", (span.columns for span in changes.spans)
            )
            self._db.executemany("INSERT OR REPLACE INTO notes(name,value) VALUES(?,?)", changes.notes.items())
            self._run("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._run("ROLLBACK")
            raise

    def newest(self, limit: int) -> list[int]:
        """Keys of records whose time is fixed, newest first."""
        return [key for (key,) in self._run("SELECT key FROM records WHERE time_s IS NOT NULL ORDER BY key DESC LIMIT ?", (limit,))]

    def load(self, keys: Iterable[int]) -> tuple[list[Row], list[Found]]:
        """The rows of these keys as far as they are there, and those that were damaged."""
        found = (self._run(f"SELECT {_RECORDS} FROM records WHERE key=?", (key,)).fetchone() for key in keys)
        return _sorted_out(columns for columns in found if columns is not None)

    def rows(self) -> Iterator[Row]:
        """Every sound record, oldest first."""
        for columns in self._run(f"SELECT {_RECORDS} FROM records ORDER BY key"):
            row = row_from(columns)
            if row is not None:
                yield row

    def unfixed(self, limit: int, *, after: int) -> tuple[list[Row], list[Found]]:
        """The oldest rows beyond a key that have no time yet, and those that were damaged."""
        return _sorted_out(self._run(f"SELECT {_RECORDS} FROM records WHERE time_s IS NULL AND key>? ORDER BY key LIMIT ?", (after, limit)))

    def unfixed_by_span(self) -> dict[int, tuple[int, int]]:
        """Span → (monotonic, wall) in ms of its last record without a time."""
        found = self._run("SELECT key >> 32, mono_ms, wall_ms, max(key) FROM records WHERE time_s IS NULL GROUP BY key >> 32 ORDER BY 1")
        return {span: (mono_ms, wall_ms) for span, mono_ms, wall_ms, _ in found}

    def between(self, first: int, last: int) -> list[Found]:
        """The records whose keys lie between, both included."""
        return self._run("SELECT key, kind, time_s FROM records WHERE key BETWEEN ? AND ? ORDER BY key", (first, last)).fetchall()

    def oldest_of(self, kind: str, limit: int) -> list[Found]:
        """The oldest records of a kind."""
        return self._run(f"SELECT key, kind, time_s FROM {_table(kind)} WHERE kind=? ORDER BY key LIMIT ?", (kind, limit)).fetchall()

    def spans(self) -> list[Span]:
        """All spans, oldest first. Raises DamagedError where one is not what was written: it would give its records wrong times."""
        spans = [span_from(columns) for columns in self._run(f"SELECT {_SPANS} FROM spans ORDER BY span")]
        if None in spans:
            raise DamagedError("a span's checksum is wrong")
        return [span for span in spans if span is not None]

    def forget_spans(self, before: int) -> None:
        """Delete the spans before one that have no records left."""
        self._run(
            "DELETE FROM spans WHERE span<? AND NOT EXISTS (SELECT 1 FROM records WHERE key BETWEEN span<<32 AND (span<<32)+4294967295)",
            (before,),
        )

    def last_of(self, span: int) -> tuple[int, int | None]:
        """(highest sequence number, latest time) among the records of a span; (0, None) where there are none."""
        low = span << 32
        found = self._run("SELECT max(key), max(time_s) FROM records WHERE key BETWEEN ? AND ?", (low, low + 0xFFFFFFFF)).fetchone()
        return (0 if found[0] is None else found[0] - low), found[1]

    def holds(self, key: int) -> bool:
        """Is there a record with this key?"""
        return self._value("SELECT 1 FROM records WHERE key=?", (key,)) is not None

    def note(self, name: str) -> str | None:
        """A value of the small key → text store."""
        found: str | None = self._value("SELECT value FROM notes WHERE name=?", (name,))
        return found

    def census(self) -> Census:
        """Count everything; reads the whole file."""
        kinds: Counter[str] = Counter()
        unfixed, latest_s = 0, None
        epochs: dict[int, str] = {}
        query = "SELECT kind, key >> 32, count(*), sum(time_s IS NULL), max(time_s), max(epoch) FROM records GROUP BY 1, 2"
        for kind, span, count, without, last_s, epoch in self._run(query):
            kinds[kind] += count
            unfixed += without
            latest_s = max((time_s for time_s in (latest_s, last_s) if time_s is not None), default=None)
            epochs[span] = epoch
        return Census(kinds, unfixed, latest_s, epochs)

    def used_bytes(self) -> int:
        """Size of the pages in use, without those that are free to be used again."""
        return int((self._value("PRAGMA page_count") - self._value("PRAGMA freelist_count")) * PAGE_BYTES)

    def close(self) -> None:
        """Fold the log into the file and let go."""
        self._db.close()
