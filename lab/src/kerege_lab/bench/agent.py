"""What a steady agent costs: memory, CPU, and bytes written to disk, with all probes at default cadence.

Two real agents measure the loopback side by side for the same time, over TLS to a real Mosquitto and a real collector: one
writes every record at once, the other spares the flash (``flush_s``). The warm-up, in which everything is imported and each
probe runs for the first time, does not count.
"""

import json
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import psutil
from rich.console import Console
from rich.table import Table

from kerege_lab.certificates import make_certificates
from kerege_lab.house import Access, Agent, Center, Collector, agent_settings, collector_settings, merged
from kerege_lab.servers import HOUSE_ACL, Mosquitto, ServerError, free_port

MAX_RSS_MB: Final = 30.0
"""Resident memory, in MB (1e6 B), that a steady agent may hold at most."""

MAX_CPU_PERCENT: Final = 0.1
"""CPU time that it may take, of one core."""

SAMPLE_S: Final = 1.0
DAY_S: Final = 86_400
FLUSHES: Final = 3
"""The sparing agent writes at least this often while it is measured, at most every `FLUSH_S`: a shorter ``flush_s`` than a real
router's makes its figure an upper bound."""

FLUSH_S: Final = 600.0
MB: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Cost:
    """What one agent took. Memory in MB (1e6 B); CPU in percent of one core; written bytes in MB, extrapolated to a day."""

    rss_max_mb: float
    rss_median_mb: float
    uss_mb: float
    cpu_percent: float
    written_mb_per_day: float
    threads: int


def run(*, seconds: float, warm_up_s: float, as_json: bool) -> int:
    """Measure for ``seconds`` and print. 0: within the bars; 1: not."""
    flush_s = min(FLUSH_S, seconds / FLUSHES)
    with TemporaryDirectory(prefix="kerege-bench-", dir=_on_disk()) as directory, _agents(Path(directory), flush_s) as agents:
        at_once, sparing = _measure(agents, seconds=seconds, warm_up_s=warm_up_s, tell=_teller(as_json=as_json))
    figures = _figures(at_once, sparing, seconds=seconds, flush_s=flush_s)
    if as_json:
        print(json.dumps(figures))
    else:
        _show(figures)
    return 0 if figures["within_bars"] else 1


def _figures(at_once: Cost, sparing: Cost, *, seconds: float, flush_s: float) -> dict[str, Any]:
    return {
        "rss_mb": at_once.rss_max_mb,
        "rss_median_mb": at_once.rss_median_mb,
        "uss_mb": at_once.uss_mb,
        "cpu_percent": at_once.cpu_percent,
        "written_mb_per_day": at_once.written_mb_per_day,
        "written_mb_per_day_sparing": sparing.written_mb_per_day,
        "sparing_flush_s": flush_s,
        "threads": at_once.threads,
        "seconds": seconds,
        "bars": {"rss_mb": MAX_RSS_MB, "cpu_percent": MAX_CPU_PERCENT},
        "within_bars": at_once.rss_max_mb <= MAX_RSS_MB and at_once.cpu_percent <= MAX_CPU_PERCENT,
    }


def _on_disk() -> str | None:
    """A directory that is on a disk: what is written to a tmpfs is not counted as written."""
    return "/var/tmp" if Path("/var/tmp").is_dir() else None  # noqa: S108 - a fresh directory is made in it


@contextmanager
def _agents(directory: Path, flush_s: float) -> Iterator[tuple[Agent, Agent]]:
    names = ("at-once", "sparing")
    certificates = make_certificates(directory / "certificates", names)
    with Mosquitto(directory / "broker", tls=certificates, acl=HOUSE_ACL) as broker:
        access = Access(broker.port, certificates)
        settings = collector_settings(access, directory / "collector", port=free_port())
        with Collector(directory / "collector", settings, [Center(name) for name in names]) as collector:
            plain, sparing = (agent_settings(name, access, directory / name, page=collector.url) for name in names)
            with (
                Agent(directory / "at-once", plain) as first,
                Agent(directory / "sparing", merged(sparing, {"spool": {"flush_s": flush_s}})) as second,
            ):
                yield first, second


def _measure(agents: tuple[Agent, Agent], *, seconds: float, warm_up_s: float, tell: Callable[[str], None]) -> tuple[Cost, Cost]:
    tell(f"warming up for {warm_up_s:g} s")
    time.sleep(warm_up_s)
    for agent in agents:
        if not agent.running:
            raise ServerError(f"the agent {agent.center} has ended:\n{agent.last_log_lines()}")
    tell(f"measuring for {seconds:g} s")
    watches = [Watch(agent.pid) for agent in agents]
    until_s = time.monotonic() + seconds
    while (left_s := until_s - time.monotonic()) > 0:
        time.sleep(min(SAMPLE_S, left_s))
        for watch in watches:
            watch.sample()
    first, second = (watch.cost() for watch in watches)
    return first, second


class Watch:
    """Watches one process from now on."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self._began_s = time.monotonic()
        self._cpu_s = self._cpu()
        self._written = self._process.io_counters().write_bytes
        self._rss: list[int] = []

    def sample(self) -> None:
        """Look at its memory."""
        self._rss.append(self._process.memory_info().rss)

    def cost(self) -> Cost:
        """What it took since the beginning."""
        took_s = time.monotonic() - self._began_s
        written = self._process.io_counters().write_bytes - self._written
        return Cost(
            rss_max_mb=round(max(self._rss) / MB, 1),
            rss_median_mb=round(statistics.median(self._rss) / MB, 1),
            uss_mb=round(self._process.memory_full_info().uss / MB, 1),
            cpu_percent=round(100 * (self._cpu() - self._cpu_s) / took_s, 3),
            written_mb_per_day=round(written / took_s * DAY_S / MB, 2),
            threads=self._process.num_threads(),
        )

    def _cpu(self) -> float:
        times = self._process.cpu_times()
        return times.user + times.system + times.children_user + times.children_system


def _teller(*, as_json: bool) -> Callable[[str], None]:
    console = Console(stderr=True)
    return console.print if console.is_terminal and not as_json else lambda _: None


def _show(figures: dict[str, Any]) -> None:
    table = Table(title="a steady agent, all probes at default cadence")
    table.add_column("what")
    table.add_column("figure", justify="right")
    table.add_column("bar", justify="right")
    for name, value in figures.items():
        if name != "bars":
            table.add_row(name, str(value), str(figures["bars"].get(name, "")))
    Console().print(table)
