"""From an older ledger to the present one: short steps in order, each in one transaction with the version that it leads to.

A ledger is brought up to date only when somebody says so (``kerege-collector migrate``), since there is no way back but a backup.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa

from kerege_collector.database import Database
from kerege_collector.schema import METADATA, SCHEMA_VERSION, TEXT, put

meta: Final = sa.Table("meta", METADATA, sa.Column("name", TEXT, primary_key=True), sa.Column("value", TEXT, nullable=False))
"""Words by name; ``schema`` is the version."""

CURE: Final = "make a backup, stop every collector that uses it, then run: kerege-collector migrate"


class LedgerError(Exception):
    """This cannot be our ledger, or not yet; waiting will not help."""


class _Undone(Exception):  # noqa: N818 - no error
    """Roll this back."""


@dataclass(frozen=True, slots=True)
class Step:
    """How a ledger of the version before becomes one of ``version``. what: in words, for those who run it.

    work: within one transaction; it may only rely on what it says itself, not on tables as they are declared today.
    """

    version: int
    what: str
    work: Callable[[sa.Connection], None]


STEPS: Final[tuple[Step, ...]] = ()
"""In order, the last one to SCHEMA_VERSION."""


def version_of(connection: sa.Connection, where: str, *, newest: int = SCHEMA_VERSION) -> int:
    """The ledger's version, 0 where there is none yet. Raises LedgerError where it is too new, or no ledger."""
    found = set(sa.inspect(connection).get_table_names())
    version = int((meta_word(connection, "schema") if meta.name in found else None) or 0)
    if version > newest:
        made = f"made by a newer version of the collector (schema {version}, this one knows {newest})"
        raise LedgerError(f"{where}: {made}: upgrade this one, or name another ledger or state_directory")
    if version == 0 and not found <= METADATA.tables.keys():
        raise LedgerError(f"{where}: a database of another program: move it away, or name another ledger or state_directory")
    return version


def migrate(database: Database, *, steps: Sequence[Step] = STEPS) -> tuple[int, list[Step]]:
    """Take the steps that are still to be taken: the version before, and what was done. Raises LedgerError, RetryLater.

    What a step has done stays done where a later one fails.
    """
    newest = steps[-1].version if steps else SCHEMA_VERSION
    with database.transaction() as connection:
        before = version_of(connection, database.where, newest=newest)
    if not before:
        raise LedgerError(f"{database.where}: there is no ledger in it yet; a collector makes one of its own version")
    done = []
    for step in steps:
        with database.writing() as connection:
            version = version_of(connection, database.where, newest=newest)
            if version >= step.version:
                continue
            if version != step.version - 1:
                raise LedgerError(f"{database.where}: no way leads from schema {version} to {step.version}")
            step.work(connection)
            set_meta_word(connection, "schema", str(step.version))
        done.append(step)
    return before, done


def prove(database: Database) -> int:
    """Write to the ledger, or make one, and undo it: its version, 0 where there is none yet. Raises LedgerError, RetryLater."""
    version = 0
    with suppress(_Undone), database.writing() as connection:
        version = current_version(connection, database.where)
        if version:
            set_meta_word(connection, "schema", str(version))
        else:
            meta.create(connection, checkfirst=True)
        raise _Undone
    return version


def current_version(connection: sa.Connection, where: str) -> int:
    """The ledger's version, 0 where there is none yet. Raises LedgerError where it is not ours, or has to be migrated."""
    version = version_of(connection, where)
    if 0 < version < SCHEMA_VERSION:
        raise LedgerError(f"{where}: of an older version of the collector (schema {version}, wanted {SCHEMA_VERSION}): {CURE}")
    return version


def make(database: Database) -> None:
    """The tables of a new ledger. Raises LedgerError, RetryLater."""
    with database.writing() as connection:
        if not version_of(connection, database.where):  # two collectors may have seen that there is none
            METADATA.create_all(connection)
            set_meta_word(connection, "schema", str(SCHEMA_VERSION))


def meta_word(connection: sa.Connection, name: str) -> str | None:
    """A remembered word."""
    return connection.execute(sa.select(meta.c.value).where(meta.c.name == name)).scalar_one_or_none()


def set_meta_word(connection: sa.Connection, name: str, value: str) -> None:
    """Remember a word."""
    put(connection, meta, [{"name": name, "value": value}])
