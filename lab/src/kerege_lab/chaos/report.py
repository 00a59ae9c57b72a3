"""The figures of a chaos run, for people and as JSON."""

import statistics
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from kerege_lab.audit import Audit, Identity, ranges_by_run
from kerege_wire.ranges import ranges_text

SHOWN: Final = 20
"""Runs that are listed of the records that should not be."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """All that came out of one run."""

    store: str
    seed: int
    agents: int
    seconds: float
    drained_s: float | None
    """From the last fault's end, with all records made, until every one of them was stored; None where that did not come to pass."""
    faults: Counter[str]
    left_out: dict[str, str]
    """Kinds of faults that were not possible here, and why."""
    audit: Audit
    crashes: Sequence[str]
    """Processes that ended though nobody had ended them."""
    recoveries_s: Sequence[float]
    """From the moment when a cut link's whole way is well again to the acknowledgement of a record made after it."""
    disturbed: int
    """Links after whose return something broke again too soon for a figure."""
    unfinished: str | None = None
    """Why the run ended before its records and faults were complete."""

    @property
    def sound(self) -> bool:
        """Is every promise kept?"""
        return self.audit.sound and not self.crashes and not self.unfinished and self.drained_s is not None


def as_json(outcome: Outcome) -> dict[str, Any]:
    """One object with every figure."""
    audit = outcome.audit
    return {
        "records": audit.records,
        "faults": outcome.faults.total(),
        "lost": len(audit.lost),
        "duplicated": len(audit.duplicated),
        "stored": audit.stored,
        "refused": audit.refused,
        "drops": audit.dropped,
        "unwritten": audit.unwritten,
        "volatile": audit.volatile,
        "invented": len(audit.invented),
        "mistimed": len(audit.mistimed),
        "worst_time_error_s": audit.worst_time_error_s,
        "clocks": dict(audit.clocks),
        "crashes": len(outcome.crashes),
        "faults_by_kind": dict(sorted(outcome.faults.items())),
        "left_out": outcome.left_out,
        "recover_s": _spread(outcome.recoveries_s) | {"disturbed": outcome.disturbed},
        "drained_s": outcome.drained_s,
        "seconds": outcome.seconds,
        "agents": outcome.agents,
        "seed": outcome.seed,
        "store": outcome.store,
        "sound": outcome.sound,
    } | ({"unfinished": outcome.unfinished} if outcome.unfinished else {})


def _spread(seconds: Sequence[float]) -> dict[str, float | int | None]:
    if not seconds:
        return {"count": 0, "median": None, "max": None}
    return {"count": len(seconds), "median": round(statistics.median(seconds), 2), "max": round(max(seconds), 2)}


def show(outcome: Outcome, console: Console) -> None:
    """The figures as tables, and whatever should not be."""
    console.print(_faults(outcome))
    console.print(_figures(outcome))
    audit = outcome.audit
    for name, identities in (
        ("lost", audit.lost),
        ("duplicated", audit.duplicated),
        ("invented", audit.invented),
        ("mistimed", audit.mistimed),
    ):
        for line in _listed(identities):
            console.print(f"{name}: {line}", style="red", markup=False)
    for crash in outcome.crashes:
        console.print(crash, style="red", markup=False)
    if outcome.unfinished:
        console.print(outcome.unfinished, style="red", markup=False)
    for kind, why in outcome.left_out.items():
        console.print(f"left out: {kind}: {why}", style="yellow", markup=False)


def _faults(outcome: Outcome) -> Table:
    table = Table(title=f"{outcome.faults.total()} faults")
    table.add_column("kind")
    table.add_column("times", justify="right")
    for kind, times in sorted(outcome.faults.items()):
        table.add_row(kind, str(times))
    return table


def _figures(outcome: Outcome) -> Table:
    table = Table(title=f"{outcome.store}, {outcome.agents} agents, seed {outcome.seed}")
    table.add_column("what")
    table.add_column("figure", justify="right")
    for name, value in as_json(outcome).items():
        if name not in ("faults_by_kind", "left_out", "store", "agents", "seed", "unfinished"):
            table.add_row(name, _text(value))
    return table


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_text(item)}" for name, item in value.items())
    return "–" if value is None else f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _listed(identities: Iterable[Identity]) -> Collection[str]:
    runs = ranges_by_run(identities)
    return [f"{center} {epoch} {ranges_text(ranges)}" for (center, epoch), ranges in list(runs.items())[:SHOWN]]
