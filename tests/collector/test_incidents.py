"""Incidents in a real ledger, found by the clerk from a real board; and what people do with them."""

import json
import time
from collections.abc import Iterator, Sequence
from typing import get_args

import pytest
import sqlalchemy as sa

from kerege_collector import cli, incidents, verdict_tables, verdicts, web_actions
from kerege_collector.board import Board
from kerege_collector.centers import Center, Link, Region
from kerege_collector.clerk import OWN_AFTER_S, Clerk, Desk
from kerege_collector.ledger import Ledger
from kerege_collector.state_points import StatePoint
from kerege_collector.stores import Row
from kerege_collector.stores.sqlite import SqliteStore
from kerege_collector.witness import Witness
from kerege_wire import Record, Report, Tick
from tests.places import Place

T = 1_795_465_800 // 60 * 60
NAMES = ("aa", "bb", "cc", "dd")


class Office:
    """A clerk with a clock of its own; the centers report each minute unless they are mute."""

    def __init__(self, place: Place) -> None:
        link = {name: Link(kind="geo", provider=f"p-{name}") for name in NAMES}
        self.region = Region({name: Center(id=name, link=link[name]) for name in NAMES}, {}, {})
        self.ledger = Ledger(place.open())
        self.board = Board(lambda: self.region.centers)
        self.store = SqliteStore(place.directory / "records.db", retention_days=400)
        self.witness = Witness(self.ledger.runs, lambda: self.region)
        self.now_s, self.own, self.seq = T, "", 0
        self.clerk = self.begin()

    def begin(self) -> Clerk:
        return Clerk(Desk(self.ledger, self.store, self.board, lambda: self.region, lambda: self.own), now_s=lambda: self.now_s)

    def run(self, seconds: int, *, mute: tuple[str, ...] = ()) -> None:
        for _ in range(seconds // 5):
            self.now_s += 5
            if self.now_s % 60 == 0:
                self._report([name for name in NAMES if name not in mute])
                self.clerk.step(self.now_s)
            self.clerk.watch(self.now_s)

    def _report(self, names: list[str]) -> None:
        self.seq += 1
        body = Tick(result="online")
        for name in names:
            self.board.report(name, Report("epochAAA", records=(Record(self.seq, self.now_s, body),)), self.now_s)
            self.witness.take([Row(name, "epochAAA", self.seq, self.now_s, "tick", "synced", None, body, self.now_s)])
        self.ledger.commit([], [], {}, self.now_s, findings=self.witness.findings())
        self.witness.committed()

    def listing(self, *, everything: bool = False) -> list[dict[str, object]]:
        with self.ledger.transaction() as connection:
            return incidents.listing(connection, everything=everything)


@pytest.fixture
def office(place: Place) -> Iterator[Office]:
    made = Office(place)
    made.run(300)
    yield made
    made.store.close()
    made.ledger.close()


def test_a_silent_center_is_an_incident_until_it_has_been_back(office: Office) -> None:
    office.run(150, mute=("bb",))
    (row,) = office.listing()
    assert (row["scope"], row["name"], row["kind"], row["closed_s"]) == ("center", "bb", "silent", None)
    office.run(600)
    assert office.listing() == []
    assert [row["closed_s"] is None for row in office.listing(everything=True)] == [False]


def test_a_clerk_that_begins_anew_goes_on_with_the_incidents(office: Office) -> None:
    """No incident is opened twice, nor forgotten, by a restart; its grace time holds back only new ones."""
    office.run(150, mute=("bb",))
    office.clerk = office.begin()
    office.run(300, mute=("bb",))
    assert len(office.listing(everything=True)) == 1
    office.run(600)
    assert office.listing() == []


def test_our_own_trouble_is_one_incident_about_us(office: Office) -> None:
    office.own = "no connection to the broker"
    office.run(OWN_AFTER_S + 600, mute=NAMES)
    (row,) = office.listing()
    assert (row["scope"], row["cause"]) == ("own", "no connection to the broker")
    office.own = ""
    office.run(900)
    assert office.listing() == []
    assert len(office.listing(everything=True)) == 1


def test_the_state_points_show_silence_and_incident(office: Office) -> None:
    written: list[StatePoint] = []
    store = office.store

    class Spy:
        def write_states(self, points: Sequence[StatePoint]) -> None:
            written.extend(points)
            store.write_states(points)

        def close(self) -> None:
            store.close()

    office.clerk = Clerk(Desk(office.ledger, Spy(), office.board, lambda: office.region, lambda: ""), now_s=lambda: office.now_s)
    office.run(600, mute=("bb",))
    last = [point for point in written if point.incident is not None and point.time_s == office.now_s]
    assert {point.center: (point.state, point.incident, point.silence_s) for point in last} == {
        "aa": ("up", False, 0),
        "bb": ("unknown", True, 600),
        "cc": ("up", False, 0),
        "dd": ("up", False, 0),
    }


def test_maintenance_of_a_provider_keeps_it_quiet(office: Office) -> None:
    with office.ledger.writing() as connection:
        span = (office.now_s, office.now_s + 3600)
        incidents.maintain(connection, ("provider", "p-bb"), span, why="new dish", who="somebody", now_s=office.now_s)
    office.run(1200, mute=("bb",))
    assert office.listing() == []


def test_a_reason_corrects_the_timeline_and_is_audited(office: Office) -> None:
    office.run(600, mute=("bb",))
    with office.ledger.writing() as connection:
        incidents.resolve(connection, 1, "power", who="somebody", now_s=office.now_s)
    office.run(60, mute=("bb",))
    with office.ledger.transaction() as connection:
        found = verdicts.read(connection, "bb", T, T + 840)
        action = connection.execute(sa.select(verdict_tables.audit)).one()
    assert [(each.start_s - T, each.end_s - T, each.state, each.cause) for each in found] == [
        (60, 330, "up", None),
        (330, 840, "off", "power"),
    ]
    assert (action.who, action.action, json.loads(action.what)) == ("somebody", "resolve", {"incident": 1, "reason": "power"})


def test_a_ledger_that_is_away_is_said_and_made_up_for(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise OSError("the disk is gone")

    with monkeypatch.context() as patch:
        patch.setattr(incidents, "advance", broken)
        office.run(150, mute=("bb",))
        assert "the disk is gone" in (office.clerk.trouble or "")
    office.run(60, mute=("bb",))
    assert not office.clerk.trouble
    assert len(office.listing()) == 1


def test_the_commands(office: Office, place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    office.run(150, mute=("bb",))
    settings = ("--settings", str(place.settings_file('[[center]]\nid = "bb"\n')))
    assert cli.main(["incidents", *settings]) == 0
    assert "silent" in capsys.readouterr().out
    assert cli.main(["ack", "1", *settings]) == 0
    assert cli.main(["snooze", "1", "2100-01-01", *settings]) == 0
    assert cli.main(["resolve", "1", "--reason", "provider", *settings]) == 0
    assert cli.main(["maintain", "center", "bb", "--to", "2100-01-01", *settings]) == 0
    assert cli.main(["incidents", "--json", *settings]) == 0
    row = json.loads(capsys.readouterr().out)
    assert (row["reason"], row["snoozed_until_s"] > T, bool(row["acknowledged_by"])) == ("provider", True, True)
    assert cli.main(["resolve", "1", "--reason", "power", *settings]) == 1
    assert 'incident 1 is resolved already, as "provider"' in capsys.readouterr().err
    assert cli.main(["ack", "7", *settings]) == 1
    assert "there is no incident 7" in capsys.readouterr().err
    assert cli.main(["maintain", "center", "bb", "--to", "2000-01-01", *settings]) == 2
    capsys.readouterr()
    assert cli.main(["maintain", "center", "bbb", "--to", "2100-01-01", *settings]) == 2
    assert capsys.readouterr().err == 'maintain: no center "bbb" is in centers.toml; did you mean "bb"?\n'


def test_with_json_an_action_says_what_was_done(office: Office, place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    """And the incident as `incidents --json` shows it."""
    office.run(150, mute=("bb",))
    settings = ("--settings", str(place.settings_file('[[center]]\nid = "bb"\nlink = { provider = "Sputnik" }\n')))

    def said(*words: str) -> dict[str, object]:
        assert cli.main([*words, "--json", *settings]) == 0
        return dict(json.loads(capsys.readouterr().out))

    actions = (("ack", "1"), ("snooze", "1", "2h"), ("resolve", "1", "--reason", "lan"), ("resolve", "1", "--reason", "power", "--again"))
    for action in actions:
        done = said(*action)
        assert (done["done"], done["incident"]) == (action[0], said("incidents"))
        assert done["who"]
    assert said("incidents")["reason"] == "power"
    assert said("incidents")["snoozed_until_s"] == pytest.approx(time.time() + 7200, abs=60)
    work = said("maintain", "provider", "Sputnik", "--from", "2100-01-01", "--to", "2100-01-02", "--why", "new dish")
    assert work["maintenance"] == {
        "scope": "provider",
        "name": "Sputnik",
        "start_s": 4_102_444_800,
        "end_s": 4_102_531_200,
        "who": work["who"],
        "why": "new dish",
    }


def test_the_reasons_of_the_command_line_and_of_the_api_are_those_of_the_ledger() -> None:
    assert set(cli._REASONS) == set(incidents.REASONS)
    assert set(get_args(web_actions.Resolve.model_fields["reason"].annotation)) == set(incidents.REASONS)
    assert set(get_args(web_actions.Maintenance.model_fields["scope"].annotation)) == set(incidents.MAINTAINABLE)
