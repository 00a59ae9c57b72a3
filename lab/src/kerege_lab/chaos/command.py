"""``kerege-lab chaos``: its progress, its output, its exit status."""

import argparse
import json
import secrets
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from kerege_lab.chaos.disks import private_mounts
from kerege_lab.chaos.plan import KINDS, Need, make_plan
from kerege_lab.chaos.report import Outcome, as_json, show
from kerege_lab.chaos.run import ChaosRun
from kerege_lab.chaos.run import Progress as Tell
from kerege_lab.chaos.town import Ledger, Store, Town, Wanted

MIN_AGENTS: Final = 3
"""Every third agent has a disk that is filled; the others are killed."""


def run(options: argparse.Namespace) -> int:
    """Carry out one run. 0: every promise kept; 1: one is broken."""
    if options.records < 1 or options.faults < 0 or options.agents < MIN_AGENTS:
        print(
            f"kerege-lab chaos: at least 1 record, 0 faults and {MIN_AGENTS} agents (some are killed, others have their disk filled)",
            file=sys.stderr,
        )
        return 2
    seed = secrets.randbelow(1_000_000) if options.seed is None else options.seed
    directory = Path(tempfile.mkdtemp(prefix="kerege-chaos-"))
    outcome = _carry_out(options, seed, directory)
    if not options.json:
        show(outcome, Console())
    if outcome.sound and not options.keep:
        shutil.rmtree(directory)
    else:
        print(f"kept: {directory}", file=sys.stderr)
    if options.json:
        print(json.dumps(as_json(outcome)))
    return 0 if outcome.sound else 1


def _carry_out(options: argparse.Namespace, seed: int, directory: Path) -> Outcome:
    why_no_disks = private_mounts()
    store: Store = options.store
    ledger: Ledger = options.ledger
    needs: set[Need] = {store}
    if ledger == "postgresql":
        needs.add("postgresql")
    if not why_no_disks:
        needs.add("mounts")
    left_out = {name: why_no_disks for name, kind in KINDS.items() if kind.need == "mounts" and why_no_disks}
    plan = make_plan(seed=seed, faults=options.faults, records=options.records, needs=frozenset(needs))
    wanted = Wanted(directory=directory, store=store, agents=options.agents, disks=not why_no_disks, ledger=ledger)
    with _progress(options.records, options.faults) as tell, Town(wanted) as town:
        outcome = ChaosRun(town, plan, records=options.records, progress=tell).run(seed=seed, left_out=left_out)
        if options.keep or not outcome.sound:
            town.keep_disks()
        return outcome


@contextmanager
def _progress(records: int, faults: int) -> Iterator[Tell]:
    """A bar for the records on a terminal, nothing in a pipe."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.fields[what]}"))
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bars:
        made = bars.add_task("records", total=records, what="")
        broken = bars.add_task("faults", total=faults, what="")

        def tell(made_now: int, broken_now: int, what: str) -> None:
            bars.update(made, completed=min(made_now, records))
            bars.update(broken, completed=broken_now, what=what[:60])

        yield tell
