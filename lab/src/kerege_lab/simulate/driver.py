"""Lets a simulated world happen: the agents' messages go through a real broker to the real collector, turn after turn.

A turn is as long as the collector looks for incidents, and at night longer. In each, what the agents say by its end is published, seen
through and acknowledged; then incidents are looked for, and notices go out as late as the postman may be: no figure is better than in the
field.
"""

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from kerege_collector.clerk import WATCH_EVERY_S
from kerege_collector.postman import EVERY_S
from kerege_lab.hook import hook
from kerege_lab.servers import HOST, Mosquitto
from kerege_lab.simulate.agents import Agenda, Publication
from kerege_lab.simulate.office import Clock, Office
from kerege_lab.simulate.world import BEGIN_S, DAY_S, World
from kerege_lab.waiting import wait_for
from kerege_wire import decode_ack, decode_report, decode_state
from kerege_wire.topics import COLLECTOR_STATE, center_of, topic

NIGHT_TURN_S: Final = 60
JUDGED_EVERY_S: Final = 3600
"""In the field each minute. Verdicts come from the evidence alone, so that the last ones are the same; a minute of them costs as much as
a hundred turns."""

TOLD_WITHIN_S: Final = 300
"""What was measured so shortly before the end may still be under way."""


class Sent(NamedTuple):
    """A report, by its center, epoch and last record."""

    center: str
    epoch: str
    seq: int


class Wire:
    """The connection of all agents to the broker, in the thread of the caller."""

    def __init__(self, agenda: Agenda, broker: Mosquitto) -> None:
        self._agenda = agenda
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="simulation")
        self._client.on_message = self._hear
        self._client.on_socket_open = _send_at_once
        self._subscribed = False
        self._client.on_subscribe = self._note_subscribed
        self._port = broker.port

    def connect(self) -> None:
        """Also again, after the broker was away."""
        self._subscribed = False
        self._client.connect(HOST, self._port)
        self._client.subscribe([(topic("+", "ack"), 0), (COLLECTOR_STATE, 0)])
        wait_for(self._is_subscribed, "the broker lets the agents subscribe")

    def publish(self, publication: Publication) -> None:
        self._client.publish(publication.topic, publication.payload, qos=0, retain=publication.retain)

    def hear(self, wait_s: float = 0.0) -> None:
        """Hand over the acks that have come."""
        self._client.loop(wait_s)

    def disconnect(self) -> None:
        self._client.disconnect()

    def _is_subscribed(self) -> bool:
        self.hear(0.01)
        return self._subscribed

    def _note_subscribed(self, *_: Any) -> None:
        self._subscribed = True

    def _hear(self, _client: mqtt.Client, _data: object, message: mqtt.MQTTMessage) -> None:
        if message.topic == COLLECTOR_STATE:
            self._agenda.collector = decode_state(bytes(message.payload)).state == "ready"
            return
        center = center_of(message.topic, "ack")
        if center is not None:
            self._agenda.agents[center].acknowledge(decode_ack(bytes(message.payload)))


@dataclass(frozen=True, slots=True)
class Ran:
    """What is left of a run beside the ledger: records made, and those never acknowledged; notices that somebody took; how long it took."""

    records: int
    left: int
    notices: int
    seconds: float


@contextmanager
def run(world: World, directory: Path, tell: Callable[[int], None]) -> Iterator[tuple[Ran, Office]]:
    """Let it all happen; the collector is there still, to be read. tell: hears of each day. Raises ServerError."""
    started = time.monotonic()
    with ExitStack() as stack:
        broker = stack.enter_context(Mosquitto(directory / "broker", max_queued=0, lines=["set_tcp_nodelay true"]))
        told = stack.enter_context(hook())
        clock, agenda = Clock(BEGIN_S), Agenda(world)
        office = Office(directory / "collector", world, broker, clock, told.url())
        wire = Wire(agenda, broker)
        wire.connect()
        office.open()
        stack.callback(office.close)
        stack.callback(wire.disconnect)
        office.announce_work(world)
        house = _House(world, office, clock, agenda, wire)
        for now_s in turns(world):
            house.turn(now_s)
            if now_s % DAY_S == BEGIN_S % DAY_S:
                tell((now_s - BEGIN_S) // DAY_S)
        office.service.clerk.step(world.last_s)
        office.service.postman.step()
        made = sum(agent.made for agent in agenda.agents.values())
        left = sum(agent.left(world.last_s - TOLD_WITHIN_S) for agent in agenda.agents.values())
        yield Ran(made, left, len(told.bodies), time.monotonic() - started), office


def turns(world: World) -> Iterator[int]:
    """The end of each turn: every few seconds around opening hours, every minute at night."""
    busy = busy_spans(world)
    now_s = BEGIN_S
    while now_s < world.last_s:
        yield now_s
        now_s += WATCH_EVERY_S if any(start_s <= now_s < end_s for start_s, end_s in busy) else NIGHT_TURN_S
    yield world.last_s


def busy_spans(world: World) -> list[tuple[int, int]]:
    """From the first library that gets ready each morning to the last that has closed."""
    calendars = {place.hours: world.calendars[place.id] for place in world.places.values()}
    found = []
    for day in range(world.last_day + 1):
        midnight_s = BEGIN_S - 8 * 3600 + day * DAY_S
        spans = [span for calendar in calendars.values() for span in calendar.open_spans(midnight_s, midnight_s + DAY_S)]
        if spans:
            found.append((min(start_s for start_s, _ in spans) - 900, max(end_s for _, end_s in spans) + 1200))
    return found


class _House:
    """Everything that a turn needs."""

    def __init__(self, world: World, office: Office, clock: Clock, agenda: Agenda, wire: Wire) -> None:
        self._world = world
        self._office = office
        self._clock = clock
        self._agenda = agenda
        self._wire = wire
        self._is_open = True
        self._judged_s = 0
        self._unanswered: list[Sent] = []

    def turn(self, now_s: int) -> None:
        self._wait_for_acks()
        self._clock.now_s = now_s
        self._let_fail(now_s)
        said = list(self._agenda.until(now_s))
        for publication in said:
            self._wire.publish(publication)
        if not self._is_open:
            self._wire.hear()
            return
        self._see_through(len(said))
        self._unanswered = [_sent(publication) for publication in said if center_of(publication.topic, "report") is not None]
        service = self._office.service
        service.clerk.watch(now_s)
        if now_s - self._judged_s >= JUDGED_EVERY_S:
            self._judged_s = now_s
            service.clerk.step(now_s - now_s % 60)
        self._clock.now_s = now_s + EVERY_S
        service.postman.step()

    def _let_fail(self, now_s: int) -> None:
        away = self._world.broker_away.holds(now_s)
        if away and self._agenda.broker:
            self._office.broker.kill()
            self._agenda.broker = False
            for agent in self._agenda.agents.values():
                agent.lose_broker()
            wait_for(lambda: not self._office.service.inbox.connected, "the collector has noticed that the broker is away")
        elif not away and not self._agenda.broker:
            self._office.broker.start()
            wait_for(lambda: self._office.service.inbox.connected, "the collector has found the broker again")
            self._wire.connect()
            self._agenda.broker = True
        closed = self._world.collector_away.holds(now_s)
        if closed and self._is_open:
            self._office.close()
        elif not closed and not self._is_open:
            self._office.open()
            wait_for(self._hears_ready, "the agents know that the collector is there")
        self._is_open = not closed

    def _hears_ready(self) -> bool:
        self._wire.hear(0.01)
        return self._agenda.collector

    def _see_through(self, count: int) -> None:
        service = self._office.service
        if count:
            wait_for(lambda: service.inbox.depth >= count, "the broker has delivered a turn's messages")
        while service.inbox.depth:
            service.pipeline.step()

    def _wait_for_acks(self) -> None:
        """However fast a world is, no ack is late by a turn."""

        def is_answered() -> bool:
            self._see_through(0)  # what the broker retains may have come in the place of a report
            self._wire.hear(0.01)
            return not any(self._agenda.agents[each.center].keeps(each.epoch, each.seq) for each in self._unanswered)

        if self._unanswered:
            wait_for(is_answered, "the collector has acknowledged a turn's reports")
            self._unanswered = []


def _send_at_once(_client: mqtt.Client, _data: object, connection: Any) -> None:
    """Many small messages one after the other: Nagle's algorithm (RFC 9293, section 3.7.4) would hold each turn up."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _sent(publication: Publication) -> Sent:
    center, report = center_of(publication.topic, "report"), decode_report(publication.payload)
    assert center is not None
    return Sent(center, report.epoch, report.records[-1].seq)
