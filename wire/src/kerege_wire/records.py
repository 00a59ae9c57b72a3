"""The record kinds: what an agent can say about its center, one frozen dataclass a kind.

The order of the fields is part of the wire (a record can travel as a row of values): new fields go to the end.

Failure is a measurement: a probe that failed yields its record with ``error`` set and the numbers absent, never zero.
Units are in the names. RTT is defined by RFC 2681, loss by RFC 6673, packet delay variation (PDV) by RFC 5481,
interarrival jitter by RFC 3550 section 6.4.1. The 95th percentile of the PDV (RFC 5481: each delay above the smallest) is
``rtt_p95_ms - rtt_min_ms`` to the digit, so it is derived where records are stored and costs nothing here.
"""

from dataclasses import dataclass
from typing import Final

from kerege_wire.fields import choice, flag, real, text, whole

RUNGS: Final = ("route", "gateway", "terminal", "internet", "dns", "portal", "collector")
"""The rungs of the ladder, from the nearest thing that can break to the farthest."""

RUNG_MARKS: Final = "+=-?."
"""One mark per rung: ``+`` worked just now, ``=`` worked a moment ago and was not asked again, ``-`` failed,
``?`` could not be determined, ``.`` does not apply here (not configured)."""

METHODS: Final = ("datagram", "raw", "tcp")
"""How a target was asked: ICMP echo over an unprivileged datagram socket, ICMP echo over a raw socket, TCP connect."""

MAX_MILLISECONDS: Final = 600_000.0
MAX_KILOBITS_PER_SECOND: Final = 1e9
MAX_SEQS_TEXT: Final = 256
SEQS_PATTERN: Final = "[0-9]{1,16}(-[0-9]{1,16})?(,[0-9]{1,16}(-[0-9]{1,16})?)*"
EPOCH_PATTERN: Final = "[A-Za-z0-9_-]{8}"


def _milliseconds(doc: str) -> float | None:
    value: float | None = real(doc, "ms", high=MAX_MILLISECONDS)
    return value


def _percent(doc: str) -> float | None:
    value: float | None = real(doc, "%", high=100.0)
    return value


def _error() -> str | None:
    value: str | None = text("why the probe could not measure; absent when it did")
    return value


def _via() -> str | None:
    value: str | None = choice("how the target was asked", METHODS)
    return value


@dataclass(frozen=True, slots=True)
class Tick:
    """Is the Internet usable from here, and if not, where is it broken."""

    result: str | None = choice("is the Internet usable from here", ("online", "offline"))
    broken: str | None = choice("the first rung of the ladder that failed; `collector` alone is no outage", RUNGS)
    rungs: str | None = text("one mark per rung (route, gateway, terminal, internet, dns, portal, collector)", pattern=r"[-+=?.]{7}")
    target: str | None = text("the Internet target that answered")
    via: str | None = _via()
    rtt_ms: float | None = _milliseconds("round-trip time to that target")
    gateway_rtt_ms: float | None = _milliseconds("round-trip time to the default gateway")
    terminal_rtt_ms: float | None = _milliseconds("round-trip time to the satellite terminal")
    error: str | None = _error()


@dataclass(frozen=True, slots=True)
class Ping:
    """Round-trip times and loss towards one target."""

    target: str = text("the target's name in the settings", required=True)
    family: int | None = whole("IP version, 4 or 6", "", low=4, high=6)
    via: str | None = _via()
    sent: int | None = whole("echo requests sent", "packets", high=10_000)
    received: int | None = whole("echo replies received within the loss timeout", "packets", high=10_000)
    rtt_min_ms: float | None = _milliseconds("smallest round-trip time")
    rtt_p50_ms: float | None = _milliseconds("median round-trip time")
    rtt_p95_ms: float | None = _milliseconds("95th percentile of the round-trip times")
    rtt_max_ms: float | None = _milliseconds("largest round-trip time")
    jitter_ms: float | None = _milliseconds("interarrival jitter (RFC 3550 section 6.4.1, over round trips)")
    error: str | None = _error()


@dataclass(frozen=True, slots=True)
class Dns:
    """One name resolution."""

    target: str = text("the resolver: its address, or `system`", required=True)
    via: str | None = choice("a query of our own over UDP, or the operating system's resolver", ("udp", "system"))
    name: str | None = text("the name asked for")
    resolve_ms: float | None = _milliseconds("from query to answer")
    rcode: str | None = text("response code (RFC 1035 section 4.1.1)", max_length=16)
    error: str | None = _error()


@dataclass(frozen=True, slots=True)
class Http:
    """One HTTP request, phase by phase."""

    target: str = text("the target's name in the settings", required=True)
    family: int | None = whole("IP version, 4 or 6", "", low=4, high=6)
    resolve_ms: float | None = _milliseconds("name resolution")
    connect_ms: float | None = _milliseconds("TCP connect")
    tls_ms: float | None = _milliseconds("TLS handshake")
    first_byte_ms: float | None = _milliseconds("from the request sent to the first byte of the answer")
    status: int | None = whole("HTTP status code", "", low=100, high=999)
    portal: bool | None = flag("something answered in the target's place: a captive portal")
    error: str | None = _error()


@dataclass(frozen=True, slots=True)
class Traffic:
    """What the interface towards the Internet carried, of everybody in the center."""

    interface: str | None = text("the operating system's name of the interface", max_length=64)
    interval_s: float | None = real("length of the interval that is counted", "s", high=31_536_000.0)
    received_bytes: int | None = whole("bytes received in the interval", "B")
    sent_bytes: int | None = whole("bytes sent in the interval", "B")
    received_peak_kbps: float | None = real("highest receive rate over a sampling step", "kbit/s", high=MAX_KILOBITS_PER_SECOND)
    sent_peak_kbps: float | None = real("highest send rate over a sampling step", "kbit/s", high=MAX_KILOBITS_PER_SECOND)
    plan_used_mb: float | None = real("use of the plan since its reset day, both directions", "MB (1e6 B)")
    error: str | None = _error()


@dataclass(frozen=True, slots=True)
class Host:
    """The machine, and the agent itself."""

    cpu_percent: float | None = _percent("CPU busy since the last such record, all cores together")
    memory_percent: float | None = _percent("memory in use")
    disk_percent: float | None = _percent("use of the file system that holds the spool")
    temperature_c: float | None = real("hottest temperature sensor", "°C", low=-100.0, high=200.0)
    uptime_s: int | None = whole("since the host started, suspend included", "s")
    agent_memory_mb: float | None = real("resident memory of the agent", "MB (1e6 B)")
    agent_cpu_percent: float | None = real("CPU used by the agent since the last such record, of one core", "%", high=100_000.0)
    spool_records: int | None = whole("records waiting in the spool", "records")
    spool_mb: float | None = real("size of the spool's files", "MB (1e6 B)")
    spool_state: str | None = choice("where the spool keeps new records: `memory` when the disk refuses them", ("disk", "memory"))
    wall_clock_error_s: float | None = real("the host's wall clock minus the time by the collector's clock", "s", low=-1e10, high=1e10)
    error: str | None = _error()


@dataclass(frozen=True, slots=True)
class Boot:
    """The agent started: what came before. The proof of power cuts."""

    cause: str | None = choice("did the host start, or only the agent", ("host", "agent"))
    stop: str | None = choice("how the run before ended; `first` when there was none", ("clean", "unclean", "first"))
    why: str | None = text("the reason given at a clean stop", max_length=64)
    last_alive: int | None = whole("time of the last record of the run before, where it is known", "s since 1970 UTC")
    previous_epoch: str | None = text("epoch of the run before", pattern=EPOCH_PATTERN)
    previous_seq: int | None = whole("last sequence number that the run before is known to have given out", "")
    uptime_s: int | None = whole("how long the host had been running when the agent started", "s")
    agent: str | None = text("version of the agent", max_length=32)
    system: str | None = text("operating system and machine", max_length=64)
    spool: str | None = choice("state of the spool at start", ("kept", "new", "damaged"))
    salvaged: int | None = whole("records read out of a damaged spool", "records")
    error: str | None = _error()


@dataclass(frozen=True, slots=True)
class Drop:
    """What the spool had to thin: these sequence numbers will never come."""

    dropped_epoch: str = text("epoch of the records that were dropped", pattern=EPOCH_PATTERN, required=True)
    dropped_seqs: str = text("their sequence numbers, as ranges: `3-7,12`", pattern=SEQS_PATTERN, max_length=MAX_SEQS_TEXT, required=True)
    dropped_kind: str | None = text("their kind", max_length=32)
    count: int | None = whole("how many", "records")
    reason: str | None = text("why", max_length=64)
    error: str | None = _error()


Body = Tick | Ping | Dns | Http | Traffic | Host | Boot | Drop

KINDS: Final[dict[str, type[Body]]] = {
    "tick": Tick,
    "ping": Ping,
    "dns": Dns,
    "http": Http,
    "traffic": Traffic,
    "host": Host,
    "boot": Boot,
    "drop": Drop,
}
"""Kind name on the wire → its dataclass."""

NAMES: Final[dict[type[Body], str]] = {declared: name for name, declared in KINDS.items()}


def kind_of(body: Body) -> str:
    """The wire's name of a record's kind."""
    return NAMES[type(body)]


SERIES_BY_TARGET: Final = (Ping, Dns, Http)
"""Kinds that have one series per target; the others have one per center."""


def series_of(body: Body) -> tuple[str, str]:
    """(kind, target): the series that a record belongs to. A series has at most one record a second."""
    return kind_of(body), body.target if isinstance(body, SERIES_BY_TARGET) else ""
