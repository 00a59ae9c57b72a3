"""``kerege-lab simulate``: one world, its truth as a file, and how the collector's account of it compares."""

import argparse
import json
import logging
import secrets
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from kerege_lab.simulate import driver, truth, world
from kerege_lab.simulate.report import Report, as_json, measure, show
from kerege_lab.simulate.truth import Fact

LEAST_CENTERS: Final = 12
"""Fewer have no provider, satellite and district of several libraries each."""

LEAST_DAYS: Final = 5
"""Each great event has a morning or an afternoon of its own."""

MEMORY: Final = Path("/dev/shm")  # noqa: S108 - a directory of our own is made in it


def run(options: argparse.Namespace) -> int:
    """0: every promise kept; 1: one is broken; 2: no such world."""
    if options.centers < LEAST_CENTERS or options.days < LEAST_DAYS:
        print(f"kerege-lab simulate: at least {LEAST_CENTERS} centers and {LEAST_DAYS} days", file=sys.stderr)
        return 2
    seed = secrets.randbelow(1_000_000) if options.seed is None else options.seed
    region = world.make(options.centers, options.days, seed)
    facts = {center: truth.facts(region, center) for center in region.places}
    if options.truth is not None:
        try:
            write_truth(options.truth, facts)
        except OSError as error:
            print(f"kerege-lab simulate: --truth {options.truth}: {error.strerror}", file=sys.stderr)
            return 2
    directory = Path(tempfile.mkdtemp(prefix="kerege-simulate-", dir=MEMORY if MEMORY.is_dir() else None))
    try:
        report = _carry_out(region, facts, directory, seed)
    finally:
        if options.keep:
            print(f"kept: {directory}", file=sys.stderr)
        else:
            shutil.rmtree(directory)
    if options.json:
        print(json.dumps({"seed": seed, **as_json(report)}))
    else:
        show(report, Console())
    return 1 if report.broken else 0


def write_truth(path: Path, facts: Mapping[str, Sequence[Fact]]) -> None:
    """One JSON object a line: center, start_s, end_s (UTC, end excluded), state, cause, asleep. Raises OSError."""
    with path.open("w") as file:
        for center, found in facts.items():
            for fact in found:
                file.write(json.dumps({"center": center, **fact._asdict()}) + "\n")


def _carry_out(region: world.World, facts: Mapping[str, Sequence[Fact]], directory: Path, seed: int) -> Report:
    logging.getLogger("kerege_collector").setLevel(logging.CRITICAL)  # it tells of what is done to it on purpose
    with (
        _progress(region.days, seed) as tell,
        driver.run(region, directory, tell) as (ran, office),
        office.service.ledger.transaction() as connection,
    ):
        return measure(connection, region, facts, ran)


@contextmanager
def _progress(days: int, seed: int) -> Iterator[Callable[[int], None]]:
    """A bar on stderr, where a person looks at it."""
    columns = (TextColumn(f"seed {seed}, days"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("days", total=days)
        yield lambda day: progress.update(task, completed=day)
