"""What verdicts cost: a year of many centers in one ledger, then the backlog of three weeks that had been missing from its middle.

Each center's year is what a village PC leaves: on at opening and off with a goodbye on six days a week, a boot each morning, now and
then an outage, a power cut, a bad link. It goes into the ledger as the runs that the witness would have made of half a million ticks.
"""

import json
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final
from zoneinfo import ZoneInfo

from kerege_collector import verdicts
from kerege_collector.centers import Center, Link, Region
from kerege_collector.hours import Calendar
from kerege_collector.judge import Judge
from kerege_collector.ledger import Ledger
from kerege_collector.timeline import DOWN, UP, Bad, Goodbye, Run, Start
from kerege_collector.witness import Findings

DAY_S: Final = 86_400
BEGIN_S: Final = 1_767_225_600  # 2026-01-01
HEARTBEAT_S: Final = 60
RECORDS_A_TICK: Final = 1.5
OPENS_S, CLOSES_S = 4 * 3600, 13 * 3600
"""Nine to six in UTC+5."""

OUTAGE, POWER_CUT, BAD_LINK = 0.2, 0.05, 0.2
"""On how many of its days a center has one."""

MISSING_DAYS: Final = 21
CAUSES: Final = ("lan", "terminal", "provider", "dns", "portal")


@dataclass(frozen=True, slots=True)
class Cost:
    """What was measured. Times in seconds of this machine."""

    centers: int
    days: int
    intervals: int
    revisions: int
    ledger_mb_per_center_year: float
    judge_year_s: float
    backfill_s: float
    backfill_s_per_center: float


def run(*, centers: int, days: int, seed: int, as_json: bool) -> int:
    """Measure and print; 0."""
    with TemporaryDirectory(prefix="kerege-verdicts-") as directory:
        cost = measure(Path(directory), centers=centers, days=days, seed=seed)
    if as_json:
        print(json.dumps(asdict(cost)))
    else:
        print(
            f"{cost.centers} centers, {cost.days} days: {cost.intervals} intervals, {cost.ledger_mb_per_center_year} MB a center and year"
        )
        print(f"the year judged at once in {cost.judge_year_s} s")
        late = f"{MISSING_DAYS} days of all centers came late: {cost.revisions} revisions"
        print(f"{late} in {cost.backfill_s} s, {cost.backfill_s_per_center} s a center")
    return 0


def measure(directory: Path, *, centers: int, days: int, seed: int) -> Cost:
    """The whole bench in ``directory``."""
    week = (*(((9 * 60, 18 * 60),) for _ in range(6)), ())
    names = [f"center-{number}" for number in range(centers)]
    region = Region(
        {name: Center(id=name, link=Link(kind="geo", provider="bench")) for name in names},
        {name: Calendar(ZoneInfo("Asia/Almaty"), week) for name in names},
        {},
    )
    ledger = Ledger(directory / "ledger.db")
    judge, end_s = Judge(ledger), BEGIN_S + days * DAY_S
    missing = range(days // 2, min(days // 2 + MISSING_DAYS, days))
    years = {name: list(year(random.Random(f"{seed} {name}"), days)) for name in names}
    for name, found in years.items():
        _put(ledger, name, [day for number, day in enumerate(found) if number not in missing])
    began = time.perf_counter()
    judge.step(region, end_s)
    judged = time.perf_counter()
    for name, found in years.items():
        for number in reversed(missing):  # as a backlog comes: newest first, in pieces
            _put(ledger, name, [found[number]])
    filled = time.perf_counter()
    judge.step(region, end_s)
    backfill_s = time.perf_counter() - filled
    with ledger.transaction() as connection:
        intervals = sum(len(verdicts.read(connection, name, 0, end_s)) for name in names)
        revisions = sum(len(verdicts.revisions(connection, name, 0, end_s)) for name in names)
    ledger.close()  # its last connection writes the log back into the file
    size = sum(path.stat().st_size for path in directory.glob("ledger.db*"))
    return Cost(
        centers=centers,
        days=days,
        intervals=intervals,
        revisions=revisions,
        ledger_mb_per_center_year=round(size / 1e6 / centers * 365 / days, 3),
        judge_year_s=round(judged - began, 2),
        backfill_s=round(backfill_s, 2),
        backfill_s_per_center=round(backfill_s / centers, 3),
    )


def year(chance: random.Random, days: int) -> Iterator[Findings]:
    """What a center's days leave, one after the other."""
    before: tuple[str, int, int] | None = None
    clean = True
    for day in range(days):
        found = Findings()
        midnight_s = BEGIN_S + day * DAY_S
        if day % 7 == 6:  # closed
            yield found
            continue
        epoch = f"{chance.getrandbits(47):08x}"[:8]
        start_s = midnight_s + OPENS_S - chance.randint(60, 600)
        end_s = midnight_s + CLOSES_S + chance.randint(0, 600)
        cut = chance.random() < POWER_CUT
        if cut:
            end_s = chance.randint(start_s + 3600, end_s)
        host = Start(epoch, start_s, "host", "clean" if clean else "unclean", "shutdown" if clean else None, None, None, 40)
        last: dict[str, Any] = {"stop": "first"} if before is None else {"previous_epoch": before[0], "last_alive_s": before[2]}
        host = host._replace(**last)
        found.starts.append(("", host))
        runs = list(_runs(chance, epoch, start_s, end_s))
        found.runs += [("", run) for run in runs]
        if not cut:
            found.goodbyes.append(("", 1, Goodbye(epoch, end_s, "shutdown")))
        if chance.random() < BAD_LINK:
            bad_s = chance.randint(start_s, end_s)
            found.bad += [("", "google", Bad(bad_s + 300 * number, "loss", strong=True)) for number in range(6)]
        before, clean = (epoch, runs[-1].last_seq, runs[-1].alive_s), not cut
        found.touch("", start_s - DAY_S, end_s, "backlog")
        yield found


def _runs(chance: random.Random, epoch: str, start_s: int, end_s: int) -> Iterator[Run]:
    """Up, and on some days an outage in between."""
    changes: list[tuple[int, str, str | None]] = [(start_s + 20, UP, None)]
    if chance.random() < OUTAGE and end_s - start_s > 7200:
        from_s = chance.randint(start_s + 600, end_s - 4000)
        changes += [(from_s, DOWN, chance.choice(CAUSES)), (from_s + chance.randint(300, 3000), UP, None)]
    seq = 2
    for place, (first_s, state, cause) in enumerate(changes):
        next_s = changes[place + 1][0] if place + 1 < len(changes) else end_s
        ticks = max((next_s - first_s) // HEARTBEAT_S, 1)
        last_s = first_s + (ticks - 1) * HEARTBEAT_S
        last_seq = seq + int(ticks * RECORDS_A_TICK)
        yield Run(epoch, seq, last_seq, first_s, last_s, last_s, state, cause, "synced", None)
        seq = last_seq + 1


def _put(ledger: Ledger, name: str, days: Sequence[Findings]) -> None:
    """These days of a center in one transaction, as the worker would write them."""
    whole = Findings()
    for day in days:
        whole.runs += [(name, run) for _, run in day.runs]
        whole.starts += [(name, start) for _, start in day.starts]
        whole.goodbyes += [(name, birth, goodbye) for _, birth, goodbye in day.goodbyes]
        whole.bad += [(name, target, sign) for _, target, sign in day.bad]
        for first_s, last_s, why in day.dirty.values():
            whole.touch(name, first_s, last_s, why)
    empty: dict[str, Any] = {}
    ledger.commit([], [], empty, BEGIN_S, findings=whole)
