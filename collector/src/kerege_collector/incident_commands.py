"""``kerege-collector incidents``, ``ack``, ``snooze``, ``resolve`` and ``maintain``: at the ledger, beside the service or without it."""

import getpass
import sys
import time
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa

from kerege_collector import incidents
from kerege_collector.figures import span
from kerege_collector.incidents import AlreadyResolvedError, Done, NoSuchIncidentError
from kerege_collector.ledger import LedgerError
from kerege_collector.opening import NothingThereError, open_ledger
from kerege_collector.settings import Settings
from kerege_collector.stores import RetryLater
from kerege_collector.tables import local_time, print_json, print_table


def show_list(settings: Settings, *, as_json: bool, everything: bool) -> int:
    """Print the incidents that last, or all; 0, or 1 where the ledger cannot be read."""
    rows: list[dict[str, Any]] = []
    status = _work(settings, lambda connection: rows.extend(incidents.listing(connection, everything=everything)))
    if status:
        return status
    if as_json:
        for row in rows:
            print_json(row)
    else:
        headings = ("no.", "what", "whom", "centers", "cause", "since", "for", "over", "seen by", "reason")
        print_table(headings, map(_cells, rows))
    return 0


def act(settings: Settings, work: Callable[[sa.Connection, str, int], Done], *, as_json: bool) -> int:
    """Do what a person asks for, in that person's name, and with JSON print what was done; 0, or 1 where it cannot be done."""
    done: list[Done] = []
    status = _work(settings, lambda connection: done.append(work(connection, getpass.getuser(), int(time.time()))))
    if as_json and status == 0:
        print_json(done[0])
    return status


def _cells(row: dict[str, Any]) -> list[object]:
    until_s = row["closed_s"] or int(time.time())
    what = f"{row['kind']}, unstable" if row["unstable"] else row["kind"]
    whom = row["name"] if row["scope"] == "center" else f"{row['scope']} {row['name']}".strip()
    times = [local_time(row["since_s"]), span(until_s - row["since_s"]), local_time(row["closed_s"])]
    return [row["id"], what, whom, len(row["centers"]), row["cause"], *times, row["acknowledged_by"], row["reason"]]


def _work(settings: Settings, work: Callable[[sa.Connection], None]) -> int:
    try:
        ledger = open_ledger(settings)
        try:
            with ledger.writing() as connection:
                work(connection)
        finally:
            ledger.close()
    except (NothingThereError, LedgerError, RetryLater, NoSuchIncidentError, AlreadyResolvedError) as error:
        sys.stderr.write(f"kerege-collector: {error}\n")
        return 1
    return 0
