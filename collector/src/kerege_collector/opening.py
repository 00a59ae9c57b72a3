"""The store and the ledger for the commands, which run beside the service or without it."""

from functools import cache
from pathlib import Path
from typing import Final

from kerege_collector.centers import Registry
from kerege_collector.database import Database, SqliteDatabase
from kerege_collector.ledger import Ledger
from kerege_collector.points import center_tags
from kerege_collector.settings import Influx, PostgresqlLedger, Settings
from kerege_collector.stages import Stages
from kerege_collector.stores import Store
from kerege_collector.stores.sqlite import SqliteStore

LEDGER_CURES: Final = {
    "damaged": "restore a backup, or move ledger.db away: what it forgets is stored again over itself, but its quarantine stays there",
    "cannot-open": "is it a file, and may this user write it and its directory?",
    "read-only": "let this user write it and its directory; of a server, is it a standby, or is default_transaction_read_only on?",
    "disk-full": "free some room",
    "unreachable": "does the server run, does a firewall let us through, are user, password, database and sslmode right?",
    "no-password": "let this user read the file",
    "too-old": "upgrade PostgreSQL",
    "not-allowed": "give the database to ledger.user: ALTER DATABASE ... OWNER TO ...",
}
"""Class of RetryLater → what to do."""


class NothingThereError(Exception):
    """The files of a collector are not there. The text is for people."""


def open_store(settings: Settings, registry: Registry) -> Store:
    """The store of the settings, for writing."""
    if isinstance(settings.store, Influx):
        return open_influx(settings.store, registry)
    return SqliteStore(settings.records_path, retention_days=settings.store.retention_days)


def open_influx(store: Influx, registry: Registry) -> Store:
    """An InfluxDB; each center's points have the tags that the registry gives it. Raises OSError where its token cannot be read."""
    from kerege_collector.stores.influx import InfluxAccess, InfluxStore  # noqa: PLC0415 - it takes a second and 30 MB to load

    @cache
    def tags(center: str) -> str:
        entry = registry.get(center)
        if entry is None:
            return center_tags(center)
        return center_tags(center, district=entry.district, link=entry.link_kind, provider=entry.provider)

    access = InfluxAccess(store.url, store.bucket, store.organisation, store.token, store.timeout_s)
    return InfluxStore(access, tags, Stages())


def open_ledger(settings: Settings) -> Ledger:
    """The ledger of the settings. Raises NothingThereError or LedgerError where no collector has made one, LedgerError, RetryLater."""
    return Ledger(existing_database(settings), bounds=settings.quarantine.bounds, may_make=False)


def existing_database(settings: Settings, *, patient: bool = False) -> Database:
    """The ledger's database, which may be empty where it is not a file. Raises NothingThereError where it is, and there is none.

    patient: for work that may take hours.
    """
    if not isinstance(settings.ledger, PostgresqlLedger):
        existing(settings.ledger_path)
    return ledger_database(settings, patient=patient)


def ledger_database(settings: Settings, *, patient: bool = False) -> Database:
    """The ledger's database; nothing is connected or made yet."""
    ledger = settings.ledger
    if not isinstance(ledger, PostgresqlLedger):
        return SqliteDatabase(settings.ledger_path)
    from kerege_collector.database_postgresql import Access, PostgresqlDatabase  # noqa: PLC0415 - its driver, where it is used

    who = ledger.database, ledger.user, lambda: ledger.password
    return PostgresqlDatabase(Access(ledger.host, ledger.port, *who, ledger.sslmode, ledger.ca_file), patient=patient)


def existing(path: Path) -> Path:
    """The path, where there is a file. A command must not make one: it would belong to the wrong user. Raises NothingThereError."""
    if not path.exists():
        raise NothingThereError(f"{path}: there is no such file; has a collector run on these settings?")
    return path
