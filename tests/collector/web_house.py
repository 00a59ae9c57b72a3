"""What the tests of the web server and of the page share: a house with a board, served over real HTTP."""

import http.client
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Final

import pytest

from kerege_collector.board import Board
from kerege_collector.centers import Center, Link, Region
from kerege_collector.ledger import Ledger
from kerege_collector.metrics import Metrics
from kerege_collector.records import Reader
from kerege_collector.records_sqlite import SqliteReader
from kerege_collector.settings import Http
from kerege_collector.timekeeping import ClockState, Timekeeper
from kerege_collector.web import WebServer
from kerege_lab.servers import HOST, free_port
from kerege_wire import Ping, Presence, Record, Report, Tick

NAMES: Final = {
    "oskemen": ("Өскемен, Шығыс Қазақстан", "Өскемен"),
    "ulan": ("Ұлан ауылы", "Ұлан"),
    "kurshim": ("Күршім", "Күршім"),
    "zaisan": ("Зайсан", "Зайсан"),
    "script": ("<script>alert(1)</script>", 'a "district" & more'),
}


class House:
    """What the service gives to the pages."""

    def __init__(self) -> None:
        self.registry = {
            name: Center(id=name, name=label, district=district, link=Link(kind="geo", provider="Sputnik"))
            for name, (label, district) in NAMES.items()
        }
        self.board = Board(lambda: self.registry, gaps=lambda center: 12 if center == "ulan" else 0)
        self.region = Region(self.registry, {}, {})
        self.directory = Path(mkdtemp())
        self.ledger = Ledger(self.directory / "ledger.db")
        self.metrics = Metrics()
        self.clock = ClockState(True, "synchronised", 12.0, 3.0)
        self.timekeeper = Timekeeper("kernel", ask=lambda: self.clock, now_s=time.monotonic)
        self.troubles: list[str] = []
        self.port = free_port()
        self.server: WebServer | None = None

    def reader(self) -> Reader:
        return SqliteReader(self.directory / "records.db")

    def trouble(self) -> list[str]:
        return self.troubles

    def tick(self, center: str, *, broken: str | None = None, rtt_ms: float = 612.0, waiting: int = 0, ago_s: int = 0) -> None:
        now_s = int(time.time()) - ago_s
        body = Tick("offline", broken=broken) if broken else Tick("online", rtt_ms=rtt_ms)
        ping = Ping("google", sent=10, received=9)
        records = (Record(1, now_s - 1, body), Record(2, now_s, ping))
        self.board.report(center, Report("epochAAA", waiting=waiting, records=records), now_s)


@contextmanager
def served(house: House, **http: Any) -> Iterator[House]:
    """The house's pages at its port, with more settings of ``[http]``."""
    server = WebServer(Http(port=house.port, **http), house)
    house.server = server
    server.start()
    try:
        yield house
    finally:
        server.stop()
        assert not server.alive


@pytest.fixture
def house() -> Iterator[House]:
    """Centers in every state: up, down, off, and two that nobody has heard of."""
    house = House()
    house.tick("oskemen", waiting=1840)
    house.tick("ulan", broken="internet", ago_s=5)
    house.tick("zaisan")
    house.board.presence("zaisan", Presence("goodbye", epoch="epochAAA", birth=1, why="shutdown"), int(time.time()))
    with served(house):
        yield house


def get(house: House, path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], str]:
    """Status, headers and body; underscores in names of ``headers`` stand for hyphens."""
    connection = http.client.HTTPConnection(HOST, house.port, timeout=10)
    try:
        connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read().decode()
    finally:
        connection.close()


def api(house: House) -> dict[str, Any]:
    """What /api/v1/centers says."""
    found: dict[str, Any] = json.loads(get(house, "/api/v1/centers")[2])
    return found
