"""A small collector at the edge of the agent's tests: it takes reports in over a real broker and acknowledges as told.

It keeps every record that it has accepted by identity, with the time that came first, and notes each repeat that differs from it.
"""

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from kerege_wire import Ack, CollectorState, Record, Report, decode_presence, decode_report, encode_ack, encode_state
from kerege_wire.ranges import RangeSet
from kerege_wire.topics import COLLECTOR_STATE, topic

DEADLINE_S = 60.0


def until(true: Callable[[], Any], deadline_s: float = DEADLINE_S) -> Any:
    """Wait for something to become true; its value."""
    end = time.monotonic() + deadline_s
    while not (value := true()):
        if time.monotonic() > end:
            raise AssertionError(f"not within {deadline_s:g} s: {true}")
        time.sleep(0.01)
    return value


class CollectorDouble:
    """Acks every report at once with the whole ranges that it holds, unless told otherwise.

    silent: take in and say nothing; deaf: do not even take in (as if the reports were lost behind the broker).
    shift_ms: the collector's clock minus that of this machine.
    """

    def __init__(self, port: int, *, announce: bool = True, ack_within_s: int = 300, **options: Any) -> None:
        self.records: dict[tuple[str, int], Record] = {}
        self.held: dict[str, RangeSet] = {}
        self.reports: list[Report] = []
        self.repeats = 0
        self.changed: list[tuple[Record, Record]] = []
        self.presences: list[Any] = []
        self.silent = False
        self.deaf = False
        self.hold: str | None = None
        self.quality = "synced"
        self.shift_ms = 0
        self.copies = 1
        self._lock = threading.Lock()
        self._announce = announce
        self._ack_within_s = ack_within_s
        protocol = options.get("protocol", MQTTProtocolVersion.MQTTv5)
        self._client = Client(CallbackAPIVersion.VERSION2, client_id="collector", protocol=protocol)
        self._client.on_connect = self._on_connect
        self._client.on_message = self._on_message
        self._subscribed = threading.Event()
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        if "tls" in options:
            self._client.tls_set_context(options["tls"])
        self._client.reconnect_delay_set(1, 1)
        self._client.connect("127.0.0.1", port)

    def __enter__(self) -> Self:
        self._client.loop_start()
        assert self._subscribed.wait(DEADLINE_S)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._announce:
            self._client.publish(COLLECTOR_STATE, b"", qos=1, retain=True).wait_for_publish(5)  # the broker is shared by a module
        self._client.disconnect()
        self._client.loop_stop()
        self._client.on_message = self._client.on_connect = self._client.on_subscribe = None

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000 + self.shift_ms

    def say(self, state: str) -> None:
        """Announce the collector's state, retained."""
        message = CollectorState(state, ack_within_s=self._ack_within_s)
        self._client.publish(COLLECTOR_STATE, encode_state(message), qos=1, retain=True)

    def send(self, center: str, ack: Ack | bytes) -> None:
        """Send an ack of the test's own making."""
        self._client.publish(topic(center, "ack"), ack if isinstance(ack, bytes) else encode_ack(ack), qos=0)

    def seqs(self, epoch: str) -> list[int]:
        """The sequence numbers that have arrived, in order."""
        with self._lock:
            return sorted(seq for owner, seq in self.records if owner == epoch)

    def _on_connect(self, client: Client, *_: Any) -> None:
        client.subscribe([("kerege/v1/+/report", 1), ("kerege/v1/+/presence", 1)])
        if self._announce:
            self.say("ready")

    def _on_message(self, _client: Client, _data: Any, message: Any) -> None:
        center = message.topic.split("/")[2]
        if message.topic.endswith("/presence"):
            if message.payload:
                self.presences.append(decode_presence(message.payload))
            return
        if self.deaf:
            return
        received_ms = self.now_ms()
        report = decode_report(message.payload)
        assert not report.refused
        self.reports.append(report)
        if self.hold is None:
            self._accept(report)
        if not self.silent:
            self.answer(center, report, received_ms)

    def _accept(self, report: Report) -> None:
        with self._lock:
            held = self.held.setdefault(report.epoch, RangeSet())
            for record in report.records:
                before = self.records.setdefault((report.epoch, record.seq), record)
                if record.seq in held:
                    self.repeats += 1
                    if before != record:
                        self.changed.append((before, record))
                held.add(record.seq)

    def answer(self, center: str, report: Report, received_ms: int) -> None:
        """Acknowledge a report."""
        held = self.held.get(report.epoch, RangeSet())
        ranges = held.around(record.seq for record in report.records) if report.records else list(held)[-200:]
        ack = Ack(
            epoch=report.epoch,
            stored=() if self.hold else tuple(ranges),
            sent=report.sent,
            received=received_ms,
            replied=self.now_ms(),
            clock=self.quality,
            hold=self.hold,
        )
        for _ in range(self.copies):
            self.send(center, ack)
