"""A ledger in PostgreSQL 15 or newer.

Writers take turns (an advisory lock for the length of a transaction), so that what one has read is still so when it writes. Each turn has
a number: where it is not the one after our last, somebody else has written. Every wait has an end: for a connection, for a lock, for a
statement, and for a server that has taken a question and says nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psycopg
import sqlalchemy as sa
from sqlalchemy import event

from kerege_collector.database import BUSY_TIMEOUT_S, Database
from kerege_collector.postgresql_trouble import retry_later
from kerege_collector.schema import TURNS
from kerege_collector.stores import RetryLater

OLDEST_SERVER: Final = 15
"""Its oldest major version that the tests have run on."""

CONNECT_TIMEOUT_S: Final = 5
STATEMENT_TIMEOUT_S: Final = 30
"""Longer than any statement of a year's ledger takes."""

IDLE_TIMEOUT_S: Final = 60
"""A session that does nothing in a transaction for so long is ended: its collector hangs, and the others wait for it."""

ANSWER_TIMEOUT_S: Final = 40.0
"""The server's own limits come first; beyond this it hangs, or its machine does."""

GONE_AFTER_S: Final = 20
"""A machine that does not confirm packets for so long is gone (TCP_USER_TIMEOUT)."""

CONNECTIONS: Final = 5
MORE_CONNECTIONS: Final = 15
POOL_TIMEOUT_S: Final = 10.0

WRITERS_LOCK: Final = 0x6B65726567655F31
"""Anything that other programs of the same database do not use: "kerege_1"."""

_SETTINGS: Final = {
    "lock_timeout": f"{BUSY_TIMEOUT_S:g}s",
    "statement_timeout": f"{STATEMENT_TIMEOUT_S}s",
    "idle_in_transaction_session_timeout": f"{IDLE_TIMEOUT_S}s",
}
_DURABLE: Final = "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"
"""What was acknowledged is remembered after a power cut, whatever the database's default; what is stricter than ``on`` stays."""

_LANDED: Final = """
SELECT coalesce(CASE WHEN one.xid < pg_current_xact_id() THEN pg_xact_status(one.xid) = 'committed' END, false)
FROM (SELECT %s::xid8 AS xid) AS one
"""
"""A number of the future, from before an older backup was restored, would be an error; one of long ago is not known any more."""


@dataclass(frozen=True, slots=True)
class Access:
    """Where the server is, and who we are there. host: a name, an address, or the directory of its Unix socket.

    password: asked for at each connect, so that one that was changed or corrected is used at once. May raise OSError.
    """

    host: str
    port: int
    database: str
    user: str
    password: Callable[[], str | None]
    sslmode: str
    ca_file: Path | None = None


class _Connection(psycopg.Connection[Any]):
    """A connection that does not wait for ever for a server that hangs, unless it is ``patient``."""

    patient = False

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        try:
            return super().wait(gen, interval, ANSWER_TIMEOUT_S if timeout is None and not self.patient else timeout)
        except psycopg.errors._WaitTimeout as error:  # noqa: SLF001 - what `wait` says that it raises
            self.pgconn.finish()  # it may still answer, to the wrong question
            raise psycopg.OperationalError(f"no answer within {ANSWER_TIMEOUT_S:g} s") from error


class PostgresqlDatabase(Database):
    """The database that ``access`` leads to. Nothing is connected before it is used. patient: a statement may take hours."""

    _driver_error = psycopg.Error

    def __init__(self, access: Access, *, patient: bool = False) -> None:
        self._access = access
        self._patient = patient
        self.where = f"PostgreSQL database {access.database} at {access.host}:{access.port}"
        self._turn: int | None = None
        engine = sa.create_engine(
            "postgresql+psycopg://",
            isolation_level="READ COMMITTED",
            pool_pre_ping=True,
            pool_size=CONNECTIONS,
            max_overflow=MORE_CONNECTIONS,
            pool_timeout=POOL_TIMEOUT_S,
        )
        super().__init__(engine)
        event.listen(engine, "do_connect", lambda *_: self._connect())

    def statement(self, text: str) -> str:
        return text.replace("?", "%s")

    def state(self, connection: sa.Connection) -> int:
        turn: int = connection.scalar(TURNS)
        if self._turn is None or turn != self._turn + 1:
            self._state += 1
        self._turn = turn
        return self._state

    def mark(self, connection: sa.Connection) -> str:
        found: str = connection.exec_driver_sql("SELECT pg_current_xact_id()::text").scalar_one()
        return found

    def has_landed(self, connection: sa.Connection, mark: str | None) -> bool:
        if mark is None:
            return False
        return bool(connection.exec_driver_sql(_LANDED, (mark,)).scalar_one())

    def _begin_writing(self, connection: sa.Connection) -> None:
        connection.exec_driver_sql("SELECT pg_advisory_xact_lock(%s)", (WRITERS_LOCK,))

    def _connect(self) -> psycopg.Connection[Any]:
        access = self._access
        connection = _Connection.connect(
            host=access.host,
            port=access.port,
            dbname=access.database,
            user=access.user,
            password=self._password(),
            sslmode=access.sslmode,
            sslrootcert=None if access.ca_file is None else str(access.ca_file),
            connect_timeout=CONNECT_TIMEOUT_S,
            tcp_user_timeout=GONE_AFTER_S * 1000,
            options=" ".join(f"-c {name}={value}" for name, value in self._settings().items()),
            application_name="kerege-collector",
        )
        connection.patient = self._patient
        try:
            self._look_at(connection.info)
            connection.execute(_DURABLE)
            connection.commit()
        except BaseException:
            connection.close()
            raise
        return connection

    def _settings(self) -> dict[str, str]:
        return _SETTINGS | {"statement_timeout": "0"} if self._patient else _SETTINGS

    def _look_at(self, server: psycopg.ConnectionInfo) -> None:
        if server.server_version < OLDEST_SERVER * 10_000:
            found = server.parameter_status("server_version")
            raise RetryLater("too-old", f"{self.where}: version {found}, wanted {OLDEST_SERVER} or newer")

    def _password(self) -> str | None:
        try:
            return self._access.password()
        except (OSError, UnicodeDecodeError) as error:
            raise RetryLater("no-password", f"{self.where}: ledger.password_file: {getattr(error, 'strerror', 'not UTF-8')}") from error

    def _trouble(self, error: BaseException | None) -> RetryLater | None:
        return retry_later(error, self.where) if isinstance(error, psycopg.Error) else None
