"""The agent's settings: plain frozen dataclasses with annotated limits, standard library only in the process that stays.

The file is read and judged by ``kerege_agent.settings_check`` in a process of its own, which ends (decision 4); `load` starts it and builds
these classes from the JSON that it prints. A field's comment is in ``agent/agent.example.toml``, where people read it.

SettingsError    the settings cannot be used; its text names file, key and cure, one mistake a line
"""

import functools
import json
import logging
import socket
import subprocess
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin, get_type_hints

from kerege_wire.topics import is_center_id

CHECK_TIMEOUT_S: Final = 120.0
"""Longest time that checking a settings file may take: an old PC that boots from a slow disk needs several seconds."""

MQTT_TLS_PORT: Final = 8883
MQTT_PORT: Final = 1883
"""The ports that IANA assigned to MQTT over TLS and without."""

log = logging.getLogger(__name__)


class SettingsError(Exception):
    """Settings that cannot be used. The text is for the person who wrote them."""


@dataclass(frozen=True, slots=True)
class Must:
    """What a value must be beyond its type, and how that is said to people. Metadata of an annotated type.

    It speaks to pydantic by a method that pydantic looks for, so that the process that stays needs neither it nor `annotated_types`.
    """

    holds: Callable[[Any], bool]
    words: str

    def __get_pydantic_core_schema__(self, source: Any, handler: Callable[[Any], Any]) -> Any:
        """The type's own schema, then this check."""
        return {"type": "function-after", "function": {"type": "no-info", "function": self._check}, "schema": handler(source)}

    def _check(self, value: Any) -> Any:
        if not self.holds(value):
            raise ValueError(self.words)
        return value


def between(low: float, high: float) -> Must:
    """A number from ``low`` to ``high``, both included."""
    return Must(lambda value: low <= value <= high, f" from {low} to {high}")


def length(least: int, most: int) -> Must:
    """A list of ``least`` to ``most`` entries."""
    return Must(lambda value: least <= len(value) <= most, f", {least} to {most} of them")


def is_ip_address(text: str) -> bool:
    """Is this an IPv4 or IPv6 address (a scope such as ``%eth0`` is allowed)?"""
    families = ((socket.AF_INET, text), (socket.AF_INET6, text.partition("%")[0]))
    return any(_is_address(family, address) for family, address in families)


def _is_address(family: int, text: str) -> bool:
    try:
        socket.inet_pton(family, text)
    except (OSError, ValueError):
        return False
    return True


def is_host(text: str) -> bool:
    """Is this an address, or something that may be a host's name?"""
    return 0 < len(text) <= 253 and not any(character.isspace() or character in "/@" for character in text)


def is_http_url(text: str) -> bool:
    """Is this an http or https URL with a host?"""
    from urllib.parse import urlsplit  # noqa: PLC0415 - only the process that checks asks this

    try:
        parts = urlsplit(text)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0 and text.isascii() and text.isprintable()
    except ValueError:
        return False


def is_time_zone(text: str) -> bool:
    """Does the shipped time-zone data know this zone?"""
    from kerege_agent.timezones import zone  # noqa: PLC0415 - as above

    try:
        zone(text)
    except (OSError, ValueError):
        return False
    return True


CenterId = Annotated[str, Must(is_center_id, "a center's id: 2 to 32 of a-z, 0-9 and -, not first a -, and not `collector`")]
Address = Annotated[str, Must(is_ip_address, "an IPv4 or IPv6 address")]
Host = Annotated[str, Must(is_host, "a host name or an address")]
Url = Annotated[str, Must(is_http_url, "an http:// or https:// URL")]
TimeZone = Annotated[str, Must(is_time_zone, "a time zone such as Asia/Almaty")]
Name = Annotated[str, Must(lambda name: 0 < len(name) <= 64 and name.isprintable(), "a name of 1 to 64 printable characters")]
Port = Annotated[int, between(1, 65535)]
LinkKind = Literal["geo", "leo", "meo", "fiber", "dsl", "cellular", "wireless"]
Interval = Annotated[float, between(1, 86_400)]
Timeout = Annotated[float, between(0.1, 600)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mqtt:
    """The way to the broker. ``port`` is filled in where the file has none."""

    host: Host
    port: Port = 0
    tls: bool = True
    ca_file: Path | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None
    username_file: Path | None = None
    password_file: Path | None = None
    keepalive_s: Annotated[int, between(5, 3600)] = 90
    connect_timeout_s: Timeout = 30.0

    def __post_init__(self) -> None:
        if self.port == 0:
            object.__setattr__(self, "port", MQTT_TLS_PORT if self.tls else MQTT_PORT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """The center's way to the Internet, as far as the agent must be told."""

    kind: LinkKind = "geo"
    terminal: Address | None = None
    gateway: Address | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One host of the Internet that answers pings; ``tcp_port`` is asked where ICMP cannot be sent."""

    name: Name
    address: Address
    tcp_port: Port = 443


@dataclass(frozen=True, slots=True, kw_only=True)
class Dns:
    """Names to resolve; ``resolver`` None: the operating system's."""

    names: Annotated[tuple[Host, ...], length(0, 64)] = ("www.google.com", "www.wikipedia.org", "gov.kz")
    resolver: Address | None = None
    resolver_port: Port = 53


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpTarget:
    """One page to fetch, phase by phase."""

    name: Name
    url: Url


@dataclass(frozen=True, slots=True, kw_only=True)
class Http:
    """Pages to fetch besides the portal check; none by default, because each costs bytes."""

    targets: Annotated[tuple[HttpTarget, ...], length(0, 64)] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Portal:
    """The portal check: the URL answers 204 unless something stands in between. Plain HTTP, or a portal could not show itself.

    None in the file: ``/generate_204`` of the broker's host, where the collector's page usually is.
    """

    url: Url | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeSettings:
    """When a probe runs, and how long it may take."""

    interval_s: Interval = 300.0
    timeout_s: Timeout = 30.0
    enabled: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class TickSettings(ProbeSettings):
    """The heartbeat, and the ladder."""

    interval_s: Interval = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PingSettings(ProbeSettings):
    """A train of echo requests, to the targets in turn: one a run costs a metered link a third of asking all three."""

    timeout_s: Timeout = 60.0
    targets_per_run: Annotated[int, between(1, 1000)] = 1
    count: Annotated[int, between(1, 1000)] = 10
    spacing_s: Annotated[float, between(0.01, 60)] = 1.0
    loss_timeout_s: Annotated[float, between(0.1, 60)] = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RareSettings(ProbeSettings):
    """Name resolution and HTTP requests, which cost more bytes."""

    interval_s: Interval = 900.0


@dataclass(frozen=True, slots=True, kw_only=True)
class BootSettings:
    """What came before; once, at start."""

    timeout_s: Timeout = 10.0
    enabled: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Probes:
    """One section a probe."""

    boot: BootSettings = BootSettings()
    tick: TickSettings = TickSettings()
    ping: PingSettings = PingSettings()
    dns: RareSettings = RareSettings()
    http: RareSettings = RareSettings()
    traffic: ProbeSettings = ProbeSettings()
    host: ProbeSettings = ProbeSettings()


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """Which interface is counted (None: that of the default route), and how often rates are sampled for the peak."""

    interface: Name | None = None
    sample_s: Annotated[float, between(1, 300)] = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The provider's plan: the day of the month on which its volume starts anew, in which zone."""

    reset_day: Annotated[int, between(1, 31)] = 1
    timezone: TimeZone = "Asia/Almaty"


@dataclass(frozen=True, slots=True, kw_only=True)
class SpoolSettings:
    """The durable queue. ``flush_s`` 0: each record is durable at once; more spares flash and risks that many seconds."""

    max_bytes: Annotated[int, between(1 << 20, 1 << 40)] = 64 << 20
    flush_s: Annotated[float, between(0, 3600)] = 0.0
    memory_records: Annotated[int, between(100, 1_000_000)] = 5000


@dataclass(frozen=True, slots=True, kw_only=True)
class UplinkSettings:
    """How records travel: reports under way, records a report, the rate and the delay of a backlog, the backoff (full jitter)."""

    window: Annotated[int, between(1, 64)] = 4
    batch_records: Annotated[int, between(1, 1000)] = 100
    backlog_reports_per_s: Annotated[float, between(0.01, 1000)] = 2.0
    backlog_start_delay_s: Annotated[float, between(0, 3600)] = 10.0
    reconnect_min_s: Annotated[float, between(0.05, 60)] = 1.0
    reconnect_max_s: Annotated[float, between(0.05, 3600)] = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that a person can set. ``journal_file``: for tests and audits, one line of JSON for each record that was made."""

    center: CenterId
    mqtt: Mqtt
    state_directory: Path = Path("/var/lib/kerege-agent")
    journal_file: Path | None = None
    link: Link = Link()
    targets: Annotated[tuple[Target, ...], length(1, 64)] = (
        Target(name="cloudflare", address="1.1.1.1"),
        Target(name="google", address="8.8.8.8"),
        Target(name="quad9", address="9.9.9.9"),
    )
    dns: Dns = Dns()
    http: Http = Http()
    portal: Portal = Portal()
    probes: Probes = Probes()
    traffic: Traffic = Traffic()
    plan: Plan = Plan()
    spool: SpoolSettings = SpoolSettings()
    uplink: UplinkSettings = UplinkSettings()

    @property
    def portal_url(self) -> str:
        """Where the portal check asks."""
        host = f"[{self.mqtt.host}]" if ":" in self.mqtt.host else self.mqtt.host
        return self.portal.url or f"http://{host}/generate_204"


def load(path: Path) -> Settings:
    """The settings in a TOML file, checked. Raises SettingsError, whose text is complete and for people."""
    return from_json(checked_json(path))


def checked_json(path: Path, *, files: bool = True) -> str:
    """The settings in a TOML file, checked, as the JSON that `from_json` reads; ``files``: with certificates and keys.

    Raises SettingsError.
    """
    command = [sys.executable, "-m", "kerege_agent.settings_check", str(path), *(() if files else ("--without-files",))]
    try:
        checked = subprocess.run(command, capture_output=True, text=True, timeout=CHECK_TIMEOUT_S, check=False)  # noqa: S603 - ourselves
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SettingsError(f"{path}: could not be checked: {error}") from error
    if checked.returncode != 0:
        raise SettingsError(checked.stderr.strip() or f"{path}: could not be checked: exit status {checked.returncode}")
    for line in checked.stderr.splitlines():
        log.warning("settings.doubtful", extra={"fields": {"what": line}})
    return checked.stdout


def from_json(text: str) -> Settings:
    """Settings from what `checked_json` gave."""
    settings: Settings = build(Settings, json.loads(text))
    return settings


def build(declared: Any, value: Any) -> Any:
    """A JSON value as the declared type: dataclasses, tuples of one type, paths, optional values; all others as they are.

    For values that ``settings_check`` wrote: nothing is checked again.
    """
    if isinstance(declared, type) and is_dataclass(declared):
        hints = _hints(declared)
        return declared(**{item.name: build(hints[item.name], value[item.name]) for item in fields(declared)})
    origin, arguments = get_origin(declared), get_args(declared)
    if origin is Annotated:
        return build(arguments[0], value)
    if origin is tuple:
        return tuple(build(arguments[0], item) for item in value)
    if origin in {Union, types.UnionType} and value is not None:
        return build(next(argument for argument in arguments if argument is not type(None)), value)
    return Path(value) if declared is Path else value


@functools.cache
def _hints(declared: type) -> dict[str, Any]:
    return get_type_hints(declared)
