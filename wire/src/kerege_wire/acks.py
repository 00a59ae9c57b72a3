"""Ack ⇄ bytes.

    {"epoch":"Zk3q9w2a","stored":[[1,1240]],"refused":[[1241,"unknown-kind"]],"sent":86400123,"received":...,"replied":...}
"""

from typing import Any, Final

from kerege_wire.codec import pack, unpack
from kerege_wire.errors import BAD_MESSAGE, MisuseError, WireError
from kerege_wire.fields import Text, Whole, read_fields, write_fields
from kerege_wire.messages import MAX_RANGES, Ack

_SEQ: Final = Whole(1)
_REASON: Final = Text()
_LISTS: Final = frozenset({"stored", "refused"})


def encode_ack(ack: Ack, codec: str = "deflate") -> bytes:
    """The acknowledgement as payload bytes. Raises MisuseError where it names sequence numbers without an epoch."""
    if (ack.stored or ack.refused) and ack.epoch is None:
        raise MisuseError("sequence numbers without the epoch that they belong to")
    if len(ack.stored) > MAX_RANGES or len(ack.refused) > MAX_RANGES:
        raise MisuseError(f"more than {MAX_RANGES} ranges or refusals: send several acknowledgements")
    lists: dict[str, Any] = {}
    if ack.stored:
        lists["stored"] = [list(pair) for pair in ack.stored]
    if ack.refused:
        lists["refused"] = [list(pair) for pair in ack.refused]
    return pack(write_fields(ack) | lists, codec)


def decode_ack(payload: bytes) -> Ack:
    """The acknowledgement in a payload. Raises WireError, and nothing else."""
    members = unpack(payload)
    found = read_fields(Ack, members, "ack", _LISTS)
    stored = tuple(_range(pair) for pair in _pairs(members, "stored"))
    refused = tuple((_SEQ.check(seq, "refused"), _REASON.check(reason, "refused")) for seq, reason in _pairs(members, "refused"))
    if (stored or refused) and "epoch" not in found:
        raise WireError(BAD_MESSAGE, "sequence numbers without an epoch")
    return Ack(**found, stored=stored, refused=refused)


def _pairs(members: dict[str, Any], name: str) -> list[list[Any]]:
    listed = members.get(name, [])
    if not isinstance(listed, list) or len(listed) > MAX_RANGES or not all(isinstance(pair, list) and len(pair) == 2 for pair in listed):
        raise WireError(BAD_MESSAGE, f"{name}: wanted an array of at most {MAX_RANGES} pairs")
    return listed


def _range(pair: list[Any]) -> tuple[int, int]:
    first, last = _SEQ.check(pair[0], "stored"), _SEQ.check(pair[1], "stored")
    if first > last:
        raise WireError(BAD_MESSAGE, f"stored: range {first}-{last} runs backwards")
    return first, last
