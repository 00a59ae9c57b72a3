"""The agents of the simulated world: they measure what the script says is so, keep it, and tell it as the wire has it.

They do what a real agent does as far as a collector can see: a boot record, a tick each minute with its jitter, a ping every five, records
of a boot without a clock placed by the agent's own `estimate`, births, goodbyes and wills, a backlog in pieces. Nothing leaves the
spool before an ack names it.
"""

import heapq
import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from kerege_agent import estimate
from kerege_agent.measure import CONFIRM_S
from kerege_lab.simulate.truth import Timeline
from kerege_lab.simulate.world import Place, Script, Span, World
from kerege_wire import Ack, Body, Boot, Ping, Presence, Record, Report, Tick, encode_presence, encode_report
from kerege_wire.topics import topic

HEARTBEAT_S: Final = 60.0
PING_S: Final = 300.0
JITTER: Final = 0.1
KEEPALIVE_TIMES_S: Final = 135
"""A broker tells the will after one and a half keepalives of 90 s."""

AGAIN_S: Final = 120
"""What was sent and not acknowledged for so long is sent again."""

PIECE: Final = 60
PIECES: Final = 3
"""Records a report of a backlog, and such reports at a time."""

DEAD_CLOCK_S: Final = 1_577_880_000
"""What a clock without a battery shows when its machine starts: 2020-01-01, noon."""

BROKEN: Final = {"lan": "gateway", "terminal": "terminal", "provider": "internet", "dns": "dns", "portal": "portal"}
IN_GOOD_ORDER: Final = ("shutdown", "upgrade")
"""Ends of a session, or of an agent, that say goodbye; the others are a crash, or the power."""

RUNGS: Final = {
    None: "++.+==+",
    "gateway": "+-?????",
    "terminal": "++-????",
    "internet": "++.-???",
    "dns": "++.+-??",
    "portal": "++.++-?",
}
USUAL_MS: Final = {"geo": 620.0, "cellular": 90.0, "fiber": 25.0}
FADED_MS: Final = 1900.0


class Publication(NamedTuple):
    """A message for the broker."""

    topic: str
    payload: bytes
    retain: bool


@dataclass(slots=True)
class _Machine:
    """One run of a machine. offset_s: UTC minus its monotonic clock, once that is known, and how well."""

    on_s: int
    wall_error_s: float
    last_mono_s: float = 0.0
    offset_s: int | None = None
    clock: str = "synced"
    within_s: int | None = None


@dataclass(slots=True)
class _Kept:
    """A record in the spool."""

    seq: int
    mono_s: float
    body: Body
    sent_s: float = -1e9


@dataclass(slots=True)
class _Run:
    """One run of the agent."""

    epoch: str
    machine: _Machine
    spool: dict[int, _Kept] = field(default_factory=dict)
    last_seq: int = 0
    ended: str = "unclean"
    why: str | None = None


class Agent:
    """One library's agent, from the first boot to the last. `events` are its plans; `handle` does what is due and says what to publish."""

    def __init__(self, place: Place, script: Script, seed: int) -> None:
        self._place = place
        self._chance = random.Random(f"agent {seed} {place.id}")
        self._outages, self._fades = Timeline(script.outages), Timeline(script.fades)
        self._script = script
        self._runs: list[_Run] = []
        self._machines: list[_Machine] = []
        self._is_running = False
        self._life = 0
        self._birth = 0
        self._is_connected = False
        self._late_will: Publication | None = None
        self._said: str | None = None
        self.made = 0

    def plan(self) -> Iterator[tuple[float, str, Span | None]]:
        """What the script has in store: (time, what, span)."""
        for session in self._script.sessions:
            yield session.start_s, "on", session
            yield session.end_s, "end", session
        for nap in self._script.naps:
            yield nap.start_s, "sleep", nap
            yield nap.end_s, "wake", nap
        for stop in self._script.stops:
            yield stop.start_s, "end", stop
            yield stop.end_s, "start", stop
        for outage in self._script.outages:
            yield outage.start_s, "cut", outage

    def left(self, before_s: float) -> int:
        """Records made before then that no ack has named yet."""
        return sum(run.machine.on_s + kept.mono_s < before_s for run in self._runs for kept in run.spool.values())

    def keeps(self, epoch: str, seq: int) -> bool:
        """Has no ack named this record yet?"""
        return any(run.epoch == epoch and seq in run.spool for run in self._runs)

    def lose_broker(self) -> None:
        """The broker has died: no will is told of a connection that it has forgotten."""
        self._is_connected, self._late_will = False, None

    def acknowledge(self, ack: Ack) -> None:
        """The collector has these."""
        for run in self._runs:
            if run.epoch == ack.epoch:
                refused = {seq for seq, _ in ack.refused}
                gone = [seq for seq in run.spool if seq in refused or any(first <= seq <= last for first, last in ack.stored)]
                for seq in gone:
                    del run.spool[seq]

    # --- what the script does ---------------------------------------------------------------------------------------------

    def on(self, time_s: float, agenda: "Agenda") -> list[Publication]:
        """The machine starts, and with it the agent."""
        wall_error_s = DEAD_CLOCK_S - time_s if self._place.dead_clock else self._chance.uniform(-2, 2)
        self._machines.append(_Machine(int(time_s), wall_error_s))
        self._begin(time_s + self._chance.uniform(20, 40), agenda, "host")
        return []

    def end(self, span: Span, *, broker: bool) -> list[Publication]:
        """The machine goes down or loses its power, or the agent alone ends: in good order, and then with a goodbye, or not."""
        if not self._runs or not self._is_running:
            return []
        self._is_running = False
        self._life += 1
        run = self._runs[-1]
        connected, self._is_connected = self._is_connected and broker, False
        if span.what in IN_GOOD_ORDER:
            run.ended, run.why = "clean", span.what
            return [self._presence("goodbye", run.epoch, self._birth, span.what)] if connected else []
        if connected and span.what == "crash":  # the system closes the connection of a dead process: the broker knows at once
            return [self._presence("lost", run.epoch, self._birth)]
        self._late_will = self._presence("lost", run.epoch, self._birth) if connected else None
        return []

    def start(self, time_s: float, agenda: "Agenda") -> list[Publication]:
        """The agent alone starts again."""
        self._begin(time_s, agenda, "agent")
        return []

    def sleep(self) -> list[Publication]:
        """The machine is suspended: nothing runs, and nothing is said."""
        self._life += 1
        self._is_running = False
        return []

    def wake(self, time_s: float, agenda: "Agenda") -> list[Publication]:
        """... and goes on: the probes are overdue, the connection has ended."""
        self._is_running, self._is_connected = True, False
        self._plan_probes(time_s, agenda)
        return []

    def cut(self, time_s: float, span: Span, agenda: "Agenda") -> list[Publication]:
        """The link breaks; a connection that stands survives where names alone fail."""
        if self._is_connected and span.what != "dns":
            self._is_connected = False
            agenda.add(time_s + KEEPALIVE_TIMES_S, self, "will", (self._runs[-1].epoch, self._birth))
        return []

    def will(self, named: tuple[str, int]) -> list[Publication]:
        """The broker gives the connection up, unless it was born again meanwhile."""
        if self._is_connected or not self._runs or (self._runs[-1].epoch, self._birth) != named:
            return []
        return [self._presence("lost", *named)]

    # --- what the agent does ----------------------------------------------------------------------------------------------

    def tick(self, time_s: float, life: int, agenda: "Agenda") -> list[Publication]:
        """Ask whether the Internet is there, keep the answer, and say it where that is possible."""
        if life != self._life or not self._is_running:
            return []
        outage = self._outages.at(time_s)
        broken = BROKEN[outage.what] if outage else None
        again_s = CONFIRM_S if broken and self._said == "online" else self._jittered(HEARTBEAT_S)
        self._said = "offline" if broken else "online"
        agenda.add(time_s + again_s, self, "tick", life)
        usual_ms = round(USUAL_MS[self._place.link] * self._chance.uniform(0.95, 1.3))
        if broken:
            self._keep(time_s, Tick(result="offline", broken=broken, rungs=RUNGS[broken]))
        else:
            self._keep(time_s, Tick(result="online", rungs=RUNGS[None], target="cloudflare", via="datagram", rtt_ms=float(usual_ms)))
        if not agenda.broker or (outage is not None and outage.what != "dns"):
            return []
        found = self._connect(time_s, agenda) if not self._is_connected else []
        return found + (self._deliver(time_s) if agenda.collector else [])

    def ping(self, time_s: float, life: int, agenda: "Agenda") -> list[Publication]:
        """Measure round trips and loss; told with the next tick."""
        if life != self._life or not self._is_running:
            return []
        agenda.add(time_s + self._jittered(PING_S), self, "ping", life)
        self._keep(time_s, self._pinged(time_s))
        return []

    def _pinged(self, time_s: float) -> Ping:
        outage, fade = self._outages.at(time_s), self._fades.at(time_s)
        if outage is not None and outage.what != "dns":
            return Ping(target="cloudflare", sent=10, received=0, error="timeout")
        usual_ms = USUAL_MS[self._place.link] * self._chance.uniform(0.95, 1.2)
        lost = 1 if self._chance.random() < 0.01 else 0
        if fade is not None and fade.what == "rtt":
            usual_ms = FADED_MS * self._chance.uniform(0.8, 1.5)
        elif fade is not None:
            lost = self._chance.randint(1, 5)
        low, middle, high = (float(round(usual_ms * part)) for part in (0.97, 1.0, 1.2))
        return Ping("cloudflare", 4, "datagram", 10, 10 - lost, low, middle, high, high)

    def _begin(self, time_s: float, agenda: "Agenda", cause: str) -> None:
        before = self._runs[-1] if self._runs else None
        machine = self._machines[-1]
        epoch = f"{self._chance.getrandbits(48):012x}"[:8]
        self._runs = [run for run in self._runs if run.spool or run is before]
        self._runs.append(_Run(epoch, machine))
        self._is_running, self._is_connected, self._birth, self._said = True, False, 0, None
        told: dict[str, object] = {"stop": "first"}
        if before is not None:
            known = before.machine.offset_s
            told = {
                "stop": before.ended,
                "why": before.why,
                "previous_epoch": before.epoch,
                "previous_seq": before.last_seq,
                "last_alive": None if known is None else int(known + before.machine.last_mono_s) if cause == "host" else None,
            }
        self._keep(time_s, Boot(cause=cause, uptime_s=int(time_s) - machine.on_s, agent="0.1.0", spool="kept" if before else "new", **told))  # type: ignore[arg-type]
        self._plan_probes(time_s, agenda)

    def _plan_probes(self, time_s: float, agenda: "Agenda") -> None:
        self._life += 1
        agenda.add(time_s + self._chance.uniform(1, 4), self, "tick", self._life)
        agenda.add(time_s + self._chance.uniform(10, 40), self, "ping", self._life)

    def _connect(self, time_s: float, agenda: "Agenda") -> list[Publication]:
        """A birth; now and then the will of the connection before comes after it."""
        self._is_connected = True
        self._birth += 1
        run = self._runs[-1]
        birth = self._presence("online", run.epoch, self._birth)
        self._learn(run.machine)
        late, self._late_will = self._late_will, None
        if late is not None and self._chance.random() < 0.5:
            agenda.add(time_s + self._chance.uniform(1, 20), self, "late", late)
            return [birth]
        return [late, birth] if late is not None else [birth]

    def _learn(self, machine: _Machine) -> None:
        """The collector's time is known: this boot is synced, and those before it that never were are placed."""
        if machine.offset_s is not None:
            return
        machine.offset_s = machine.on_s
        place = self._machines.index(machine)
        first = place
        while first and self._machines[first - 1].offset_s is None:
            first -= 1
        lost = self._machines[first:place]
        before = self._machines[first - 1] if first else None
        lower_ms = None if before is None or before.offset_s is None else int(before.offset_s + before.last_mono_s) * 1000
        boots = [estimate.Boot(0, int(each.last_mono_s * 1000), int((each.on_s + each.wall_error_s) * 1000)) for each in lost]
        for each, found in zip(lost, estimate.estimate(boots, lower_ms=lower_ms, upper_ms=machine.on_s * 1000), strict=True):
            each.offset_s, each.clock, each.within_s = found.offset_ms // 1000, "estimated", found.within_ms // 1000 + 1
        self._machines = self._machines[place:]

    def _keep(self, time_s: float, body: Body) -> None:
        run = self._runs[-1]
        run.last_seq += 1
        self.made += 1
        mono_s = time_s - run.machine.on_s
        run.machine.last_mono_s = mono_s
        run.spool[run.last_seq] = _Kept(run.last_seq, mono_s, body)

    def _deliver(self, time_s: float) -> list[Publication]:
        """What is new first, then pieces of what is old, in no order."""
        run = self._runs[-1]
        fresh = [kept for kept in run.spool.values() if kept.sent_s < 0][-4:]
        found = [self._report(run, fresh, time_s)] if fresh else []
        for _ in range(1 if self._place.slow_backlog else PIECES):
            old = [each for each in self._runs if each.machine.offset_s is not None and self._waiting(each, time_s)]
            if not old:
                break
            chosen = self._chance.choice(old)
            waiting = self._waiting(chosen, time_s)
            size = 20 if self._place.slow_backlog else PIECE
            place = self._chance.randrange(0, len(waiting), size)
            found.append(self._report(chosen, waiting[place : place + size], time_s))
        return found

    def _waiting(self, run: _Run, time_s: float) -> list[_Kept]:
        return [kept for kept in run.spool.values() if time_s - kept.sent_s > AGAIN_S]

    def _report(self, run: _Run, kept: list[_Kept], time_s: float) -> Publication:
        machine = run.machine
        assert machine.offset_s is not None
        for each in kept:
            each.sent_s = time_s
        records = tuple(Record(each.seq, int(machine.offset_s + each.mono_s), each.body) for each in kept)
        sent = int((time_s - self._runs[-1].machine.on_s) * 1000)
        waiting = max(sum(len(each.spool) for each in self._runs) - len(records), 0)
        report = Report(run.epoch, sent, None, waiting, "now", machine.clock, machine.within_s, records)
        return Publication(topic(self._place.id, "report"), encode_report(report), retain=False)

    def _presence(self, state: str, epoch: str, birth: int, why: str | None = None) -> Publication:
        said = Presence(state, epoch, max(birth, 1), why, "0.1.0", None)
        return Publication(topic(self._place.id, "presence"), encode_presence(said), retain=True)

    def _jittered(self, interval_s: float) -> float:
        return interval_s * self._chance.uniform(1 - JITTER, 1 + JITTER)


class Agenda:
    """Everything that is to happen, of all agents, in the order of time. broker, collector: are they there, as far as agents can tell?"""

    def __init__(self, world: World) -> None:
        self._order = itertools.count()
        self._due: list[tuple[float, int, Agent, str, object]] = []
        self.broker = self.collector = True
        self.agents = {
            name: Agent(world.places[name], script, world.seed) for name, script in world.scripts.items() if world.places[name].connected
        }
        for agent in self.agents.values():
            for time_s, what, span in agent.plan():
                self.add(time_s, agent, what, span)

    def add(self, time_s: float, agent: Agent, what: str, detail: object) -> None:
        """This agent has something to do then."""
        heapq.heappush(self._due, (time_s, next(self._order), agent, what, detail))

    def until(self, time_s: float) -> Iterator[Publication]:
        """Let everything happen that is due by then; what the broker is to get."""
        while self._due and self._due[0][0] <= time_s:
            at_s, _, agent, what, detail = heapq.heappop(self._due)
            yield from self._do(agent, what, at_s, detail)

    def _do(self, agent: Agent, what: str, at_s: float, detail: object) -> list[Publication]:
        if what in {"tick", "ping"}:
            return getattr(agent, what)(at_s, detail, self)  # type: ignore[no-any-return]
        if what == "end":
            return agent.end(detail, broker=self.broker)  # type: ignore[arg-type]
        if what == "cut":
            return agent.cut(at_s, detail, self)  # type: ignore[arg-type]
        if what == "late":
            return [detail] if self.broker else []  # type: ignore[list-item]
        if what == "will":
            return agent.will(detail) if self.broker else []  # type: ignore[arg-type]
        return agent.sleep() if what == "sleep" else getattr(agent, what)(at_s, self)
