"""The ledger's tables as one description, whichever module owns them, and the version that they have together."""

from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

METADATA: Final = sa.MetaData()

SCHEMA_VERSION: Final = 2
"""1: promises (accepted ranges, quarantine, board). 2: evidence and verdicts. Each step only added tables."""


def put(connection: sa.Connection, table: sa.Table, rows: list[dict[str, Any]]) -> None:
    """Insert rows, or give those that are there by their primary key the new values."""
    if not rows:
        return
    insert = (postgresql if connection.dialect.name == "postgresql" else sqlite).insert(table)
    keys = [column.name for column in table.primary_key]
    values = {name: insert.excluded[name] for name in rows[0] if name not in keys}
    statement = insert.on_conflict_do_update(index_elements=keys, set_=values) if values else insert.on_conflict_do_nothing()
    connection.execute(statement, rows)
