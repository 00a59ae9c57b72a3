"""The keeper of the parts, and what arrives, without the parts themselves."""

import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from kerege_collector.stores import Row
from kerege_collector.stores.sqlite import SqliteStore
from kerege_lab.servers import Server
from kerege_lab.toml import toml_text
from kerege_lab.up import MAX_DEATHS, Keeper
from kerege_lab.up_arrivals import Arrivals
from kerege_wire import Tick


class Mayfly(Server):
    """Says its last words and dies at once."""

    name = "mayfly"
    scheme = "none"

    def _prepare(self) -> list[str]:
        return [sys.executable, "-c", "print('too short a life', flush=True)"]

    def _ready(self) -> bool:
        return False


def test_a_part_that_keeps_dying_is_given_up_with_its_last_words(tmp_path: Path) -> None:
    keeper = Keeper(Mayfly(tmp_path))
    shown = io.StringIO()
    console = Console(file=shown, width=200)
    looks = [keeper.look(console) for _ in range(MAX_DEATHS + 1)]
    assert looks == [True] * MAX_DEATHS + [False]
    assert "too short a life" in shown.getvalue()
    assert "giving up" in shown.getvalue()


class Sleeper(Server):
    """Lives."""

    name = "sleeper"
    scheme = "none"

    def _prepare(self) -> list[str]:
        return [sys.executable, "-c", "import time; time.sleep(600)"]

    def _ready(self) -> bool:
        return True


def test_a_part_that_was_killed_runs_again(tmp_path: Path) -> None:
    with Sleeper(tmp_path) as part:
        keeper = Keeper(part)
        assert keeper.look(Console(file=io.StringIO()))
        first = part.pid
        part._alive().kill()
        part._alive().wait()
        assert keeper.look(Console(file=io.StringIO()))
        assert part.running
        assert part.pid != first


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    opened = SqliteStore(tmp_path / "records.db", retention_days=400)
    yield opened
    opened.close()


@pytest.fixture
def arrivals(tmp_path: Path) -> Arrivals:
    settings = tmp_path / "collector.toml"
    settings.write_text(toml_text({"unknown_centers": "admit", "state_directory": tmp_path, "mqtt": {"host": "127.0.0.1", "tls": False}}))
    return Arrivals(settings)


def row(seq: int) -> Row:
    return Row("demo", "Zk3q9w2a", seq, 1_795_465_800 + seq, "tick", "synced", None, Tick(result="online"), 1_795_465_900)


def seqs(arrivals: Arrivals) -> list[int]:
    return [line["seq"] for line in json.loads(json.dumps(arrivals.new()))]


def test_all_that_a_new_store_takes_is_shown_once(arrivals: Arrivals, store: SqliteStore) -> None:
    assert seqs(arrivals) == []
    store.write([row(1), row(2)])
    assert seqs(arrivals) == [1, 2]
    assert seqs(arrivals) == []
    store.write([row(3)])
    assert seqs(arrivals) == [3]


def test_what_an_old_store_has_already_is_not_shown(arrivals: Arrivals, store: SqliteStore) -> None:
    store.write([row(1)])
    assert seqs(arrivals) == []
    store.write([row(2)])
    assert seqs(arrivals) == [2]
