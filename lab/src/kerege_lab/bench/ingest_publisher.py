"""A light publisher for the ingest benchmark: real MQTT 3.1.1 at QoS 1, every packet made before the clock starts.

    python -m kerege_lab.bench.ingest_publisher PORT CENTERS REPORTS

It makes its packets, prints ``ready``, and then reads numbers from stdin, one a line: how many reports in all it may have sent by now.
At most WINDOW of them are not PUBACKed by the broker at any time. It prints ``done`` when all are.

A client library would cost as much for each message as the collector that is measured. The few packet types needed are those of
MQTT 3.1.1, sections 3.1 to 3.4.
"""

import secrets
import socket
import struct
import sys
import threading
import time
from collections.abc import Iterator
from typing import Final

from kerege_lab.servers import HOST
from kerege_wire import Record, Report, Tick, encode_report
from kerege_wire.topics import topic

WINDOW: Final = 200
"""Reports that the broker has not PUBACKed: as of a few dozen agents with a window of 4 each."""

PUBACK: Final = 0x40
PUBACK_BYTES: Final = 4
TICK_S: Final = 60
SETTLED_S: Final = 3600
"""The newest tick is so old: none is ahead of the collector's clock."""


def center_name(number: int) -> str:
    """The id of the benchmark's center of that number, from 0."""
    return f"bench-{number:04d}"


def reports(centers: int, count: int, now_s: int) -> Iterator[tuple[str, bytes]]:
    """(topic, payload) of ``count`` reports with one tick each, the centers taking turns: a minute apart, as agents send them."""
    epochs = [secrets.token_urlsafe(6) for _ in range(centers)]
    first_s = now_s - SETTLED_S - TICK_S * (count // centers + 1)
    for number in range(count):
        turn, index = divmod(number, centers)
        rtt_ms = float(540 + (number * 7919) % 200)
        tick = Tick(result="online", rungs="++.+==+", target="cloudflare", via="datagram", rtt_ms=rtt_ms, gateway_rtt_ms=0.73)
        record = Record(turn + 1, first_s + TICK_S * turn, tick)
        yield topic(center_name(index), "report"), encode_report(Report(epochs[index], sent=60_000 * (turn + 1), records=(record,)))


def connect_packet(client_id: str) -> bytes:
    """CONNECT with a clean session and no keepalive."""
    body = _text("MQTT") + bytes((4, 0x02)) + struct.pack("!H", 0) + _text(client_id)
    return b"\x10" + _length(len(body)) + body


def publish_packet(name: str, payload: bytes, packet_id: int) -> bytes:
    """PUBLISH at QoS 1."""
    body = _text(name) + struct.pack("!H", packet_id) + payload
    return b"\x32" + _length(len(body)) + body


def _text(text: str) -> bytes:
    encoded = text.encode()
    return struct.pack("!H", len(encoded)) + encoded


def _length(number: int) -> bytes:
    found = bytearray()
    while True:
        number, digit = divmod(number, 128)
        found.append(digit | 0x80 if number else digit)
        if not number:
            return bytes(found)


class Publisher:
    """Sends prepared packets over one connection."""

    def __init__(self, port: int, packets: list[bytes]) -> None:
        self._packets = packets
        self._allowed = 0
        self._grown = threading.Condition()
        self._connection = socket.create_connection((HOST, port))
        self._connection.sendall(connect_packet("bench-publisher"))
        if self._connection.recv(4) != b"\x20\x02\x00\x00":
            raise ConnectionError("the broker refuses the publisher")

    def allow(self, count: int) -> None:
        """So many may be sent in all."""
        with self._grown:
            self._allowed = count
            self._grown.notify()

    def run(self) -> None:
        """Send everything; returns when the broker has PUBACKed it."""
        sent = acknowledged = 0
        while acknowledged < len(self._packets):
            with self._grown:
                if sent == acknowledged:  # nothing under way: only an allowance can bring us on
                    self._grown.wait_for(lambda sent=sent: self._allowed > sent)  # type: ignore[misc]
                until = min(self._allowed, acknowledged + WINDOW, len(self._packets))
            if until > sent:
                self._connection.sendall(b"".join(self._packets[sent:until]))
                sent = until
            acknowledged += self._pubacks()

    def _pubacks(self) -> int:
        received = self._connection.recv(PUBACK_BYTES * WINDOW)
        while received and len(received) % PUBACK_BYTES:
            received += self._connection.recv(PUBACK_BYTES - len(received) % PUBACK_BYTES)
        if not received or any(kind != PUBACK for kind in received[::PUBACK_BYTES]):
            raise ConnectionError("the broker has ended the connection, or says something unexpected")
        return len(received) // PUBACK_BYTES


def main() -> None:
    """See above."""
    port, centers, count = (int(word) for word in sys.argv[1:4])
    packets = [publish_packet(*report, number % 65535 + 1) for number, report in enumerate(reports(centers, count, int(time.time())))]
    publisher = Publisher(port, packets)
    print("ready", flush=True)
    sender = threading.Thread(target=publisher.run)
    sender.start()
    for line in sys.stdin:
        publisher.allow(int(line))
    sender.join()
    print("done", flush=True)


if __name__ == "__main__":
    main()
