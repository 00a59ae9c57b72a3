"""The ledger's tables as one description, whichever module owns them, and the version that they have together."""

from functools import cache
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

METADATA: Final = sa.MetaData()

SCHEMA_VERSION: Final = 2
"""A change of it needs a step in `migrations`; 2 is the oldest that anybody has."""

NUMBER: Final = sa.BigInteger().with_variant(sa.Integer, "sqlite")
"""A row's own number: SQLite gives one by itself only where the type is INTEGER."""

TEXT: Final = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
"""Compared by its bytes on both, whatever the locale of the database."""

TURNS: Final = sa.Sequence("ledger_turn", metadata=METADATA)
"""Counts the turns of writers, where the database does not tell them apart by itself (PostgreSQL)."""


def put(connection: sa.Connection, table: sa.Table, rows: list[dict[str, Any]]) -> None:
    """Insert rows, or give those that are there by their primary key the new values."""
    if rows:
        connection.execute(_put(connection.dialect.name, table, tuple(rows[0])), rows)


def put_new(connection: sa.Connection, table: sa.Table, rows: list[dict[str, Any]]) -> None:
    """Insert rows; those that are there already, by their primary key or another that is unique, stay as they are."""
    if rows:
        connection.execute(_insert(connection.dialect.name, table).on_conflict_do_nothing(), rows)


@cache  # to build a statement takes longer than to execute it
def _put(dialect: str, table: sa.Table, columns: tuple[str, ...]) -> Any:
    insert = _insert(dialect, table)
    keys = [column.name for column in table.primary_key]
    values = {name: insert.excluded[name] for name in columns if name not in keys}
    return insert.on_conflict_do_update(index_elements=keys, set_=values) if values else insert.on_conflict_do_nothing()


def _insert(dialect: str, table: sa.Table) -> Any:
    return (postgresql if dialect == "postgresql" else sqlite).insert(table)
