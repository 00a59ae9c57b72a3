"""A damaged spool is set aside, never deleted, and whatever can be read out of it goes into a new file."""

import logging
import sqlite3
import time
from collections.abc import Iterable
from contextlib import closing, suppress
from pathlib import Path
from typing import Final

from kerege_agent.carve import Found, carve_file, carve_log, log_is_damaged
from kerege_agent.rows import Row, Span, lost_span, row_from, span_from
from kerege_agent.spool_file import PAGE_BYTES, TABLES, Changes, RefusedError, SpoolFile

KEEP_DAMAGED: Final = 3
"""Damaged files that are kept for people to look at; older ones are deleted, so that they cannot fill the disk."""

_CHUNK_ROWS: Final = 500
_log = logging.getLogger(__name__)


def log_of(path: Path) -> Path:
    """The write-ahead log that belongs to a file."""
    return path.with_name(path.name + "-wal")


def has_damaged_log(path: Path) -> bool:
    """Is there a log beside the file that SQLite would silently leave out in part?"""
    try:
        return log_is_damaged(log_of(path).read_bytes(), PAGE_BYTES)
    except FileNotFoundError:
        return False


def rebuild(path: Path) -> int:
    """Put a new file in the place of a damaged one, with all that can be read out of it. How many records were there?

    May be interrupted anywhere: the damaged file stays in its place until the new one is complete, and `finish` does the rest.
    Raises RefusedError, sqlite3.Error or OSError where the disk refuses.
    """
    half = path.with_name(path.name + ".salvage")
    for old in (half, log_of(half)):
        old.unlink(missing_ok=True)
    file = SpoolFile(half)
    try:
        count = _salvage(path, file)
    finally:
        file.close()
    half.rename(_complete(path))
    finish(path)
    return count


def finish(path: Path) -> bool:
    """If a complete new file waits, set the damaged one aside and put the new one in its place. Was there one? Raises OSError."""
    complete = _complete(path)
    if not complete.exists():
        return False
    set_aside(path)
    complete.rename(path)
    return True


def _complete(path: Path) -> Path:
    return path.with_name(path.name + ".salvaged")


def set_aside(path: Path) -> None:
    """Rename a damaged file and its log. The log goes first: left behind, it would be folded into the file that comes. Raises OSError."""
    aside = path.with_name(f"{path.name}.damaged-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}")
    while aside.exists() or log_of(aside).exists():
        aside = aside.with_name(aside.name + "+")
    for old, new in ((log_of(path), log_of(aside)), (path, aside)):
        with suppress(FileNotFoundError):
            old.rename(new)
    path.with_name(path.name + "-shm").unlink(missing_ok=True)
    _forget_old(path, keep=aside)


def _forget_old(path: Path, *, keep: Path) -> None:
    damaged = [found for found in path.parent.glob(f"{path.name}.damaged-*") if found != keep and not found.name.endswith("-wal")]
    damaged.sort(key=lambda found: found.stat().st_ctime_ns)
    for old in damaged[: -(KEEP_DAMAGED - 1)]:
        old.unlink(missing_ok=True)
        log_of(old).unlink(missing_ok=True)


def _salvage(damaged: Path, file: SpoolFile) -> int:
    pulled = _Salvage(file)
    with suppress(FileNotFoundError):  # before SQLite opens the file, which would drop a log that it does not like
        pulled.add(carve_log(log_of(damaged).read_bytes(), PAGE_BYTES))
    whole = pulled.add_tree(damaged)
    if not whole:
        pulled.add(carve_file(damaged, PAGE_BYTES))
    pulled.finish()
    return len(pulled.keys)


class _Salvage:
    def __init__(self, file: SpoolFile) -> None:
        self._file = file
        self._rows: dict[int, Row] = {}
        self._spans: dict[int, Span] = {}
        self._epochs: dict[int, str] = {}
        self._notes: dict[str, str] = {}
        self.keys: set[int] = set()
        self._fixed: set[int] = set()

    def add(self, found: Iterable[Found]) -> None:
        for item in found:
            if isinstance(item, Span):
                self._spans[item.span] = item
            else:
                self._add_row(item)

    def _add_row(self, row: Row) -> None:
        if row.key in self._fixed:
            return  # a time that was fixed never changes: an older image of the row adds nothing
        if row.time_s is not None:
            self._fixed.add(row.key)
        self.keys.add(row.key)
        self._rows[row.key] = row
        self._epochs[row.key >> 32] = row.epoch
        if len(self._rows) >= _CHUNK_ROWS:
            self._write()

    def add_tree(self, path: Path) -> bool:
        """Read the file as SQLite sees it, from both ends. Was it whole?"""
        try:
            with closing(sqlite3.connect(path, isolation_level=None)) as damaged:
                damaged.text_factory = lambda raw: raw.decode("utf-8", "replace")
                damaged.execute("PRAGMA writable_schema=ON")  # reads a file that is shorter than its header says
                sound = damaged.execute("PRAGMA quick_check(1)").fetchone() == ("ok",)
                return all(
                    [sound, *(self._scan(damaged, table, order) for table in TABLES for order in ("ASC", "DESC")), self._rest(damaged)]
                )
        except (sqlite3.Error, UnicodeDecodeError) as error:
            _log.warning("spool.unreadable", extra={"fields": {"file": path.name, "error": str(error)}})
            return False

    def _scan(self, damaged: sqlite3.Connection, table: str, order: str) -> bool:
        try:
            for columns in damaged.execute(f"SELECT * FROM {table} ORDER BY key {order}"):
                row = row_from(columns)
                if row is not None:
                    self._add_row(row)
        except (sqlite3.Error, UnicodeDecodeError):
            return False
        return True

    def _rest(self, damaged: sqlite3.Connection) -> bool:
        try:
            self.add(span for columns in damaged.execute("SELECT * FROM spans") if (span := span_from(columns)) is not None)
            notes = damaged.execute("SELECT name, value FROM notes")
            self._notes.update((name, value) for name, value in notes if isinstance(name, str) and isinstance(value, str))
        except (sqlite3.Error, UnicodeDecodeError):
            return False
        return True

    def _write(self, spans: Iterable[Span] = ()) -> None:
        try:
            self._file.apply(Changes(rows=list(self._rows.values()), spans=list(spans), notes=self._notes), durable=bool(spans))
        except sqlite3.Error as error:
            raise RefusedError(str(error)) from error
        self._rows.clear()

    def finish(self) -> None:
        """A span whose own row is lost is made up from its records."""
        for span, epoch in self._epochs.items():
            self._spans.setdefault(span, lost_span(span, epoch))
        self._write(list(self._spans.values()))
