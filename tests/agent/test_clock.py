"""What time it is in a village: only the collector's answers say, and bad answers do no harm."""

import random
import sys

import pytest

from kerege_agent import clock
from kerege_agent.clock import ClockModel, Reading, Sample
from kerege_agent.estimate import EARLIEST_MS, Boot, estimate

T0_MS = 1_795_465_800_000
DAY_MS = 86_400_000


def answer(
    model: ClockModel,
    mono_ms: int,
    *,
    up_ms: int = 300,
    down_ms: int = 300,
    held_ms: int = 0,
    true_ms: int = T0_MS,
    quality: str = "synced",
    boot: str = "a",
) -> bool:
    """An answer that arrives at ``mono_ms``; true UTC is ``true_ms`` + mono."""
    sent_ms = mono_ms - up_ms - held_ms - down_ms
    received_ms = true_ms + sent_ms + up_ms
    return model.learn(
        sent_ms=sent_ms, received_ms=received_ms, replied_ms=received_ms + held_ms, arrived=Reading(boot, mono_ms, 0), quality=quality
    )


def test_nothing_is_known_before_the_first_answer() -> None:
    model = ClockModel()
    assert (model.offset_ms, model.best, model.utc_s(Reading("a", 5, 5))) == (None, None, None)


def test_an_answer_tells_the_time_to_half_its_round_trip() -> None:
    """With a way up four times as long as the way down the error is what the round trip allows, and the model knows it."""
    model = ClockModel()
    assert answer(model, 10_000, up_ms=800, down_ms=200)
    assert model.offset_ms is not None
    assert model.best is not None
    assert abs(model.offset_ms - T0_MS) == 300
    assert model.best.error_ms >= 300
    assert model.utc_s(Reading("a", 60_000, 0)) == (T0_MS + 60_000 + 300) // 1000


def test_an_ack_that_was_held_back_tells_the_time_too() -> None:
    model = ClockModel()
    assert answer(model, 400_000, held_ms=300_000)
    assert model.offset_ms == T0_MS


def test_short_round_trips_are_preferred() -> None:
    """A congested link's answer does not spoil what a quick one told, and a quick one replaces it."""
    model = ClockModel()
    answer(model, 10_000, up_ms=5_000, down_ms=200)
    answer(model, 20_000, up_ms=300, down_ms=300)
    answer(model, 30_000, up_ms=200, down_ms=4_000)
    assert model.offset_ms == T0_MS


def test_old_answers_give_way_because_clocks_drift() -> None:
    """After a day of 50 ppm of drift (4.3 s) the model follows the fresh answers, though they are slower than the first."""
    model = ClockModel()
    answer(model, 10_000, up_ms=10, down_ms=10)
    for hour in range(1, 25):
        drift_ms = hour * 3_600_000 * 50 // 1_000_000
        answer(model, hour * 3_600_000, up_ms=300, down_ms=300, true_ms=T0_MS + drift_ms)
    assert model.offset_ms is not None
    assert abs(model.offset_ms - (T0_MS + 4320)) < 400


def test_a_clock_that_stood_still_is_seen() -> None:
    """A virtual machine that was paused: answers contradict what was known, and win."""
    model = ClockModel()
    answer(model, 10_000)
    answer(model, 60_000, true_ms=T0_MS + 120_000)
    assert model.offset_ms == T0_MS + 120_000


@pytest.mark.parametrize(
    ("sent_ms", "received_ms", "replied_ms"),
    [
        (20_000, T0_MS, T0_MS),  # sent after it came back
        (1_000, T0_MS + 5_000, T0_MS),  # replied before it was received
        (9_000, T0_MS, T0_MS + 60_000),  # held back for longer than the whole way took
        (10_000 - 700_000, T0_MS, T0_MS),  # a round trip of twelve minutes
    ],
)
def test_impossible_answers_are_not_believed(sent_ms: int, received_ms: int, replied_ms: int) -> None:
    model = ClockModel()
    assert not model.learn(sent_ms=sent_ms, received_ms=received_ms, replied_ms=replied_ms, arrived=Reading("a", 10_000, 0))
    assert model.offset_ms is None


def test_a_collector_in_doubt_does_not_overrule_one_that_was_sure() -> None:
    """Answers of an unsynchronised collector count only while there is nothing better, or what is better is hours old."""
    model = ClockModel()
    answer(model, 10_000, quality="unsynced", true_ms=T0_MS + 5 * DAY_MS)
    assert model.best is not None
    assert model.best.quality == "unsynced"
    answer(model, 20_000)
    assert (model.offset_ms, model.best.quality) == (T0_MS, "synced")
    answer(model, 30_000, quality="unsynced", true_ms=T0_MS + 5 * DAY_MS)
    assert (model.offset_ms, model.best.quality) == (T0_MS, "synced")
    answer(model, 30_000 + 7 * 3_600_000, quality="unsynced", true_ms=T0_MS + DAY_MS)
    assert (model.offset_ms, model.best.quality) == (T0_MS + DAY_MS, "unsynced")


def test_another_boot_knows_nothing_of_this_one() -> None:
    model = ClockModel()
    answer(model, 10_000)
    assert model.utc_s(Reading("b", 20_000, 0)) is None
    answer(model, 5_000, boot="b", true_ms=T0_MS + DAY_MS)
    assert model.utc_s(Reading("b", 20_000, 0)) == (T0_MS + DAY_MS + 20_000) // 1000
    assert model.utc_s(Reading("a", 20_000, 0)) is None


def test_what_was_learned_can_be_restored() -> None:
    model = ClockModel()
    model.restore(Sample("a", T0_MS, 300, 10_000, "synced"))
    assert model.utc_s(Reading("a", 20_000, 0)) == (T0_MS + 20_000) // 1000


def test_the_real_clocks_read() -> None:
    """On this very machine: monotonic goes on, the boot stays the same, the boot id is the system's where it has one."""
    first, second = clock.read(), clock.read()
    assert first.boot_id == second.boot_id
    assert first.mono_ms <= second.mono_ms
    if sys.platform == "linux":
        assert first.boot_id == clock.BOOT_ID_FILE.read_text().strip()
        assert clock.counts_since_boot()


def test_without_a_boot_id_a_missed_suspend_begins_a_new_timeline() -> None:
    """Wall and monotonic clock that part by more than 5 s between two readings: another boot id; small steps change nothing."""
    own = clock._OwnBoot()
    first = own.name_for(1_000, T0_MS)
    assert own.name_for(61_000, T0_MS + 60_500) == first
    assert own.name_for(62_000, T0_MS + 61_500 + 3_600_000) != first
    assert clock._OwnBoot().name_for(0, 0) != first


# --- boots that never met the collector ---

NO_CLOCK = -9 * 365 * DAY_MS
"""Wall minus monotonic of a PC whose battery is dead: somewhere long ago."""


def test_a_boot_between_two_known_ones_lies_in_the_middle() -> None:
    """Known until 0, known again from 100: a boot of 20 with a useless wall clock lies from 40 to 60, give or take 40."""
    (placed,) = estimate([Boot(0, 20_000, NO_CLOCK)], lower_ms=T0_MS, upper_ms=T0_MS + 100_000)
    assert (placed.offset_ms - T0_MS, placed.within_ms) == (40_000, 40_000)


def test_a_wall_clock_that_fits_is_believed() -> None:
    (placed,) = estimate([Boot(0, 20_000, T0_MS + 7_000)], lower_ms=T0_MS, upper_ms=T0_MS + 100_000)
    assert (placed.offset_ms - T0_MS, placed.within_ms) == (7_000, 73_000)


@pytest.mark.parametrize("wall_ms", [T0_MS - 1_000, T0_MS + 81_000])
def test_a_wall_clock_that_contradicts_the_bounds_is_not_believed(wall_ms: int) -> None:
    (placed,) = estimate([Boot(0, 20_000, wall_ms)], lower_ms=T0_MS, upper_ms=T0_MS + 100_000)
    assert placed.offset_ms - T0_MS == 40_000


def test_boots_in_a_row_keep_their_order_and_durations() -> None:
    """Three boots of 10, 20 and 30 between 0 and 100: one after the other, none overlaps."""
    boots = [Boot(0, 10_000, NO_CLOCK), Boot(0, 20_000, NO_CLOCK), Boot(0, 30_000, NO_CLOCK)]
    placed = [place.offset_ms - T0_MS for place in estimate(boots, lower_ms=T0_MS, upper_ms=T0_MS + 100_000)]
    assert placed == [20_000, 30_000, 50_000]


def test_a_believed_boot_pushes_its_neighbours() -> None:
    """The second of three has a good clock: the first lies before it, the third after it."""
    boots = [Boot(0, 10_000, NO_CLOCK), Boot(0, 20_000, T0_MS + 15_000), Boot(0, 30_000, NO_CLOCK)]
    placed = [place.offset_ms - T0_MS for place in estimate(boots, lower_ms=T0_MS, upper_ms=T0_MS + 100_000)]
    assert placed == [2_500, 15_000, 52_500]


def test_two_wall_clocks_in_the_wrong_order_are_not_both_believed() -> None:
    boots = [Boot(0, 10_000, T0_MS + 60_000), Boot(0, 10_000, T0_MS + 20_000)]
    first, second = estimate(boots, lower_ms=T0_MS, upper_ms=T0_MS + 100_000)
    assert first.offset_ms - T0_MS == 60_000
    assert second.offset_ms >= first.offset_ms + 10_000


def test_with_nothing_known_before_it_the_latest_time_is_taken() -> None:
    """The very first boots: not the middle of all the years since 2020; and the possible error says how little is known."""
    boots = [Boot(0, 10_000, NO_CLOCK), Boot(0, 20_000, NO_CLOCK)]
    first, second = estimate(boots, lower_ms=None, upper_ms=T0_MS)
    assert (T0_MS - first.offset_ms, T0_MS - second.offset_ms) == (30_000, 20_000)
    assert first.within_ms == first.offset_ms - EARLIEST_MS


def test_a_lower_bound_that_was_wrong_is_dropped() -> None:
    """A collector whose clock had been ahead dated the record before: the boot still lies before the next known one."""
    (placed,) = estimate([Boot(0, 20_000, NO_CLOCK)], lower_ms=T0_MS + DAY_MS, upper_ms=T0_MS)
    assert placed.offset_ms == T0_MS - 20_000


def test_estimates_never_leave_the_bounds() -> None:
    """Whatever the wall clocks say: inside the bounds, in order, and the true time within the error that is claimed."""
    chance = random.Random(7)
    for _ in range(500):
        true_ms, boots, truth = T0_MS, [], []
        for _ in range(chance.randrange(1, 6)):
            true_ms += chance.randrange(1, 50_000)
            length = chance.randrange(0, 50_000)
            truth.append(true_ms)
            boots.append(Boot(0, length, true_ms + chance.choice([0, 0, NO_CLOCK, chance.randrange(-90_000, 90_000)])))
            true_ms += length
        upper_ms = true_ms + chance.randrange(0, 50_000)
        before_ms = T0_MS
        for boot, placed, real in zip(boots, estimate(boots, lower_ms=T0_MS, upper_ms=upper_ms), truth, strict=True):
            assert before_ms <= placed.offset_ms
            before_ms = placed.offset_ms + boot.last_ms
            assert abs(placed.offset_ms - real) <= placed.within_ms
        assert before_ms <= upper_ms
