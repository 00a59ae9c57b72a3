"""A day of a small world goes through a real broker and the real collector, and the account of it is true."""

from dataclasses import replace
from pathlib import Path

import pytest

from kerege_lab import cli
from kerege_lab.simulate import command, driver, truth, world
from kerege_lab.simulate.report import Report, as_json, measure
from kerege_lab.simulate.world import BEGIN_S, Span

HOUR_S = 3600
CUT = Span(BEGIN_S + 3 * HOUR_S, BEGIN_S + 3 * HOUR_S + 2400, "provider")


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """One working day: the broker is away at eleven, the collector at four, and a library is cut off in between."""
    away = Span(BEGIN_S + 2 * HOUR_S, BEGIN_S + 2 * HOUR_S + 1200, "broker")
    closed = Span(BEGIN_S + 8 * HOUR_S, BEGIN_S + 8 * HOUR_S + 2400, "collector")
    whole = world.make(12, 5, 1)
    region = replace(whole, days=1, commons=(), broker_away=away, collector_away=closed, maintenance=Span(0, 0, "library-01"))
    region.scripts["library-02"].outages = [CUT]
    facts = {center: truth.facts(region, center) for center in region.places}
    days: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(driver, "WATCH_EVERY_S", 15)  # a third of the time
        directory = tmp_path_factory.mktemp("simulate")
        with driver.run(region, directory, days.append) as (ran, office), office.service.ledger.transaction() as connection:
            found = measure(connection, region, facts, ran)
    assert days == [0, 1]
    return found


def test_every_second_has_one_verdict_and_nearly_all_are_right(report: Report) -> None:
    assert (report.accuracy.seconds, report.accuracy.gaps_s, report.accuracy.overlaps_s) == (12 * 86_400, 0, 0)
    assert report.right_share >= 0.99
    assert report.accuracy.longest_false_up_s <= 66


def test_the_cut_is_told_and_our_own_absence_is_nobodys_fault(report: Report) -> None:
    assert report.alarms.outages >= 1
    assert (report.alarms.false_offline, report.alarms.missed_offline, report.alarms.untold) == ([], [], [])
    assert report.own_incidents == 1
    assert report.notices == report.ran.notices > 0


def test_every_record_is_acknowledged(report: Report) -> None:
    assert report.ran.records > 5000
    assert report.ran.left == 0


def test_its_figures_are_named_as_they_should_be(report: Report) -> None:
    figures = as_json(report)
    wanted = {"seconds", "right_state_share", "right_cause_share", "gaps_s", "overlaps_s", "false_offline", "missed_offline"}
    assert figures.keys() >= wanted | {"cut_to_notice_p50_s", "cut_to_notice_p95_s", "notices"}


@pytest.mark.parametrize("arguments", [["--centers", "3"], ["--days", "2"], ["--truth", "/nowhere/at/all"]])
def test_a_world_that_cannot_be_is_refused_before_anything_starts(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["simulate", *arguments]) == 2
    assert "kerege-lab simulate: " in capsys.readouterr().err


def test_the_truth_file_has_a_line_for_each_span(tmp_path: Path) -> None:
    region = world.make(12, 5, 1)
    facts = {center: truth.facts(region, center) for center in region.places}
    command.write_truth(tmp_path / "truth.jsonl", facts)
    assert len((tmp_path / "truth.jsonl").read_text().splitlines()) == sum(map(len, facts.values()))
