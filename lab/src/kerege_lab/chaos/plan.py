"""Which faults, when, and for how long. Pure: the same seed gives the same plan."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeVar

Part = Literal[
    "agent",
    "full-agent",
    "any-agent",
    "link",
    "links",
    "collector",
    "collector-link",
    "collector-disk",
    "broker",
    "database",
    "ledger",
    "centre",
]
"""What a fault is done to. ``agent``: one that may be killed; ``full-agent``: one whose disk may be filled (see `Kind.on`)."""

Need = Literal["influx", "sqlite", "postgresql", "mounts"]

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Kind:
    """One way for the world to be bad.

    on: what it is done to. An agent has its disk filled or is killed, never both: what it keeps in memory while the disk
        is full dies with it, as it says, and would blur the figure.
    shortest_s, longest_s: how long it lasts.
    need: what the run must have for it.
    times: how often it comes in a round of all kinds.
    """

    on: Part
    shortest_s: float
    longest_s: float
    need: Need | None = None
    times: int = 1


LONG_CUT_S: Final = 25.0
"""Longer than one and a half keepalive periods of a chaos agent (10 s): the broker has sent the will, both sides have hung up."""

KINDS: Final[dict[str, Kind]] = {
    "agent-killed": Kind("agent", 0.0, 3.0, times=3),
    "agent-restarted": Kind("any-agent", 0.0, 2.0),
    "agent-paused": Kind("any-agent", 1.0, 8.0),
    "agent-clock-jump": Kind("any-agent", 0.0, 0.0),
    "agent-disk-full": Kind("full-agent", 3.0, 12.0, "mounts"),
    "link-reset": Kind("link", 0.5, 5.0),
    "link-swallows": Kind("link", 1.0, 6.0),
    "link-swallows-long": Kind("link", LONG_CUT_S, 35.0),
    "all-links-reset": Kind("links", 1.0, 6.0),
    "broker-killed": Kind("broker", 0.0, 5.0, times=2),
    "broker-restarted": Kind("broker", 0.0, 2.0),
    "broker-paused": Kind("broker", 1.0, 8.0),
    "centre-power-cut": Kind("centre", 1.0, 4.0),
    "collector-killed": Kind("collector", 0.0, 4.0, times=2),
    "collector-restarted": Kind("collector", 0.0, 2.0),
    "collector-paused": Kind("collector", 1.0, 8.0),
    "collector-disk-full": Kind("collector-disk", 3.0, 10.0, "mounts"),
    "collector-link-reset": Kind("collector-link", 0.5, 4.0),
    "collector-link-swallows": Kind("collector-link", 1.0, 8.0),
    "database-locked": Kind("collector-disk", 2.0, 10.0, "sqlite"),
    "database-killed": Kind("database", 0.0, 5.0, "influx", times=2),
    "database-paused": Kind("database", 2.0, 15.0, "influx"),
    "database-answers-400": Kind("database", 1.0, 4.0, "influx"),
    "database-answers-429": Kind("database", 1.0, 6.0, "influx"),
    "database-answers-500": Kind("database", 1.0, 6.0, "influx"),
    "database-answers-503": Kind("database", 1.0, 6.0, "influx"),
    "database-hangs": Kind("database", 5.0, 15.0, "influx"),
    "database-forgets-to-answer": Kind("database", 1.0, 6.0, "influx"),
    "ledger-killed": Kind("ledger", 0.0, 5.0, "postgresql", times=2),
    "ledger-restarted": Kind("ledger", 0.0, 2.0, "postgresql"),
    "ledger-paused": Kind("ledger", 2.0, 15.0, "postgresql"),
}
"""Every kind of fault. A ``centre-power-cut`` comes after the collector has hung for a while: then many reports are on their way that the
broker has confirmed and nobody has stored. A database that answers 400 is a gateway in front of it, which knows nothing of points."""

CLOCK_OFFSETS_S: Final = (-10 * 365 * 86_400, 10 * 365 * 86_400, -5 * 3600, 3600, -90, 45, 0)
"""Where a jump takes an agent's wall clock, from true time: a dead battery, a wrong year, a wrong zone, a set clock, a repaired one."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault to come.

    at_records: it begins when the agents have made this many records.
    chance: 0 to 1, for whatever else is left to chance: which of several, how far a clock jumps.
    """

    number: int
    kind: str
    at_records: int
    lasts_s: float
    chance: float

    def choose(self, items: Sequence[Item]) -> Item:
        """One of these."""
        return items[min(int(self.chance * len(items)), len(items) - 1)]


def make_plan(*, seed: int, faults: int, records: int, needs: frozenset[Need]) -> tuple[Fault, ...]:
    """A plan of ``faults`` faults over the time in which ``records`` are made.

    All possible kinds come, in rounds in which each comes as often as it says. The gaps are memoryless, and scaled so that the
    last fault begins while records are still being made.
    """
    chance = random.Random(seed)
    possible = [name for name, kind in KINDS.items() if kind.need is None or kind.need in needs for _ in range(kind.times)]
    names: list[str] = []
    while len(names) < faults:
        names += chance.sample(possible, len(possible))
    gaps = [chance.expovariate(1.0) for _ in range(faults + 1)]
    scale = records / sum(gaps) if gaps else 0.0
    planned, at = [], 0.0
    for number, name in enumerate(names[:faults]):
        at += gaps[number] * scale
        kind = KINDS[name]
        planned.append(Fault(number, name, int(at), chance.uniform(kind.shortest_s, kind.longest_s), chance.random()))
    return tuple(planned)
