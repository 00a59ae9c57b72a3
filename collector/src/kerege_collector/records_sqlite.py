"""Reading the embedded store, beside the service that writes it: read-only, in steps, so that the file is never held for long."""

import heapq
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from kerege_collector.records import Line, NoRecordsYetError, ReadError, Wanted
from kerege_wire import KINDS

STEP: Final = 2000
"""Rows read at a time: some 10 ms."""

BUSY_TIMEOUT_S: Final = 10.0

_SELECT: Final = """
SELECT id, center, epoch, seq, time, kind, clock, within_s, body, received FROM records WHERE time >= :since AND time < :until
"""

_BY_ARRIVAL: Final = f"{_SELECT} AND id > :id AND (:kind IS NULL OR kind = :kind) ORDER BY id LIMIT :step"

# the index holds (center, kind, time) and, last, the id: nothing is sorted, and a step begins where the one before ended
_BY_TIME: Final = f"{_SELECT} AND center = :center AND kind = :kind AND (time, id) > (:time, :id) ORDER BY time, id LIMIT :step"

_Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Position:
    """A place in the order of arrival: a row's number, and whose it is, so that another file is not taken for this one."""

    id: int = 0
    center: str = ""
    epoch: str = ""
    seq: int = 0


START: Final = Position()
"""Before the first row."""


class SqliteReader:
    """records.db at ``path``. Every method raises NoRecordsYetError where there is none, or a collector is only just making it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self, wanted: Wanted) -> Iterator[Line]:
        """See `records.Reader`."""
        with self._open() as connection:
            if wanted.center is None:
                rows = self._by_arrival(connection, wanted, 0)
            else:
                kinds = [wanted.kind] if wanted.kind else list(KINDS)
                rows = heapq.merge(*(self._by_time(connection, wanted, kind) for kind in kinds), key=lambda row: (row[4], row[0]))
            for row in rows:
                yield _line(row)

    def follow(self) -> Iterator[list[Line]]:
        """See `records.Reader`. Goes by the order of arrival, so that a backlog is shown too."""
        with self._open() as connection:
            last = self._ask(connection, "SELECT coalesce(max(id), 0) FROM records", {})[0][0]
            while True:
                rows = list(self._by_arrival(connection, Wanted(), last))
                last = rows[-1][0] if rows else last
                yield [_line(row) for row in rows]

    def last_id(self) -> int:
        """The number of the newest row that there ever was; 0 where there was none."""
        with self._open() as connection:
            found = self._ask(connection, "SELECT seq FROM sqlite_sequence WHERE name = 'records'", {})
        return int(found[0][0]) if found else 0

    def goes_on_from(self, position: Position) -> bool:
        """Is this the file in which this position was taken? The row itself may have been forgotten since."""
        with self._open() as connection:
            found = self._ask(connection, "SELECT center, epoch, seq FROM records WHERE id = :id", {"id": position.id})
        return found == [(position.center, position.epoch, position.seq)] if found else position.id <= self.last_id()

    def _open(self) -> closing[sqlite3.Connection]:
        self._require(made=self._path.exists())
        try:
            connection = sqlite3.connect(f"{self._path.absolute().as_uri()}?mode=ro", uri=True, timeout=BUSY_TIMEOUT_S)
        except sqlite3.Error as error:
            raise self._error(error) from error
        try:
            self._require(made=self._ask(connection, "PRAGMA user_version", {}) != [(0,)])
        except BaseException:
            connection.close()
            raise
        return closing(connection)

    def _require(self, *, made: bool) -> None:
        if not made:
            raise NoRecordsYetError(f"{self._path}: there are no records yet; does the collector run, on these settings?")

    def _by_arrival(self, connection: sqlite3.Connection, wanted: Wanted, after_id: int) -> Iterator[_Row]:
        while True:
            bounds = {"id": after_id, "since": wanted.since_s, "until": wanted.until_s, "kind": wanted.kind, "step": STEP}
            rows = self._ask(connection, _BY_ARRIVAL, bounds)
            yield from rows
            if len(rows) < STEP:
                return
            after_id = rows[-1][0]

    def _by_time(self, connection: sqlite3.Connection, wanted: Wanted, kind: str) -> Iterator[_Row]:
        time_s, after_id = -1, -1
        while True:
            bounds = {"center": wanted.center, "kind": kind, "since": wanted.since_s, "until": wanted.until_s, "step": STEP}
            rows = self._ask(connection, _BY_TIME, bounds | {"time": time_s, "id": after_id})
            yield from rows
            if len(rows) < STEP:
                return
            time_s, after_id = rows[-1][4], rows[-1][0]

    def _ask(self, connection: sqlite3.Connection, statement: str, bounds: dict[str, Any]) -> list[_Row]:
        try:
            return connection.execute(statement, bounds).fetchall()
        except sqlite3.Error as error:
            raise self._error(error) from error

    def _error(self, error: sqlite3.Error) -> ReadError:
        return ReadError(f"{self._path}: cannot be read: {error}; may this user read it and its directory?")


def _line(row: _Row) -> Line:
    _, center, epoch, seq, time_s, kind, clock, within_s, body, received_s = row
    line = {"center": center, "epoch": epoch, "seq": seq, "time": time_s, "kind": kind, "clock": clock}
    if within_s is not None:
        line["within_s"] = within_s
    return line | {"received": received_s, "fields": json.loads(body)}
