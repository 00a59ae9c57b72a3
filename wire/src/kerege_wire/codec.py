"""Bytes ⇄ one JSON object: the codec byte, raw deflate with a preset dictionary, and the caps.

The first byte names the codec: ``{`` is plain JSON (the brace belongs to the object), 0x01 is raw deflate (RFC 1951)
of compact JSON with `DICTIONARY_1` as preset dictionary. A version of the wire never changes a codec; it adds one.
"""

import json
import sys
import zlib
from typing import Any, Final

from kerege_wire.dictionary import DICTIONARY_1
from kerege_wire.errors import BAD_MESSAGE, EMPTY, NOT_DEFLATE, NOT_JSON, TOO_LARGE, UNKNOWN_CODEC, MisuseError, WireError

MAX_PAYLOAD_BYTES: Final = 65_536
"""Largest MQTT payload that is read or written."""

MAX_INFLATED_BYTES: Final = 262_144
"""Largest JSON text that is read; inflating stops there, however small the payload was."""

JSON_FIRST_BYTE: Final = 0x7B
DEFLATE_1: Final = 0x01
CODECS: Final = ("deflate", "json")

_FIRST_BYTE: Final = bytes((DEFLATE_1,))
_WINDOW_BITS: Final = -12  # raw; 4 KiB hold the dictionary and any ordinary report
_MEMORY_LEVEL: Final = 5
_LEVEL: Final = 9
_STRATEGY: Final = zlib.Z_FILTERED  # leaves out the shortest matches, which cost more bits than the digits themselves: 1 to 2 % less

_WHITESPACE: Final = " \t\n\r"


def _constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def _float(text: str) -> float:
    """A number beyond what a double holds becomes the largest double: no field takes it, and it can be written as JSON again."""
    return max(-sys.float_info.max, min(float(text), sys.float_info.max))


_decode = json.JSONDecoder(parse_constant=_constant, parse_float=_float).raw_decode
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode


def pack(members: dict[str, Any], codec: str = "deflate") -> bytes:
    """One JSON object as payload bytes. Raises MisuseError where it would be larger than a reader accepts."""
    try:
        plain = _encode(members).encode()
    except ValueError as error:
        raise MisuseError(f"not a JSON object: {error}") from error
    if codec == "deflate":
        deflater = zlib.compressobj(_LEVEL, zlib.DEFLATED, _WINDOW_BITS, _MEMORY_LEVEL, _STRATEGY, DICTIONARY_1)
        payload = _FIRST_BYTE + deflater.compress(plain) + deflater.flush()
    elif codec == "json":
        payload = plain
    else:
        raise MisuseError(f"no codec {codec!r}: there are {', '.join(CODECS)}")
    if len(plain) > MAX_INFLATED_BYTES or len(payload) > MAX_PAYLOAD_BYTES:
        raise MisuseError(f"message of {len(plain)} bytes ({len(payload)} packed) is larger than a reader accepts")
    return payload


def unpack(payload: bytes) -> dict[str, Any]:
    """The JSON object in a payload. Raises WireError, and nothing else, whatever the bytes are."""
    return parse(expand(payload))


def expand(payload: bytes) -> bytes:
    """The JSON text in a payload, not looked at yet. Raises WireError, and nothing else."""
    if not payload:
        raise WireError(EMPTY, "a payload of 0 bytes")
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise WireError(TOO_LARGE, f"payload of {len(payload)} bytes; at most {MAX_PAYLOAD_BYTES} are read")
    if payload[0] == DEFLATE_1:
        return _inflate(payload)
    if payload[0] == JSON_FIRST_BYTE:
        return payload
    raise WireError(UNKNOWN_CODEC, f"first byte 0x{payload[0]:02x}; known are 0x01 (deflate) and 0x7b (JSON)")


def parse(plain: bytes) -> dict[str, Any]:
    """The JSON object in a text. Raises WireError, and nothing else."""
    try:
        text = plain.decode().strip(_WHITESPACE)
        members, end = _decode(text)
    except RecursionError as error:
        raise WireError(BAD_MESSAGE, "nested too deep") from error
    except ValueError as error:
        raise WireError(NOT_JSON, str(error)[:200]) from error
    if end != len(text):
        raise WireError(NOT_JSON, f"more text after the JSON value, from character {end}")
    if type(members) is not dict:
        raise WireError(BAD_MESSAGE, "the JSON value is not an object")
    return members


def _inflate(payload: bytes) -> bytes:
    inflater = zlib.decompressobj(-zlib.MAX_WBITS, DICTIONARY_1)
    try:
        plain = inflater.decompress(payload[1:], MAX_INFLATED_BYTES + 1)
    except zlib.error as error:
        raise WireError(NOT_DEFLATE, str(error)) from error
    if len(plain) > MAX_INFLATED_BYTES:
        raise WireError(TOO_LARGE, f"inflates to more than {MAX_INFLATED_BYTES} bytes")
    if not inflater.eof or inflater.unused_data:
        raise WireError(NOT_DEFLATE, "the deflate stream ends early" if not inflater.eof else "bytes after the deflate stream")
    return plain
