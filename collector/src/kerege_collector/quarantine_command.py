"""``kerege-collector quarantine``: list what could not be stored, look at it, try it again after a fix, or let it go."""

import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

from kerege_collector import centers, quarantine
from kerege_collector.ledger import Ledger, LedgerError, QuarantineRow
from kerege_collector.opening import NothingThereError, open_ledger, open_store
from kerege_collector.quarantine import AlreadyResolvedError, Readmitted
from kerege_collector.settings import Settings
from kerege_collector.stores import RetryLater
from kerege_collector.tables import local_time, print_json, print_table
from kerege_wire import WireError
from kerege_wire.codec import unpack

MAX_DETAIL: Final = 60
"""Longest detail in a table; `show` and JSON have all of it."""


def show_list(settings: Settings, *, as_json: bool, everything: bool) -> int:
    """Print the items that wait, or also those that have ended; 0."""
    return _with_ledger(settings, lambda ledger: _list(quarantine.listing(ledger, waiting_only=not everything), as_json=as_json))


def show_item(settings: Settings, number: int, *, as_json: bool) -> int:
    """Print one item with what it holds; 0, or 1 where there is none of that number."""
    return _with_ledger(settings, lambda ledger: _show(ledger, number, as_json=as_json))


def drop(settings: Settings, numbers: Sequence[int], *, reason: str | None, as_json: bool) -> int:
    """Let items go: those of the numbers, or all of a reason. 0, or 1 where one could not be."""

    def drop_one(ledger: Ledger, number: int) -> dict[str, Any]:
        return {"resolved": "dropped"} if quarantine.drop(ledger, number) else _missing(ledger)

    return _with_ledger(settings, lambda ledger: _each(ledger, numbers, reason, drop_one, as_json=as_json))


def readmit(settings: Settings, numbers: Sequence[int], *, reason: str | None, as_json: bool) -> int:
    """Try items again: those of the numbers, or all of a reason. 0, or 1 where one is still refused."""
    region = centers.load_region(settings.centers_file, may_be_absent=True)
    store = open_store(settings, region.centers)

    def readmit_one(ledger: Ledger, number: int) -> dict[str, Any]:
        admit_unknown = settings.unknown_centers == "admit"
        now_ms = time.time_ns() // 1_000_000
        done = quarantine.readmit(ledger, store, number, region=region, admit_unknown=admit_unknown, now_ms=now_ms)
        return _missing(ledger) if done is None else _outcome(done)

    try:
        return _with_ledger(settings, lambda ledger: _each(ledger, numbers, reason, readmit_one, as_json=as_json))
    finally:
        store.close()


def _with_ledger(settings: Settings, work: Callable[[Ledger], int]) -> int:
    try:
        ledger = open_ledger(settings)
        try:
            return work(ledger)
        finally:
            ledger.close()
    except (NothingThereError, LedgerError, RetryLater) as error:
        sys.stderr.write(f"kerege-collector quarantine: {error}\n")
        return 1


def _list(rows: Iterable[QuarantineRow], *, as_json: bool) -> int:
    if as_json:
        for row in rows:
            print_json(members_of(row))
        return 0
    headings = ("id", "received", "center", "epoch", "seq", "reason", "detail", "ended")
    print_table(headings, (_cells(row) for row in rows))
    return 0


def members_of(row: QuarantineRow) -> dict[str, Any]:
    """An item as JSON."""
    what = row.what
    return {
        "id": row.id,
        "center": what.center,
        "epoch": what.epoch or None,
        "seq": what.seq or None,
        "time": what.time,
        "received": what.received_s,
        "reason": what.reason,
        "detail": what.detail,
        "bytes": len(what.payload),
        "resolved": row.resolved,
    }


def _cells(row: QuarantineRow) -> list[object]:
    what = row.what
    detail = what.detail if len(what.detail) <= MAX_DETAIL else what.detail[: MAX_DETAIL - 1] + "…"
    return [row.id, local_time(what.received_s), what.center, what.epoch or None, what.seq or None, what.reason, detail, row.resolved]


def _show(ledger: Ledger, number: int, *, as_json: bool) -> int:
    row = quarantine.show(ledger, number)
    if row is None:
        sys.stderr.write(f"kerege-collector quarantine: there is no item {number}\n")
        return 1
    members = members_of(row) | {"content": content_of(row.what.payload), "hex": row.what.payload.hex(" ")}
    if as_json:
        print_json(members)
        return 0
    for name, value in members.items():
        if name == "content" and value is not None:
            sys.stdout.write(f"content\n{json.dumps(value, ensure_ascii=False, indent=2)}\n")
        elif name != "hex" or members["content"] is None:
            sys.stdout.write(f"{name:<10} {'–' if value is None else value}\n")
    return 0


def content_of(payload: bytes) -> dict[str, Any] | None:
    """The payload's JSON object; None where it cannot be read."""
    try:
        return dict(unpack(payload))
    except WireError:
        return None


def _outcome(done: Readmitted) -> dict[str, Any]:
    refused = [{"seq": seq or None, "reason": reason, "detail": detail} for seq, reason, detail in done.refused]
    return {"resolved": "readmitted" if done.resolved else None, "stored": done.stored, "repeats": done.repeats, "refused": refused}


def _missing(_: Ledger) -> dict[str, Any]:
    return {"resolved": None, "trouble": "there is no such item"}


def _each(
    ledger: Ledger, numbers: Sequence[int], reason: str | None, work: Callable[[Ledger, int], dict[str, Any]], *, as_json: bool
) -> int:
    well = True
    for number in numbers or list(_of_reason(ledger, reason)):
        try:
            outcome = work(ledger, number)
        except AlreadyResolvedError as error:
            outcome = {"resolved": None, "trouble": str(error)}
        well = well and outcome["resolved"] is not None
        if as_json:
            print_json({"id": number} | outcome)
        else:
            sys.stdout.write(f"{number}: {_words(outcome)}\n")
    return 0 if well else 1


def _of_reason(ledger: Ledger, reason: str | None) -> Iterator[int]:
    return (row.id for row in quarantine.listing(ledger) if row.what.reason == reason)


def _words(outcome: dict[str, Any]) -> str:
    if "trouble" in outcome:
        return str(outcome["trouble"])
    if outcome["resolved"] == "dropped":
        return "dropped"
    counts = f"{outcome['stored']} stored, {outcome['repeats']} were stored already"
    refused = "; ".join(f"{item['reason']}: {item['detail']}" for item in outcome["refused"])
    return f"{counts}; refused again: {refused}" if refused else f"readmitted: {counts}"
