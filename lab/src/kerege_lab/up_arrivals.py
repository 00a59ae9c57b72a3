"""Records as they arrive, in words: one line each for a person at a terminal."""

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from rich.text import Text

from kerege_collector import settings
from kerege_collector.records import Line, NoRecordsYetError, ReadError, Wanted, open_reader

Fields = Mapping[str, Any]

STYLES: Final = {"tick": "bold", "boot": "magenta", "drop": "yellow", "host": "dim", "traffic": "dim"}
CENTER_WIDTH: Final = 14
KIND_WIDTH: Final = 8


class Arrivals:
    """The records that a collector with these settings stores from the first call of `new` on, whichever its store is."""

    def __init__(self, settings_file: Path) -> None:
        self._settings = settings.load(settings_file, files=False)
        self._follow: Iterator[list[Line]] | None = None
        self._from_the_beginning = False
        self._first: set[tuple[str, int]] = set()

    def new(self) -> list[Line]:
        """Those that have come since the last call. A store that cannot be read now, or is not there yet, has none."""
        try:
            if self._follow is None:
                return self._open()
            arrived = next(self._follow)
        except ReadError as error:
            self._follow = None
            self._from_the_beginning = isinstance(error, NoRecordsYetError)
            return []
        first, self._first = self._first, set()
        return [line for line in arrived if (line["epoch"], line["seq"]) not in first]

    def _open(self) -> list[Line]:
        reader = open_reader(self._settings)
        self._follow = reader.follow()
        arrived = next(self._follow)
        if self._from_the_beginning:  # the file was made after we first looked: all that is in it is new
            arrived = list(reader.read(Wanted()))
            self._first = {(line["epoch"], line["seq"]) for line in arrived}
        return arrived


def line_of(record: Mapping[str, Any]) -> Text:
    """One stored record (a line of ``kerege-collector records --json``): local time, center, kind, what it says."""
    kind, fields = record["kind"], record["fields"]
    stamp = time.strftime("%H:%M:%S", time.localtime(record["time"]))
    bad = "error" in fields or fields.get("result") == "offline"
    return Text.assemble(
        (f"{stamp}  ", "dim"),
        (f"{record['center']:<{CENTER_WIDTH}}  ", "cyan"),
        (f"{kind:<{KIND_WIDTH}}  ", STYLES.get(kind, "")),
        (words_of(kind, fields), "red" if bad else ""),
    )


def words_of(kind: str, fields: Fields) -> str:
    """What a record says, in a few words."""
    if "error" in fields:
        target = f"{fields['target']}: " if "target" in fields else ""
        return f"{target}{fields['error']}"
    return _WORDS.get(kind, _plain)(fields)


def _tick(fields: Fields) -> str:
    if fields.get("result") != "online":
        return f"offline: {fields.get('broken', 'unknown')}  [{fields.get('rungs', '')}]"
    also = f", but {fields['broken']} fails" if "broken" in fields else ""
    return f"online{also}  {_ms(fields, 'rtt_ms')}  [{fields.get('rungs', '')}]"


def _ping(fields: Fields) -> str:
    return f"{fields['target']}  {fields.get('received', 0)} of {fields.get('sent', 0)} back, median {_ms(fields, 'rtt_p50_ms')}"


def _dns(fields: Fields) -> str:
    return f"{fields.get('name', '')} by {fields['target']}  {_ms(fields, 'resolve_ms')}"


def _http(fields: Fields) -> str:
    portal = ", a portal stands in between" if fields.get("portal") else ""
    return f"{fields['target']}  status {fields.get('status', 'unknown')}, first byte after {_ms(fields, 'first_byte_ms')}{portal}"


def _traffic(fields: Fields) -> str:
    received, sent = (_kilobytes(fields.get(name)) for name in ("received_bytes", "sent_bytes"))
    return f"{fields.get('interface', 'interface')}  {received} in, {sent} out, in {fields.get('interval_s', 0):.0f} s"


def _host(fields: Fields) -> str:
    parts = {"cpu": "cpu_percent", "memory": "memory_percent", "disk": "disk_percent"}
    shown = [f"{name} {fields[key]:.0f} %" for name, key in parts.items() if key in fields]
    return ", ".join([*shown, f"agent {fields.get('agent_memory_mb', 0):.1f} MB", f"{fields.get('spool_records', 0)} in the spool"])


def _boot(fields: Fields) -> str:
    return (
        f"agent {fields.get('agent', '')} started; the run before: {fields.get('stop', 'unknown')}; spool {fields.get('spool', 'unknown')}"
    )


def _drop(fields: Fields) -> str:
    return f"{fields.get('count', 'some')} {fields.get('dropped_kind', '')} records given up: {fields.get('reason', '')}"


def _plain(fields: Fields) -> str:
    return ", ".join(f"{name} {value}" for name, value in fields.items())


def _ms(fields: Fields, name: str) -> str:
    return f"{fields[name]:.3g} ms" if name in fields else "no time"


def _kilobytes(count: int | None) -> str:
    return "unknown" if count is None else f"{count / 1000:,.1f} kB"


_WORDS: Final[dict[str, Callable[[Fields], str]]] = {
    "tick": _tick,
    "ping": _ping,
    "dns": _dns,
    "http": _http,
    "traffic": _traffic,
    "host": _host,
    "boot": _boot,
    "drop": _drop,
}
