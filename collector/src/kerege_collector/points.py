"""Record → InfluxDB line protocol, and the table of every field that is stored. Pure: text in, text out.

    ping,center=demo,district=Abai,link=geo,target=google epoch="Zk3q9w2a",seq=7i,clock="synced",sent=10i,... 1795465800

The measurement is the record's kind. Types are pinned: what is declared a float on the wire is written as one, 612 as ``612.0``,
since InfluxDB refuses the second type that it sees for a field. Each line has ``epoch`` and ``seq``, so none is ever without a field.
Line protocol: https://docs.influxdata.com/influxdb/v1/write_protocols/line_protocol_reference/
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from typing import Any, Final

from kerege_collector.stores import Row
from kerege_wire import KINDS, Body, Ping, Tick, Traffic
from kerege_wire.fields import Flag, Real, Whole
from kerege_wire.messages import Report
from kerege_wire.records import SERIES_BY_TARGET

TAGS: Final = {
    "center": "the center's id",
    "district": "district of the center, from the registry",
    "link": "kind of the link (geo, leo, meo, fiber, dsl, cellular, wireless), from the registry",
    "provider": "provider of the link, from the registry",
    "target": "what was asked: the target's name in the agent's settings; for dns, the resolver",
}
"""Tag → meaning, in the order of the lines. ``target`` is a tag of the kinds that have one series a target, and a field of the others."""

FLOAT: Final = "float"
INTEGER: Final = "integer"
STRING: Final = "string"
BOOLEAN: Final = "boolean"

BITS: Final = 8
KILO: Final = 1000.0
PERCENT: Final = 100.0

Value = str | int | float | bool
_Format = Callable[[Any], str]


@dataclass(frozen=True, slots=True)
class StoredField:
    """One field as it is stored. source: the wire's field, or what it is computed from."""

    measurement: str
    name: str
    type: str
    unit: str
    source: str
    doc: str


@dataclass(frozen=True, slots=True)
class _Derived:
    name: str
    type: str
    unit: str
    source: str
    doc: str
    compute: Callable[[Any], Value | None]


def _online(tick: Tick) -> int | None:
    return None if tick.result is None else int(tick.result == "online")


def _loss(ping: Ping) -> float | None:
    if not ping.sent or ping.received is None:
        return None
    return PERCENT * max(ping.sent - ping.received, 0) / ping.sent


def _pdv(ping: Ping) -> float | None:
    if ping.rtt_p95_ms is None or ping.rtt_min_ms is None:
        return None
    return round(ping.rtt_p95_ms - ping.rtt_min_ms, 6)  # both have three digits: no more come out of the subtraction


def _mean_kbps(count: int | None, interval_s: float | None) -> float | None:
    if count is None or not interval_s:
        return None
    return round(count * BITS / KILO / interval_s, 3)


_DERIVED: Final[dict[type[Body], tuple[_Derived, ...]]] = {
    Tick: (
        _Derived(
            "online", INTEGER, "", "result", "1 when the result is online, 0 when it is offline: the mean is a share of time", _online
        ),
    ),
    Ping: (
        _Derived("loss_percent", FLOAT, "%", "sent, received", "packets lost of those sent (RFC 6673)", _loss),
        _Derived(
            "pdv_p95_ms",
            FLOAT,
            "ms",
            "rtt_p95_ms - rtt_min_ms",
            "95th percentile of the packet delay variation (RFC 5481), over round trips",
            _pdv,
        ),
    ),
    Traffic: (
        _Derived(
            "received_mean_kbps",
            FLOAT,
            "kbit/s",
            "received_bytes / interval_s",
            "mean receive rate over the interval",
            lambda body: _mean_kbps(body.received_bytes, body.interval_s),
        ),
        _Derived(
            "sent_mean_kbps",
            FLOAT,
            "kbit/s",
            "sent_bytes / interval_s",
            "mean send rate over the interval",
            lambda body: _mean_kbps(body.sent_bytes, body.interval_s),
        ),
    ),
}


def _declared_type(check: object) -> str:
    if isinstance(check, Real):
        return FLOAT
    if isinstance(check, Whole):
        return INTEGER
    return BOOLEAN if isinstance(check, Flag) else STRING


def _envelope(measurement: str) -> Iterable[StoredField]:
    declared = {item.name: item.metadata for item in fields(Report) if "check" in item.metadata}
    yield StoredField(measurement, "epoch", STRING, "", "report", "run of the agent that made the record; with center and seq its identity")
    yield StoredField(measurement, "seq", INTEGER, "", "report", "sequence number in the epoch")
    yield StoredField(measurement, "clock", STRING, "", "report", f"{declared['clock']['doc']}: synced, estimated, unsynced")
    yield StoredField(measurement, "within_s", INTEGER, "s", "report", declared["within_s"]["doc"])


def _fields_of(measurement: str, declared: type[Body]) -> Iterable[StoredField]:
    yield from _envelope(measurement)
    for item in fields(declared):
        if item.name == "target" and declared in SERIES_BY_TARGET:
            continue  # a tag there
        kind = _declared_type(item.metadata["check"])
        yield StoredField(measurement, item.name, kind, item.metadata["unit"], "record", item.metadata["doc"])
    for derived in _DERIVED.get(declared, ()):
        yield StoredField(measurement, derived.name, derived.type, derived.unit, derived.source, derived.doc)


FIELDS: Final[tuple[StoredField, ...]] = tuple(
    item for measurement, declared in KINDS.items() for item in _fields_of(measurement, declared)
)
"""Every field that can be stored."""


def center_tags(center: str, *, district: str | None = None, link: str | None = None, provider: str | None = None) -> str:
    """The tags that all records of a center have, as they stand in a line: ``,center=demo,link=geo``. Absent ones are left out."""
    named = (("center", center), ("district", district), ("link", link), ("provider", provider))
    return "".join(f",{name}={_tag(value)}" for name, value in named if value and value.strip())


def line(row: Row, tags: str) -> str:
    """One record as one line, with the tags of its center. Its time has a precision of seconds."""
    plan = _PLANS[type(row.body)]
    body = row.body
    target = f",target={_tag(body.target)}" if plan.target_is_tag else ""  # type: ignore[union-attr, arg-type]
    parts = [f'{row.kind}{tags}{target} epoch="{row.epoch}",seq={row.seq}i,clock="{row.clock}"']
    if row.within_s is not None:
        parts.append(f"within_s={row.within_s}i")
    for name, prefix, write in plan.fields:
        value = getattr(body, name)
        if value is not None:
            parts.append(prefix + write(value))
    for prefix, compute, write in plan.derived:
        value = compute(body)
        if value is not None:
            parts.append(prefix + write(value))
    return f"{','.join(parts)} {row.time}"


def _tag(value: str) -> str:
    """A tag's value, escaped. A backslash at the end would escape what follows and cannot be written: it becomes a slash."""
    if value.isalnum():  # nearly all are
        return value
    escaped = value.strip().replace("\n", " ").replace(",", r"\,").replace("=", r"\=").replace(" ", r"\ ")
    return escaped if not escaped.endswith("\\") else escaped.rstrip("\\") + "/"


def _string(value: str) -> str:
    if '"' in value or "\\" in value:
        value = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{value}"'


def _boolean(value: bool) -> str:  # noqa: FBT001 - the value itself
    return "true" if value else "false"


_FORMATS: Final[dict[str, _Format]] = {FLOAT: repr, INTEGER: "{}i".format, STRING: _string, BOOLEAN: _boolean}


@dataclass(frozen=True, slots=True)
class _Plan:
    """How the lines of one kind are written: worked out once."""

    target_is_tag: bool
    fields: tuple[tuple[str, str, _Format], ...]
    derived: tuple[tuple[str, Callable[[Any], Value | None], _Format], ...]


def _plan(declared: type[Body]) -> _Plan:
    target_is_tag = declared in SERIES_BY_TARGET
    written = [item for item in fields(declared) if not (target_is_tag and item.name == "target")]
    return _Plan(
        target_is_tag,
        tuple((item.name, f"{item.name}=", _FORMATS[_declared_type(item.metadata["check"])]) for item in written),
        tuple((f"{item.name}=", item.compute, _FORMATS[item.type]) for item in _DERIVED.get(declared, ())),
    )


_PLANS: Final = {declared: _plan(declared) for declared in KINDS.values()}
