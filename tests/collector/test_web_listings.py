"""What the commands list, over HTTP."""

import json
import re
from pathlib import Path
from typing import Final

import pytest

from kerege_collector.cli import _COMMANDS
from kerege_collector.ledger import Quarantined
from kerege_collector.stores import Row
from kerege_collector.stores.sqlite import SqliteStore
from kerege_wire import Tick
from tests.collector.web_house import House, get, house

__all__ = ["house"]

OPERATIONS: Final = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
NOW_S: Final = 1_795_465_800


def fill(house: House, count: int) -> None:
    body = Tick(result="online")
    store = SqliteStore(house.directory / "records.db", retention_days=40_000)
    store.write([Row("ulan", "epochAAA", seq, NOW_S + seq, "tick", "synced", None, body, NOW_S + seq) for seq in range(1, count + 1)])
    store.close()


def test_records_with_their_identity(house: House) -> None:
    fill(house, 3)
    said = json.loads(get(house, f"/api/v1/records?center=ulan&kind=tick&since={NOW_S}&until={NOW_S + 10}&limit=2")[2])
    assert ([(each["epoch"], each["seq"]) for each in said["records"]], said["more"]) == ([("epochAAA", 1), ("epochAAA", 2)], True)
    assert json.loads(get(house, "/api/v1/records")[2]) == {"records": [], "more": False}


def test_a_store_that_is_not_there_yet_is_said(house: House) -> None:
    status, _, body = get(house, "/api/v1/records")
    assert (status, "there are no records yet" in json.loads(body)["error"]) == (503, True)


def test_what_is_in_quarantine(house: House) -> None:
    item = Quarantined("ulan", "epochAAA", 7, NOW_S, NOW_S, "unknown-kind", "kind 99", b"{}")
    house.ledger.commit([], [item], {}, NOW_S)
    (listed,) = json.loads(get(house, "/api/v1/quarantine")[2])["items"]
    assert (listed["id"], listed["reason"], listed["seq"]) == (1, "unknown-kind", 7)
    shown = json.loads(get(house, "/api/v1/quarantine/1")[2])
    assert (shown["hex"], shown["detail"]) == ("7b 7d", "kind 99")
    assert json.loads(get(house, "/api/v1/quarantine?after=1")[2]) == {"items": [], "more": False}


def test_the_status_is_that_of_the_command(house: House) -> None:
    said = json.loads(get(house, "/api/v1/status")[2])
    assert (said["running"], said["well"], said["counts"]["up"]) == (True, True, 1)
    assert set(said) == {"running", "well", "version", "trouble", "clock", "counts"}


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("records?center=NO", 400, "center: "),
        ("records?kind=tock", 400, "kind: wanted one of "),
        ("records?since=nonsense", 400, "since and until: "),
        ("records?since=2h&until=3h", 400, "since and until: "),
        ("records?limit=-1", 400, 'limit: wanted a whole number, got "-1"'),
        ("quarantine?after=x", 400, "after: "),
        ("quarantine/7", 404, "there is no item 7; GET /api/v1/quarantine lists them"),
        ("quarantine/99999999999999999999", 404, "there is no item"),
        ("quarantine/x", 404, "there is no such path"),
    ],
)
def test_bad_questions_are_refused_in_words(house: House, path: str, status: int, words: str) -> None:
    found, _, body = get(house, f"/api/v1/{path}")
    assert (found, words in json.loads(body)["error"]) == (status, True)


def test_operations_says_for_every_command_what_its_counterpart_is() -> None:
    """Or that there is none, and why."""
    table = re.search(r"^\| command \| over HTTP.*?\n\n", OPERATIONS, re.DOTALL | re.MULTILINE)
    assert table is not None
    named = {word for line in table[0].strip().splitlines()[2:] for word in re.findall(r"`([a-z]+)[^`]*`", line.split("|")[1])}
    assert named == set(_COMMANDS)
