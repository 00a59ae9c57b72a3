"""PUBLISH packets off a byte stream (`publishes`), and the stream that paho sees (`stream`)."""

import socket
import struct
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from kerege_collector.publishes import MAX_PACKET_BYTES, MalformedError, Publish, pubacks, take
from kerege_collector.stream import Stream

PINGRESP = b"\xd0\x00"
SUBACK = b"\x90\x05\x00\x01\x00\x01\x01"


def length(number: int) -> bytes:
    digits = []
    while True:
        number, digit = divmod(number, 128)
        digits.append(digit | (0x80 if number else 0))
        if not number:
            return bytes(digits)


def packet(publish: Publish, *, version5: bool, properties: bytes = b"\x00") -> bytes:
    assert publish.payload is not None
    qos = 1 if publish.packet_id else 0
    body = struct.pack("!H", len(publish.topic)) + publish.topic
    body += struct.pack("!H", publish.packet_id) if qos else b""
    body += (properties if version5 else b"") + publish.payload
    return bytes([0x30 | qos << 1 | publish.retained]) + length(len(body)) + body


def some_properties(text: str) -> bytes:
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    properties.ContentType = text
    properties.UserProperty = ("a", text)
    return bytes(properties.pack())  # type: ignore[no-untyped-call]


publishes = st.builds(Publish, st.binary(min_size=1, max_size=40), st.binary(max_size=300), st.integers(0, 65535), st.booleans())


@given(st.lists(publishes, max_size=8), st.booleans(), st.text("abc", max_size=200))
def test_whole_packets_come_out_as_they_went_in(wanted: list[Publish], version5: bool, text: str) -> None:
    """Every PUBLISH of the bytes is found, with topic, payload, packet id and retain flag, whatever properties it has."""
    data = PINGRESP + SUBACK.join(packet(item, version5=version5, properties=some_properties(text)) for item in wanted) + PINGRESP
    taken = take(data, version5=version5)
    assert taken.publishes == wanted
    assert taken.others == PINGRESP + SUBACK * max(len(wanted) - 1, 0) + PINGRESP
    assert (taken.used, taken.skip) == (len(data), 0)


@given(st.lists(publishes, min_size=1, max_size=5), st.lists(st.integers(1, 50), min_size=1, max_size=30))
def test_any_split_of_the_bytes_gives_the_same_packets(wanted: list[Publish], steps: list[int]) -> None:
    """How the network cuts the stream makes no difference."""
    data = SUBACK + b"".join(packet(item, version5=True) for item in wanted) + PINGRESP
    found: list[Publish] = []
    others = buffered = b""
    position = number = 0
    while position < len(data):
        step = steps[number % len(steps)]
        taken = take(buffered + data[position : position + step], version5=True)
        buffered = (buffered + data[position : position + step])[taken.used :]
        found += taken.publishes
        others += taken.others
        position, number = position + step, number + 1
    assert found == wanted
    assert others == SUBACK + PINGRESP


@given(st.binary(max_size=400), st.booleans())
def test_bytes_of_any_kind_are_taken_or_refused_in_one_way(data: bytes, version5: bool) -> None:
    """Nothing but MalformedError escapes, and what is counted as used was there."""
    try:
        taken = take(data, version5=version5)
    except MalformedError:
        return
    assert 0 <= taken.used <= len(data)


@pytest.mark.parametrize(
    "data",
    [
        b"\x32\x03\x00\x09t",  # a topic longer than the packet
        b"\x32\x04\x00\x01t\x00",  # half a packet id
        b"\x30\x04\x00\x01t\x7f",  # properties longer than the packet
        b"\x30\x03\x00\x01t",  # version 5 without its properties
        b"\x30\xff\xff\xff\xff\x01",  # a length of five bytes
        b"\x90" + length(MAX_PACKET_BYTES + 1),  # a SUBACK that is not to be waited for
    ],
)
def test_a_malformed_packet_is_refused(data: bytes) -> None:
    """Bytes that are no MQTT 5 end the connection rather than being misread."""
    with pytest.raises(MalformedError):
        take(data, version5=True)


def test_a_giant_is_named_and_skipped() -> None:
    """A PUBLISH of megabytes is never held in memory: its head says what to PUBACK, and the rest is passed over."""
    body = struct.pack("!H", 1) + b"t" + struct.pack("!H", 7) + b"\x00" + bytes(3 * MAX_PACKET_BYTES)
    data = packet(Publish(b"a", b"1", 1, False), version5=True) + b"\x32" + length(len(body)) + body
    taken = take(data[:100], version5=True)
    assert taken.publishes == [Publish(b"a", b"1", 1, False), Publish(b"t", None, 7, False)]
    assert taken.used == 100
    assert taken.skip == len(data) - 100


def test_pubacks_are_those_of_the_standard() -> None:
    """Type 4, two bytes, the packet id: MQTT 5 section 3.4, and 3.1.1 alike."""
    assert pubacks([1, 258]) == b"\x40\x02\x00\x01\x40\x02\x01\x02"


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    near, far = socket.socketpair()
    near.setblocking(False)
    with near, far:
        yield near, far


def test_paho_sees_all_but_the_publishes(ends: tuple[socket.socket, socket.socket]) -> None:
    """recv gives the other packets byte by byte as asked, and says "nothing now" rather than the end of the stream."""
    near, far = ends
    arrived: list[Publish] = []
    stream = Stream(near, arrived.extend, version5=True)
    with pytest.raises(BlockingIOError):
        stream.recv(1)
    far.sendall(packet(Publish(b"t", b"x", 5, False), version5=True) + PINGRESP)
    assert stream.recv(1) == PINGRESP[:1]
    assert stream.has_more
    assert stream.recv(10) == PINGRESP[1:]
    assert arrived == [Publish(b"t", b"x", 5, False)]
    far.close()
    assert stream.recv(1) == b""


def test_a_giant_in_the_stream_does_not_disturb_what_follows(ends: tuple[socket.socket, socket.socket]) -> None:
    """After the skipped bytes the next packet is read as if nothing had been."""
    near, far = ends
    arrived: list[Publish] = []
    stream = Stream(near, arrived.extend, version5=False)
    body = struct.pack("!H", 1) + b"g" + struct.pack("!H", 9) + bytes(MAX_PACKET_BYTES + 1000)
    data = b"\x32" + length(len(body)) + body + packet(Publish(b"t", b"x", 5, True), version5=False)
    for start in range(0, len(data), 50_000):
        far.sendall(data[start : start + 50_000])
        with pytest.raises(BlockingIOError):
            stream.recv(1)
    assert arrived == [Publish(b"g", None, 9, False), Publish(b"t", b"x", 5, True)]


def test_what_is_sent_leaves_in_order_however_slow_the_network(ends: tuple[socket.socket, socket.socket]) -> None:
    """send takes everything; flush gives the network what it takes, and goes on from there."""
    near, far = ends
    stream = Stream(near, lambda _: None, version5=True)
    data = bytes(range(256)) * 20_000
    assert stream.send(data) == len(data)
    stream.send(b"end")
    received = bytearray()
    while stream.wants_write:
        stream.flush()
        received += far.recv(1_000_000)
    received += far.recv(1_000_000) if len(received) < len(data) + 3 else b""
    assert bytes(received) == data + b"end"
