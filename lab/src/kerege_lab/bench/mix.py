"""What a steady agent says, minute by minute: the agent's own cadence, targets and rounding, with the figures of a made-up center.

The same seed gives the same center and the same records. Used to measure the wire and to load a collector with what really comes.
"""

import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from kerege_agent.measure import FIRST_RUN_SPACING_S, JITTER
from kerege_agent.probes import PROBES
from kerege_agent.probes.http import PORTAL
from kerege_agent.probes.ping import jitter_ns, percentile
from kerege_agent.probes.rounding import FEW_DIGITS, significant, significant_ms
from kerege_agent.probes.tick import DNS_FRESH_S, PORTAL_FRESH_S
from kerege_agent.settings import Mqtt, Settings
from kerege_wire import Body, Dns, Host, Http, Ping, Record, Report, Tick, Traffic

SETTINGS: Final = Settings(center="demo", mqtt=Mqtt(host="kerege.example.kz"))
"""An agent with nothing set but what must be."""

FIRST_TIME: Final = 1_795_465_800
"""2026-11-23 20:30:00 UTC."""

OUTAGE_SHARE: Final = 0.15
"""Share of the made-up centers that lose their link somewhere in the time that is looked at."""

SETTLED_S: Final = (1_200.0, 2_400.0)
"""Somewhere in between the look begins: an agent's first minutes are not what it says all day."""

EPOCH_LETTERS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
PAGE_BYTES: Final = 4096


@dataclass(frozen=True, slots=True)
class Delay:
    """Round-trip times of a kind of link: the smallest one, and what queues and radio add at the median; ms."""

    floor_ms: float
    added_ms: float


LINKS: Final = {
    "geo": Delay(590.0, 14.0),
    "meo": Delay(145.0, 8.0),
    "leo": Delay(38.0, 9.0),
    "fiber": Delay(62.0, 0.4),
    "dsl": Delay(70.0, 3.0),
    "cellular": Delay(75.0, 18.0),
    "wireless": Delay(66.0, 5.0),
}
"""Link kind → its delays towards an anycast host, from East Kazakhstan."""


@dataclass(slots=True)
class Center:
    """One center's link and machine, and what its probes remember."""

    chance: random.Random
    link: str = "geo"
    outage: range = field(default_factory=lambda: range(0))
    floors_ms: dict[str, float] = field(init=False)
    proven_s: dict[str, float] = field(init=False, default_factory=dict)
    plan_used_mb: float = field(init=False)
    turn: int = field(init=False, default=0)
    pings: int = field(init=False, default=0)
    figures: dict[str, float] = field(init=False)

    def __post_init__(self) -> None:
        chance, floor_ms = self.chance, LINKS[self.link].floor_ms
        self.floors_ms = {target.name: floor_ms * chance.uniform(0.97, 1.12) for target in SETTINGS.targets}
        self.plan_used_mb = chance.uniform(100, 30_000)
        self.figures = {
            "gateway_ms": chance.uniform(0.25, 1.6),
            "resolve_ms": chance.choice([0.8, self.floors_ms[SETTINGS.targets[0].name]]),
            "disk": chance.uniform(12, 80),
            "memory": chance.uniform(25, 70),
            "uptime_s": chance.uniform(1e3, 1e6),
            "agent_mb": chance.uniform(25, 29),
            "clock_s": chance.choice([0.02, 0.3, 40.0]) * chance.gauss(0, 1),
            "bytes": chance.uniform(13, 18),
        }

    def bodies(self, kind: str, at_s: float) -> Sequence[Body]:
        """What the probe of this kind says at this moment."""
        probe: Callable[..., Sequence[Body]] = getattr(self, f"_{kind}")
        return probe(at_s, online=int(at_s) not in self.outage)

    def _rtt_ns(self, target: str) -> int:
        added_ms = LINKS[self.link].added_ms * self.chance.lognormvariate(0, 0.6)
        return int((self.floors_ms[target] + added_ms) * 1e6)

    def _mark(self, name: str, at_s: float, fresh_s: float) -> str:
        if at_s - self.proven_s.get(name, -math.inf) < fresh_s:
            return "="
        self.proven_s[name] = at_s
        return "+"

    def _tick(self, at_s: float, *, online: bool) -> list[Tick]:
        gateway_ms = significant(self.figures["gateway_ms"] * self.chance.lognormvariate(0, 0.2), FEW_DIGITS)
        if not online:
            self.proven_s.clear()
            return [Tick("offline", broken="internet", rungs="++.-???", gateway_rtt_ms=gateway_ms)]
        rungs = f"++.+{self._mark('dns', at_s, DNS_FRESH_S)}{self._mark('portal', at_s, PORTAL_FRESH_S)}+"
        target = SETTINGS.targets[0].name
        return [
            Tick(
                "online", rungs=rungs, target=target, via="datagram", rtt_ms=significant_ms(self._rtt_ns(target)), gateway_rtt_ms=gateway_ms
            )
        ]

    def _ping(self, _at_s: float, *, online: bool) -> list[Ping]:
        first, count = self.pings, min(SETTINGS.probes.ping.targets_per_run, len(SETTINGS.targets))
        self.pings += count
        return [self._train(SETTINGS.targets[turn % len(SETTINGS.targets)].name, online=online) for turn in range(first, first + count)]

    def _train(self, target: str, *, online: bool) -> Ping:
        sent = SETTINGS.probes.ping.count
        rtts_ns = [self._rtt_ns(target) for _ in range(sent) if online and self.chance.random() > 0.005]
        if not rtts_ns:
            return Ping(target, family=4, via="datagram", sent=sent, received=0)
        return Ping(
            target,
            family=4,
            via="datagram",
            sent=sent,
            received=len(rtts_ns),
            rtt_min_ms=significant_ms(min(rtts_ns)),
            rtt_p50_ms=significant_ms(percentile(rtts_ns, 50)),
            rtt_p95_ms=significant_ms(percentile(rtts_ns, 95)),
            rtt_max_ms=significant_ms(max(rtts_ns)),
            jitter_ms=significant(jitter_ns(rtts_ns) / 1e6, FEW_DIGITS),
        )

    def _dns(self, _at_s: float, *, online: bool) -> list[Dns]:
        name = SETTINGS.dns.names[self.turn % len(SETTINGS.dns.names)]
        self.turn += 1
        if not online:
            return [Dns("system", via="udp", name=name, error="timeout")]
        resolve_ms = significant(self.floors_ms[SETTINGS.targets[0].name] * self.chance.uniform(1, 1.3))
        return [Dns("system", via="udp", name=name, resolve_ms=resolve_ms, rcode="NOERROR")]

    def _http(self, _at_s: float, *, online: bool) -> list[Http]:
        if not online:
            return [Http(PORTAL, error="no resolver answers")]
        rtt_ms, answer_ms = (self._rtt_ns(SETTINGS.targets[0].name) / 1e6 for _ in range(2))
        resolve_ms = significant(self.figures["resolve_ms"] * self.chance.uniform(1, 1.3))
        return [
            Http(
                PORTAL,
                family=4,
                resolve_ms=resolve_ms,
                connect_ms=significant(rtt_ms),
                first_byte_ms=significant(answer_ms),
                status=204,
                portal=False,
            )
        ]

    def _traffic(self, _at_s: float, *, online: bool) -> list[Traffic]:
        received = int(self.chance.lognormvariate(self.figures["bytes"] if online else 7, 1))
        sent = int(received / self.chance.uniform(4, 15))
        self.plan_used_mb += (received + sent) / 1e6
        interval_s = SETTINGS.probes.traffic.interval_s * self.chance.uniform(1 - JITTER, 1 + JITTER)
        peak = 8 * self.chance.uniform(2, 12) / interval_s / 1000
        return [
            Traffic(
                interface="eth0",
                interval_s=significant(interval_s),
                received_bytes=received,
                sent_bytes=sent,
                received_peak_kbps=significant(received * peak),
                sent_peak_kbps=significant(sent * peak),
                plan_used_mb=round(self.plan_used_mb, 1),
            )
        ]

    def _host(self, at_s: float, *, online: bool) -> list[Host]:
        chance, figures = self.chance, self.figures
        return [
            Host(
                cpu_percent=significant(chance.lognormvariate(1.5, 0.8) % 100, FEW_DIGITS),
                memory_percent=float(round(figures["memory"] + chance.uniform(-2, 2))),
                disk_percent=round(figures["disk"], 1),
                temperature_c=float(chance.randrange(38, 55)),
                uptime_s=int(figures["uptime_s"] + at_s),
                agent_memory_mb=significant(figures["agent_mb"]),
                agent_cpu_percent=significant(chance.uniform(0.03, 0.07), FEW_DIGITS),
                spool_records=chance.randrange(12) if online else chance.randrange(12, 60),
                spool_mb=significant(chance.randrange(8, 12) * PAGE_BYTES / 1e6),
                spool_state="disk",
                wall_clock_error_s=significant(figures["clock_s"] + chance.uniform(-0.01, 0.01)),
            )
        ]


def records(center: Center) -> Iterator[Record]:
    """What this center's agent produces from its start on, in the order in which it does."""
    seq = 0
    for at_s, kind in _runs(center.chance):
        for body in center.bodies(kind, at_s):
            seq += 1
            yield Record(seq, FIRST_TIME + int(at_s), body)


def _runs(chance: random.Random) -> Iterator[tuple[float, str]]:
    intervals_s = {kind: getattr(SETTINGS.probes, kind).interval_s for kind in PROBES if kind != "boot"}
    due_s = {kind: place * FIRST_RUN_SPACING_S for place, kind in enumerate(intervals_s)}
    while True:
        kind = min(due_s, key=lambda kind: due_s[kind])
        yield due_s[kind], kind
        due_s[kind] += intervals_s[kind] * chance.uniform(1 - JITTER, 1 + JITTER)


def mixed_report(seed: int, *, link: str = "geo", count: int = 25) -> Report:
    """``count`` successive records of a center that has been running for a while, as they come out of a spool."""
    chance = random.Random(seed)
    begin_s = chance.uniform(*SETTLED_S)
    outage = _outage(chance, begin_s) if chance.random() < OUTAGE_SHARE else range(0)
    since, later_s, before = FIRST_TIME + int(begin_s), chance.randrange(10**7), chance.randrange(5000)
    produced = (record for record in records(Center(chance, link, outage)) if record.time >= since)
    shifted = tuple(Record(record.seq + before, record.time + later_s, record.body) for record in islice(produced, count))
    return Report(_epoch(chance), sent=chance.randrange(10**6, 10**9), records=shifted)


def _outage(chance: random.Random, begin_s: float) -> range:
    start_s = int(begin_s + chance.uniform(-300, 600))
    return range(start_s, start_s + int(chance.lognormvariate(6, 1)))


def lone_tick(seed: int, *, link: str = "geo") -> Report:
    """One tick alone: the ordinary heartbeat."""
    mixed = mixed_report(seed, link=link)
    tick = next(record for record in mixed.records if isinstance(record.body, Tick))
    return Report(mixed.epoch, sent=mixed.sent, records=(tick,))


def _epoch(chance: random.Random) -> str:
    return "".join(chance.choices(EPOCH_LETTERS, k=8))
