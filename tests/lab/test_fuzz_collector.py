"""The admission stands what the fuzzer makes."""

from kerege_lab import fuzz
from kerege_lab.fuzz_collector import Collector, admission

SEED = 7


def test_admission_answers_every_payload() -> None:
    """Accepted, refused or unreadable, whatever the bytes are; no exception comes out."""
    outcome = fuzz.fuzz(60, seed=SEED, targets=[admission()], cases=1500)
    assert (outcome.cases, outcome.crashes, outcome.outcomes["admit"]["taken"]) == (1500, [], 1500)


def test_the_fuzz_gets_past_the_readers() -> None:
    """Or it would prove nothing about what lies behind them."""
    collector = Collector()
    corpus = list(fuzz.valid_payloads(SEED))
    met = {collector.take(fuzz.case(SEED, number, corpus)) for number in range(1500)}
    assert met >= {"accepted", "unreadable"}
