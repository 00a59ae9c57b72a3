"""How fast reports go from the broker into the store, and what that costs: everything on this machine, one tick a report, QoS 1.

Real Mosquitto, real InfluxDB (or SQLite), the real collector as its own process, and a publisher with prepared packets. The publisher is
kept a little ahead of the collector (`AHEAD`) and no more, so that what is measured is a steady stream and not an emptying queue.
At the end the store is counted: every record must be in it, once.
"""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from sqlite3 import connect
from tempfile import TemporaryDirectory
from typing import IO, Any, Final
from urllib.request import urlopen

import psutil
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console
from rich.table import Table

from kerege_lab.bench.ingest_publisher import center_name
from kerege_lab.house import Access, Center, Collector, collector_settings, influx_store, merged
from kerege_lab.servers import Influxd, Mosquitto, Server, ServerError, free_port

MIN_REPORTS_PER_S: Final = 3000.0
MAX_CPU_S_PER_1000: Final = 0.15
"""The bars: reports a second, and CPU seconds of the collector for a thousand reports."""

CENTERS: Final = 500
AHEAD: Final = 4000
"""Reports that are published and not yet committed: twice Receive Maximum, so that the collector never waits for the publisher."""

MOST_REPORTS_PER_S: Final = 12_000
"""Prepared for each second of a run that is limited by time: more than was ever measured."""

LOOK_EVERY_S: Final = 0.2
STALLED_S: Final = 60.0
"""Without any progress for so long the run is given up."""

STORES: Final = ("influx", "sqlite")


@dataclass(frozen=True, slots=True)
class Look:
    """What the collector had done at a moment: records by outcome, its CPU time, and that by stage."""

    at_s: float
    accepted: int
    refused: int
    cpu_s: float
    stages_s: dict[str, float] = field(default_factory=dict)


def run(store: str, reports: int, seconds: float | None = None, *, as_json: bool = False) -> int:
    """Measure with ``reports`` reports, or for ``seconds``, and print. 0: within the bars and nothing lost; 1: not."""
    if store not in STORES:
        raise ValueError(f"store {store!r}: there are {', '.join(STORES)}")
    if seconds is not None:
        reports = round(seconds * MOST_REPORTS_PER_S)
    with TemporaryDirectory(prefix="kerege-bench-") as directory, _house(Path(directory), store) as house:
        looks, published = _measure(house, reports, seconds, quiet=as_json)
        stored = house.count()
    figures = _figures(store, looks, published, stored)
    if as_json:
        print(json.dumps(figures))
    else:
        _show(figures)
    return 0 if figures["within_bars"] else 1


def cpu_s_per_1000(store: str, reports: int, kind: type[Collector]) -> float:
    """CPU seconds of this collector for a thousand of so many reports. Raises ServerError where one is lost."""
    with TemporaryDirectory(prefix="kerege-bench-") as directory, _house(Path(directory), store, kind) as house:
        looks, published = _measure(house, reports, None, quiet=True)
        figures = _figures(store, looks, published, house.count())
    if figures["lost"]:
        raise ServerError(f"{figures['lost']} of {published} reports are lost")
    return float(figures["cpu_s_per_1000"])


@dataclass(frozen=True, slots=True)
class _House:
    """What runs during the measurement."""

    directory: Path
    broker: Mosquitto
    collector: Collector
    database: Influxd | None

    def count(self) -> int:
        """How many records are in the store."""
        if self.database is not None:
            return sum(int(row["count"]) for row in self.database.query("SELECT count(seq) FROM tick"))
        with connect(self.directory / "collector" / "records.db") as connection:
            (count,) = connection.execute("SELECT count(*) FROM records").fetchone()
        connection.close()
        return int(count)

    def look(self) -> Look:
        """The collector's own figures, and what the kernel says of its CPU time."""
        samples = _samples(self.collector.url)
        stages = {labels["stage"]: value for (name, labels, value) in samples if name == "kerege_stage_cpu_seconds"}
        records = {labels["outcome"]: int(value) for (name, labels, value) in samples if name == "kerege_records_total"}
        return Look(time.monotonic(), records.get("accepted", 0), records.get("refused", 0), cpu_s(self.collector), stages)


def cpu_s(collector: Collector) -> float:
    """CPU time of its process so far, as the kernel has it."""
    used = psutil.Process(collector.pid).cpu_times()
    return float(used.user + used.system)


def registered(count: int) -> list[Center]:
    """The registry of so many of the benchmark's centers."""
    return [Center(center_name(number), district=f"District {number % 15}", link="geo") for number in range(count)]


def _samples(url: str) -> list[tuple[str, dict[str, str], float]]:
    with urlopen(f"{url}/metrics", timeout=10.0) as response:  # noqa: S310 - our own address
        text = response.read().decode()
    return [(sample.name, sample.labels, sample.value) for family in text_string_to_metric_families(text) for sample in family.samples]


@contextmanager
def _house(directory: Path, store: str, kind: type[Collector] = Collector) -> Iterator[_House]:
    broker = Mosquitto(directory / "broker", max_queued=0)
    database = Influxd(directory / "influxd") if store == "influx" else None
    servers: list[Server] = [broker, *([database] if database else [])]
    for server in servers:
        server.start()
    try:
        home = directory / "collector"
        section = influx_store(database.target, home) if database else None
        settings = merged(collector_settings(Access(broker.port), home, port=free_port(), store=section), {"clock": {"trust": "always"}})
        with kind(home, settings, registered(CENTERS)) as collector:
            yield _House(directory, broker, collector, database)
    finally:
        for server in reversed(servers):
            server.stop()


def _measure(house: _House, reports: int, seconds: float | None, *, quiet: bool) -> tuple[list[Look], int]:
    """Looks from the first commit to the last, and how many reports were published."""
    command = [sys.executable, "-m", "kerege_lab.bench.ingest_publisher", str(house.broker.port), str(CENTERS), str(reports)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as publisher:
        assert publisher.stdin is not None
        assert publisher.stdout is not None
        try:
            _expect(publisher.stdout, "ready")
            looks = _drive(house, publisher.stdin, reports, seconds, quiet=quiet)
            published = looks[-1].accepted + looks[-1].refused
            if published == reports:
                publisher.stdin.close()
                _expect(publisher.stdout, "done")
        finally:
            publisher.kill()
    return looks, published


def _drive(house: _House, allowance: IO[str], reports: int, seconds: float | None, *, quiet: bool) -> list[Look]:
    """Let the publisher go on as the collector commits, until all reports are committed, or the time is over and all published ones are."""
    looks = [house.look()]
    goal = reports
    started = moved = time.monotonic()
    allowed = 0
    while True:
        look = house.look()
        if look.accepted > looks[-1].accepted:
            looks.append(look)
            moved = look.at_s
            if not quiet and sys.stderr.isatty():
                print(f"\r{look.accepted} of {goal}", end="", file=sys.stderr)
        done = look.accepted + look.refused
        if done >= goal:
            break
        if look.at_s - moved > STALLED_S:
            raise ServerError(f"{done} of {goal} reports committed, and no more for {STALLED_S:g} s:\n{house.collector.last_log_lines()}")
        if seconds is not None and goal == reports and look.at_s - started > seconds:
            goal = allowed
        if goal == reports and min(done + AHEAD, goal) > allowed:
            allowed = min(done + AHEAD, goal)
            allowance.write(f"{allowed}\n")
            allowance.flush()
        time.sleep(LOOK_EVERY_S)
    return looks


def _expect(stream: IO[str], word: str) -> None:
    said = stream.readline().strip()
    if said != word:
        raise ServerError(f"the publisher says {said!r} instead of {word!r}")


def _figures(store: str, looks: list[Look], published: int, stored: int) -> dict[str, Any]:
    first, last = looks[1], looks[-1]  # the first is before the first commit
    records = last.accepted - first.accepted
    reports_per_s = records / (last.at_s - first.at_s)
    cpu_s_per_1000 = 1000 * (last.cpu_s - first.cpu_s) / records
    stages = {stage: 1000 * (last.stages_s[stage] - first.stages_s[stage]) / records for stage in last.stages_s}
    lost = published - stored
    within = reports_per_s >= MIN_REPORTS_PER_S and cpu_s_per_1000 <= MAX_CPU_S_PER_1000 and lost == 0
    return {
        "store": store,
        "reports": published,
        "reports_per_s": round(reports_per_s, 1),
        "cpu_s_per_1000": round(cpu_s_per_1000, 4),
        "lost": lost,
        "stages": {stage: round(value, 4) for stage, value in stages.items()} | {"other": round(cpu_s_per_1000 - sum(stages.values()), 4)},
        "bars": {"reports_per_s": MIN_REPORTS_PER_S, "cpu_s_per_1000": MAX_CPU_S_PER_1000},
        "within_bars": within,
    }


_MEANINGS: Final = {
    "inbox": "reading, PUBACKs, sockets",
    "admit": "inflate, JSON, checks, ranges",
    "points": "line protocol",
    "store": "SQLite, or the HTTP client",
    "ledger": "ranges, one transaction a batch",
    "board": "what the page shows",
    "ack": "acks to the agents",
    "other": "web server, garbage, switching threads",
}


def _show(figures: dict[str, Any]) -> None:
    console = Console()
    summary = f"{figures['reports_per_s']} a second, lost {figures['lost']}"
    console.print(f"{figures['reports']} reports of one tick into {figures['store']}: {summary}")
    table = Table("where the time goes", "", "CPU-s per 1,000 reports", "share")
    for stage, value in figures["stages"].items():
        table.add_row(stage, _MEANINGS.get(stage, ""), f"{value:.4f}", f"{100 * value / figures['cpu_s_per_1000']:.0f} %")
    table.add_row("all", "", f"{figures['cpu_s_per_1000']:.4f}", "")
    console.print(table)
    console.print("within the bars" if figures["within_bars"] else f"NOT within the bars: {figures['bars']}")
