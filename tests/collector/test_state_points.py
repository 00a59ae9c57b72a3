"""The ``state`` points: what they say, that they overwrite themselves, and that the document has them all."""

import re
import sqlite3
from pathlib import Path

from kerege_collector.state_points import CAUSE_NUMBERS, OTHER_CAUSE, STATE_NUMBERS, StatePoint, line, of_intervals
from kerege_collector.stores.sqlite import SqliteStore
from kerege_collector.timeline import Interval

DOC = Path(__file__).parents[2] / "docs" / "metrics.md"
T = 1_795_465_800


def test_a_point_as_a_line() -> None:
    point = StatePoint("demo", T, "down", "provider", 42, open=True)
    wanted = 'state,center=demo state=3i,state_text="down",cause=3i,cause_text="provider",silence_s=42i,open=true 1795465800'
    assert line(point, ",center=demo") == wanted


def test_a_verdict_says_nothing_of_what_only_the_moment_knew() -> None:
    (point,) = of_intervals("demo", [Interval(T, T + 1, "off", "power", "boot-unclean")])
    assert line(point, "") == 'state state=4i,state_text="off",cause=7i,cause_text="power" 1795465800'


def test_there_is_a_point_at_each_full_minute() -> None:
    found = of_intervals("demo", [Interval(T + 1, T + 130, "up", None, "tick"), Interval(T + 130, T + 240, "down", "lan", "tick")])
    assert [(point.time_s - T, point.state) for point in found] == [(60, "up"), (120, "up"), (180, "down")]


def test_a_cause_that_nobody_knows_has_a_number_of_its_own() -> None:
    assert StatePoint("demo", T, "off", "holiday").cause_number == OTHER_CAUSE


def test_the_embedded_store_puts_a_verdict_over_the_live_point(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "records.db", retention_days=400)
    store.write_states([StatePoint("demo", T, "unknown", "silent", 300, open=True, incident=False)])
    store.write_states([StatePoint("demo", T, "off", "power")])
    store.close()
    with sqlite3.connect(tmp_path / "records.db") as connection:
        assert connection.execute("SELECT * FROM states").fetchall() == [("demo", T, 4, "off", 7, "power", 300, 1, 0)]
    connection.close()


def test_a_store_of_the_version_before_gets_the_table(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "records.db", retention_days=400)
    store.write([])
    store.close()
    with sqlite3.connect(tmp_path / "records.db") as connection:
        connection.execute("DROP TABLE states")
        connection.execute("PRAGMA user_version = 1")
    connection.close()
    store = SqliteStore(tmp_path / "records.db", retention_days=400)
    store.write_states([StatePoint("demo", T, "up", None)])
    store.close()


def test_the_document_has_every_field_and_number() -> None:
    text = DOC.read_text().partition("\n## state\n")[2]
    fields = set(re.findall(r"^\| `([a-z_]+)`", text, re.MULTILINE))
    assert fields == {"state", "state_text", "cause", "cause_text", "silence_s", "open", "incident"}
    for state, number in STATE_NUMBERS.items():
        assert f"{number} {state}" in text
    for cause, number in CAUSE_NUMBERS.items():
        assert f"{number} {cause or 'none'}" in text
