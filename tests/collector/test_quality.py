"""Percentiles from counts, and the account of days."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerege_collector.quality import ACCURACY, Quality, Sketch
from kerege_collector.rollup import Day, account, figures
from kerege_collector.timeline import Interval
from kerege_wire import Ping

samples = st.lists(st.floats(0.05, 100_000), min_size=1, max_size=200)


@given(samples, st.sampled_from([0.0, 0.5, 0.95, 1.0]))
def test_a_percentile_is_within_its_accuracy(values: list[float], share: float) -> None:
    sketch = Sketch()
    for value in values:
        sketch.add(value)
    exact = sorted(values)[int(share * (len(values) - 1))]
    assert sketch.percentile(share) == pytest.approx(exact, rel=ACCURACY * 1.1)
    assert sketch.count == len(values)


@given(samples, samples)
def test_adding_up_is_exact(one: list[float], other: list[float]) -> None:
    parts, whole = [Quality(), Quality()], Quality()
    for quality, values in zip(parts, (one, other), strict=True):
        for value in values:
            ping = Ping(target="t", sent=10, received=9, rtt_p50_ms=value, rtt_p95_ms=value * 2, rtt_min_ms=value)
            quality.add(ping)
            whole.add(ping)
    parts[0].merge(Quality.from_json(parts[1].to_json()))
    assert parts[0] == whole
    assert whole.loss_percent == 10.0


def test_a_target_that_answers_nothing_is_no_sample() -> None:
    quality = Quality()
    quality.add(Ping(target="t", sent=10, received=0))
    assert (quality.sent, quality.rtt.percentile(0.5), quality.loss_percent) == (0, None, None)


def test_a_day_is_split_by_its_opening_hours() -> None:
    found = [Interval(0, 100, "up", None, "tick"), Interval(100, 400, "down", "lan", "tick")]
    day = account(found, [(50, 150), (200, 250)])
    assert day.inside == {("up", None): 50, ("down", "lan"): 100}
    assert day.outside == {("up", None): 50, ("down", "lan"): 200}
    assert Day.from_json(day.to_json()) == day


def test_the_figures_of_the_mandate() -> None:
    """Degraded counts as up; off is no fault of the link; what is not connected counts in nothing."""
    found = figures(
        Counter(
            {("up", None): 800, ("degraded", "rtt"): 50, ("down", "dns"): 50, ("off", "power"): 80, ("unknown", None): 20}
            | {("unknown", "not-connected"): 500}
        )
    )
    assert found.link_availability == pytest.approx(850 / 900)
    assert found.service_availability == pytest.approx(0.85)
    assert found.coverage == pytest.approx(0.98)
    assert (found.open_s, found.not_connected_s, found.enough) == (1000, 500, True)


def test_too_little_is_known_for_a_figure() -> None:
    found = figures(Counter({("up", None): 80, ("unknown", None): 20}))
    assert (found.link_availability, found.service_availability, found.coverage) == (None, None, 0.8)
    assert figures(Counter()).coverage is None
