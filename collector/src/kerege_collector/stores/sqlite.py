"""The embedded store: records.db, one row a record, bounded by age.

WAL and synchronous=FULL: what `SqliteStore.write` has returned for survives a power cut (https://sqlite.org/wal.html).
Each row has an id that only ever grows, so that `export` can go on where it stopped.
"""

import json
import logging
import os
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from kerege_collector.sqlite_trouble import retry_later
from kerege_collector.state_points import STATE_NUMBERS, StatePoint
from kerege_collector.stores import Rejected, RetryLater, Row
from kerege_wire import Body, WireError, series_of
from kerege_wire.fields import write_fields
from kerege_wire.reports import read_body

log = logging.getLogger(__name__)

BUSY_TIMEOUT_S: Final = 5.0
"""How long a write waits for another process (a `records` command, a backup) to let go of the file."""

DAY_S: Final = 86_400

TIDY_EVERY_S: Final = 10
"""Time between two steps of forgetting, where the last one found less than TIDY_ROWS."""

TIDY_ROWS: Final = 1000
"""Rows looked at in one step: a few milliseconds."""

SCHEMA_VERSION: Final = 2
"""1: records. 2: also the ``state`` points."""

# one transaction: who reads beside it finds everything or nothing, and a crash in between leaves nothing
_SCHEMA: Final = f"""
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS records (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    center TEXT NOT NULL, epoch TEXT NOT NULL, seq INTEGER NOT NULL,
    time INTEGER NOT NULL, kind TEXT NOT NULL, target TEXT NOT NULL,
    clock TEXT NOT NULL, within_s INTEGER, body TEXT NOT NULL, received INTEGER NOT NULL,
    UNIQUE (center, epoch, seq)
) STRICT;
CREATE INDEX IF NOT EXISTS records_by_time ON records (center, kind, time);
CREATE TABLE IF NOT EXISTS states (
    center TEXT NOT NULL, time INTEGER NOT NULL, state INTEGER NOT NULL, state_text TEXT NOT NULL,
    cause INTEGER NOT NULL, cause_text TEXT, silence_s INTEGER, open INTEGER, incident INTEGER,
    PRIMARY KEY (center, time)
) STRICT, WITHOUT ROWID;
PRAGMA user_version = {SCHEMA_VERSION};
COMMIT;
"""

_INSERT: Final = """
INSERT OR IGNORE INTO records (center, epoch, seq, time, kind, target, clock, within_s, body, received)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""

_PUT_STATE: Final = """
INSERT INTO states (center, time, state, state_text, cause, cause_text, silence_s, open, incident) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (center, time) DO UPDATE SET state = excluded.state, state_text = excluded.state_text, cause = excluded.cause,
cause_text = excluded.cause_text, silence_s = coalesce(excluded.silence_s, silence_s), open = coalesce(excluded.open, open),
incident = coalesce(excluded.incident, incident)
"""

_FORGET_STATES: Final = "DELETE FROM states WHERE time < ?"

# ids grow in the order of arrival, so the oldest stand first and no index is needed to find them
_FORGET: Final = """
DELETE FROM records WHERE id IN (SELECT id FROM records ORDER BY id LIMIT ?) AND received < ?
"""

_READ: Final = """
SELECT id, center, epoch, seq, time, kind, clock, within_s, body, received FROM records WHERE id > ? ORDER BY id LIMIT ?
"""

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


class Unreadable(NamedTuple):
    """A row of the file that is no record of this version: damaged, or of a newer one. Its columns as they are, and why."""

    center: object
    epoch: object
    seq: object
    time: object
    kind: object
    why: str


class SqliteStore:
    """records.db at ``path``; records that arrived more than ``retention_days`` ago are forgotten step by step.

    Used by one thread. The file is opened anew after each trouble, and when somebody has moved it away.
    """

    def __init__(self, path: Path, *, retention_days: int) -> None:
        self._path = path
        self._retention_s = retention_days * DAY_S
        self._connection: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None
        self._tidied_s = 0
        self._states_tidied_s = 0

    def write(self, rows: Sequence[Row]) -> list[Rejected]:
        """Insert the rows in one transaction; those that are there already stay as they are. Raises RetryLater."""
        values = [_values(row) for row in rows]
        try:
            connection = self._open()
            with connection:  # one transaction: commits, or rolls back
                connection.executemany(_INSERT, values)
        except (sqlite3.Error, OSError) as error:
            raise self._trouble(error) from error
        return []

    def write_states(self, points: Sequence[StatePoint]) -> None:
        """Put the points over those of the same minutes. Raises RetryLater."""
        values = [
            (
                point.center,
                point.time_s,
                STATE_NUMBERS[point.state],
                point.state,
                point.cause_number,
                point.cause,
                point.silence_s,
                point.open,
                point.incident,
            )
            for point in points
        ]
        try:
            connection = self._open()
            with connection:
                connection.executemany(_PUT_STATE, values)
        except (sqlite3.Error, OSError) as error:
            raise self._trouble(error) from error

    def tidy(self, now_s: int) -> None:
        """Forget at most TIDY_ROWS of the oldest records. Raises RetryLater."""
        if abs(now_s - self._tidied_s) < TIDY_EVERY_S:
            return
        self._tidied_s = now_s
        try:
            connection = self._open()
            with connection:
                forgotten = connection.execute(_FORGET, (TIDY_ROWS, now_s - self._retention_s)).rowcount
                if now_s - self._states_tidied_s >= DAY_S:  # a few for each center and day: no index is worth it
                    self._states_tidied_s = now_s
                    connection.execute(_FORGET_STATES, (now_s - self._retention_s,))
            if forgotten == TIDY_ROWS:
                self._tidied_s = 0  # there is more: the next step need not wait
        except (sqlite3.Error, OSError) as error:
            raise self._trouble(error) from error

    def iterate(self, after_rowid: int, limit: int) -> list[tuple[int, Row | Unreadable]]:
        """At most ``limit`` rows with their ids, those after ``after_rowid``, in the order of arrival. Raises RetryLater."""
        try:
            found = self._open().execute(_READ, (after_rowid, limit)).fetchall()
        except (sqlite3.Error, OSError) as error:
            raise self._trouble(error) from error
        return [(found_row[0], _read(found_row)) for found_row in found]

    def all(self, *, after_rowid: int = 0, step: int = 1000) -> Iterator[tuple[int, Row]]:
        """All readable rows with their ids, read in steps, so that the file is never held for long. Raises RetryLater."""
        while found := self.iterate(after_rowid, step):
            yield from ((number, row) for number, row in found if isinstance(row, Row))
            after_rowid = found[-1][0]

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _open(self) -> sqlite3.Connection:
        if self._connection is not None and _identity(self._path) == self._file:
            return self._connection
        if self._connection is not None:
            log.error("records.file_replaced", extra={"fields": {"path": self._path}})
            self.close()
        connection = sqlite3.connect(self._path, timeout=BUSY_TIMEOUT_S, check_same_thread=False)
        try:
            _prepare(connection, self._path)
        except BaseException:
            connection.close()
            raise
        self._connection, self._file = connection, _identity(self._path)
        return connection

    def _trouble(self, error: sqlite3.Error | OSError) -> Exception:
        self.close()  # a connection that has met an I/O error or a full disk is not trusted again
        if isinstance(error, OSError):
            return RetryLater("input-output", str(error))
        return retry_later(error, str(self._path)) or error


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > SCHEMA_VERSION:
        raise RetryLater(
            "newer-schema", f"{path} was made by a newer version (schema {version}, known is {SCHEMA_VERSION}): upgrade the collector"
        )
    if version == 0 and connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone():
        raise RetryLater("not-ours", f"{path} is a database of another program: name another store.path, or move it away")
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    if version < SCHEMA_VERSION:
        connection.executescript(_SCHEMA)


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = os.stat(path)  # noqa: PTH116 - twice as fast as Path.stat, and asked for every batch
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def _values(row: Row) -> tuple[object, ...]:
    body = row.body
    target = series_of(body)[1]
    return (
        row.center,
        row.epoch,
        row.seq,
        row.time,
        row.kind,
        target,
        row.clock,
        row.within_s,
        _encode(write_fields(body)),
        row.received_s,
    )


def _read(found: tuple[object, ...]) -> Row | Unreadable:
    try:
        return _row(found)
    except (WireError, ValueError, TypeError) as error:
        _, center, epoch, seq, time, kind, *_ = found
        return Unreadable(center, epoch, seq, time, kind, f"not what this version has written: {error}")


def _row(found: tuple[object, ...]) -> Row:
    _, center, epoch, seq, time, kind, clock, within_s, body, received_s = found
    members = json.loads(str(body)) | {"kind": kind}
    read: Body = read_body(members)
    return Row(
        str(center),
        str(epoch),
        int(str(seq)),
        int(str(time)),
        str(kind),
        str(clock),
        None if within_s is None else int(str(within_s)),
        read,
        int(str(received_s)),
    )
