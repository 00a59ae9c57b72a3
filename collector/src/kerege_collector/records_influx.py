"""Reading records back from InfluxDB: InfluxQL over ``/query``, which versions 1.8 to 3 all speak. Standard library only."""

import heapq
import json
import time
from collections.abc import Iterator
from dataclasses import fields
from typing import Any, Final
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode
from urllib.request import ProxyHandler, Request, build_opener

from kerege_collector.records import Line, ReadError, Wanted
from kerege_collector.settings import Influx
from kerege_wire import KINDS

STEP: Final = 5000
"""Points asked for at a time: some 2 MB of JSON."""

FOLLOW_BACK_S: Final = 900
"""`follow` looks for new records measured within this time: InfluxDB does not know what was stored last, only what is of when."""

FOLLOW_AHEAD_S: Final = 300

MAX_SAID: Final = 300
MILLION: Final = 10**6

_FIELDS: Final = {kind: tuple(item.name for item in fields(declared)) for kind, declared in KINDS.items()}
"""What a record says of itself; the other columns are its envelope, the tags of its center, and what was computed for dashboards."""

_open: Final = build_opener(ProxyHandler({})).open  # the store is the settings' own server, not something behind a proxy

Identity = tuple[str, str, int]


class InfluxReader:
    """The InfluxDB of the settings."""

    def __init__(self, store: Influx) -> None:
        self._store = store

    def read(self, wanted: Wanted) -> Iterator[Line]:
        """See `records.Reader`."""
        kinds = [wanted.kind] if wanted.kind else list(KINDS)
        streams = [self._read_kind(wanted, kind) for kind in kinds]
        yield from heapq.merge(*streams, key=lambda line: line["time"])

    def follow(self) -> Iterator[list[Line]]:
        """See `records.Reader`. Shows what was measured within a quarter of an hour: not a long backlog."""
        seen = {_identity(line): line["time"] for line in self._recent()}
        while True:
            new = [line for line in self._recent() if _identity(line) not in seen]
            seen |= {_identity(line): line["time"] for line in new}
            oldest_s = int(time.time()) - 2 * FOLLOW_BACK_S
            seen = {identity: time_s for identity, time_s in seen.items() if time_s >= oldest_s}
            yield new

    def _recent(self) -> Iterator[Line]:
        now_s = int(time.time())
        return self.read(Wanted(since_s=now_s - FOLLOW_BACK_S, until_s=now_s + FOLLOW_AHEAD_S))

    def _read_kind(self, wanted: Wanted, kind: str) -> Iterator[Line]:
        """One kind in the order of time: each step begins with the second in which the one before ended, and leaves out what was in it."""
        since_s, step = wanted.since_s, STEP
        at_border: set[Identity] = set()
        while True:
            lines = self._ask(wanted, kind, since_s, step)
            fresh = [line for line in lines if line["time"] > since_s or _identity(line) not in at_border]
            yield from fresh
            if len(lines) < step:
                return
            last_s = lines[-1]["time"]
            if last_s == since_s:
                step *= 2  # more in one second than a step holds
            at_border = {_identity(line) for line in lines if line["time"] == last_s}
            since_s = last_s

    def _ask(self, wanted: Wanted, kind: str, since_s: int, step: int) -> list[Line]:
        conditions = [f"time >= {since_s}s", f"time < {min(wanted.until_s, 2**33)}s"]
        if wanted.center is not None:
            conditions.append(f"center = '{wanted.center}'")
        statement = f'SELECT * FROM "{kind}" WHERE {" AND ".join(conditions)} ORDER BY time ASC LIMIT {step}'  # noqa: S608 - no text from outside
        found = []
        for series in self._query(statement):
            names = series["columns"]
            found += [_line(kind, dict(zip(names, values, strict=True))) for values in series.get("values", ())]
        return found

    def _query(self, statement: str) -> list[dict[str, Any]]:
        database, _, policy = self._store.bucket.partition("/")  # 1.x: database/retention policy
        parameters = {"db": database, "epoch": "s"} | ({"rp": policy} if policy else {})
        url = f"{self._store.url}/query?{urlencode(parameters)}"
        try:
            token = self._store.token
            headers = {"Authorization": f"Token {token}"} if token else {}
            request = Request(url, urlencode({"q": statement}).encode(), headers)  # noqa: S310 - http or https: the settings see to it
            with _open(request, timeout=self._store.timeout_s) as answer:
                said = json.load(answer)
        except HTTPError as error:
            with error:
                raise self._error(f"status {error.code}: {error.read(MAX_SAID).decode(errors='replace').strip()}") from error
        except (URLError, OSError) as error:
            raise self._error(str(getattr(error, "reason", error))) from error
        except ValueError as error:
            raise self._error("its answer is no JSON: is this an InfluxDB?") from error
        result = said.get("results", [{}])[0]
        if "error" in result or "error" in said:
            raise self._error(str(result.get("error") or said["error"]))
        series: list[dict[str, Any]] = result.get("series", [])
        return series

    def _error(self, why: str) -> ReadError:
        return ReadError(f"{self._store.url}: {why}")


def _identity(line: Line) -> Identity:
    return line["center"], line["epoch"], line["seq"]


def _line(kind: str, columns: dict[str, Any]) -> Line:
    line = {name: columns[name] for name in ("center", "epoch", "seq", "time")} | {"kind": kind, "clock": columns["clock"]}
    if columns.get("within_s") is not None:
        line["within_s"] = columns["within_s"]
    return line | {"fields": {name: columns[name] for name in _FIELDS[kind] if columns.get(name) is not None}}
