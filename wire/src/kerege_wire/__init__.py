"""What Kerege's agents and collectors say to each other, version 1: no I/O, standard library only.

``docs/wire.md`` says the same for people and for other languages.
"""

from kerege_wire.acks import decode_ack, encode_ack
from kerege_wire.codec import MAX_INFLATED_BYTES, MAX_PAYLOAD_BYTES
from kerege_wire.errors import MisuseError, WireError
from kerege_wire.messages import Ack, CollectorState, Presence, Record, Refused, Report
from kerege_wire.records import KINDS, Body, Boot, Dns, Drop, Host, Http, Ping, Tick, Traffic, kind_of, series_of
from kerege_wire.reports import decode_report, encode_report
from kerege_wire.retained import decode_presence, decode_state, encode_presence, encode_state

__all__ = [
    "KINDS",
    "MAX_INFLATED_BYTES",
    "MAX_PAYLOAD_BYTES",
    "Ack",
    "Body",
    "Boot",
    "CollectorState",
    "Dns",
    "Drop",
    "Host",
    "Http",
    "MisuseError",
    "Ping",
    "Presence",
    "Record",
    "Refused",
    "Report",
    "Tick",
    "Traffic",
    "WireError",
    "decode_ack",
    "decode_presence",
    "decode_report",
    "decode_state",
    "encode_ack",
    "encode_presence",
    "encode_report",
    "encode_state",
    "kind_of",
    "series_of",
]
