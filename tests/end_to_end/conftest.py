"""Fixtures of the end-to-end tests: whatever a test starts ends with it."""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from kerege_lab.certificates import Certificates
from kerege_lab.house import Access, Agent, Center, Collector, Table, agent_settings, collector_settings, merged
from kerege_lab.proxy import FaultyHttp
from kerege_lab.servers import Mosquitto, Server, free_port
from tests.end_to_end.houses import CENTER, Build, House, lively


@pytest.fixture
def page() -> Iterator[FaultyHttp]:
    """What the agent's HTTP probe and portal check find."""
    with FaultyHttp(1) as proxy:
        proxy.answer(204)
        yield proxy


@pytest.fixture
def build(tmp_path: Path, page: FaultyHttp) -> Iterator[Build]:
    """Builds the house of a test: not started yet, stopped at the test's end."""
    stack = ExitStack()

    def make(
        broker: Server | None = None,
        certificates: Certificates | None = None,
        store: Table | None = None,
        ledger: Table | None = None,
        **changes: Any,
    ) -> House:
        broker = broker or Mosquitto(tmp_path / "broker")
        access = Access(broker.port, certificates)
        settings = merged(
            collector_settings(access, tmp_path / "collector", port=free_port(), store=store),
            {"ack_within_s": 1, "clock": {"trust": "always"}} | ({"ledger": ledger} if ledger else {}),
        )
        collector = Collector(tmp_path / "collector", settings, [Center(CENTER), Center("other")])
        agent = Agent(
            tmp_path / "agent", merged(agent_settings(CENTER, access, tmp_path / "agent", page=page.url), merged(lively(tmp_path), changes))
        )
        return House(tmp_path, broker, collector, agent, stack)

    with stack:
        yield make


@pytest.fixture(autouse=True)
def _no_influx_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("INFLUX_"):
            monkeypatch.delenv(name)
