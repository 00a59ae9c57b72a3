"""What verdicts cost the collector: its CPU time with them against the same collector without, under the same load, in one run.

"Without" is without evidence, verdicts, incidents and notices: what it takes in it stores and acknowledges.

flood       as many reports as it takes from 500 centers (`ingest`), the two in turns, several times: what each report costs
steady      both at the same time, each with a broker of its own, and 45 libraries that tick once a minute: what a region costs
"""

import json
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from rich.console import Console
from rich.table import Table

from kerege_lab.bench.ingest import CENTERS as FLOOD_CENTERS
from kerege_lab.bench.ingest import cpu_s, cpu_s_per_1000, registered
from kerege_lab.bench.ingest_publisher import center_name
from kerege_lab.house import Access, Collector, collector_settings, merged
from kerege_lab.servers import HOST, Mosquitto, free_port
from kerege_lab.waiting import wait_for
from kerege_wire import Record, Report, Tick, encode_report
from kerege_wire.topics import topic

CENTERS: Final = 45
HEARTBEAT_S: Final = 60.0
EPOCH: Final = "benchmrk"
SETTLE_S: Final = 10.0
"""Before the steady load is measured."""


LEAST_REPORTS: Final = 12_000
"""Fewer are committed between two looks."""


class Unjudging(Collector):
    """The collector without verdicts."""

    module = "kerege_lab.bench.without_verdicts"


@dataclass(frozen=True, slots=True)
class Ratio:
    """CPU seconds with verdicts and without them: of a thousand reports in the flood, of a minute of the steady load."""

    reports: int
    flood_with_s: float
    flood_without_s: float
    minutes: float
    steady_with_s: float
    steady_without_s: float

    @property
    def flood(self) -> float:
        return self.flood_with_s / self.flood_without_s

    @property
    def steady(self) -> float:
        return self.steady_with_s / self.steady_without_s


def run(*, reports: int, pairs: int, minutes: float, as_json: bool) -> int:
    """Measure and print. 0; 2: too little to measure."""
    if reports < LEAST_REPORTS or pairs < 1 or minutes <= 0:
        print(f"kerege-lab bench verdicts-ratio: at least {LEAST_REPORTS} reports, one pair and some part of a minute", file=sys.stderr)
        return 2
    flood: dict[type[Collector], list[float]] = {Collector: [], Unjudging: []}
    for _ in range(pairs):
        for kind, found in flood.items():
            found.append(cpu_s_per_1000("sqlite", reports, kind))
    with_s, without_s = steady(minutes)
    flood_with_s, flood_without_s = (statistics.median(found) for found in flood.values())
    ratio = Ratio(reports, flood_with_s, flood_without_s, minutes, with_s, without_s)
    if as_json:
        print(json.dumps(_figures(ratio)))
    else:
        _show(ratio)
    return 0


def steady(minutes: float) -> tuple[float, float]:
    """CPU seconds a minute with verdicts and without."""
    with TemporaryDirectory(prefix="kerege-bench-") as directory, ExitStack() as stack:
        houses = [stack.enter_context(house(Path(directory) / kind.__name__, kind)) for kind in (Collector, Unjudging)]
        clients = [client for _, client in houses]
        turn = feed(clients, SETTLE_S)
        before = [cpu_s(collector) for collector, _ in houses]
        feed(clients, minutes * 60, first=turn)
        with_s, without_s = (cpu_s(collector) - used_s for (collector, _), used_s in zip(houses, before, strict=True))
    return with_s / minutes, without_s / minutes


@contextmanager
def house(directory: Path, kind: type[Collector]) -> Iterator[tuple[Collector, mqtt.Client]]:
    """A collector with a broker of its own, and a client that publishes to it."""
    with Mosquitto(directory / "broker") as broker:
        home = directory / "collector"
        settings = merged(collector_settings(Access(broker.port), home, port=free_port()), {"clock": {"trust": "always"}})
        client = mqtt.Client(CallbackAPIVersion.VERSION2)
        with kind(home, settings, registered(CENTERS)) as collector:
            wait_for(lambda: collector.healthy, "the collector has found its broker")
            client.connect(HOST, broker.port)
            client.loop_start()
            try:
                yield collector, client
            finally:
                client.disconnect()
                client.loop_stop()


def feed(clients: list[mqtt.Client], seconds: float, *, first: int = 0) -> int:
    """Every center ticks once a minute, one after the other. first: the turn to begin with; returns the next."""
    started = time.monotonic() - first * HEARTBEAT_S / CENTERS
    until_s = first * HEARTBEAT_S / CENTERS + seconds
    turn = first
    while (due_s := turn * HEARTBEAT_S / CENTERS) < until_s:
        time.sleep(max(started + due_s - time.monotonic(), 0.0))
        minute, number = divmod(turn, CENTERS)
        record = Record(
            minute + 1, int(time.time()), Tick(result="online", rungs="++.+==+", target="cloudflare", via="datagram", rtt_ms=612.0)
        )
        payload = encode_report(Report(EPOCH, sent=int(due_s * 1000), records=(record,)))
        for client in clients:
            client.publish(topic(center_name(number), "report"), payload, qos=1)
        turn += 1
    time.sleep(max(started + until_s - time.monotonic(), 0.0))
    return turn


def _figures(ratio: Ratio) -> dict[str, Any]:
    return {
        "flood_ratio": round(ratio.flood, 3),
        "flood_reports": ratio.reports,
        "flood_centers": FLOOD_CENTERS,
        "flood_cpu_s_per_1000": {"with": round(ratio.flood_with_s, 4), "without": round(ratio.flood_without_s, 4)},
        "steady_ratio": round(ratio.steady, 3),
        "steady_centers": CENTERS,
        "steady_minutes": ratio.minutes,
        "steady_cpu_s_per_minute": {"with": round(ratio.steady_with_s, 3), "without": round(ratio.steady_without_s, 3)},
    }


def _show(ratio: Ratio) -> None:
    table = Table("load", "CPU seconds", "with verdicts and notices", "without", "ratio")
    table.add_row(
        f"flood of {ratio.reports} reports, {FLOOD_CENTERS} libraries",
        "of 1,000 reports",
        f"{ratio.flood_with_s:.4f}",
        f"{ratio.flood_without_s:.4f}",
        f"{ratio.flood:.2f}",
    )
    steady_s = f"{ratio.steady_with_s:.3f}", f"{ratio.steady_without_s:.3f}"
    table.add_row(f"{CENTERS} libraries, a tick a minute", "of a minute", *steady_s, f"{ratio.steady:.2f}")
    Console().print(table)
