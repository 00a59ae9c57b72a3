"""``kerege-collector records``: what is stored, read back from either store, each record with its identity.

With a center: in the order of measurement. Without: in the order of arrival from SQLite, of measurement from InfluxDB.

    ReadError                the store cannot be read; the text says why and what to do
    └── NoRecordsYetError    no collector has made it yet
"""

import re
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from kerege_collector.settings import Influx, Settings
from kerege_collector.tables import local_time, print_json

UNITS_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
FOLLOW_EVERY_S: Final = 1.0

MAX_TIME_S: Final = 2**40
"""Beyond any record: the wire carries no later time."""

Line = dict[str, Any]
"""One record: center, epoch, seq, time, kind, clock, within_s where there is one, and its fields; times in s since 1970 UTC."""


class ReadError(Exception):
    """The store cannot be read. The text is for people."""


class NoRecordsYetError(ReadError):
    """No collector has made the store's file yet."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which records; those of ``since_s`` are in, those of ``until_s`` are not."""

    center: str | None = None
    kind: str | None = None
    since_s: int = 0
    until_s: int = MAX_TIME_S

    def has(self, line: Line) -> bool:
        """Is this one of them?"""
        return self.center in {None, line["center"]} and self.kind in {None, line["kind"]} and self.since_s <= line["time"] < self.until_s


class Reader(Protocol):
    """A store that is read. Both methods raise ReadError."""

    def read(self, wanted: Wanted) -> Iterator[Line]:
        """All that is there now."""

    def follow(self) -> Iterator[list[Line]]:
        """What is stored from now on, as lists that may be empty; the caller waits between them."""


def show(settings: Settings, wanted: Wanted, *, as_json: bool, follow: bool) -> int:
    """Print the records, each as it is read; 0."""
    reader = open_reader(settings)
    write = print_json if as_json else _print_line
    if follow:
        for lines in reader.follow():
            for line in lines:
                if wanted.has(line):
                    write(line)
            sys.stdout.flush()
            time.sleep(FOLLOW_EVERY_S)
    for line in reader.read(wanted):
        write(line)
    return 0


def open_reader(settings: Settings) -> Reader:
    """The store of the settings, for reading. Raises ReadError."""
    if isinstance(settings.store, Influx):
        from kerege_collector.records_influx import InfluxReader  # noqa: PLC0415 - each needs its own libraries only

        return InfluxReader(settings.store)
    from kerege_collector.records_sqlite import SqliteReader  # noqa: PLC0415 - as above

    return SqliteReader(settings.records_path)


def time_of(text: str, now_s: float, *, ahead: bool = False) -> int:
    """A moment as people write it: ``2026-11-01``, ``2026-11-01T10:00+05:00``, ``2h`` ago, or ``ahead``; UTC without a zone.

    Raises ValueError.
    """
    if found := re.fullmatch(r"(\d{1,9})([smhdw])", text):
        return int(now_s) + int(found[1]) * UNITS_S[found[2]] * (1 if ahead else -1)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        span = "2h (from now)" if ahead else "2h (ago)"
        raise ValueError(f'wanted a time such as 2026-11-01, 2026-11-01T10:00+05:00 or {span}, got "{text[:60]}"') from None
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())


def _print_line(line: Line) -> None:
    fields = " ".join(f"{name}={value}" for name, value in line["fields"].items())
    clock = "" if line["clock"] == "synced" else f" ({line['clock']})"
    sys.stdout.write(
        f"{local_time(line['time'])}{clock}  {line['center']:<16}  {line['kind']:<8} {line['epoch']} {line['seq']:>6}  {fields}\n"
    )
