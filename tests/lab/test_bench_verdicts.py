"""The bench of verdicts measures what it says: a whole year, and a backlog that is revised."""

import random
from pathlib import Path

from kerege_lab.bench.verdicts import measure, year


def test_a_small_year_is_judged_and_revised(tmp_path: Path) -> None:
    cost = measure(tmp_path, centers=2, days=60, seed=1)
    assert cost.intervals > 2 * 60
    assert cost.revisions >= 2
    assert cost.ledger_mb_per_center_year > 0


def test_a_year_repeats_itself() -> None:
    assert [day.runs for day in year(random.Random("1"), 30)] == [day.runs for day in year(random.Random("1"), 30)]
