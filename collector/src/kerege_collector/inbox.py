"""The collector's end of MQTT: messages in, acknowledgements and its own state out.

One thread owns the connection (decision 3): every exception surfaces here, the backoff has full jitter, and what came over an old
connection is never acknowledged on a new one.

    network thread: `session` → `_arrive` → the bounded queue → `take` → the worker
    worker: `done`, `publish`, `announce` → the outbox → network thread → `session`

A message counts as taken over (PUBACK) only when the worker says so, and with MQTT 5 the broker keeps what is beyond Receive Maximum.
It may be laxer than it should (Mosquitto 2.0.11 sends up to as many again with each PUBACK), or of 3.1.1 and without a window, and
at QoS 0 there is none: what finds the queue full is dropped, counted and PUBACKed, and its agent sends it again, since no ack has
named it. Reading goes on whatever happens, so that an outage of the store, however long, costs no connection.
"""

import logging
import random
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

from kerege_collector.publishes import Publish
from kerege_collector.session import OTHER_VERSION, Broker, Session, tls_context
from kerege_collector.stages import Stages
from kerege_wire import CollectorState, encode_state
from kerege_wire.topics import COLLECTOR_STATE

log = logging.getLogger(__name__)

MAX_QUEUED_BYTES: Final = 64 * 1024 * 1024
"""Most payload bytes in the queue: reports have a hundred bytes or a few thousand, so that only an attack comes near."""

QUEUE_PER_WINDOW: Final = 50
"""The queue holds this many times Receive Maximum at QoS 1, and at QoS 0 no more than that once: there is always room for the others."""

MAX_TOPICS: Final = 100_000
"""Most topics whose decoded names are remembered."""

LOOP_S: Final = 1.0
"""Longest time between two looks at keepalive and stop."""

GATHER_STEP_S: Final = 0.05
"""How often a batch looks whether it is full."""

FIRST_BACKOFF_S: Final = 1.0
MAX_BACKOFF_S: Final = 30.0
"""Full jitter: each attempt waits a random time up to a bound that doubles from the first to the second."""

GOODBYE_S: Final = 5.0
"""How long a clean stop waits until the broker has taken the last words."""

READY: Final = "ready"
AWAY: Final = "away"


class Message(NamedTuple):
    """One message as it arrived. ``connection`` and ``packet_id`` name it to the broker; packet_id is 0 where no PUBACK is due."""

    topic: str
    payload: bytes
    received_ms: int
    packet_id: int
    connection: int


class _Outgoing(NamedTuple):
    topic: str
    payload: bytes
    qos: int
    retain: bool


class Inbox:
    """The connection to the broker, in a thread of its own from `start` to `stop`."""

    def __init__(self, broker: Broker, stages: Stages, *, now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000) -> None:
        self._broker = broker
        self._stages = stages
        self._now_ms = now_ms
        self._queue: deque[Message] = deque()
        self._queued_bytes = 0
        self._filled = threading.Condition()
        self._outbox: deque[_Outgoing] = deque()
        self._to_puback: deque[tuple[int, list[int]]] = deque()
        self._wake_read, self._wake_write = socket.socketpair()
        self._wake_read.setblocking(False)
        self._wake_write.setblocking(False)
        self._number = 0  # of the connection
        self._connected = False
        self._state = AWAY
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._topics: dict[bytes, str] = {}
        self._version5 = True
        self.overflowed = 0
        """Messages that were dropped because the queue was full, or that were larger than any report."""

    # --- for the worker and the service -------------------------------------------------------------------------------

    @property
    def connected(self) -> bool:
        """Is the broker there, and are we subscribed?"""
        return self._connected

    @property
    def alive(self) -> bool:
        """Does the network thread live?"""
        return self._thread is not None and self._thread.is_alive()

    @property
    def depth(self) -> int:
        """Messages that wait for the worker."""
        return len(self._queue)

    def start(self) -> None:
        """Connect, and stay connected. Raises OSError or ssl.SSLError where certificates cannot be read."""
        tls_context(self._broker)
        self._thread = threading.Thread(target=self._run, name="inbox", daemon=True)
        self._thread.start()

    def take(self, max_messages: int, wait_s: float, idle_s: float) -> list[Message]:
        """Messages in the order of arrival: waits up to ``idle_s`` for the first, then ``wait_s`` for more of them."""
        with self._filled:
            if not self._filled.wait_for(lambda: bool(self._queue), idle_s):
                return []
        deadline = time.monotonic() + wait_s
        while len(self._queue) < max_messages and (left := deadline - time.monotonic()) > 0:
            time.sleep(min(left, GATHER_STEP_S))  # not the condition: the network thread would wake us for every message
        with self._filled:
            taken = [self._queue.popleft() for _ in range(min(max_messages, len(self._queue)))]
            self._queued_bytes -= sum([len(message.payload) for message in taken])
        return taken

    def put_back(self, first: Sequence[Message], last: Sequence[Message]) -> None:
        """Messages that were taken and not seen through: the next to be taken, and such as wait behind all others."""
        with self._filled:
            self._queue.extendleft(reversed(first))
            self._queue.extend(last)
            self._queued_bytes += sum([len(message.payload) for message in (*first, *last)])

    def done(self, messages: Iterable[Message]) -> None:
        """These messages are committed: the broker may forget them, if the connection that brought them still stands."""
        current = self._number
        packet_ids = [message.packet_id for message in messages if message.packet_id and message.connection == current]
        if packet_ids:
            self._to_puback.append((current, packet_ids))
            self._wake()

    def publish(self, name: str, payload: bytes, *, qos: int = 0, retain: bool = False) -> bool:
        """Hand a message to the network thread; False (and nothing happens) where there is no connection."""
        if not self._connected:
            return False
        self._outbox.append(_Outgoing(name, payload, qos, retain))
        self._wake()
        return True

    def announce(self, state: str) -> None:
        """Say ``ready`` or ``away`` to the agents, now and on each later connection."""
        if state != self._state:
            self._state = state
            self._say_state()

    def stop(self) -> None:
        """Give the broker what is still to be said, say ``away``, and end the connection and the thread."""
        self._stopping.set()
        self._wake()
        if self._thread is not None:
            self._thread.join(GOODBYE_S + LOOP_S + 1.0)
        if not self.alive:  # one that hangs in a connect is left to the end of the process
            self._wake_read.close()
            self._wake_write.close()

    # --- network thread -----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            session = self._new_session()
            was_there = False
            try:
                was_there = self._serve(session)
                failure = session.failure or "the connection was lost"
            except (OSError, ValueError) as error:  # ValueError: names that IDNA cannot encode, certificates of another host
                failure = f"{type(error).__name__}: {error}"
            except Exception as error:  # the thread must outlive whatever paho raises
                failure = f"{type(error).__name__}: {error}"
                log.exception("inbox.unexpected")
            self._connected = False
            session.close()
            failures = 0 if was_there else failures + 1
            if not self._stopping.is_set():
                self._back_off(failures, failure)

    def _new_session(self) -> Session:
        self._number += 1
        self._to_puback.clear()
        self._outbox.clear()
        number = self._number
        # one collector of a group that ends is not the end of the group
        will = None if self._broker.shared_group else self._state_payload(AWAY)
        return Session(self._broker, version5=self._version5, will=will, arrived=lambda publishes: self._arrive(publishes, number))

    def _serve(self, session: Session) -> bool:
        """Until the connection is over; True where it ever was of use. Raises OSError, ValueError."""
        session.open()
        while self._turn(session):
            if session.subscribed and not self._connected:
                self._connected = True
                fields = {"host": self._broker.host, "port": self._broker.port, "version": "5" if self._version5 else "3.1.1"}
                log.info("inbox.connected", extra={"fields": fields})
                self._say_state()
            if self._stopping.is_set():
                self._say_goodbye(session)
                break
        return self._connected

    def _turn(self, session: Session) -> bool:
        """Wait for something to do and do it; False when the connection is over."""
        session.wait(LOOP_S, self._wake_read)
        with self._stages.turn, self._stages.measure("inbox"):
            self._hear_wake()
            if not session.read():
                return False
            self._send_outbox(session)
            return session.flush() and session.keep()

    def _send_outbox(self, session: Session) -> None:
        while self._to_puback:
            number, packet_ids = self._to_puback.popleft()
            if number == self._number:
                session.puback(packet_ids)
        while self._outbox:
            outgoing = self._outbox.popleft()
            session.publish(outgoing.topic, outgoing.payload, qos=outgoing.qos, retain=outgoing.retain)

    def _say_goodbye(self, session: Session) -> None:
        """The agents are told, and the broker has the word, before the connection ends."""
        if not self._connected:
            return
        self._send_outbox(session)
        if not self._broker.shared_group:
            said = session.publish(COLLECTOR_STATE, self._state_payload(AWAY), qos=1, retain=True)
            deadline = time.monotonic() + GOODBYE_S
            while session.flush() and not said.is_published() and time.monotonic() < deadline:
                session.wait(LOOP_S, self._wake_read)
                self._hear_wake()
                if not session.read():
                    break

    def _back_off(self, failures: int, failure: str) -> None:
        if failure in OTHER_VERSION:
            self._version5 = not self._version5
            log.info("inbox.other_version", extra={"fields": {"why": failure, "version": "5" if self._version5 else "3.1.1"}})
            if failures == 1:
                return
        delay_s = random.uniform(0, min(MAX_BACKOFF_S, FIRST_BACKOFF_S * 2 ** min(failures, 10)))
        fields = {"host": self._broker.host, "port": self._broker.port, "why": failure, "retry_in_s": round(delay_s, 1)}
        log.warning("inbox.disconnected", extra={"fields": fields})
        self._stopping.wait(delay_s)

    def _arrive(self, publishes: list[Publish], connection: int) -> None:
        received_ms = self._now_ms()
        with self._filled:
            was_empty = not self._queue
            for publish in publishes:
                payload = publish.payload
                if payload is not None and self._has_room(publish):
                    self._queue.append(Message(self._topic(publish.topic), payload, received_ms, publish.packet_id, connection))
                    self._queued_bytes += len(payload)
                else:
                    self._drop(publish, connection)
            if was_empty and self._queue:
                self._filled.notify()

    def _has_room(self, publish: Publish) -> bool:
        window = self._broker.receive_maximum
        capacity = window * QUEUE_PER_WINDOW if publish.packet_id else window
        return len(self._queue) < capacity and self._queued_bytes < MAX_QUEUED_BYTES

    def _drop(self, publish: Publish, connection: int) -> None:
        self.overflowed += 1
        if publish.packet_id:
            self._to_puback.append((connection, [publish.packet_id]))

    def _topic(self, name: bytes) -> str:
        """Decoded; one that is no UTF-8 becomes one that is no center's."""
        known = self._topics.get(name)
        if known is None:
            if len(self._topics) >= MAX_TOPICS:
                self._topics.clear()
            known = self._topics[name] = name.decode(errors="replace")
        return known

    def _say_state(self) -> None:
        if not (self._broker.shared_group and self._state == AWAY):
            self.publish(COLLECTOR_STATE, self._state_payload(self._state), qos=1, retain=True)

    def _state_payload(self, state: str) -> bytes:
        return encode_state(CollectorState(state, ack_within_s=self._broker.ack_within_s, time=self._now_ms() // 1000))

    def _wake(self) -> None:
        try:
            self._wake_write.send(b"\0")
        except OSError:
            return  # it has not heard the last thousand yet and will look anyway, or it has ended

    def _hear_wake(self) -> None:
        try:
            self._wake_read.recv(4096)
        except BlockingIOError:
            return
