"""Verdicts are measured against the truth second by second, alerts outage by outage."""

from kerege_collector.timeline import Interval
from kerege_lab.simulate.accuracy import Accuracy, accuracy, compared
from kerege_lab.simulate.truth import Fact

FACTS = [Fact(0, 100, "up", None), Fact(100, 200, "down", "provider"), Fact(200, 300, "off", "shutdown")]


def said(start_s: int, end_s: int, state: str, cause: str | None = None) -> Interval:
    return Interval(start_s, end_s, state, cause, "a rule")


def test_the_same_account_is_right_in_every_second() -> None:
    same = [said(*fact[:4]) for fact in FACTS]
    assert accuracy(FACTS, same) == Accuracy(300, 300, 300, 0, 0, 0)


def test_a_right_state_for_another_cause_is_half_right() -> None:
    found = accuracy(FACTS, [said(0, 100, "up"), said(100, 200, "down", "lan"), said(200, 300, "off", "shutdown")])
    assert (found.right_state_s, found.right_s) == (300, 200)


def test_what_is_missing_and_what_is_double_is_counted() -> None:
    found = accuracy(FACTS, [said(10, 100, "up"), said(90, 150, "down", "provider"), said(160, 290, "off", "shutdown")])
    assert (found.gaps_s, found.overlaps_s) == (10 + 10 + 10, 10)


def test_a_false_up_is_measured_across_causes_and_not_across_what_was_right() -> None:
    found = accuracy(
        FACTS, [said(0, 130, "up"), said(130, 170, "down", "provider"), said(170, 190, "up"), said(190, 300, "degraded", "rtt")]
    )
    assert found.longest_false_up_s == 130


def test_sides_are_cut_wherever_either_changes() -> None:
    cuts = [(each.start_s, each.end_s, each.said is None) for each in compared(FACTS, [said(50, 150, "up"), said(250, 300, "up")])]
    assert cuts == [(0, 50, True), (50, 100, False), (100, 150, False), (150, 200, True), (200, 250, True), (250, 300, False)]


def test_centers_add_up() -> None:
    assert Accuracy(1, 2, 3, 4, 5, 6) + Accuracy(10, 20, 30, 40, 50, 5) == Accuracy(11, 22, 33, 44, 55, 6)
