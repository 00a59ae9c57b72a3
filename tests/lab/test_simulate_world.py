"""The simulated world: its truth has every second once, and its agents tell all that they measured."""

from itertools import pairwise

import pytest

from kerege_lab.simulate import agents, truth, world
from kerege_wire import Ack, Tick, decode_presence, decode_report
from kerege_wire.topics import center_of

DAYS = 9


@pytest.fixture(scope="module")
def region() -> world.World:
    return world.make(12, DAYS, 1)


def test_a_seed_makes_one_world(region: world.World) -> None:
    assert world.make(12, DAYS, 1) == region
    assert world.make(12, DAYS, 2) != region


def test_the_truth_has_every_second_once(region: world.World) -> None:
    for center in region.places:
        found = truth.facts(region, center)
        assert (found[0].start_s, found[-1].end_s) == (world.BEGIN_S, region.end_s)
        assert all(before.end_s == after.start_s and before[2:] != after[2:] for before, after in pairwise(found))


def test_all_that_should_happen_does(region: world.World) -> None:
    states = {(fact.state, fact.cause) for center in region.places for fact in truth.facts(region, center)}
    assert states >= {("up", None), ("off", "shutdown"), ("off", "power"), ("down", "provider"), ("down", "terminal"), truth.NOT_CONNECTED}
    for common in region.commons:
        for center in common.centers:
            assert any(out.start_s < common.end_s and common.start_s < out.end_s for out in truth.outs(truth.facts(region, center)))


def test_agents_tell_what_is_so_and_lose_nothing(region: world.World) -> None:
    """Each is acknowledged as a collector would; at the end nothing waits, and every tick with a good time says what the truth says."""
    agenda = agents.Agenda(region)
    known = {center: truth.Timeline(world.Span(*fact[:2], fact.state) for fact in truth.facts(region, center)) for center in agenda.agents}
    ticks = 0
    numbers: set[tuple[str, str, int]] = set()
    for name, payload, _ in agenda.until(region.last_s):
        center = center_of(name, "report")
        if center is None:
            assert decode_presence(payload).state in {"online", "goodbye", "lost"}
            continue
        report = decode_report(payload)
        agenda.agents[center].acknowledge(Ack(report.epoch, stored=tuple((record.seq, record.seq) for record in report.records)))
        for record in report.records:
            numbers.add((center, report.epoch, record.seq))
            so = known[center].at(record.time)
            if (
                isinstance(record.body, Tick)
                and report.clock == "synced"
                and so is not None
                and so.start_s + 2 < record.time < so.end_s - 2
            ):
                ticks += 1
                assert (record.body.result == "online") == (so.what in {"up", "degraded"})
    assert ticks > 10_000
    assert sum(agent.left(region.last_s - 120) for agent in agenda.agents.values()) == 0
    fresh = sum(agent.left(region.last_s) for agent in agenda.agents.values())
    assert len(numbers) + fresh == sum(agent.made for agent in agenda.agents.values())
