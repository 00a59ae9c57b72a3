"""What Prometheus sees."""

import re
from pathlib import Path

import pytest

from kerege_collector.metrics import PAYLOAD_OUTCOMES, RECORD_OUTCOMES, Metrics

WIRE = Path(__file__).parents[2] / "docs" / "wire.md"


def values(metrics: Metrics) -> dict[str, float]:
    lines = metrics.text().decode().splitlines()
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if not line.startswith("#"))}


def test_every_outcome_is_counted_from_zero_on() -> None:
    """A counter that is not there looks like a zero that nobody counted."""
    found = values(Metrics())
    for outcome in RECORD_OUTCOMES:
        assert found[f'kerege_records_total{{outcome="{outcome}"}}'] == 0
    for outcome in PAYLOAD_OUTCOMES:
        assert found[f'kerege_payloads_total{{outcome="{outcome}"}}'] == 0


def test_the_names_and_outcomes_in_the_wires_documentation_exist() -> None:
    text = WIRE.read_text()
    metrics = Metrics()
    metrics.store_failure("store", "unreachable")
    known = {name.partition("{")[0] for name in values(metrics)}
    named = set(re.findall(r"kerege_[a-z_]+_total", text))
    assert named
    assert named <= known
    outcomes = set(re.findall(r'outcome="([a-z-]+)"', text))
    assert outcomes
    assert outcomes <= {*RECORD_OUTCOMES, *PAYLOAD_OUTCOMES}


def test_what_is_told_is_counted() -> None:
    metrics = Metrics()
    metrics.records("accepted", 3)
    metrics.records("accepted", 4)
    metrics.payloads("unreadable", 2)
    metrics.store_failure("ledger", "disk-full")
    metrics.batch(0.3, 7)
    found = values(metrics)
    assert found['kerege_records_total{outcome="accepted"}'] == 7
    assert found['kerege_payloads_total{outcome="unreadable"}'] == 2
    assert found['kerege_store_failures_total{place="ledger",reason="disk-full"}'] == 1
    assert (found["kerege_batch_seconds_count"], found['kerege_batch_seconds_bucket{le="0.25"}']) == (1, 0)
    assert found["kerege_batch_records_total"] == 7


def test_gauges_are_asked_when_somebody_looks_and_not_before() -> None:
    metrics = Metrics()
    asked: list[str] = []

    def ask(name: str) -> float:
        asked.append(name)
        return 5.0

    metrics.watch("kerege_one", "One", lambda: ask("one"))
    metrics.watch_each("kerege_each", "Each", "part", {"a": lambda: ask("a"), "b": lambda: ask("b")})
    metrics.watch_together("kerege_together", "Together", "state", lambda: {"up": ask("together"), "down": 0.0})
    assert asked == []
    found = values(metrics)
    assert sorted(asked) == ["a", "b", "one", "together"]
    assert (found["kerege_one"], found['kerege_each{part="b"}'], found['kerege_together{state="up"}']) == (5.0, 5.0, 5.0)


def test_no_label_can_be_invented_by_whoever_writes_to_the_broker() -> None:
    with pytest.raises(KeyError):
        Metrics().records("somebody's own words", 1)


def test_the_process_itself_is_measured_and_no_creation_times_are_told() -> None:
    names = values(Metrics())
    assert "process_resident_memory_bytes" in names
    assert not [name for name in names if "_created" in name]
