"""Bytes to one JSON object and back: the codec byte, and every cap."""

import json
import zlib

import pytest

from kerege_wire import MAX_INFLATED_BYTES, MAX_PAYLOAD_BYTES, MisuseError, WireError
from kerege_wire.codec import expand, pack, parse, unpack
from kerege_wire.dictionary import DICTIONARY_1


def deflated(text: bytes, dictionary: bytes = DICTIONARY_1) -> bytes:
    deflater = zlib.compressobj(9, zlib.DEFLATED, -15, zdict=dictionary)
    return b"\x01" + deflater.compress(text) + deflater.flush()


WHOLE = deflated(b'{"epoch":"Zk3q9w2a"}')


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "empty"),
        (b"\x00", "unknown-codec"),
        (b"\x02" + WHOLE[1:], "unknown-codec"),
        (b"[]", "unknown-codec"),
        (b' {"a":1}', "unknown-codec"),
        (b"\xef\xbb\xbf{}", "unknown-codec"),
        (b"\x01", "not-deflate"),
        (WHOLE[:-1], "not-deflate"),
        (WHOLE + b"\n", "not-deflate"),
        (WHOLE + WHOLE, "not-deflate"),
        (b"\x01" + zlib.compress(b"{}"), "not-deflate"),
        (b"\x01\xff\xff\xff", "not-deflate"),
        (deflated(b""), "not-json"),
        (deflated(b'\xef\xbb\xbf{"a":1}'), "not-json"),
        (deflated(b'{"a":1}{"b":2}'), "not-json"),
        (b"{", "not-json"),
        (b'{"a":}', "not-json"),
        (b"{'a':1}", "not-json"),
        (b'{"a":1,}', "not-json"),
        (b'{"a":NaN}', "not-json"),
        (b'{"a":-Infinity}', "not-json"),
        (b'{"a":01}', "not-json"),
        (b'{"a":"\xff"}', "not-json"),
        (b'{"a":"\n"}', "not-json"),
        (b'{"a":"\xed\xa0\x80"}', "not-json"),
        (b'{"a":' + b"9" * 5000 + b"}", "not-json"),
        (b'{"a":1}\x00', "not-json"),
        (b'{"a":' + b"[" * 30_000 + b"]" * 30_000 + b"}", "bad-message"),
        (b'{"a":' * 5_000 + b"1" + b"}" * 5_000, "bad-message"),
        (deflated(b"[]"), "bad-message"),
        (deflated(b"null"), "bad-message"),
        (deflated(b'"{}"'), "bad-message"),
        (b"{" + b" " * (MAX_PAYLOAD_BYTES - 1) + b"}", "too-large"),
        (deflated(b"{" + b" " * (MAX_INFLATED_BYTES - 1) + b"}"), "too-large"),
        (deflated(b"{" + b" " * 10_000_000 + b"}"), "too-large"),
    ],
    ids=lambda value: repr(value[:24]) if isinstance(value, bytes) else value,
)
def test_bytes_that_are_no_json_object_say_why(payload: bytes, reason: str) -> None:
    """Each has its one reason."""
    with pytest.raises(WireError) as caught:
        unpack(payload)
    assert caught.value.reason == reason
    assert caught.value.detail
    assert len(str(caught.value)) < 400


def test_the_largest_that_is_read_is_read() -> None:
    """One byte less than what is refused."""
    assert unpack(b"{" + b" " * (MAX_PAYLOAD_BYTES - 2) + b"}") == {}
    assert unpack(deflated(b"{" + b" " * (MAX_INFLATED_BYTES - 2) + b"}")) == {}


def test_inflating_stops_at_the_cap(monkeypatch: pytest.MonkeyPatch) -> None:
    """A gigabyte of spaces costs a quarter of a megabyte, however small its payload was."""
    asked: list[int] = []
    inflater = zlib.decompressobj

    class Spy:
        def __init__(self, window_bits: int, dictionary: bytes) -> None:
            self.inner = inflater(window_bits, dictionary)

        def decompress(self, data: bytes, limit: int) -> bytes:
            asked.append(limit)
            return self.inner.decompress(data, limit)

    monkeypatch.setattr(zlib, "decompressobj", Spy)
    with pytest.raises(WireError, match="too-large"):
        expand(deflated(b" " * 20_000_000))
    assert asked == [MAX_INFLATED_BYTES + 1]


def test_a_stream_of_another_dictionary_is_no_message() -> None:
    """The dictionary is part of the version: a stream that refers to another one is other text, or none."""
    other = deflated(b'{"epoch":"Zk3q9w2a","sent":86400123}', DICTIONARY_1[::-1])
    with pytest.raises(WireError):
        unpack(other)


@pytest.mark.parametrize(("text", "value"), [("1e999", 1.7976931348623157e308), ("-1e999", -1.7976931348623157e308), ("-0.0", 0.0)])
def test_numbers_beyond_a_double_stay_finite(text: str, value: float) -> None:
    """So that what is kept for people can be written as JSON again."""
    read = parse(f'{{"a":{text}}}'.encode())
    assert read == {"a": value}
    assert json.loads(json.dumps(read, allow_nan=False)) == {"a": value}


@pytest.mark.parametrize("codec", ["deflate", "json"])
def test_what_a_reader_would_not_take_is_not_written(codec: str) -> None:
    """Our own mistakes are found where they are made."""
    for members in ({"a": float("nan")}, {"a": "\ud800"}, {"a": ["x" * 250] * 2000}):
        with pytest.raises(MisuseError):
            pack(members, codec)


def test_a_codec_that_there_is_not_is_refused() -> None:
    """With the names of those that there are."""
    with pytest.raises(MisuseError, match="deflate, json"):
        pack({}, "zstd")


def test_random_text_that_deflates_badly_is_measured_after_packing() -> None:
    """Neither cap stands for the other."""
    text = zlib.decompress(zlib.compress(bytes(range(32, 127)) * 500)).decode().replace('"', "").replace("\\", "")
    assert len(pack({"a": text})) < 2000
    with pytest.raises(MisuseError, match="larger"):
        pack({"a": "".join(chr(0x4E00 + (number * 7919) % 20000) for number in range(60_000))})
