"""The plan carried out in the town; the end awaited; the account made."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from kerege_lab.audit import Audit, Identity, Run, audit, found_record
from kerege_lab.chaos.faults import Cure, begin, parts
from kerege_lab.chaos.plan import Fault
from kerege_lab.chaos.recover import Past, Recoveries, Seen, link_of, recoveries
from kerege_lab.chaos.report import Outcome
from kerege_lab.chaos.town import Town
from kerege_lab.chaos.watch import AckWatch, Journals, boot_s
from kerege_lab.servers import ServerError

STEP_S: Final = 0.05
STALL_S: Final = 120.0
"""No new record for so long: something is broken for good, and waiting does not help."""

MAX_CRASHES: Final = 20
"""More are no accidents: nothing is to be learned by going on."""

DRAIN_TIMEOUT_S: Final = 240.0
"""Longest time until everything made is stored once everything is well again; the longest wait on the way is 60 s for an
acknowledgement that does not come (docs/wire.md), after which a report is sent again."""

DRAIN_POLL_S: Final = 3.0

CALM_CUT_S: Final = 20.0
"""Longer than a keepalive period and a half: everybody knows that the connections are gone."""

Progress = Callable[[int, int, str], None]
"""Called with the records made, the faults begun, and what is going on."""


@dataclass(frozen=True, slots=True)
class _Active:
    fault: Fault
    parts: tuple[str, ...]
    cure: Cure
    began_s: float


@dataclass(slots=True)
class _Notes:
    """What has happened so far."""

    active: list[_Active] = field(default_factory=list)
    past: list[Past] = field(default_factory=list)
    killed: set[Run] = field(default_factory=set)
    counted: Counter[str] = field(default_factory=Counter)
    unfinished: str | None = None


def now_s() -> float:
    """The clock of the journals."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class ChaosRun:
    """One run in a town that stands."""

    def __init__(self, town: Town, plan: tuple[Fault, ...], *, records: int, progress: Progress) -> None:
        self.town = town
        self.records = records
        self.journals = Journals({agent.center: agent.journal_file for agent in town.agents})
        self._waiting = list(plan)
        self._notes = _Notes()
        self._progress = progress

    def run(self, *, seed: int, left_out: dict[str, str]) -> Outcome:
        """Break things until all faults are done and all records are made; heal; wait; account."""
        began_s = now_s()
        with AckWatch(self.town.broker.port) as acks:
            with self._healing():
                self._break_things()
            drained_s = self._drain()
            if drained_s is not None:
                self._cut_links_once_more()
            until_s = time.time()
            if self._drain() is None:
                drained_s = None
        for agent in self.town.agents:
            agent.stop()
        self.town.collector.stop()
        self.journals.poll()
        found = self._recoveries(acks.seen)
        return Outcome(
            store=self.town.wanted.store,
            seed=seed,
            agents=len(self.town.agents),
            seconds=round(now_s() - began_s, 1),
            drained_s=drained_s,
            faults=self._notes.counted,
            left_out=left_out,
            audit=self._audit(until_s),
            crashes=self.town.crashes,
            recoveries_s=found.seconds,
            disturbed=found.disturbed,
            unfinished=self._notes.unfinished,
        )

    # --- breaking ---

    def _break_things(self) -> None:
        made, changed_s = 0, now_s()
        while self._waiting or self._notes.active or made < self.records:
            latest = self.journals.poll()
            if latest != made:
                made, changed_s = latest, now_s()
            elif now_s() - changed_s > STALL_S:
                self._notes.unfinished = f"the agents have made no record for {STALL_S:g} s, after {made}"
            if len(self.town.crashes) > MAX_CRASHES:
                self._notes.unfinished = f"processes have ended by themselves more than {MAX_CRASHES} times"
            if self._notes.unfinished:
                return
            self._cure_those_over()
            self._begin_those_due(made)
            self.town.look_after()
            self._progress(made, self._notes.counted.total(), ", ".join(active.fault.kind for active in self._notes.active) or "all well")
            time.sleep(STEP_S)

    def _begin_those_due(self, made: int) -> None:
        for fault in [fault for fault in self._waiting if fault.at_records <= made]:
            names = parts(self.town, fault)
            busy = {part for active in self._notes.active for part in active.parts}
            if not busy.intersection(names):
                self._waiting.remove(fault)
                self._begin(fault, names)

    def _begin(self, fault: Fault, names: list[str]) -> None:
        began_s = now_s()
        cure = begin(self.town, fault)
        if fault.kind == "agent-killed":
            self.journals.poll()  # it is dead: the end of its journal says which run that was
            latest = self.journals.journal.latest.get(names[0])
            self._notes.killed.update([latest] if latest else [])
        self._notes.counted[fault.kind] += 1
        self._notes.active.append(_Active(fault, tuple(names), cure, began_s))

    def _cure_those_over(self) -> None:
        for active in [active for active in self._notes.active if active.began_s + active.fault.lasts_s <= now_s()]:
            self._cure(active)

    def _cure(self, active: _Active) -> None:
        self._notes.active.remove(active)
        active.cure()
        self._notes.past.append(Past(active.fault.kind, active.parts, active.began_s, now_s()))

    @contextmanager
    def _healing(self) -> Iterator[None]:
        """Whatever happens: in the end everything is cured, so that all processes can end in good order."""
        try:
            yield
        finally:
            for active in list(self._notes.active):
                self._cure(active)

    # --- the end ---

    def _cut_links_once_more(self) -> None:
        """With all else well: how soon do records flow after a link's return? During the faults something else is mostly broken too."""
        for number, agent in enumerate(self.town.agents):
            agent.link.cut("reset" if number % 2 else "blackhole")
        cut_s = now_s()
        while now_s() < cut_s + CALM_CUT_S:
            self._progress(self.journals.poll(), self._notes.counted.total(), "all links cut, to see how soon they recover")
            time.sleep(STEP_S)
        for agent in self.town.agents:
            agent.link.restore()
            self._notes.past.append(Past("link-cut", (link_of(agent.center),), cut_s, now_s()))

    def _drain(self) -> float | None:
        """Wait until all that has been made up to now is stored. How long that took; None where it did not happen in time."""
        made = self.journals.poll()
        due = [identity for identity, record in self.journals.journal.made.items() if record.kept]
        began_s = now_s()
        while now_s() - began_s < DRAIN_TIMEOUT_S:
            missing = self._missing(due)
            self._progress(made, self._notes.counted.total(), f"draining: {missing} to come")
            if not missing:
                return round(now_s() - began_s, 1)
            self.town.look_after()
            time.sleep(DRAIN_POLL_S)
        return None

    def _missing(self, due: list[Identity]) -> int:
        try:
            found = [found_record(line) for line in self.town.collector.json_lines("records")]
            refused = self._refused()
        except ServerError:
            return len(due)  # a database that is just coming up
        named = {record.identity for record in found}.union(refused, *(record.dropped for record in found))
        return sum(identity not in named for identity in due)

    def _refused(self) -> set[Identity]:
        lines = self.town.collector.json_lines("quarantine", "list")
        return {(line["center"], line["epoch"], line["seq"]) for line in lines if line.get("seq") is not None}

    def _audit(self, until_s: float) -> Audit:
        stored = map(found_record, self.town.collector.json_lines("records"))
        return audit(self.journals.journal, stored, refused=self._refused(), killed=self._notes.killed, until_s=until_s)

    def _recoveries(self, seen: list[Seen]) -> Recoveries:
        offset_s = boot_s()
        made = {identity: record.true_s - offset_s for identity, record in self.journals.journal.made.items()}
        return recoveries(self._notes.past, seen, made, [agent.center for agent in self.town.agents])
