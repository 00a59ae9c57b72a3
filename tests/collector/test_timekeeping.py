"""The collector's own clock: what the kernel says, what is said of it, and how often."""

import ctypes
import logging
import sys

import pytest

from kerege_collector.timekeeping import (
    CHECK_EVERY_S,
    NTP_PHASE_LIMIT_US,
    STA_UNSYNC,
    TIME_ERROR,
    ClockState,
    Timekeeper,
    ask_kernel,
    judge,
    look,
)

GOOD = ClockState(True, "synchronised", 12.0, 3.0)
BAD = ClockState(False, "not synchronised, says the kernel", 16000.0, 16000.0)
UNKNOWN = ClockState(None, "the kernel does not answer")


class Kernel:
    """Answers as it is told to, and counts."""

    def __init__(self, answer: ClockState) -> None:
        self.answer = answer
        self.asked = 0

    def __call__(self) -> ClockState:
        self.asked += 1
        return self.answer


@pytest.mark.parametrize(
    ("state", "status", "max_error_us", "synchronised"),
    [
        (0, 0, 12_000, True),
        (1, 0, 12_000, True),  # a leap second is announced
        (TIME_ERROR, 0, 12_000, False),
        (0, STA_UNSYNC, 12_000, False),
        (0, 0x2001 | STA_UNSYNC, 12_000, False),
        (0, 0x2001, 12_000, True),
        (0, 0, NTP_PHASE_LIMIT_US, False),
    ],
)
def test_what_adjtimex_says_is_understood(state: int, status: int, max_error_us: int, synchronised: bool) -> None:
    found = judge(state, status, max_error_us, 3_000)
    assert (found.synchronised, found.max_error_ms, found.estimated_error_ms) == (synchronised, max_error_us / 1000, 3.0)


def test_the_kernel_of_this_machine_can_be_asked() -> None:
    """Reading needs no privilege; the answer agrees with the kernel's own structure."""
    found = ask_kernel()
    if sys.platform != "linux":
        assert found.synchronised is None
        return
    raw = (ctypes.c_long * 64)()
    state = ctypes.CDLL(None).adjtimex(raw)
    assert found.max_error_ms == pytest.approx(raw[3] / 1000, abs=600)  # it grows by half a millisecond a second
    assert found.synchronised == (state != TIME_ERROR and not raw[5] & STA_UNSYNC and raw[3] < NTP_PHASE_LIMIT_US)


def test_a_kernel_that_refuses_to_answer_makes_the_clock_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container or a sandbox that forbids the call."""

    class Libc:
        @staticmethod
        def adjtimex(_: object) -> int:
            ctypes.set_errno(1)
            return -1

    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: Libc)
    found = ask_kernel()
    assert found.synchronised is None
    assert "Operation not permitted" in found.detail


@pytest.mark.parametrize("libc", [object(), None])
def test_a_system_without_adjtimex_makes_the_clock_unknown(monkeypatch: pytest.MonkeyPatch, libc: object) -> None:
    def load(*_: object, **__: object) -> object:
        if libc is None:
            raise OSError("no such library")
        return libc

    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(ctypes, "CDLL", load)
    assert ask_kernel().synchronised is None


@pytest.mark.parametrize(("answer", "quality"), [(GOOD, "synced"), (BAD, "unsynced"), (UNKNOWN, "unsynced")])
def test_only_a_clock_that_is_known_to_be_right_is_synced(answer: ClockState, quality: str) -> None:
    assert Timekeeper("kernel", ask=Kernel(answer)).quality() == quality


@pytest.mark.parametrize("answer", [GOOD, BAD, UNKNOWN])
def test_a_clock_that_the_settings_trust_is_synced_and_what_the_kernel_says_is_still_told(answer: ClockState) -> None:
    found = look("always", Kernel(answer))
    assert found.synchronised is True
    assert answer.detail in found.detail


@pytest.fixture
def clock() -> list[float]:
    """The time, which a test may set."""
    return [0.0]


def test_the_kernel_is_asked_once_a_minute_however_many_want_to_know(clock: list[float]) -> None:
    kernel = Kernel(GOOD)
    keeper = Timekeeper("kernel", ask=kernel, now_s=lambda: clock[0])
    for second in range(181):
        clock[0] = float(second)
        keeper.quality()
    assert kernel.asked == 1 + 180 // CHECK_EVERY_S


def test_a_clock_that_is_not_synchronised_is_said_loudly_each_hour_and_once_more_when_it_is(
    clock: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    kernel = Kernel(BAD)
    keeper = Timekeeper("kernel", ask=kernel, now_s=lambda: clock[0])
    with caplog.at_level(logging.INFO):
        for minute in range(121):
            clock[0] = 60.0 * minute
            keeper.state()
        kernel.answer = GOOD
        clock[0] += 60.0
        assert keeper.quality() == "synced"
    said = [record.getMessage() for record in caplog.records]
    assert said == ["clock.not_synchronised"] * 3 + ["clock.synchronised_again"]
    assert {record.levelno for record in caplog.records[:3]} == {logging.ERROR}
