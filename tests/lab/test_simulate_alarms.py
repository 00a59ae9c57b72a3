"""An alert is false, missed or late by the truth alone; these tell of one library, open from nine to six of a Tuesday."""

from dataclasses import replace

import pytest

from kerege_lab.simulate import alarms, world
from kerege_lab.simulate.alarms import Event, Outage, Stay
from kerege_lab.simulate.report import percentile
from kerege_lab.simulate.truth import Fact
from kerege_lab.simulate.world import BEGIN_S, Common, Span

HOUR_S = 3600
OPENS_S, CLOSES_S = BEGIN_S + HOUR_S, BEGIN_S + 10 * HOUR_S
NOON_S = BEGIN_S + 4 * HOUR_S
ME = "library-01"


@pytest.fixture(scope="module")
def region() -> world.World:
    never = Span(0, 0, "never")
    return replace(world.make(12, 5, 1), broker_away=never, collector_away=never, maintenance=never)


def day(*broken: tuple[int, int], state: str = "down", asleep: bool = False) -> list[Fact]:
    """On from a quarter to nine until six, and broken in these spans."""
    facts, at_s = [Fact(BEGIN_S, OPENS_S - 600, "unknown", None)], OPENS_S - 600
    for start_s, end_s in broken:
        facts += [Fact(at_s, start_s, "up", None), Fact(start_s, end_s, state, "provider", asleep)]
        at_s = end_s
    facts += [Fact(at_s, CLOSES_S, "up", None), Fact(CLOSES_S, BEGIN_S + 86_400, "off", "shutdown")]
    return [fact for fact in facts if fact.end_s > fact.start_s]


def judged(region: world.World, facts: list[Fact], *found: Stay, sent: dict[int, list[tuple[int, int]]] | None = None) -> alarms.Alarms:
    return alarms.alarms(region, {ME: facts}, list(found), sent or {})


def test_an_outage_that_is_told_is_neither_missed_nor_false(region: world.World) -> None:
    stay = Stay(ME, 1, NOON_S + 80, NOON_S + 2000)
    found = judged(region, day((NOON_S, NOON_S + 1800)), stay, sent={1: [(NOON_S + 80, NOON_S + 85)]})
    assert (found.outages, found.false_offline, found.missed_offline, found.untold) == (1, [], [], [])
    assert found.cut_to_notice_s == [85]


def test_an_outage_without_an_incident_is_missed(region: world.World) -> None:
    assert len(judged(region, day((NOON_S, NOON_S + 1800))).missed_offline) == 1


def test_an_incident_without_a_notice_is_untold(region: world.World) -> None:
    stay = Stay(ME, 1, NOON_S + 80, None)
    earlier = {1: [(NOON_S - 500, NOON_S - 490)]}
    assert judged(region, day((NOON_S, NOON_S + 1800)), stay, sent=earlier).untold == [stay]


def test_an_incident_while_it_works_is_false(region: world.World) -> None:
    stay = Stay(ME, 1, NOON_S, NOON_S + 300)
    assert judged(region, day(), stay).false_offline == [stay]
    assert judged(region, day((NOON_S - 600, NOON_S - 100)), stay).false_offline == [stay]


def test_an_incident_after_the_judged_time_is_neither(region: world.World) -> None:
    assert judged(region, day(), Stay(ME, 1, region.end_s + 60, None)).false_offline == []


@pytest.mark.parametrize("at_s", [OPENS_S - 60, CLOSES_S + 60])
def test_an_incident_while_it_is_closed_is_false(region: world.World, at_s: int) -> None:
    stay = Stay(ME, 1, at_s, at_s + 300)
    facts = [Fact(BEGIN_S, BEGIN_S + 86_400, "down", "provider")]
    assert judged(region, facts, stay).false_offline == [stay]


def test_nobody_came_is_right_after_an_hour_and_not_before(region: world.World) -> None:
    facts = [Fact(BEGIN_S, BEGIN_S + 86_400, "off", "shutdown")]
    early, late = Stay(ME, 1, OPENS_S + 1800, None), Stay(ME, 1, OPENS_S + HOUR_S, None)
    assert judged(region, facts, early).false_offline == [early]
    assert judged(region, facts, late).false_offline == []


def test_short_outages_sleep_and_the_night_need_not_be_told(region: world.World) -> None:
    assert judged(region, day((NOON_S, NOON_S + 179))).missed_offline == []
    assert judged(region, day((NOON_S, NOON_S + 1800), state="off", asleep=True)).missed_offline == []
    night = [Fact(BEGIN_S, CLOSES_S, "up", None), Fact(CLOSES_S, BEGIN_S + 86_400, "down", "provider")]
    assert judged(region, night).outages == 0


def test_planned_work_is_neither_told_nor_missed(region: world.World) -> None:
    planned = replace(region, maintenance=Span(NOON_S - 60, NOON_S + 1900, ME))
    stay = Stay(ME, 1, NOON_S + 80, None)
    found = judged(planned, day((NOON_S, NOON_S + 1800)), stay)
    assert (found.missed_offline, found.false_offline) == ([], [stay])


def test_what_begins_while_nobody_hears_counts_from_when_we_do(region: world.World) -> None:
    deaf = replace(region, broker_away=Span(NOON_S - 600, NOON_S + 1200, "broker"))
    [outage] = alarms.outages(deaf, ME, day((NOON_S, NOON_S + 1800)))
    assert outage == Outage(ME, NOON_S + 1200 + alarms.GRACE_S, NOON_S + 1800, heard=True, fresh=False, sleep=False)


def test_one_that_was_not_heard_since_opening_must_be_told_after_an_hour(region: world.World) -> None:
    def missed(end_s: int) -> int:
        return len(judged(region, [Fact(BEGIN_S, end_s, "down", "lan"), Fact(end_s, BEGIN_S + 86_400, "up", None)]).missed_offline)

    assert (missed(OPENS_S + HOUR_S), missed(OPENS_S + HOUR_S + 300)) == (0, 1)


def test_stays_begin_and_end_with_the_events() -> None:
    both, one = frozenset({"a", "b"}), frozenset({"b"})
    events = [
        Event(1, 10, "opened", both),
        Event(1, 20, "changed", one),
        Event(2, 25, "opened", frozenset({"a"})),
        Event(1, 30, "closed", one),
    ]
    assert alarms.stays(events) == [Stay("a", 1, 10, 20), Stay("b", 1, 10, 30), Stay("a", 2, 25, None)]


def test_what_many_have_in_common_is_one_when_one_incident_has_them_all(region: world.World) -> None:
    names = [name for name in region.places if region.calendars[name].is_open(NOON_S)][:4]
    facts = {name: day((NOON_S, NOON_S + 1800)) for name in names}
    facts[names[3]] = day((NOON_S - HOUR_S, NOON_S + 1800))  # out already
    common = Common(NOON_S, NOON_S + 1800, "provider", "Orbit", tuple(names))
    three = frozenset(names[:3])
    one = [Event(1, NOON_S + 90, "opened", three), Event(1, NOON_S + 2000, "closed", three)]
    found = alarms.told(common, facts, region, one, [(1, NOON_S + 90), (1, NOON_S - 90)])
    assert (found.centers, found.together, found.incidents, found.first_notices, found.as_one) == (3, 3, 1, 1, True)
    single = [Event(number, NOON_S + 90, "opened", frozenset({name})) for number, name in enumerate(names[:3])]
    assert not alarms.told(common, facts, region, single, []).as_one


def test_one_that_was_merged_is_a_part_of_the_common_one(region: world.World) -> None:
    names = [name for name in region.places if region.calendars[name].is_open(NOON_S)][:3]
    facts = {name: day((NOON_S, NOON_S + 1800)) for name in names}
    common = Common(NOON_S, NOON_S + 1800, "provider", "Orbit", tuple(names))
    alone, three = frozenset(names[:1]), frozenset(names)
    events = [Event(1, NOON_S + 70, "opened", alone), Event(1, NOON_S + 80, "merged", alone), Event(2, NOON_S + 80, "opened", three)]
    found = alarms.told(common, facts, region, events, [(1, NOON_S + 70), (2, NOON_S + 80)])
    assert (found.as_one, found.incidents, found.first_notices) == (True, 1, 2)
    assert [stay.end_s for stay in alarms.stays(events) if stay.incident == 1] == [NOON_S + 80]


def test_percentiles_are_of_the_values() -> None:
    assert (percentile([], 50), percentile([7], 95), percentile(list(range(1, 101)), 95), percentile([1, 2], 50)) == (None, 7, 95, 1)
