"""The state of now: timelines of what arrives, each named after the rule that it shows. Times are in s; T is noon of a day."""

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerege_collector import board as module
from kerege_collector.board import Board, CenterRow, counts, sort_key
from kerege_collector.centers import Center, Link
from kerege_collector.sightings import AHEAD_S, CONFLICT_FORGOTTEN_S, MAX_EPOCHS, SILENT_AFTER_S
from kerege_wire import Boot, Host, Ping, Presence, Record, Report, Tick
from kerege_wire.records import Body

T: Final = 1_795_435_200
A, B = "epochAAA", "epochBBB"
ULAN: Final = Center(id="ulan", name="Ұлан", district="Ұлан", link=Link(kind="geo", provider="Sputnik"))

Event = Callable[[Board, int], None]


def made() -> Board:
    return Board(lambda: {"ulan": ULAN})


def row(board: Board, at: int, center: str = "ulan") -> CenterRow:
    return next(found for found in board.rows(T + at) if found.center == center)


def state(board: Board, at: int) -> tuple[str, str | None, int | None]:
    found = row(board, at)
    return found.state, found.cause, None if found.since_s is None else found.since_s - T


def records(*bodies: Body, epoch: str = A, ago: int = 1, **header: Any) -> Event:
    """A report of what was measured ``ago`` seconds before it arrives."""

    def happen(board: Board, at: int) -> None:
        found = tuple(Record(seq, T + at - ago, body) for seq, body in enumerate(bodies, start=1))
        board.report("ulan", Report(epoch, records=found, **header), T + at)

    return happen


def online(ago: int = 0, *, epoch: str = A, rtt_ms: float | None = 600.0) -> Event:
    return records(Tick("online", rtt_ms=rtt_ms), ago=ago, epoch=epoch)


def offline(broken: str, ago: int = 0) -> Event:
    return records(Tick("offline", broken=broken), ago=ago)


def empty(epoch: str = A, waiting: int = 0) -> Event:
    return records(epoch=epoch, waiting=waiting)


def says(state: str, epoch: str = A, birth: int = 1, why: str | None = None) -> Event:
    def happen(board: Board, at: int) -> None:
        board.presence("ulan", Presence(state, epoch=epoch, birth=birth, why=why, agent="0.1.0"), T + at)

    return happen


def born(epoch: str = A, birth: int = 1) -> Event:
    return says("online", epoch, birth)


def goodbye(epoch: str = A, birth: int = 1, why: str | None = None) -> Event:
    return says("goodbye", epoch, birth, why)


def lost(epoch: str = A, birth: int = 1) -> Event:
    return says("lost", epoch, birth)


def played(*timeline: tuple[int, Event]) -> Board:
    board = made()
    for at, event in timeline:
        event(board, at)
    return board


# --- the last live tick decides -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("broken", "cause"),
    [
        ("route", "lan"),
        ("gateway", "lan"),
        ("terminal", "terminal"),
        ("internet", "provider"),
        ("dns", "dns"),
        ("portal", "portal"),
        (None, None),
    ],
)
def test_an_offline_tick_is_down_with_whose_matter_it_is(broken: str, cause: str | None) -> None:
    assert state(played((0, offline(broken))), 1) == ("down", cause, 0)


def test_a_collector_that_cannot_be_reached_is_not_the_librarys_outage() -> None:
    assert state(played((0, records(Tick("online", broken="collector"), ago=0))), 1) == ("up", None, 0)


def test_a_state_lasts_since_the_measurement_that_began_it() -> None:
    board = played((0, online()), (60, online()), (120, offline("internet", ago=30)), (180, offline("internet")), (240, online(ago=5)))
    assert state(board, 250) == ("up", None, 235)
    assert state(played((0, online()), (60, online()), (120, offline("internet", ago=30)), (180, offline("internet"))), 185) == (
        "down",
        "provider",
        90,
    )


def test_another_cause_is_another_state() -> None:
    assert state(played((0, offline("internet")), (60, offline("gateway"))), 61) == ("down", "lan", 60)


def test_a_tick_that_could_not_be_measured_is_unknown() -> None:
    assert state(played((0, online()), (60, records(Tick(error="timeout"), ago=0))), 61) == ("unknown", "could not be measured", 60)


def test_an_older_tick_that_comes_later_changes_nothing() -> None:
    assert state(played((0, offline("dns")), (5, online(ago=60))), 6) == ("down", "dns", 0)


def test_backlog_never_changes_the_state_of_now() -> None:
    """Records that are more than ten minutes old tell of then."""
    assert state(played((0, online()), (10, offline("internet", ago=601))), 11) == ("up", None, 0)
    assert state(played((0, offline("internet", ago=601))), 1) == ("unknown", "no tick yet", 0)
    assert state(played((0, offline("internet", ago=599))), 1) == ("down", "provider", -599)


def test_a_time_that_was_only_estimated_tells_nothing_of_now() -> None:
    assert state(played((0, records(Tick("offline", broken="dns"), clock="estimated", within_s=900))), 1)[0] == "unknown"


def test_a_record_from_the_future_tells_nothing_of_now() -> None:
    assert state(played((0, online(ago=-301))), 1)[0] == "unknown"


def test_reports_without_ticks_do_not_keep_an_old_state_for_ever() -> None:
    ping = records(Ping("google", sent=10, received=10))
    board = played((0, online()), *[(at, ping) for at in range(60, 600, 60)])
    assert state(board, 600) == ("up", None, 0)
    ping(board, 600)
    assert state(board, 601) == ("unknown", "no live tick", 0)


# --- silence ------------------------------------------------------------------------------------------------------------


def test_silence_is_unknown_after_three_heartbeats_of_arrival_time() -> None:
    board = played((0, online(ago=100)))
    assert state(board, SILENT_AFTER_S) == ("up", None, -100)
    assert state(board, SILENT_AFTER_S + 1) == ("unknown", "silent", 0)


def test_after_silence_a_state_begins_anew() -> None:
    board = played((0, online()), (1000, empty()))
    assert state(board, 1001) == ("unknown", "no tick yet", 1000)
    online(ago=2)(board, 1010)
    assert state(board, 1011) == ("up", None, 1008)


def test_a_registered_center_that_was_never_seen_is_listed_as_unknown() -> None:
    assert (state(made(), 0), row(made(), 0).last_seen_s) == (("unknown", "never seen", None), None)


def test_any_report_is_a_sign_of_life_and_presence_is_none() -> None:
    """The broker may have kept a presence for a week."""
    board = played((0, online()), (100, empty()), (150, born(birth=2)))
    assert row(board, 160).last_seen_s == T + 100
    assert state(board, 100 + SILENT_AFTER_S + 1)[:2] == ("unknown", "silent")


# --- presence -----------------------------------------------------------------------------------------------------------


def test_a_goodbye_is_off_with_its_reason_and_silence_does_not_change_that() -> None:
    board = played((0, born()), (1, online()), (60, goodbye(why="shutdown")))
    assert state(board, 61) == ("off", "shutdown", 60)
    assert state(board, 50_000) == ("off", "shutdown", 60)


def test_a_birth_ends_off_and_the_first_tick_says_what_is() -> None:
    board = played((0, born()), (1, online()), (60, goodbye(why="shutdown")), (900, born(B)))
    assert state(board, 901) == ("unknown", "silent", 900)
    empty(B)(board, 902)
    assert state(board, 903) == ("unknown", "no tick yet", 902)
    online(epoch=B)(board, 904)
    assert state(board, 905) == ("up", None, 904)


def test_what_was_under_way_when_the_goodbye_was_said_does_not_undo_it() -> None:
    board = played((0, born()), (1, online()), (60, goodbye(why="stop")), (62, online(ago=3)))
    assert state(board, 63) == ("off", "stop", 60)


def test_a_live_report_of_a_new_run_ends_off_even_if_its_birth_was_missed() -> None:
    board = played((0, born()), (1, online()), (60, goodbye(why="stop")), (900, online(epoch=B)))
    assert state(board, 901) == ("up", None, 900)


def test_backlog_of_the_run_before_does_not_end_off() -> None:
    board = played((0, born()), (1, online()), (60, goodbye(why="stop")), (100, online(ago=50)))
    assert state(board, 101) == ("off", "stop", 60)


@pytest.mark.parametrize("late", [goodbye, lost])
def test_late_last_words_of_an_earlier_connection_are_ignored(late: Callable[..., Event]) -> None:
    board = played((0, born(birth=1)), (1, online()), (50, born(birth=2)), (55, late(birth=1)), (58, late(B, birth=7)))
    assert state(board, 60)[0] == "up"
    assert row(board, 60).connection == "online"


def test_a_will_is_only_a_hint() -> None:
    board = played((0, born()), (1, online()), (30, lost()))
    assert (state(board, 31)[0], row(board, 31).connection) == ("up", "lost")
    online()(board, 60)
    assert row(board, 61).connection == "online"


def test_a_goodbye_that_the_broker_had_kept_does_not_say_since_when() -> None:
    board = played((0, born()), (1, online()), (5000, goodbye(why="shutdown")))
    assert state(board, 5001) == ("off", "shutdown", None)


def test_a_goodbye_is_all_that_a_new_collector_finds() -> None:
    board = played((0, goodbye(why="upgrade")))
    assert state(board, 1) == ("off", "upgrade", None)


def test_the_version_of_the_agent_is_that_of_its_birth() -> None:
    assert row(played((0, born())), 1).agent == "0.1.0"


# --- numbers ------------------------------------------------------------------------------------------------------------


def ping(target: str = "google", *, received: int = 10, p50: float | None = 550.0, ago: int = 0) -> Event:
    return records(Ping(target, sent=10, received=received, rtt_p50_ms=p50), ago=ago)


def test_the_round_trip_is_that_of_the_last_tick_or_ping() -> None:
    board = played((0, online(rtt_ms=600.0)), (30, ping(p50=550.0)))
    assert row(board, 31).rtt_ms == 550.0
    online(rtt_ms=610.0)(board, 60)
    ping(p50=1.0, ago=45)(board, 61)
    assert row(board, 62).rtt_ms == 610.0


def test_loss_is_the_smallest_of_the_targets() -> None:
    """A target that is down itself says nothing of the link."""
    board = played((0, online()), (1, ping("google", received=9)), (2, ping("quad9", received=0, p50=None)))
    assert row(board, 3).loss_percent == 10.0
    ping("google", received=8)(board, 10)
    assert row(board, 11).loss_percent == 20.0


def test_numbers_are_not_shown_for_ever() -> None:
    board = played((0, online()), (1, ping()), *[(at, online(rtt_ms=None)) for at in range(60, 890, 60)])
    assert (row(board, 890).rtt_ms, row(board, 890).loss_percent) == (550.0, 0.0)
    online(rtt_ms=None)(board, 900)
    assert (row(board, 902).rtt_ms, row(board, 902).loss_percent) == (None, None)


def test_a_center_that_is_down_or_silent_has_no_numbers_of_before() -> None:
    board = played((0, online()), (1, ping()), (60, offline("internet")))
    assert (row(board, 61).rtt_ms, row(board, 61).loss_percent) == (None, None)
    silent = played((0, online()), (1, ping()))
    assert (row(silent, 500).rtt_ms, row(silent, 500).spool_records) == (None, None)


def test_loss_measured_while_down_is_shown() -> None:
    board = played((0, online()), (60, offline("portal")), (70, ping(received=5)))
    assert row(board, 71).loss_percent == 50.0


def test_pings_that_were_never_sent_are_no_loss() -> None:
    assert row(played((0, online()), (1, records(Ping("google", sent=0, received=0, error="no route"), ago=0))), 2).loss_percent is None


def test_what_waits_is_the_larger_of_what_report_and_host_say() -> None:
    board = played((0, records(Host(spool_records=7), ago=0, waiting=3)))
    assert row(board, 1).spool_records == 7
    empty(waiting=1840)(board, 10)
    assert row(board, 11).spool_records == 1840
    online()(board, 60)
    assert row(board, 61).spool_records == 0


def test_gaps_are_those_that_the_ledger_knows() -> None:
    board = Board(lambda: {"ulan": ULAN}, gaps={"ulan": 12}.get)  # type: ignore[arg-type]
    assert row(board, 0).gaps == 12


def test_trouble_is_shown_for_an_hour() -> None:
    board = made()
    board.trouble("ulan", "held: unknown center", T)
    assert (row(board, 3600).trouble, row(board, 3601).trouble) == ("held: unknown center", None)


# --- two agents with one identity ---------------------------------------------------------------------------------------


def two_agents(board: Board, at: int) -> bool:
    assert board.two_agents("ulan", T + at) == (row(board, at).two_agents_since_s is not None)
    return board.two_agents("ulan", T + at)


def test_a_superseded_run_that_is_born_again_makes_two_agents() -> None:
    board = played((0, born(A, birth=1)), (30, born(B, birth=1)))
    assert not two_agents(board, 31)
    born(A, birth=2)(board, 60)
    assert two_agents(board, 61)
    assert row(board, 61).two_agents_since_s == T + 60


def test_a_superseded_run_that_speaks_live_makes_two_agents() -> None:
    board = played((0, online(epoch=A)), (30, online(epoch=B)), (60, online(epoch=A)))
    assert two_agents(board, 61)


def test_a_superseded_run_that_asks_for_the_time_makes_two_agents() -> None:
    assert two_agents(played((0, empty(A)), (30, empty(B)), (60, empty(A))), 61)


def test_backlog_of_the_run_before_is_no_second_agent() -> None:
    """An agent that crashed comes back within seconds, and what it sends first was made by the run before."""
    board = played((0, born(A)), (1, online(epoch=A)), (58, online(epoch=A)), (70, born(B)), (71, empty(B)), (72, online(ago=14, epoch=A)))
    online(epoch=B)(board, 75)
    online(ago=70, epoch=A)(board, 76)
    assert not two_agents(board, 80)


def test_an_agent_that_is_started_again_and_again_is_one_agent() -> None:
    board = made()
    for number in range(100):
        epoch = f"epoch{number:03d}"
        born(epoch)(board, 5 * number)
        empty(epoch)(board, 5 * number + 1)
        online(epoch=epoch)(board, 5 * number + 2)
    assert not two_agents(board, 501)


def test_a_birth_that_comes_twice_is_one_birth() -> None:
    assert not two_agents(played((0, born(A)), (30, born(B)), (60, born(A)), (61, born(B))), 62)


def test_two_agents_are_forgotten_an_hour_after_the_last_evidence() -> None:
    """One of the two was switched off: the other goes on alone and is soon trusted."""
    board = played(
        (0, online(epoch=A)), (30, online(epoch=B)), (60, online(epoch=A)), *[(at, online(epoch=A)) for at in range(120, 4200, 60)]
    )
    assert two_agents(board, 60 + CONFLICT_FORGOTTEN_S - 1)
    assert not two_agents(board, 60 + CONFLICT_FORGOTTEN_S)


def test_as_long_as_both_speak_they_are_two() -> None:
    board = played(*[(at, online(epoch=A if at % 120 else B)) for at in range(0, 20_000, 60)])
    assert two_agents(board, 20_000)
    assert row(board, 20_000).two_agents_since_s == T + 120


def test_two_agents_are_said_loudly_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        played(*[(at, online(epoch=A if at % 120 else B)) for at in range(0, 20_000, 60)])
    assert [record.getMessage() for record in caplog.records] == ["board.two_agents"]
    assert caplog.records[0].fields["center"] == "ulan"  # type: ignore[attr-defined]


# --- centers that are not registered ------------------------------------------------------------------------------------


def test_a_center_that_is_not_registered_is_shown_as_such() -> None:
    board = made()
    board.report("stranger", Report(A, records=(Record(1, T, Tick("online")),)), T)
    found = row(board, 1, "stranger")
    assert (found.registered, found.name, found.state) == (False, "stranger", "up")


def test_invented_ids_do_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_STRANGERS", 50)
    board = played((0, online()))
    for number in range(1000):
        board.trouble(f"invented-{number}", "held: unknown center", T)
    shown = {found.center for found in board.rows(T)}
    assert len(shown) == 51
    assert {"ulan", "invented-999"} <= shown


# --- listing, and what outlives a restart -------------------------------------------------------------------------------


def test_names_are_in_the_order_of_the_kazakh_alphabet() -> None:
    names = ["Ұлан", "Өскемен", "Аягөз", "Әйет", "Қатон", "Күршім", "Самар", "Үлкен Нарын", "Ягодный", "Оқу", "Урыль"]
    assert sorted(names, key=sort_key) == [
        "Аягөз",
        "Әйет",
        "Күршім",
        "Қатон",
        "Оқу",
        "Өскемен",
        "Самар",
        "Урыль",
        "Ұлан",
        "Үлкен Нарын",
        "Ягодный",
    ]


def test_every_center_is_counted_once() -> None:
    registry = {name: Center(id=name) for name in ("ulan", "zaisan")}
    board = Board(lambda: registry)
    board.report("ulan", Report(A, records=(Record(1, T, Tick("online")),)), T)
    assert counts(board.rows(T + 1)) == {"up": 1, "down": 0, "unknown": 1, "off": 0}


def test_the_registry_may_change_under_the_board() -> None:
    registry = {"ulan": ULAN}
    board = Board(lambda: registry)
    registry = {"zaisan": Center(id="zaisan")}
    assert [found.center for found in board.rows(T)] == ["zaisan"]


HISTORY: Final[Sequence[tuple[int, Event]]] = (
    (0, born(A)),
    (1, online()),
    (10, ping()),
    (60, records(Host(spool_records=3), Boot("agent"), waiting=8)),
    (70, born(B)),
    (71, online(epoch=B)),
    (100, born(A, birth=2)),
    (110, lost(A, birth=2)),
    (115, lambda board, at: board.trouble("ulan", "unreadable: not-json", T + at)),
)


def test_a_restart_changes_nothing_that_is_shown() -> None:
    """Snapshots go through JSON, as the ledger keeps them."""
    board = played(*HISTORY)
    again = made()
    again.restore(json.loads(json.dumps(board.snapshots())))
    for at in (116, 200, 400, 3000):
        assert again.rows(T + at) == board.rows(T + at)
    online()(board, 130)
    online()(again, 130)
    assert again.rows(T + 131) == board.rows(T + 131)


def test_only_what_changed_is_kept_anew() -> None:
    board = played((0, online()))
    assert list(board.snapshots()) == ["ulan"]
    assert board.snapshots() == {}


@given(
    st.dictionaries(
        st.sampled_from([*played(*HISTORY).snapshots()["ulan"], "newer"]),
        st.none()
        | st.integers()
        | st.text()
        | st.booleans()
        | st.lists(st.integers())
        | st.dictionaries(st.text(), st.integers() | st.lists(st.integers())),
    )
    | st.integers()
)
def test_a_snapshot_of_another_version_does_no_harm(snapshot: object) -> None:
    board = made()
    board.restore({"ulan": snapshot})
    events = [online(), empty(B), born(B), goodbye(B), lost(B)]
    for at, event in enumerate(events):
        event(board, at)
    assert json.dumps([asdict(found) for found in board.rows(T + 10)])


SOMETHING = st.one_of(
    st.builds(online, ago=st.integers(-400, 700), epoch=st.sampled_from([A, B])),
    st.builds(offline, st.sampled_from(["gateway", "internet"]), ago=st.integers(0, 700)),
    st.builds(says, st.sampled_from(["online", "goodbye", "lost"]), st.sampled_from([A, B]), st.integers(1, 3), st.none()),
    st.builds(empty, st.sampled_from([A, B]), st.integers(0, 9)),
)


def test_what_carries_times_of_a_clock_that_was_ahead_is_forgotten_when_it_is_set_back() -> None:
    """Else a center that fell silent meanwhile would look alive until that time is reached again: a year, perhaps."""
    year_s = 365 * 86_400
    board = played((year_s, online()), (year_s, ping()), (year_s + 1, lost()))
    board.trouble("ulan", "held: unknown center", T + year_s)
    assert state(board, 0) == ("unknown", "silent", None)
    found = row(board, 0)
    assert (found.last_seen_s, found.rtt_ms, found.loss_percent, found.trouble) == (None, None, None, None)
    restored = made()
    restored.restore(played((year_s, online())).snapshots())
    assert state(restored, 0)[0] == "unknown"
    offline("internet")(restored, 60)
    assert state(restored, 61)[:2] == ("down", "provider")


def test_a_report_that_is_taken_ends_what_was_said_of_those_that_were_held() -> None:
    """The center has been registered meanwhile. What could not be read, or is kept by its agent, is said for its hour."""
    board = made()
    board.trouble("ulan", "held: unknown center", T)
    online()(board, 60)
    assert row(board, 61).trouble is None
    board.trouble("ulan", "unreadable: not-json", T + 62)
    online()(board, 120)
    assert row(board, 121).trouble == "unreadable: not-json"
    board.trouble("ulan", "kept: quarantine-full", T + 122)
    online()(board, 180)
    assert row(board, 181).trouble == "kept: quarantine-full"


def test_a_round_trip_to_nobody_knows_whom_is_not_shown() -> None:
    """Where only connects are answered it may be that of the proxy."""
    board = played((0, records(Tick(None, rungs="++.?+?+", rtt_ms=0.4, error="only TCP connects are answered"))), (60, online(rtt_ms=None)))
    assert (row(board, 61).state, row(board, 61).rtt_ms) == ("up", None)


@given(st.lists(st.tuples(st.integers(0, 900), SOMETHING), max_size=30))
def test_whatever_arrives_the_board_stays_sane(steps: list[tuple[int, Event]]) -> None:
    """A state is one of four, begins in the past, and is unknown after silence unless the machine said goodbye."""
    board, at = made(), 0
    for step, event in steps:
        at += step
        event(board, at)
        found = row(board, at)
        assert found.state in module.STATES
        assert found.since_s is None or found.since_s <= T + at + AHEAD_S
    assert row(board, at + 10_000).state in {"unknown", "off"}
    assert len(board.snapshots().get("ulan", {"superseded": {}})["superseded"]) <= MAX_EPOCHS
