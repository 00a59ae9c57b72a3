"""Ack ⇄ bytes.

    {"epoch":"Zk3q9w2a","sent":86400123,"received":...,"replied":...,"stored":[[1,1240]],"refused":[[1241,"unknown-kind"]]}

``stored`` names ranges, both ends included; ``refused`` names single records, each with its reason.
"""

from typing import Any, Final

from kerege_wire.codec import pack, unpack
from kerege_wire.errors import BAD_MESSAGE, MisuseError, WireError
from kerege_wire.fields import Text, Whole, read_fields, write_fields
from kerege_wire.messages import MAX_RANGES, Ack

_check_seq = Whole(1).checker()
_check_reason = Text().checker()
_LISTS: Final = frozenset({"stored", "refused"})


def encode_ack(ack: Ack, codec: str = "deflate") -> bytes:
    """The acknowledgement as payload bytes. Raises MisuseError where it names sequence numbers without an epoch."""
    if (ack.stored or ack.refused) and ack.epoch is None:
        raise MisuseError("sequence numbers without the epoch that they belong to")
    if len(ack.stored) > MAX_RANGES or len(ack.refused) > MAX_RANGES:
        raise MisuseError(f"more than {MAX_RANGES} ranges or refusals: send several acknowledgements")
    members = write_fields(ack)
    if ack.stored:
        members["stored"] = ack.stored  # a tuple is written as an array
    if ack.refused:
        members["refused"] = ack.refused
    return pack(members, codec)


def decode_ack(payload: bytes) -> Ack:
    """The acknowledgement in a payload. Raises WireError, and nothing else."""
    members = unpack(payload)
    found = read_fields(Ack, members, "ack", _LISTS)
    stored = tuple(_range(pair) for pair in _pairs(members, "stored"))
    refused = tuple((_check_seq(seq, "refused"), _check_reason(reason, "refused")) for seq, reason in _pairs(members, "refused"))
    if (stored or refused) and "epoch" not in found:
        raise WireError(BAD_MESSAGE, "sequence numbers without an epoch")
    return Ack(**found, stored=stored, refused=refused)


def _pairs(members: dict[str, Any], name: str) -> list[list[Any]]:
    listed = members.get(name)
    if listed is None:
        return []
    if type(listed) is not list or len(listed) > MAX_RANGES or not all(type(pair) is list and len(pair) == 2 for pair in listed):
        raise WireError(BAD_MESSAGE, f"{name}: wanted an array of at most {MAX_RANGES} pairs")
    return listed


def _range(pair: list[Any]) -> tuple[int, int]:
    first, last = _check_seq(pair[0], "stored"), _check_seq(pair[1], "stored")
    if first > last:
        raise WireError(BAD_MESSAGE, f"stored: range {first}-{last} runs backwards")
    return first, last
