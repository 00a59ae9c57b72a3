"""PUBLISH packets off a byte stream: the one packet of MQTT that comes by the thousand, read here and nowhere else.

Everything else in the stream is left for paho, as whole packets. MQTT 5.0 (OASIS, 2019) sections 1.5.5, 2.1, 3.3; 3.1.1 differs by having
no properties. Pure: bytes in, tuples out.
"""

from typing import Final, NamedTuple

PUBLISH: Final = 3
"""Packet type, the upper half of the first byte."""

QOS_BITS: Final = 0x06
RETAIN_BIT: Final = 0x01
CONTINUED: Final = 0x80
"""Bit of a variable byte integer: another byte follows."""

MAX_LENGTH_BYTES: Final = 4

MAX_PACKET_BYTES: Final = 1024 * 1024
"""A larger packet is not kept, whatever the broker says it can send: a report has 64 kB at most, and what is a little larger is to be
answered. A broker of version 5 is told so (Maximum Packet Size)."""


class MalformedError(ConnectionError):
    """Bytes that are no MQTT: the connection is of no use any more (section 4.13)."""


class Publish(NamedTuple):
    """One PUBLISH. packet_id is 0 at QoS 0. payload None: it was larger than MAX_PACKET_BYTES, and is gone."""

    topic: bytes
    payload: bytes | None
    packet_id: int
    retained: bool


class Taken(NamedTuple):
    """What was in the bytes: PUBLISH packets; others, whole; how many bytes are dealt with; how many that follow are to be skipped."""

    publishes: list[Publish]
    others: bytes
    used: int
    skip: int


def take(data: bytes, *, version5: bool) -> Taken:
    """Split the bytes into packets, as far as they are whole. Raises MalformedError."""
    publishes: list[Publish] = []
    others = b""
    start, size = 0, len(data)
    while start + 2 <= size:
        length, body = data[start + 1], start + 2
        if length & CONTINUED:
            found = _length(data, start + 1)
            if found is None:
                break
            length, body = found
        end = body + length
        if data[start] >> 4 != PUBLISH:
            if length > MAX_PACKET_BYTES:
                raise MalformedError(f"a packet of type {data[start] >> 4} with {length} bytes")
            if end > size:
                break
            others += data[start:end]
        elif end <= size:
            publishes.append(_publish(data, start, body, end, version5=version5))
        else:
            if length > MAX_PACKET_BYTES and (giant := _giant(data, start, body)) is not None:
                return Taken([*publishes, giant], others, size, end - size)
            break
        start = end
    return Taken(publishes, others, start, 0)


def _publish(data: bytes, start: int, body: int, end: int, *, version5: bool) -> Publish:
    topic, packet_id = b"", 0
    try:
        position = body + 2 + (data[body] << 8 | data[body + 1])
        topic = data[body + 2 : position]
        if data[start] & QOS_BITS:
            packet_id = data[position] << 8 | data[position + 1]
            position += 2
        if version5:
            position = position + 1 if data[position] == 0 else _after_properties(data, position)
    except IndexError:
        position = end + 1
    if position > end:
        raise MalformedError("a PUBLISH that is longer inside than outside")
    payload = data[position:end] if end - start <= MAX_PACKET_BYTES else None
    return Publish(topic, payload, packet_id, bool(data[start] & RETAIN_BIT))


def _giant(data: bytes, start: int, body: int) -> Publish | None:
    """A packet that is too large to wait for: what its head says, once that is there."""
    if body + 2 > len(data):
        return None
    position = body + 2 + (data[body] << 8 | data[body + 1])
    if position + 2 > len(data):
        return None
    packet_id = data[position] << 8 | data[position + 1] if data[start] & QOS_BITS else 0
    return Publish(data[body + 2 : position], None, packet_id, bool(data[start] & RETAIN_BIT))


def _after_properties(data: bytes, position: int) -> int:
    found = _length(data, position)
    if found is None:
        raise IndexError
    length, after = found
    return after + length


def _length(data: bytes, position: int) -> tuple[int, int] | None:
    """A variable byte integer (section 1.5.5) and the position after it; None where it is not all there yet."""
    value = 0
    for index in range(MAX_LENGTH_BYTES):
        if position + index >= len(data):
            return None
        byte = data[position + index]
        value |= (byte & ~CONTINUED) << (7 * index)
        if not byte & CONTINUED:
            return value, position + index + 1
    raise MalformedError("a length of more than four bytes")


def pubacks(packet_ids: list[int]) -> bytes:
    """PUBACK packets that say nothing but success, which are the same in both versions (section 3.4.2.1)."""
    return b"".join([b"\x40\x02" + packet_id.to_bytes(2, "big") for packet_id in packet_ids])
