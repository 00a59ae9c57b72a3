"""From records to verdicts in a real ledger: revisions, windows, standing, accounts of days, points to be written again."""

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import date, datetime
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa

from kerege_collector import verdict_tables, verdicts
from kerege_collector.centers import Center, Link, Region, load_region
from kerege_collector.hours import Calendar, Special, Week
from kerege_collector.judge import Judge
from kerege_collector.ledger import Ledger
from kerege_collector.rollup import Day
from kerege_collector.stores import Row
from kerege_collector.verdicts import Revision
from kerege_collector.witness import Witness
from kerege_wire import Body, Boot, Presence, Tick, kind_of
from tests.places import Place

ZONE = ZoneInfo("Asia/Almaty")
T = int(datetime(2026, 11, 23, 9, tzinfo=ZONE).timestamp())
UP, DOWN = Tick(result="online"), Tick(result="offline", broken="internet")
WEEK = tuple(((9 * 60, 18 * 60),) for _ in range(7))


class Court:
    """A ledger with a witness and a judge."""

    def __init__(self, place: Place, center: Center) -> None:
        self.ledger = Ledger(place.open())
        self.region = Region({center.id: center}, {center.id: Calendar(ZONE, WEEK)}, {})
        self.witness = Witness(self.ledger.runs, lambda: self.region)
        self.judge = Judge(self.ledger)

    def hear(self, rows: Sequence[Row], goodbye_s: int | None = None) -> None:
        self.witness.take(rows)
        if goodbye_s is not None:
            self.witness.goodbye("demo", Presence("goodbye", "A", 1, "shutdown"), goodbye_s)
        self.ledger.commit([], [], {}, T, findings=self.witness.findings())
        self.witness.committed()

    def said(self, start_s: int = 0, end_s: int = 1 << 40) -> list[tuple[int, int, str, str | None]]:
        with self.ledger.transaction() as connection:
            return [
                (each.start_s - T, each.end_s - T, each.state, each.cause) for each in verdicts.read(connection, "demo", start_s, end_s)
            ]

    def revisions(self) -> list[Revision]:
        with self.ledger.transaction() as connection:
            return verdicts.revisions(connection, "demo", 0, 1 << 40)

    def due(self) -> list[tuple[int, int]]:
        """The spans of points that wait; they are taken."""
        with self.ledger.transaction() as connection:
            found = [(row.start_s - T, row.end_s - T) for row in connection.execute(sa.select(verdict_tables.points_due))]
            connection.execute(sa.delete(verdict_tables.points_due))
        return found


@pytest.fixture
def court(place: Place) -> Iterator[Court]:
    made = Court(place, Center(id="demo", link=Link(kind="geo")))
    yield made
    made.ledger.close()


def row(seq: int, time_s: int, body: Body = UP, *, epoch: str = "A", clock: str = "synced") -> Row:
    return Row("demo", epoch, seq, T + time_s, kind_of(body), clock, None, body, T + time_s + 1)


def ticks(first: int, count: int, start_s: int, body: Body = UP, *, epoch: str = "A") -> list[Row]:
    return [row(first + n, start_s + n * 60, body, epoch=epoch) for n in range(count)]


def test_a_center_that_is_alive_is_judged_up_to_its_last_tick(court: Court) -> None:
    court.hear(ticks(1, 11, 0))
    court.judge.step(court.region, T + 650)
    assert court.said() == [(0, 600, "up", None)]
    court.hear(ticks(12, 1, 660))
    court.judge.step(court.region, T + 700)
    assert court.said() == [(0, 660, "up", None)]
    assert court.revisions() == []


def test_silence_is_unknown_until_the_backlog_explains_it_and_then_it_is_revised(court: Court) -> None:
    court.hear(ticks(1, 11, 0))
    court.judge.step(court.region, T + 4000)
    court.judge.step(court.region, T + 8000)
    assert court.said() == [(0, 630, "up", None), (630, 8000, "unknown", None)]
    court.due()
    court.hear(ticks(12, 130, 660, DOWN))
    court.judge.step(court.region, T + 8460)
    assert court.said() == [(0, 660, "up", None), (660, 8400, "down", "provider")]
    (revision,) = court.revisions()
    assert (revision.start_s - T, revision.end_s - T, revision.said_s - T, revision.why) == (630, 8000, 8460, "tick")
    assert [each.state for each in revision.before] == ["unknown"]
    assert [each.state for each in revision.after] == ["up", "down"]
    assert court.due() == [(630, 8000), (8000, 8400)]


def test_a_backlog_in_pieces_weeks_late_touches_only_its_window(court: Court) -> None:
    day = 86_400
    court.hear(ticks(1, 11, 0))
    court.hear(ticks(500, 21 * 1440, day))
    court.judge.step(court.region, T + 22 * day)
    held = court.said()[2:]
    for first in (475, 12, 300):  # newest first, then the rest
        court.hear(ticks(first, 25, first * 60 - 60))
        court.judge.step(court.region, T + 22 * day)
    assert court.said()[-len(held) :] == held
    assert all(each.end_s - T <= day for each in court.revisions())
    total = sum(end_s - start_s for start_s, end_s, _, _ in court.said())
    assert total == court.said()[-1][1]


def test_a_boot_explains_the_silence_and_a_goodbye_is_heard_at_once(court: Court) -> None:
    court.hear(ticks(1, 11, 0), goodbye_s=T + 640)
    court.judge.step(court.region, T + 5000)
    assert court.said()[-1] == (640, 5000, "off", "shutdown")
    boot = Boot(cause="host", stop="unclean", last_alive=T + 600, previous_epoch="A", uptime_s=30)
    court.hear([row(1, 6000, boot, epoch="B"), *ticks(2, 5, 6010, epoch="B")])
    court.judge.step(court.region, T + 6260)
    assert court.said()[-2:] == [(640, 5970, "off", "power"), (5970, 6250, "up", None)]
    assert court.revisions()[0].why in {"boot", "tick"}


def test_a_library_without_a_link_is_not_connected_and_never_down(place: Place) -> None:
    court = Court(place, Center(id="demo", registered=date(2026, 11, 20)))
    court.judge.step(court.region, T)
    court.judge.step(court.region, T + 86_400)
    assert court.said() == [(0, 86_400, "unknown", "not-connected")]
    court.hear(ticks(1, 11, 86_400))
    court.judge.step(court.region, T + 87_010)
    assert court.said() == [(0, 86_370, "unknown", "not-connected"), (86_370, 87_000, "up", None)]
    court.ledger.close()


def test_a_closed_library_is_judged_no_more(place: Place) -> None:
    court = Court(place, Center(id="demo", link=Link(), closed=date(2026, 11, 24)))
    court.judge.step(court.region, T)
    court.judge.step(court.region, T + 5 * 86_400)
    assert court.said()[-1][1] == 15 * 3600  # midnight after the first day
    court.ledger.close()


def test_each_day_is_accounted_for_inside_and_outside_opening_hours(court: Court) -> None:
    court.hear(ticks(1, 2 * 1440 + 1, 0))
    court.judge.step(court.region, T + 2 * 86_400)
    with court.ledger.transaction() as connection:
        found = dict(verdicts.days(connection, "demo", date(2026, 11, 23), date(2026, 11, 25)))
    assert found[date(2026, 11, 24)].inside == {("up", None): 9 * 3600}
    assert found[date(2026, 11, 24)].outside == {("up", None): 15 * 3600}
    assert found[date(2026, 11, 23)].inside == {("up", None): 9 * 3600}


def test_a_judge_that_begins_anew_says_the_same(court: Court) -> None:
    """What one judge has not finished, the next does: the span waits in the ledger."""
    court.hear(ticks(1, 11, 0))
    Judge(court.ledger).step(court.region, T + 650)
    court.hear(ticks(12, 11, 660, DOWN))
    Judge(court.ledger).step(court.region, T + 1300)
    assert court.said() == [(0, 660, "up", None), (660, 1260, "down", "provider")]


# --- settings that change -----------------------------------------------------------------------------------------------

AFTERNOON = tuple(((13 * 60, 18 * 60),) for _ in range(7))


def rule(court: Court, week: Week = WEEK, **more: object) -> None:
    """The registry says something else from now on."""
    center = Center.model_validate(court.region.centers["demo"].model_dump() | more)
    court.region = Region({"demo": center}, {"demo": Calendar(ZONE, week)}, {})


def day(court: Court, when: date) -> Day | None:
    with court.ledger.transaction() as connection:
        return dict(verdicts.days(connection, "demo", when, when)).get(when)


def two_days(court: Court) -> int:
    """Both up, with an hour of the first morning down; now."""
    down = [row(n + 1, n * 60, DOWN if 60 <= n < 120 else UP) for n in range(2 * 1440 + 1)]
    court.hear(down)
    court.judge.step(court.region, T + 2 * 86_400)
    court.due()
    return T + 2 * 86_400


@pytest.mark.parametrize("restarted", [False, True])
def test_other_opening_hours_count_for_the_past_too(court: Court, restarted: bool) -> None:
    """After a reload or a restart: the split of each day is another, no state is, and the revision says why."""
    now_s = two_days(court)
    assert day(court, date(2026, 11, 23)) == Day(
        Counter({("up", None): 8 * 3600, ("down", "provider"): 3600}), Counter({("up", None): 6 * 3600})
    )
    rule(court, AFTERNOON)
    said = court.said()
    judge = Judge(court.ledger) if restarted else court.judge
    judge.step(court.region, now_s + 60)
    judge.step(court.region, now_s + 120)
    assert court.said()[: len(said) - 1] == said[:-1]
    assert day(court, date(2026, 11, 23)) == Day(
        Counter({("up", None): 5 * 3600}), Counter({("up", None): 9 * 3600, ("down", "provider"): 3600})
    )
    assert [(each.start_s - T, each.said_s, each.why, each.before) for each in court.revisions()] == [
        (0, now_s + 60, "settings changed", [])
    ]
    assert all(first >= 2 * 86_400 for first, _ in court.due())


def test_only_days_whose_account_changes_are_revised(court: Court) -> None:
    now_s = two_days(court)
    center = court.region.centers["demo"]
    closed = Special(date(2026, 11, 24), date(2026, 11, 24), ())
    court.region = Region({"demo": center}, {"demo": Calendar(ZONE, WEEK, exceptions=(closed,))}, {})
    court.judge.step(court.region, now_s + 60)
    (revision,) = court.revisions()
    assert (revision.start_s - T, revision.end_s - T) == (15 * 3600, 39 * 3600)
    accounted = day(court, date(2026, 11, 24))
    assert accounted is not None
    assert accounted.inside == {}


def test_a_library_that_turns_out_to_have_been_without_a_link_was_not_down(court: Court) -> None:
    """Ticks still prove what they prove; the silence after them was no outage."""
    court.hear(ticks(1, 11, 0))
    court.judge.step(court.region, T + 2 * 86_400)
    assert court.said()[-1][2:] == ("unknown", None)
    rule(court, connected=date(2026, 11, 25))
    court.judge.step(court.region, T + 2 * 86_400 + 60)
    assert court.said() == [
        (0, 630, "up", None),
        (630, 39 * 3600, "unknown", "not-connected"),
        (39 * 3600, 2 * 86_400 + 60, "unknown", None),
    ]
    (revision,) = court.revisions()
    assert (revision.start_s - T, revision.end_s - T, revision.why) == (630, 39 * 3600, "settings changed")
    assert (630, 39 * 3600) in court.due()


def test_what_no_longer_counts_is_no_longer_said_and_counts_again_when_it_does(court: Court) -> None:
    now_s = two_days(court)
    said = court.said()
    rule(court, registered=date(2026, 11, 24), closed=date(2026, 11, 25))
    court.judge.step(court.region, now_s + 60)
    assert court.said() == [(15 * 3600, 39 * 3600, "up", None)]
    assert {(each.start_s - T, each.end_s - T, each.why) for each in court.revisions()} == {
        (0, 15 * 3600, "settings changed"),
        (39 * 3600, 2 * 86_400, "settings changed"),
    }
    assert day(court, date(2026, 11, 23)) is None
    rule(court, registered=None, closed=None)
    court.judge.step(court.region, now_s + 120)
    assert [each[2:] for each in court.said()] == [each[2:] for each in said]
    assert court.said()[0][0] == 0


def test_a_library_that_is_to_count_only_from_tomorrow_has_no_account(court: Court) -> None:
    now_s = two_days(court)
    rule(court, registered=date(2026, 11, 30))
    court.judge.step(court.region, now_s + 60)
    assert (court.said(), day(court, date(2026, 11, 23)), day(court, date(2026, 11, 24))) == ([], None, None)


def test_a_new_heartbeat_judges_no_old_tick(court: Court) -> None:
    """A tick every five minutes is no silence between them: such was the heartbeat then."""
    rule(court, heartbeat_s=300)
    court.hear([row(n + 1, n * 300) for n in range(100)])
    court.judge.step(court.region, T + 29_700)
    rule(court, heartbeat_s=60)
    court.judge.step(court.region, T + 29_760)
    rule(court, AFTERNOON, heartbeat_s=60)
    court.judge.step(court.region, T + 29_820)
    assert court.said()[0] == (0, 29_700, "up", None)


def test_a_change_of_settings_that_is_cut_off_is_made_up_for(court: Court, monkeypatch: pytest.MonkeyPatch) -> None:
    """That they have changed is noted with what comes of it, or not at all."""
    now_s = two_days(court)
    rule(court, AFTERNOON)

    def killed(*_: object) -> None:
        raise OSError("killed here")

    with monkeypatch.context() as patch:
        patch.setattr(verdicts, "put_day", killed)
        with pytest.raises(OSError, match="killed"):
            court.judge.step(court.region, now_s + 60)
    assert court.revisions() == []
    Judge(court.ledger).step(court.region, now_s + 120)
    assert [each.why for each in court.revisions()] == ["settings changed"]


def test_the_same_file_read_again_changes_nothing(place: Place) -> None:
    """Whatever objects hold it: the digest is of what it says."""
    text = 'zone = "Asia/Almaty"\n[hours.v]\nmon = ["09:00-18:00"]\n[[center]]\nid = "demo"\nhours = "v"\n'
    (place.directory / "centers.toml").write_text(text)
    ledger = Ledger(place.open())
    for minute in range(3):
        Judge(ledger).step(load_region(place.directory / "centers.toml"), T + minute * 60)
    with ledger.transaction() as connection:
        assert len(verdicts.judged_by(connection, "demo")) == 1
    ledger.close()
