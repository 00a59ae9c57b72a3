"""What SQLite's errors mean to somebody who wants to write: not now, or never (a bug)."""

import sqlite3
from typing import Final

from kerege_collector.stores import RetryLater

CLASSES: Final = {
    "SQLITE_BUSY": "locked",
    "SQLITE_LOCKED": "locked",
    "SQLITE_FULL": "disk-full",
    "SQLITE_READONLY": "read-only",
    "SQLITE_IOERR": "input-output",
    "SQLITE_CANTOPEN": "cannot-open",
    "SQLITE_PERM": "cannot-open",
    "SQLITE_AUTH": "cannot-open",
    "SQLITE_NOMEM": "no-memory",
    "SQLITE_PROTOCOL": "locked",
    "SQLITE_CORRUPT": "damaged",
    "SQLITE_NOTADB": "damaged",
}
"""Primary result code (https://sqlite.org/rescode.html) → class of RetryLater. A damaged file is not destroyed: people decide."""


def retry_later(error: sqlite3.Error, where: str) -> RetryLater | None:
    """The RetryLater for an error of SQLite, None where waiting will not help (a mistake of ours)."""
    name: str = getattr(error, "sqlite_errorname", None) or ""
    primary = "_".join(name.split("_")[:2])
    reason = CLASSES.get(primary)
    return RetryLater(reason, f"{where}: {error} ({name})") if reason else None
