"""Hypothesis strategies for every message, made from the declarations of its fields: whatever a field may hold, they make."""

import re
from typing import Any

from hypothesis import strategies as st

from kerege_wire import KINDS, Ack, Body, CollectorState, Presence, Record, Report
from kerege_wire.fields import Choice, Flag, Real, Text, Whole, declared_fields, required_of
from kerege_wire.reports import MAX_TIME

SEQS = st.integers(min_value=1, max_value=2**53 - 1)


def values_of(check: Text | Choice | Whole | Real | Flag) -> st.SearchStrategy[Any]:
    """What a field with this check may hold."""
    match check:
        case Text(max_length, None):
            return st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=max_length)
        case Text(max_length, pattern):
            return st.from_regex(re.compile(str(pattern), re.ASCII), fullmatch=True).filter(lambda text: len(text) <= max_length)
        case Choice(values):
            return st.sampled_from(values)
        case Whole(low, high):
            return st.integers(low, high)
        case Real(low, high):
            return st.floats(low, high)
        case Flag():
            return st.booleans()


def declared(kind: Any, **given: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Any value of a declared dataclass; fields that need not be there may be at their defaults."""
    fields: dict[str, st.SearchStrategy[Any]] = {}
    for item in declared_fields(kind):
        values = values_of(item.metadata["check"])
        fields[item.name] = values if item.name in required_of(kind) else st.just(item.default) | values
    return st.builds(kind, **fields, **given)


BODIES: dict[str, st.SearchStrategy[Body]] = {name: declared(kind) for name, kind in KINDS.items()}
ANY_BODY: st.SearchStrategy[Body] = st.one_of(*BODIES.values())


@st.composite
def record_lists(draw: st.DrawFn, max_size: int = 12) -> tuple[Record, ...]:
    """Records in rising order of number, with skips, and at any time that can be carried."""
    bodies = draw(st.lists(ANY_BODY, max_size=max_size))
    numbers = sorted(draw(st.sets(SEQS, min_size=len(bodies), max_size=len(bodies))))
    times = draw(st.lists(st.integers(0, MAX_TIME), min_size=len(bodies), max_size=len(bodies)))
    return tuple(Record(seq, time, body) for seq, time, body in zip(numbers, times, bodies, strict=True))


BAD_ITEMS: st.SearchStrategy[list[Any] | dict[str, Any]] = st.sampled_from(
    (
        [0, "no such kind", 0, "online"],
        [0, None, 0],
        [0, ["tick"], 0],
        [0, "tick", 0, "maybe"],
        [0, "tick", 0, ["online"]],
        [0, "tick", 0, None, None, None, None, None, 1e999],
        [0, "tick", 0, None, None, None, None, None, -0.001],
        [0, "tick", 0, None, None, None, None, None, True],
        [0, "ping", 0],
        [0, "ping", 0, None, 4],
        [0, "ping", 0, "cloudflare", 4.0],
        [0, "ping", 0, "cloud\x85flare"],
        [0, "dns", 0, "\ud800"],
        [0, "drop", 0, "Zk3q9w2a", "\u0663-\u0667"],
        [0, "host", 0, *[None] * 62],
        {},
        {"kind": "host", "cpu_percent": 100.5},
        {"kind": "drop", "dropped_epoch": "Zk3q9w2a"},
        {"kind": "traffic", "received_bytes": 2**53},
        {"kind": "http", "target": "x" * 257},
        {"kind": "tick", "rtt_ms": {"rtt_ms": [1]}},
    )
)
"""Records whose number and time are known, and which cannot be read."""

RANGES = st.tuples(SEQS, SEQS).map(lambda pair: (min(pair), max(pair)))
REASONS = values_of(Text())

REPORTS: st.SearchStrategy[Report] = declared(Report, records=record_lists())
PRESENCES: st.SearchStrategy[Presence] = declared(Presence)
STATES: st.SearchStrategy[CollectorState] = declared(CollectorState)


@st.composite
def acks(draw: st.DrawFn) -> Ack:
    """Any ack; one that names numbers has an epoch."""
    ack: Ack = draw(declared(Ack))
    if ack.epoch is None:
        return ack
    stored = tuple(draw(st.lists(RANGES, max_size=5)))
    refused = tuple(draw(st.lists(st.tuples(SEQS, REASONS), max_size=5)))
    header = {item.name: getattr(ack, item.name) for item in declared_fields(Ack)}
    return Ack(**header, stored=stored, refused=refused)


ACKS = acks()
