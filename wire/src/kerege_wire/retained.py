"""The two retained messages ⇄ bytes: an agent's presence and the collector's state."""

from kerege_wire.codec import pack, unpack
from kerege_wire.fields import read_fields, write_fields
from kerege_wire.messages import CollectorState, Presence


def encode_presence(presence: Presence, codec: str = "deflate") -> bytes:
    """A birth, goodbye or will as payload bytes."""
    return pack(write_fields(presence), codec)


def decode_presence(payload: bytes) -> Presence:
    """The presence in a payload. Raises WireError, and nothing else."""
    return Presence(**read_fields(Presence, unpack(payload), "presence"))


def encode_state(state: CollectorState, codec: str = "deflate") -> bytes:
    """The collector's state as payload bytes."""
    return pack(write_fields(state), codec)


def decode_state(payload: bytes) -> CollectorState:
    """The collector's state in a payload. Raises WireError, and nothing else."""
    return CollectorState(**read_fields(CollectorState, unpack(payload), "state"))
