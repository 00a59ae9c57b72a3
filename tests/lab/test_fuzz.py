"""The fuzzer: it finds what it is for, and what it finds can be made again."""

import json
from collections import Counter

import pytest

from kerege_lab import fuzz
from kerege_lab.fuzz import TARGETS, Target, case, valid_payloads
from kerege_wire import WireError, decode_report
from kerege_wire.codec import unpack

SEED = 5


def test_every_reader_stands_some_thousand_cases() -> None:
    """Nothing but WireError, and every reason for one has been met."""
    outcome = fuzz.fuzz(60, seed=SEED, cases=1500)
    assert (outcome.cases, outcome.calls, outcome.crashes) == (1500, 1500 * len(TARGETS), [])
    met = sum(outcome.outcomes.values(), Counter[str]())
    wanted = {"taken", "too-large", "unknown-codec", "not-deflate", "not-json", "bad-message", "bad-field", "empty"}
    assert wanted - set(met) <= {"empty"}


def test_what_the_cases_are_made_of_is_valid() -> None:
    """Or the fuzzer would only ever see the outermost layer."""
    for payload in valid_payloads(SEED):
        taken = 0
        for target in TARGETS:
            try:
                target.call(payload)
                taken += 1
            except WireError:
                continue
        assert taken


def test_a_case_is_made_again_from_its_number_and_the_seed() -> None:
    """That is all that a report of a crash needs."""
    corpus = list(valid_payloads(SEED))
    assert [case(SEED, number, corpus) for number in range(50)] == [case(SEED, number, list(valid_payloads(SEED))) for number in range(50)]
    assert case(SEED, 1, corpus) != case(SEED + 1, 1, corpus)


def test_another_exception_is_a_crash_told_with_its_payload(capsys: pytest.CaptureFixture[str]) -> None:
    """Once for each place where it comes out, and the exit status is 1."""

    def careless(payload: bytes) -> object:
        return unpack(payload)["records"][0][5]

    targets = [*TARGETS, Target("careless", careless)]
    assert fuzz.run(1, as_json=True, seed=SEED, targets=targets) == 1
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert figures["crashes"] == len(figures["found"]) > 0
    for found in figures["found"]:
        assert found["target"] == "careless"
        payload = bytes.fromhex(found["payload"])
        with pytest.raises((KeyError, IndexError, TypeError)):
            careless(payload)
        assert case(SEED, found["case"], list(valid_payloads(SEED))) == payload


def test_expected_exceptions_are_no_crash(capsys: pytest.CaptureFixture[str]) -> None:
    """Targets say themselves what may come out."""
    assert fuzz.run(0.3, as_json=False, seed=SEED, targets=[Target("report", decode_report)]) == 0
    assert "0 crashes" in capsys.readouterr().out
