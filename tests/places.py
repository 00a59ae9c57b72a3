"""Where the ledger of a test can be: the same tests run over a file of SQLite and over a real PostgreSQL."""

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kerege_collector.database import Database, SqliteDatabase
from kerege_collector.database_postgresql import Access, PostgresqlDatabase
from kerege_lab.house import Table
from kerege_lab.postgresql import PASSWORD, USER, PostgreSQL
from kerege_lab.servers import HOST
from kerege_lab.toml import toml_text


@dataclass(frozen=True, slots=True)
class Place:
    """One empty place. directory: the collector's own; its ledger is there where there is no server."""

    directory: Path
    server: PostgreSQL | None = None
    name: str = ""

    def open(self) -> Database:
        """One more way in, as another process would have it."""
        if self.server is None:
            return SqliteDatabase(self.directory / "ledger.db")
        return PostgresqlDatabase(Access(HOST, self.server.port, self.name, USER, lambda: PASSWORD, "disable"))

    def settings(self) -> Table:
        """What a collector's settings say of it."""
        return {} if self.server is None else {"ledger": self.server.ledger(self.name, self.directory / "ledger.password")}

    def settings_file(self, centers: str = "") -> Path:
        """Settings and registry of a collector whose ledger is here."""
        (self.directory / "centers.toml").write_text(centers)
        path = self.directory / "collector.toml"
        path.write_text(toml_text({"state_directory": ".", "mqtt": {"host": HOST, "tls": False}} | self.settings()))
        return path

    def execute(self, statement: str) -> list[tuple[Any, ...]]:
        """As another program would do it to the database, committed at once."""
        if self.server is not None:
            return self.server.execute(statement, database=self.name)
        with closing(sqlite3.connect(self.directory / "ledger.db", isolation_level=None)) as connection:
            return connection.execute(statement).fetchall()

    def fail(self, table: str) -> None:
        """From now on nothing can be inserted into a table."""
        if self.server is None:
            self.execute(f"CREATE TRIGGER fails BEFORE INSERT ON {table} BEGIN SELECT RAISE(ABORT, 'no'); END")
            return
        self.execute("CREATE FUNCTION fails() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no'; END $$")
        self.execute(f"CREATE TRIGGER fails BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION fails()")

    def fail_no_more(self, table: str) -> None:
        """Undo `fail`."""
        self.execute("DROP TRIGGER fails" if self.server is None else f"DROP TRIGGER fails ON {table}")
