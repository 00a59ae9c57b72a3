"""The parts of a chaos run, as real processes on the loopback, and what stands between them."""

import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Literal, Self

from kerege_lab.chaos.clocks import WallClock
from kerege_lab.chaos.disks import Disk
from kerege_lab.house import Access, Agent, Center, Collector, Table, agent_settings, collector_settings, influx_store, merged
from kerege_lab.postgresql import PostgreSQL
from kerege_lab.proxy import FaultyHttp, Link, Workshop
from kerege_lab.servers import Influxd, InfluxTarget, Mosquitto, Server, free_port

Store = Literal["sqlite", "influx"]
Ledger = Literal["sqlite", "postgresql"]

ACK_WITHIN_S: Final = 2
KEEPALIVE_S: Final = 10
PING_TARGETS: Final = 8
HTTP_TARGETS: Final = 8
CADENCE_S: Final = 1.5
"""Each series makes a record about so often; at one a second, which is the most, a record would keep giving way to the one before it."""

AGENT_DISK_MB: Final = 16
COLLECTOR_DISK_MB: Final = 256
BROKER_QUEUE: Final = 10_000
"""As deploy/mosquitto/kerege.conf."""


class ChaosAgent(Agent):
    """An agent whose wall clock can be set. ``disk``: its own small one, where it may be filled; such an agent is never killed."""

    def __init__(self, directory: Path, settings: Table, *, link: Link, disk: Disk | None) -> None:
        super().__init__(directory, settings)
        self.link = link
        self.disk = disk
        self.clock = WallClock(directory / "wall-clock-offset")
        self.wrapper = self.clock.wrapper

    @property
    def journal_file(self) -> Path:
        """Where it tells what it makes."""
        return Path(self.settings["journal_file"])


class ChaosCollector(Collector):
    """A collector that counts as started at once: others go on meanwhile."""

    def _ready(self) -> bool:
        return True


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the town shall be. ``disks``: may small ones be mounted?"""

    directory: Path
    store: Store
    agents: int
    disks: bool
    ledger: Ledger = "sqlite"


class Town:
    """Everything of one run; a context manager that starts it all and leaves nothing behind."""

    def __init__(self, wanted: Wanted) -> None:
        self.wanted = wanted
        self.directory = wanted.directory
        self.stack = ExitStack()
        self.workshop = Workshop()
        self.broker = Mosquitto(self.directory / "broker", max_queued=BROKER_QUEUE)
        self.database: Influxd | None = Influxd(self.directory / "influxd") if wanted.store == "influx" else None
        self.ledger: PostgreSQL | None = PostgreSQL(self.directory / "postgresql") if wanted.ledger == "postgresql" else None
        self.faulty: FaultyHttp | None = None
        self.collector_disk: Disk | None = None
        self.agents: list[ChaosAgent] = []
        self.collector: ChaosCollector
        self.collector_link: Link
        self.crashes: list[str] = []
        self.down: set[Server] = set()
        """Those that a fault has ended for a while."""

    def __enter__(self) -> Self:
        try:
            self._build()
        except BaseException:
            self.stack.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stack.close()

    @property
    def servers(self) -> list[Server]:
        """All processes."""
        return [self.broker, *self.databases, self.collector, *self.agents]

    @property
    def databases(self) -> list[Server]:
        """Those that there are."""
        return [server for server in (self.database, self.ledger) if server is not None]

    @property
    def records_file(self) -> Path:
        """The SQLite store's file."""
        return Path(self.collector.settings["store"]["path"])

    def look_after(self) -> None:
        """Start again what has ended without having been ended, as systemd would, and remember that it did."""
        for server in self.servers:
            if not server.running and server not in self.down:
                self.crashes.append(f"{server.directory.name} ended by itself:\n{server.last_log_lines()}")
                server.start()

    def killable(self) -> list[ChaosAgent]:
        """The agents that may be killed."""
        return [agent for agent in self.agents if agent.disk is None]

    def full(self) -> list[ChaosAgent]:
        """The agents whose disk may be filled."""
        return [agent for agent in self.agents if agent.disk is not None]

    def keep_disks(self) -> None:
        """Copy what is on the small disks beside them: they are gone with this process."""
        disks = [agent.disk for agent in self.agents] + [self.collector_disk]
        for disk in disks:
            if disk is not None:
                shutil.copytree(disk.path, disk.path.with_name(f"{disk.path.name}-kept"), dirs_exist_ok=True)

    def _build(self) -> None:
        self.stack.enter_context(self.workshop)
        page = FaultyHttp(self.broker.port)  # never passes anything on: it is what the agents' HTTP probes find
        page.answer(204)
        self.stack.enter_context(page)
        self.stack.enter_context(self.broker)
        centers = [Center(f"center-{number}", provider=f"provider-{number % 3}") for number in range(1, self.wanted.agents + 1)]
        self._build_collector(centers)
        self.agents += [self._agent(center.id, page, number) for number, center in enumerate(centers)]
        for agent in self.agents:
            self.stack.enter_context(agent)

    def _build_collector(self, centers: Sequence[Center]) -> None:
        directory = self.directory / "collector"
        if self.wanted.disks:
            self.collector_disk = self._disk(directory / "state", mb=COLLECTOR_DISK_MB)
        self.collector_link = self.workshop.link(self.broker.port)
        settings = collector_settings(Access(self.collector_link.port), directory / "state", port=free_port(), store=self._store())
        changes: Table = {"ack_within_s": ACK_WITHIN_S, "clock": {"trust": "always"}, "mqtt": {"keepalive_s": KEEPALIVE_S}}
        if self.ledger is not None:
            self.stack.enter_context(self.ledger)
            changes["ledger"] = self.ledger.ledger(self.ledger.create("kerege"), self.directory / "ledger.password")
        self.collector = ChaosCollector(directory, merged(settings, changes), centers)
        self.stack.enter_context(self.collector)

    def _disk(self, path: Path, *, mb: int) -> Disk:
        disk = Disk(path, mb=mb)
        self.stack.callback(disk.close)
        return disk

    def _store(self) -> Table | None:
        if self.database is None:
            return None
        self.stack.enter_context(self.database)
        self.faulty = self.stack.enter_context(FaultyHttp(self.database.port))
        target = self.database.target
        return influx_store(InfluxTarget(self.faulty.url, target.token, target.org, target.bucket), self.directory / "collector")

    def _agent(self, center: str, page: FaultyHttp, number: int) -> ChaosAgent:
        directory = self.directory / center
        may_fill = self.wanted.disks and number % 3 == 2
        disk = self._disk(directory / "state", mb=AGENT_DISK_MB) if may_fill else None
        link = self.workshop.link(self.broker.port)
        settings = agent_settings(center, Access(link.port), directory, page=page.url)
        return ChaosAgent(directory, merged(settings, _fast(directory, page)), link=link, disk=disk)


def _fast(directory: Path, page: FaultyHttp) -> Table:
    """What makes an agent produce many records, and come back soon."""
    series = {"interval_s": CADENCE_S, "timeout_s": 5.0}
    ping = series | {"count": 1, "loss_timeout_s": 1.0, "targets_per_run": 1000}
    slow = {"interval_s": 5.0, "timeout_s": 5.0}
    return {
        "journal_file": directory / "journal.jsonl",
        "mqtt": {"keepalive_s": KEEPALIVE_S, "connect_timeout_s": 10.0},
        "targets": [{"name": f"target-{index}", "address": f"127.0.0.{index + 1}", "tcp_port": page.port} for index in range(PING_TARGETS)],
        "http": {"targets": [{"name": f"page-{index}", "url": page.url} for index in range(HTTP_TARGETS)]},
        "portal": {"url": page.url},
        "probes": {"tick": series, "ping": ping, "http": series, "dns": slow, "traffic": slow, "host": slow},
        "spool": {"max_bytes": 8 << 20},
        "uplink": {"backlog_reports_per_s": 5.0, "backlog_start_delay_s": 2.0, "reconnect_max_s": 5.0},
    }
