"""The size bars of the wire, on what a steady agent with default settings says."""

import json
from collections import Counter

import pytest

from kerege_agent.probes import PROBES
from kerege_lab.bench import wire
from kerege_lab.bench.mix import LINKS, SETTINGS, lone_tick, mixed_report
from kerege_wire import Tick, decode_report, encode_report, kind_of

SEEDS = range(120)


@pytest.mark.parametrize("link", LINKS)
def test_one_tick_alone_has_at_most_64_bytes(link: str) -> None:
    """On every kind of link, in trouble or not."""
    assert max(len(encode_report(lone_tick(seed, link=link))) for seed in SEEDS) <= 64


@pytest.mark.parametrize("link", LINKS)
def test_25_mixed_records_have_at_most_400_bytes(link: str) -> None:
    """On every kind of link; the largest of many centers counts."""
    assert max(len(encode_report(mixed_report(seed, link=link))) for seed in SEEDS) <= 400


def test_the_mix_has_the_agents_own_cadence() -> None:
    """Over many centers each kind comes as often as its default interval, and the number of targets of a run, say."""
    counted = Counter(kind_of(record.body) for seed in range(200) for record in mixed_report(seed, count=100).records)
    probes = SETTINGS.probes
    a_run = {"ping": probes.ping.targets_per_run}
    per_hour = {kind: 3600 / getattr(probes, kind).interval_s * a_run.get(kind, 1) for kind in PROBES if kind != "boot"}
    assert set(counted) == set(per_hour)
    for kind, often in per_hour.items():
        assert counted[kind] / counted.total() == pytest.approx(often / sum(per_hour.values()), rel=0.1)


def test_the_mix_is_valid_rounded_and_comes_again() -> None:
    """What is sent is what is read, and the same seed is the same center."""
    for seed in range(20):
        report = mixed_report(seed)
        assert decode_report(encode_report(report)) == report
        assert len(report.records) == 25
        assert mixed_report(seed) == report != mixed_report(seed + 1)
    [tick] = lone_tick(1).records
    assert isinstance(tick.body, Tick)
    assert tick.body.gateway_rtt_ms == float(f"{tick.body.gateway_rtt_ms:.2g}")


def test_the_bench_prints_its_figures_and_judges_them(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """One JSON object as the last line; 1 where a bar is broken."""
    for name, few in (("SEEDS", 3), ("TIMED_ROUNDS", 2), ("TIMED_CALLS", 20)):
        monkeypatch.setattr(wire, name, few)
    assert wire.run(as_json=True) == 0
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert 0 < figures["tick_bytes"] <= 64
    assert 64 < figures["batch25_bytes"] <= 400
    assert figures["batch25_json_bytes"][0] > 3000
    assert min(value for name, value in figures.items() if name.endswith("_us")) > 0
    monkeypatch.setattr(wire, "MAX_BATCH25_BYTES", 100)
    assert wire.run(as_json=False) == 1
    assert "a bar is broken" in capsys.readouterr().out
