"""What the probes produced against what the collector keeps, by identity (center, epoch, sequence number). Pure.

The agent's journal (its setting ``journal_file``) has a line with a record's identity before the spool gets it, another
(``kept``) once it is durable, and one with its time where that was fixed later. So a record is

    found        it is in the store
    named        it is not, but somebody says why: the collector's quarantine (refused), or a `drop` record that is in the store itself
    unwritten    it is not, and never was durable: the one line without a ``kept`` at the very end of a run that was killed
    volatile     it is not, and never was durable: made while the disk refused, in a run that was killed before it recovered
    lost         it is not, and nothing excuses that
"""

import math
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from kerege_wire.ranges import RangeSet, ranges_from_text

TIME_TOLERANCE_S: Final = 2.0
"""How far a `synced` time may be from the truth: half a round trip through a link that was just cut or a process just paused,
and the seconds by which a record gives way to those before it in its series."""

Identity = tuple[str, str, int]
"""Center, epoch, sequence number."""

Run = tuple[str, str]
"""Center, epoch: one run of an agent."""


@dataclass(slots=True)
class Made:
    """One record as the journal knows it.

    true_s: when it was made, by the monotonic clock of this machine. time_s: the time that the agent gave it, None before it did.
    """

    kind: str
    true_s: float
    time_s: int | None
    kept: bool = False


@dataclass(frozen=True, slots=True)
class Found:
    """One stored record: when it was measured, and how that was known."""

    identity: Identity
    kind: str
    time_s: int
    clock: str
    dropped: Collection[Identity] = ()
    """The identities that it names, where it is a `drop` record."""


@dataclass(frozen=True, slots=True)
class Audit:
    """The account: counts of records, and the identities of those that must not be."""

    records: int
    stored: int
    refused: int
    dropped: int
    unwritten: int
    volatile: int
    lost: list[Identity] = field(default_factory=list)
    duplicated: list[Identity] = field(default_factory=list)
    invented: list[Identity] = field(default_factory=list)
    """Stored, but never made."""
    mistimed: list[Identity] = field(default_factory=list)
    """Stored with another time than the agent gave it, or `synced` and further from the truth than `TIME_TOLERANCE_S`."""
    clocks: Counter[str] = field(default_factory=Counter)
    worst_time_error_s: float = 0.0

    @property
    def sound(self) -> bool:
        """Is every promise kept?"""
        return not (self.lost or self.duplicated or self.invented or self.mistimed)


class Journal:
    """What the agents' journals say, taken in line by line."""

    def __init__(self, *, boot_s: float) -> None:
        """``boot_s``: UTC, in s since 1970, at which the monotonic clock of the journals was 0."""
        self.made: dict[Identity, Made] = {}
        self.latest: dict[str, Run] = {}
        """Center → its latest run."""
        self.last_of: dict[Run, Identity] = {}
        """Run → the last record that it began to put away."""
        self._boot_s = boot_s

    def take(self, center: str, line: Mapping[str, Any]) -> None:
        """One line of the journal of a center's agent."""
        run, identity = (center, line["epoch"]), (center, line["epoch"], line["seq"])
        if "kind" not in line:
            made = self.made[identity]
            made.kept = made.kept or line.get("kept", False)
            made.time_s = line.get("time", made.time_s)
            return
        self.made[identity] = Made(line["kind"], self._boot_s + line["mono_ms"] / 1000, line["time"])
        self.latest[center] = run
        self.last_of[run] = identity


def found_record(line: Mapping[str, Any]) -> Found:
    """A stored record from a line of ``kerege-collector records --json``."""
    center, kind = line["center"], line["kind"]
    body = line.get("fields", line)
    dropped: tuple[Identity, ...] = ()
    if kind == "drop":
        ranges = ranges_from_text(body["dropped_seqs"])
        dropped = tuple((center, body["dropped_epoch"], seq) for first, last in ranges for seq in range(first, last + 1))
    return Found((center, line["epoch"], line["seq"]), kind, int(line["time"]), line["clock"], dropped)


def audit(
    journal: Journal, found: Iterable[Found], *, refused: Collection[Identity], killed: Collection[Run], until_s: float = math.inf
) -> Audit:
    """The account of everything in the journal.

    refused: what the collector's quarantine holds.
    killed: the runs that were ended by SIGKILL.
    until_s: records made later (UTC, s since 1970) may still be on their way: they are not counted, nor missed.
    """
    times, copies = _collect(found)
    dropped = {identity for record in times.values() for identity in record.dropped}
    due = [identity for identity, made in journal.made.items() if made.true_s <= until_s]
    absent = [identity for identity in due if identity not in times and identity not in dropped and identity not in refused]
    excused = {identity: _excuse(journal, identity, killed) for identity in absent}
    errors = {identity: _time_error(journal, record) for identity, record in times.items() if identity in journal.made}
    return Audit(
        records=len(due),
        stored=sum(identity in times for identity in due),
        refused=sum(identity in refused and identity not in times for identity in due),
        dropped=sum(identity in dropped and identity not in times for identity in due),
        unwritten=sum(excuse == "unwritten" for excuse in excused.values()),
        volatile=sum(excuse == "volatile" for excuse in excused.values()),
        lost=sorted(identity for identity, excuse in excused.items() if excuse is None),
        duplicated=sorted(identity for identity, count in copies.items() if count > 1),
        invented=sorted(identity for identity in times if identity not in journal.made),
        mistimed=sorted(identity for identity, error_s in errors.items() if error_s > TIME_TOLERANCE_S or _moved(journal, times[identity])),
        clocks=Counter(record.clock for record in times.values()),
        worst_time_error_s=round(max(errors.values(), default=0.0), 3),
    )


def _collect(found: Iterable[Found]) -> tuple[dict[Identity, Found], Counter[Identity]]:
    times: dict[Identity, Found] = {}
    copies: Counter[Identity] = Counter()
    for record in found:
        times[record.identity] = record
        copies[record.identity] += 1
    return times, copies


def _excuse(journal: Journal, identity: Identity, killed: Collection[Run]) -> str | None:
    center, epoch, _ = identity
    if journal.made[identity].kept or (center, epoch) not in killed:
        return None
    return "unwritten" if journal.last_of[center, epoch] == identity else "volatile"


def _moved(journal: Journal, record: Found) -> bool:
    given_s = journal.made[record.identity].time_s
    return given_s is not None and given_s != record.time_s


def _time_error(journal: Journal, record: Found) -> float:
    """How wrong a `synced` time is, in s; 0 where the time says itself that it may be wrong. A stored second stands for all of itself."""
    if record.clock != "synced":
        return 0.0
    true_s = journal.made[record.identity].true_s
    return max(true_s - (record.time_s + 1), record.time_s - true_s, 0.0)


def ranges_by_run(identities: Iterable[Identity]) -> dict[Run, RangeSet]:
    """Identities as ranges a run: how a person wants to read many of them."""
    found: defaultdict[Run, RangeSet] = defaultdict(RangeSet)
    for center, epoch, seq in identities:
        found[center, epoch].add(seq)
    return dict(found)
