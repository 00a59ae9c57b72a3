"""The plan of a chaos run, and how soon links recover: pure."""

from collections import Counter

import pytest

from kerege_lab.audit import Identity
from kerege_lab.chaos.faults import _DEEDS
from kerege_lab.chaos.plan import KINDS, Need, make_plan
from kerege_lab.chaos.recover import Past, Recoveries, Seen, link_of, recoveries
from kerege_wire.ranges import Range

ALL: frozenset[Need] = frozenset(["influx", "sqlite", "postgresql", "mounts"])
MADE: dict[Identity, float] = {("demo", "Zk3q9w2a", seq): 100.0 + seq for seq in range(1, 100)}


def test_the_same_seed_gives_the_same_plan_and_another_one_another() -> None:
    first = make_plan(seed=7, faults=40, records=20_000, needs=ALL)
    assert first == make_plan(seed=7, faults=40, records=20_000, needs=ALL)
    assert first != make_plan(seed=8, faults=40, records=20_000, needs=ALL)


@pytest.mark.parametrize("faults", [0, 1, 40])
def test_faults_come_in_order_while_records_are_made(faults: int) -> None:
    plan = make_plan(seed=1, faults=faults, records=1000, needs=ALL)
    moments = [fault.at_records for fault in plan]
    assert len(plan) == faults
    assert moments == sorted(moments)
    assert all(0 <= moment < 1000 for moment in moments)


def test_a_round_has_every_kind_as_often_as_it_says() -> None:
    times = Counter({name: kind.times for name, kind in KINDS.items()})
    plan = make_plan(seed=3, faults=2 * times.total(), records=1000, needs=ALL)
    assert Counter(fault.kind for fault in plan[: times.total()]) == Counter(fault.kind for fault in plan[times.total() :]) == times


def test_a_fault_lasts_as_long_as_its_kind_may() -> None:
    for fault in make_plan(seed=5, faults=200, records=1000, needs=ALL):
        assert KINDS[fault.kind].shortest_s <= fault.lasts_s <= KINDS[fault.kind].longest_s


def test_what_the_run_has_not_got_is_not_planned() -> None:
    kinds = {fault.kind for fault in make_plan(seed=1, faults=100, records=1000, needs=frozenset(["sqlite"]))}
    assert "database-locked" in kinds
    assert not kinds & {"database-killed", "agent-disk-full", "collector-disk-full", "ledger-killed"}


def test_every_kind_of_fault_is_something_that_can_be_done() -> None:
    assert set(_DEEDS) == set(KINDS)


@pytest.mark.parametrize(("chance", "chosen"), [(0.0, "a"), (0.34, "b"), (0.999999, "c"), (1.0, "c")])
def test_chance_chooses_among_several(chance: float, chosen: str) -> None:
    fault = make_plan(seed=1, faults=1, records=10, needs=ALL)[0]
    assert type(fault)(fault.number, fault.kind, fault.at_records, fault.lasts_s, chance).choose("abc") == chosen


def cut(began_s: float, ended_s: float) -> Past:
    return Past("link-reset", (link_of("demo"),), began_s, ended_s)


def ack(at_s: float, *stored: Range) -> Seen:
    return Seen(at_s, "demo", "Zk3q9w2a", stored)


def test_recovery_lasts_until_a_record_made_after_the_return_is_acknowledged() -> None:
    seen = [ack(115.0, (1, 12)), ack(121.0, (1, 14)), ack(124.5, (1, 21)), ack(130.0, (1, 29))]
    assert recoveries([cut(110.0, 120.0)], seen, MADE, ["demo"]) == Recoveries((4.5,), 0)


def test_recovery_is_counted_from_when_the_whole_way_is_well() -> None:
    seen = [ack(124.5, (1, 21)), ack(128.0, (1, 27))]
    others = [Past("collector-killed", ("collector",), 118.0, 123.0), Past("broker-killed", ("broker",), 122.0, 125.0)]
    assert recoveries([cut(110.0, 120.0), *others], seen, MADE, ["demo"]) == Recoveries((3.0,), 0)


def test_what_breaks_again_before_records_flow_leaves_no_figure() -> None:
    seen = [ack(124.5, (1, 21))]
    again = Past("broker-killed", ("broker",), 121.0, 122.0)
    elsewhere = Past("agent-killed", ("other",), 121.0, 122.0)
    assert recoveries([cut(110.0, 120.0), again], seen, MADE, ["demo"]) == Recoveries((), 1)
    assert recoveries([cut(110.0, 120.0), elsewhere], seen, MADE, ["demo"]) == Recoveries((4.5,), 0)


def test_a_link_that_never_recovers_gives_no_figure() -> None:
    assert recoveries([cut(110.0, 120.0)], [ack(124.5, (1, 19))], MADE, ["demo"]) == Recoveries((), 1)
