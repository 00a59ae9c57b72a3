"""The ledger's database: SQLite in a file, or PostgreSQL (`database_postgresql`). What differs between them ends here.

RetryLater (see `stores`)   the database is locked, read-only, full or away: nothing has changed, and waiting may help
"""

import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from kerege_collector.sqlite_trouble import retry_later
from kerege_collector.stores import RetryLater

BUSY_TIMEOUT_S: Final = 5.0
"""How long a write waits for somebody else (`quarantine readmit`, a backup, another collector) to have done."""


class Database(ABC):
    """One database. ``where``: what messages call it, never with a password."""

    where: str
    _driver_error: type[Exception]

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._state = 0

    @contextmanager
    def transaction(self) -> Iterator[sa.Connection]:
        """All or nothing; for reading, and for a single statement that writes. Raises RetryLater."""
        try:
            with self._engine.begin() as connection:
                yield connection
        except PoolTimeoutError as error:
            raise RetryLater("busy", f"{self.where}: all connections are in use") from error
        except DBAPIError as error:
            self._engine.dispose()  # a connection that has met a full disk, or the end of its server, is not trusted again
            raise self._trouble(error.orig) or error from error
        except self._driver_error as error:  # while a connection was prepared
            self._engine.dispose()
            raise self._trouble(error) or error from error

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """A transaction that nobody else's `writing` can come between: what is read in it is still so when it writes. Raises RetryLater."""
        with self.transaction() as connection:
            self._begin_writing(connection)
            yield connection

    def close(self) -> None:
        self._engine.dispose()

    @abstractmethod
    def statement(self, text: str) -> str:
        """A statement for `exec_driver_sql`, its parameters written as ``?``."""

    @abstractmethod
    def state(self, connection: sa.Connection) -> int:
        """Within `writing`: a number that has grown where somebody else may have written since it was last asked for."""

    @abstractmethod
    def mark(self, connection: sa.Connection) -> str | None:
        """Within `writing`: by which `has_landed` can tell whether this transaction was committed; None where there is never a doubt."""

    @abstractmethod
    def has_landed(self, connection: sa.Connection, mark: str | None) -> bool:
        """Was that transaction committed, though the answer to its commit never came?"""

    @abstractmethod
    def _begin_writing(self, connection: sa.Connection) -> None:
        """Wait until no other writer is at work."""

    @abstractmethod
    def _trouble(self, error: BaseException | None) -> RetryLater | None:
        """What an error of the driver means; None where waiting will not help (a mistake of ours)."""


class SqliteDatabase(Database):
    """The file at ``path``; WAL and synchronous=FULL: what was committed is remembered after a power cut."""

    _driver_error = sqlite3.Error

    def __init__(self, path: Path) -> None:
        super().__init__(sa.create_engine(f"sqlite:///{path}", connect_args={"timeout": BUSY_TIMEOUT_S, "check_same_thread": False}))
        self.where = str(path)
        event.listen(self._engine, "connect", _prepare_connection)

    def statement(self, text: str) -> str:
        return text

    def state(self, connection: sa.Connection) -> int:
        version = connection.exec_driver_sql("PRAGMA data_version").scalar_one()  # changes when another connection has written
        if connection.info.get("data_version") != version:
            connection.info["data_version"] = version
            self._state += 1
        return self._state

    def mark(self, connection: sa.Connection) -> None:
        del connection  # a commit of SQLite has happened, or it has not, and says which

    def has_landed(self, connection: sa.Connection, mark: str | None) -> bool:
        del connection, mark
        return False

    def _begin_writing(self, connection: sa.Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    def _trouble(self, error: BaseException | None) -> RetryLater | None:
        return retry_later(error, self.where) if isinstance(error, sqlite3.Error) else None


def _prepare_connection(connection: sqlite3.Connection, _: object) -> None:
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
