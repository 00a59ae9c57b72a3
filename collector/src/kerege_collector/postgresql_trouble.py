"""What PostgreSQL's errors mean to somebody who wants to write: not now, or never (a bug)."""

from typing import Final

import psycopg

from kerege_collector.stores import RetryLater

UNREACHABLE: Final = "unreachable"

STATES: Final = {
    "25006": "read-only",
    "25P03": UNREACHABLE,  # it has ended a session that was idle in a transaction
    "40": "locked",
    "42501": "not-allowed",
    "53100": "disk-full",
    "53200": "no-memory",
    "53300": "too-many-connections",
    "53": "no-resources",
    "55P03": "locked",
    "57014": "too-slow",
    "57": UNREACHABLE,
    "58": "input-output",
    "08": UNREACHABLE,
    "XX001": "damaged",
    "XX002": "damaged",
}
"""SQLSTATE, or its class (https://www.postgresql.org/docs/current/errcodes-appendix.html) → class of RetryLater."""


def retry_later(error: psycopg.Error, where: str) -> RetryLater | None:
    """The RetryLater for an error of PostgreSQL, None where waiting will not help (a mistake of ours)."""
    state = error.sqlstate
    if state is not None:
        reason = STATES.get(state) or STATES.get(state[:2])
    else:  # the server has said nothing, or, before a session began, nothing but words
        reason = UNREACHABLE if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError) else None
    words = " ".join(str(error).split())
    return RetryLater(reason, f"{where}: {words}{f' ({state})' if state else ''}") if reason else None
