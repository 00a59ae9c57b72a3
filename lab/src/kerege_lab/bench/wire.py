"""What records cost on the wire: bytes of one tick alone and of 25 mixed records, and the time to write and to read them.

The records are those of a steady agent with default settings (`kerege_lab.bench.mix`), of many centers on every kind of link. The bars are
judged on the largest payload of all, not on the middle one.
"""

import json
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from kerege_lab.bench.mix import LINKS, lone_tick, mixed_report
from kerege_wire import Ack, Report, decode_report, encode_ack, encode_report

MAX_TICK_BYTES: Final = 64
MAX_BATCH25_BYTES: Final = 400
"""The bars, for payloads: MQTT's and TLS's own bytes come on top, and are the same for everybody."""

SEEDS: Final = 300
"""Made-up centers for each kind of link."""

TIMED_CALLS: Final = 300
TIMED_ROUNDS: Final = 20
"""The best of so many rounds counts: the others measure what else the machine does."""


def run(*, as_json: bool, qos: bool = False) -> int:
    """Measure and print. 0: within the bars; 1: not. ``qos``: also what a report costs on the network, with a real Mosquitto."""
    figures = measure(SEEDS)
    if qos:
        figures |= _network()
    if as_json:
        print(json.dumps(figures))
    else:
        _show(figures)
    return 0 if figures["within_bars"] else 1


def measure(seeds: int) -> dict[str, Any]:
    """The figures: the largest of all links, and for each link [median, maximum], of ``seeds`` made-up centers on each."""
    ticks = {link: [lone_tick(seed, link=link) for seed in range(seeds)] for link in LINKS}
    batches = {link: [mixed_report(seed, link=link) for seed in range(seeds)] for link in LINKS}
    tick_sizes = {link: _spread(_sizes(reports)) for link, reports in ticks.items()}
    batch_sizes = {link: _spread(_sizes(reports)) for link, reports in batches.items()}
    tick_bytes = max(largest for _, largest in tick_sizes.values())
    batch25_bytes = max(largest for _, largest in batch_sizes.values())
    return {
        "tick_bytes": tick_bytes,
        "batch25_bytes": batch25_bytes,
        "tick_bytes_by_link": tick_sizes,
        "batch25_bytes_by_link": batch_sizes,
        "tick_json_bytes": _spread(_sizes(ticks["geo"], "json")),
        "batch25_json_bytes": _spread(_sizes(batches["geo"], "json")),
        **_times(ticks["geo"][0], batches["geo"][0]),
        "seeds": seeds,
        "bars": {"tick_bytes": MAX_TICK_BYTES, "batch25_bytes": MAX_BATCH25_BYTES},
        "within_bars": tick_bytes <= MAX_TICK_BYTES and batch25_bytes <= MAX_BATCH25_BYTES,
    }


def _sizes(reports: Sequence[Report], codec: str = "deflate") -> list[int]:
    return [len(encode_report(report, codec)) for report in reports]


def _spread(sizes: Sequence[int]) -> tuple[int, int]:
    return statistics.median_high(sizes), max(sizes)


def _times(tick: Report, batch: Report) -> dict[str, float]:
    last = tick.records[-1].seq
    ack = Ack(epoch=tick.epoch, sent=tick.sent, received=1_795_465_801_042, replied=1_795_465_801_088, stored=((1, last),))
    tick_payload, batch_payload = encode_report(tick), encode_report(batch)
    return {
        "encode_tick_us": _best_us(lambda: encode_report(tick)),
        "decode_tick_us": _best_us(lambda: decode_report(tick_payload)),
        "encode_batch25_us": _best_us(lambda: encode_report(batch)),
        "decode_batch25_us": _best_us(lambda: decode_report(batch_payload)),
        "encode_ack_us": _best_us(lambda: encode_ack(ack)),
    }


def _best_us(call: Callable[[], object]) -> float:
    best_s = float("inf")
    for _ in range(TIMED_ROUNDS):
        began_s = time.perf_counter()
        for _ in range(TIMED_CALLS):
            call()
        best_s = min(best_s, time.perf_counter() - began_s)
    return round(best_s / TIMED_CALLS * 1e6, 1)


def _network() -> dict[str, float]:
    from kerege_lab.bench.qos import bytes_per_report  # noqa: PLC0415 - starts a broker, which the plain figures do not need

    return {"network_bytes_qos0": round(bytes_per_report(0), 1), "network_bytes_qos1": round(bytes_per_report(1), 1)}


def _show(figures: dict[str, Any]) -> None:
    sizes = Table(title=f"bytes of a payload: median and largest of {figures['seeds']} centers")
    for column in ("link", "one tick", "25 mixed records"):
        sizes.add_column(column, justify="left" if column == "link" else "right")
    for link, (median, largest) in figures["tick_bytes_by_link"].items():
        sizes.add_row(link, f"{median}  {largest}", "{}  {}".format(*figures["batch25_bytes_by_link"][link]))
    sizes.add_row("geo, plain JSON", "{}  {}".format(*figures["tick_json_bytes"]), "{}  {}".format(*figures["batch25_json_bytes"]))
    sizes.add_row("bar", f"{MAX_TICK_BYTES}", f"{MAX_BATCH25_BYTES}")
    others = Table(title="time of one call, and bytes on the network")
    others.add_column("what")
    others.add_column("figure", justify="right")
    for name, value in figures.items():
        if name.endswith("_us") or name.startswith("network_"):
            others.add_row(name, f"{value}")
    console = Console()
    console.print(sizes)
    console.print(others)
    console.print("within the bars" if figures["within_bars"] else "a bar is broken", style="green" if figures["within_bars"] else "red")
