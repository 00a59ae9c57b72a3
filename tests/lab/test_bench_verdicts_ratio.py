"""The benchmark compares the collector with one that is the same but for its verdicts."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from kerege_lab import cli
from kerege_lab.bench import verdicts_ratio
from kerege_lab.bench.ingest import cpu_s_per_1000
from kerege_lab.bench.verdicts_ratio import Unjudging
from kerege_lab.house import Collector
from kerege_lab.waiting import wait_for


def test_both_take_in_a_flood_and_lose_nothing() -> None:
    for kind in (Collector, Unjudging):
        assert cpu_s_per_1000("sqlite", 12_000, kind) > 0


def test_the_one_without_verdicts_stores_and_judges_nothing(tmp_path: Path) -> None:
    counted = {}
    for kind in (Collector, Unjudging):
        directory = tmp_path / kind.__name__
        with verdicts_ratio.house(directory, kind) as (_, client):
            verdicts_ratio.feed([client], 5.0)
            wait_for(lambda directory=directory: count(directory, "records.db", "records") == 4, "all are stored")  # type: ignore[misc]
        counted[kind] = [count(directory, "ledger.db", table) for table in ("run", "known")]
    assert counted[Unjudging] == [0, 0]
    assert counted[Collector][0] > 0


def count(directory: Path, file: str, table: str) -> int:
    with closing(sqlite3.connect(directory / "collector" / file)) as connection:
        return int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


@pytest.mark.parametrize("arguments", [["--reports", "10"], ["--pairs", "0"], ["--minutes", "0"]])
def test_too_little_to_measure_is_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", "verdicts-ratio", *arguments]) == 2
    assert "kerege-lab bench verdicts-ratio: at least " in capsys.readouterr().err
