"""A whole house of real processes on the loopback for one test: broker, collector, agent."""

import json
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest

from kerege_lab.audit import Audit, Identity, Journal, Run, audit, found_record
from kerege_lab.house import Agent, Collector, Table
from kerege_lab.servers import Server, ServerError

DEADLINE_S: Final = 90.0
CENTER: Final = "demo"

Found = dict[str, Any]


def wait_until(true: Callable[[], Any], what: str, *, deadline_s: float = DEADLINE_S, house: "House | None" = None) -> Any:
    """The first truthy answer; fails with ``what`` was waited for, and the ends of all logs."""
    until_s = time.monotonic() + deadline_s
    while not (answer := true()):
        if time.monotonic() > until_s:
            pytest.fail(f"not within {deadline_s:g} s: {what}\n{house.logs() if house else ''}")
        time.sleep(0.1)
    return answer


@dataclass
class House:
    """The parts of one test. Whatever is not started yet is started by `start`."""

    directory: Path
    broker: Server
    collector: Collector
    agent: Agent
    stack: ExitStack = field(default_factory=ExitStack)
    killed: set[Run] = field(default_factory=set)

    def start(self) -> "House":
        for part in (self.broker, self.collector, self.agent):
            self.stack.enter_context(part)
        return self

    def logs(self) -> str:
        return "\n".join(f"--- {part.name}\n{part.last_log_lines(40)}" for part in (self.broker, self.collector, self.agent))

    def stored(self) -> list[Found]:
        """Every stored record of the agent's center; none before the store's file is there."""
        try:
            return [line for line in self.collector.json_lines("records") if line["center"] == CENTER]
        except ServerError as error:
            if "there are no records yet" not in str(error):
                raise
            return []

    def identities(self) -> set[Identity]:
        return {(line["center"], line["epoch"], line["seq"]) for line in self.stored()}

    def journal(self) -> Journal:
        """What the agent has made so far."""
        made = Journal(boot_s=time.time() - time.clock_gettime(time.CLOCK_BOOTTIME))
        for line in Path(self.agent.settings["journal_file"]).read_text().splitlines():
            made.take(CENTER, json.loads(line))
        return made

    def made(self) -> set[Identity]:
        """The durable records that the agent has made so far."""
        path = Path(self.agent.settings["journal_file"])
        return {identity for identity, record in self.journal().made.items() if record.kept} if path.exists() else set()

    def await_records(self, count: int = 1) -> None:
        """Wait until so many records are stored."""
        wait_until(lambda: len(self.identities()) >= count, f"{count} records stored", house=self)

    def await_delivery(self) -> None:
        """Wait until everything that has been made by now is stored."""
        made = self.made()
        wait_until(lambda: made <= self.identities(), f"{len(made)} records stored", house=self)

    def kill_agent(self) -> None:
        """As a power cut would."""
        self.agent.kill()
        self.killed.add(self.journal().latest[CENTER])

    def audit(self) -> Audit:
        """Stop the agent and account for everything that was delivered by then."""
        until_s = time.time()
        self.await_delivery()
        self.agent.stop()
        return audit(self.journal(), map(found_record, self.stored()), refused=[], killed=self.killed, until_s=until_s)


def lively(directory: Path) -> Table:
    """An agent that says something every second, and comes back soon."""
    often = {"interval_s": 1.0, "timeout_s": 5.0}
    return {
        "journal_file": directory / "journal.jsonl",
        "probes": {"tick": often, "ping": often | {"count": 1}, "http": often},
        "uplink": {"backlog_start_delay_s": 0.2, "backlog_reports_per_s": 20.0, "reconnect_min_s": 0.2, "reconnect_max_s": 1.0},
    }


Build = Callable[..., House]
