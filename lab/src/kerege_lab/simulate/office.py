"""The collector of the simulated world: the real service by the world's clock, and a real broker.

The service runs in this process, and its worker, clerk and postman are stepped one after the other, so that a month passes in minutes
and each second of it as a collector in the field would see it.
"""

import threading
from pathlib import Path
from typing import Any, Final

from kerege_collector import incidents
from kerege_collector.service import Service
from kerege_collector.settings import load
from kerege_lab.house import Access, collector_settings, merged
from kerege_lab.servers import Mosquitto, ServerError, free_port
from kerege_lab.simulate.world import HOURS, ZONE, Place, World
from kerege_lab.toml import toml_text
from kerege_lab.waiting import wait_for

DESK: Final = "desk"


class Clock:
    """The world's time, which only `Office` users move."""

    def __init__(self, now_s: float) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        return self.now_s


class Office:
    """A collector that can be closed and opened again on the same ledger."""

    def __init__(self, directory: Path, world: World, broker: Mosquitto, clock: Clock, told_at: str) -> None:
        self.broker = broker
        self._clock = clock
        self._settings = directory / "collector.toml"
        wanted = merged(
            collector_settings(Access(broker.port), directory, port=free_port()),
            {"batch": {"wait_s": 0.0}, "clock": {"trust": "always"}, "ack_within_s": 1},
        )
        directory.mkdir(parents=True)
        self._settings.write_text(toml_text(wanted))
        (directory / "centers.toml").write_text(toml_text(registry(world)))
        addresses = directory / "desk"
        addresses.touch(mode=0o600)
        addresses.write_text(f"{told_at}\n")
        self._service: Service | None = None

    @property
    def service(self) -> Service:
        """Raises ServerError while it is closed."""
        if self._service is None:
            raise ServerError("the simulated collector is closed")
        return self._service

    def open(self) -> None:
        """Start, and wait until the broker delivers."""
        service = self._service = Service(load(self._settings), threading.Event(), now_s=self._clock)
        service.inbox.start()
        service.inbox.announce("ready")
        wait_for(lambda: service.inbox.connected, "the collector has found the broker")

    def close(self) -> None:
        """End in good order; the agents are told."""
        service, self._service = self.service, None
        service.pipeline.stop()
        service.pipeline.run()
        service.inbox.stop()
        service.close()

    def announce_work(self, world: World) -> None:
        """The planned work of the world, as a person enters it beforehand."""
        work = world.maintenance
        with self.service.ledger.transaction() as connection:
            span = (work.start_s, work.end_s)
            incidents.maintain(connection, ("center", work.what), span, why="a new mast", who="lab", now_s=int(self._clock()))


def registry(world: World) -> dict[str, Any]:
    """``centers.toml`` of the world, and one contact who is told everything."""
    return {
        "zone": ZONE,
        "contact": [{"id": DESK, "addresses_file": "desk", "language": "en"}],
        "hours": {name: {"mon-sat": spans} for name, spans in HOURS.items()},
        "center": [_entry(place) for place in world.places.values()],
    }


def _entry(place: Place) -> dict[str, Any]:
    link = {"kind": place.link, "provider": place.provider, "satellite": place.satellite}
    return {
        "id": place.id,
        "name": place.id,
        "district": place.district,
        "hours": place.hours,
        "connected": None if place.connected else False,
        "link": link if place.connected else None,
    }
