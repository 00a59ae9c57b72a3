"""The arithmetic of the probes: rounding, percentiles, jitter, counters, the plan's month. And the words for what goes wrong."""

import errno
import socket
import ssl
import statistics
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerege_agent.probes.account import Account
from kerege_agent.probes.limited import MAX_THREADS, within
from kerege_agent.probes.meter import Counters, Meter, grown
from kerege_agent.probes.ping import jitter_ns, percentile
from kerege_agent.probes.plan import period_of
from kerege_agent.probes.rounding import significant, significant_ms
from kerege_agent.probes.words import words_of
from kerege_agent.timezones import zone
from kerege_wire import Tick, encode_report
from kerege_wire.messages import Record, Report


@pytest.mark.parametrize(
    ("value", "rounded"),
    [(0.0, 0.0), (0.0012345, 0.00123), (0.73149, 0.731), (9.996, 10.0), (612.34, 612.0), (61234.5, 61200.0), (-1.2345, -1.23)],
)
def test_numbers_have_three_significant_digits(value: float, rounded: float) -> None:
    """Half a percent at worst, whatever the size."""
    assert significant(value) == rounded


@given(st.floats(min_value=1e-6, max_value=1e9))
def test_rounding_is_half_a_percent_wrong_at_worst(value: float) -> None:
    """Three digits, and no more in the JSON than three digits and a point."""
    assert abs(significant(value) - value) <= 0.005 * value
    assert significant(significant(value)) == significant(value)


def test_a_duration_is_told_in_milliseconds() -> None:
    """Nanoseconds in, milliseconds out."""
    assert significant_ms(1_234_567) == 1.23


def test_percentiles_are_nearest_rank() -> None:
    """The definition, on its textbook example, and the edges."""
    assert [percentile([15, 20, 35, 40, 50], percent) for percent in (5, 30, 40, 50, 100)] == [15, 20, 20, 35, 50]
    assert percentile([7], 95) == 7
    assert percentile(list(range(1, 21)), 95) == 19
    assert percentile(list(range(1, 11)), 95) == 10


@given(st.lists(st.integers(min_value=0, max_value=10**12), min_size=1, max_size=50), st.integers(min_value=1, max_value=100))
def test_a_percentile_is_a_value_that_enough_values_do_not_exceed(values: list[int], percent: int) -> None:
    """It is one of the values, and the smallest that satisfies the definition."""
    found = percentile(values, percent)
    share = sum(value <= found for value in values) / len(values)
    assert found in values
    assert share * 100 >= percent - 1e-9
    assert all(sum(value <= smaller for value in values) / len(values) * 100 < percent for smaller in values if smaller < found)


def test_jitter_is_that_of_rfc_3550() -> None:
    """J := J + (|D| - J) / 16, by hand for three round trips."""
    first = 16 / 16
    assert jitter_ns([100, 116]) == first
    assert jitter_ns([100, 116, 100]) == first + (16 - first) / 16
    assert jitter_ns([5]) == 0


@given(st.lists(st.integers(min_value=0, max_value=10**9), min_size=2, max_size=40))
def test_jitter_never_exceeds_the_largest_step(rtts_ns: list[int]) -> None:
    """It is a mean of steps, begun at zero."""
    assert 0 <= jitter_ns(rtts_ns) <= max(rtts_ns) - min(rtts_ns)
    assert statistics.pstdev(rtts_ns) > 0 or jitter_ns(rtts_ns) == 0


@pytest.mark.parametrize(
    ("moment", "reset_day", "period"),
    [
        ("2026-11-15T12:00", 1, "2026-11-01"),
        ("2026-10-31T18:59", 1, "2026-10-01"),
        ("2026-10-31T19:00", 1, "2026-11-01"),  # midnight in Almaty, UTC+5
        ("2026-11-14T12:00", 15, "2026-10-15"),
        ("2026-01-02T12:00", 15, "2025-12-15"),
        ("2026-02-28T12:00", 31, "2026-02-28"),
        ("2026-03-30T12:00", 31, "2026-02-28"),
        ("2028-02-29T12:00", 30, "2028-02-29"),
    ],
)
def test_a_plan_starts_anew_at_local_midnight_of_its_day(moment: str, reset_day: int, period: str) -> None:
    """Also over the turn of the year, and in months that are too short."""
    utc_s = datetime.fromisoformat(moment).replace(tzinfo=UTC).timestamp()
    assert period_of(utc_s, timezone="Asia/Almaty", reset_day=reset_day) == period


def test_kazakhstan_has_one_zone_since_2024() -> None:
    """The shipped data knows the change of 1 March 2024, whatever the machine's own data says."""
    for name in ("Asia/Almaty", "Asia/Qostanay", "Asia/Oral"):
        offset = datetime(2026, 7, 1, tzinfo=zone(name)).utcoffset()
        assert offset is not None
        assert offset.total_seconds() == 5 * 3600
    before = datetime(2024, 2, 1, tzinfo=zone("Asia/Almaty")).utcoffset()
    assert before is not None
    assert before.total_seconds() == 6 * 3600


@pytest.mark.parametrize("name", ["", "/etc/passwd", "Asia/../Asia/Almaty", "Asia/Nowhere", "Asia"])
def test_what_is_no_zone_is_refused(name: str) -> None:
    """A name from a settings file opens no other file."""
    with pytest.raises((OSError, ValueError)):
        zone(name)


def counters(at_s: float, received: int, sent: int = 0, interface: str = "eth0") -> Counters:
    return Counters(interface, int(at_s * 1000), received, sent)


def test_a_meter_adds_up_and_keeps_the_steepest_step() -> None:
    """1 MB in the first ten seconds, 3 MB in the next: the peak is 2400 kbit/s."""
    meter = Meter(counters(0, 500), 0)
    meter = meter.after(counters(10, 1_000_500, 100), shortest_step_s=5).after(counters(20, 4_000_500, 200), shortest_step_s=5)
    assert (meter.interval_s, meter.received_bytes, meter.sent_bytes) == (20, 4_000_000, 200)
    assert meter.received_peak_kbps == 2400
    assert meter.sent_peak_kbps == 0.08


def test_a_short_step_counts_bytes_but_makes_no_peak() -> None:
    """A burst of a tenth of a second is no rate."""
    meter = Meter(counters(0, 0), 0).after(counters(0.1, 100_000), shortest_step_s=5)
    assert (meter.received_bytes, meter.received_peak_kbps) == (100_000, None)


def test_a_counter_that_goes_backwards_was_reset() -> None:
    """The driver was loaded anew: what it has counted since is counted."""
    meter = Meter(counters(0, 1_000_000), 0).after(counters(10, 300), shortest_step_s=5)
    assert meter.received_bytes == 300
    assert grown(5, 5) == 0


def test_another_interface_brings_no_past_with_it() -> None:
    """When the default route moves, the other interface's bytes since boot are not this interval's."""
    meter = Meter(counters(0, 1000), 0).after(counters(10, 9_000_000, interface="wwan0"), shortest_step_s=5)
    assert meter.received_bytes == 0
    assert meter.after(counters(20, 9_000_100, interface="wwan0"), shortest_step_s=5).received_bytes == 100


def test_an_emptied_meter_loses_no_byte() -> None:
    """The next interval begins where the last one ended."""
    meter = Meter(counters(0, 0), 0).after(counters(10, 700), shortest_step_s=5).emptied().after(counters(20, 1000), shortest_step_s=5)
    assert (meter.interval_s, meter.received_bytes) == (10, 300)


def test_a_plan_is_known_from_the_first_reset_day_that_was_seen() -> None:
    """What was used before counting began is not known, so nothing is said before the next reset day."""
    account = Account().entered(100, period="2026-10-01", counters=counters(0, 100), boot_id="a")
    assert (account.whole, account.used_bytes) == (False, 100)
    account = account.entered(50, period="2026-11-01", counters=counters(300, 150), boot_id="a")
    assert (account.whole, account.used_bytes) == (True, 50)
    account = account.entered(25, period="2026-11-01", counters=counters(600, 175), boot_id="a")
    assert (account.whole, account.used_bytes) == (True, 75)


def test_a_plan_without_a_date_goes_on_in_its_month() -> None:
    """While the time is not known no month begins."""
    account = Account(used_bytes=70, period="2026-11-01", whole=True).entered(5, period=None, counters=counters(0, 5), boot_id="a")
    assert (account.used_bytes, account.period, account.whole) == (75, "2026-11-01", True)


def test_a_date_that_goes_backwards_makes_the_use_unknown() -> None:
    """Either the date was wrong before or it is now."""
    account = Account(used_bytes=70, period="2027-01-01", whole=True).entered(5, period="2026-11-01", counters=counters(0, 5), boot_id="a")
    assert (account.used_bytes, account.period, account.whole) == (5, "2026-11-01", False)


def test_what_passed_while_the_agent_was_away_belongs_to_the_plan() -> None:
    """In the same boot the difference of the counters, after another boot all that they show, on another interface nothing."""
    account = Account(boot_id="a", interface="eth0", received_bytes=1000, sent_bytes=10)
    assert account.missed_bytes(counters(0, 1500, 30), "a") == 520
    assert account.missed_bytes(counters(0, 700, 30), "b") == 730
    assert account.missed_bytes(counters(0, 700, 30, interface="wlan0"), "b") == 0
    assert Account().missed_bytes(counters(0, 700), "b") == 0


@pytest.mark.parametrize(
    "kept", [{}, {"used_bytes": "many"}, {"period": 3}, Account().kept() | {"used_bytes": None}, Account().kept() | {"more": 1}]
)
def test_an_account_that_is_not_ours_is_not_believed(kept: dict[str, object]) -> None:
    """A damaged spool may hand back anything."""
    assert Account.restored(kept) == Account()


def test_an_account_comes_back_as_it_was_kept() -> None:
    """What is kept is what is restored."""
    account = Account(5, "2026-11-01", whole=True, boot_id="a", interface="eth0", received_bytes=3, sent_bytes=2)
    assert Account.restored(account.kept()) == account


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (TimeoutError(), "timeout"),
        (OSError(errno.ENETUNREACH, "x"), "no route"),
        (OSError(errno.ENETDOWN, "x"), "no route"),
        (OSError(errno.EHOSTUNREACH, "x"), "unreachable"),
        (ConnectionRefusedError(errno.ECONNREFUSED, "x"), "refused"),
        (ConnectionResetError(errno.ECONNRESET, "x"), "reset"),
        (PermissionError(errno.EPERM, "x"), "not permitted"),
        (socket.gaierror(socket.EAI_NONAME, "x"), "name not known"),
        (socket.gaierror(socket.EAI_AGAIN, "x"), "no resolver answers"),
        (OSError(10051, "x"), "no route"),  # as Windows says it
        (ssl.SSLError(1, "wrong version number"), "SSLError: wrong version number"),
        (ValueError("bad\x00\nthing \ud800"), "ValueError: bad  thing ?"),
        (ValueError("x" * 500), "ValueError: " + "x" * 188),
    ],
)
def test_the_same_trouble_has_the_same_words_everywhere(error: Exception, words: str) -> None:
    """And any words can travel."""
    assert words_of(error) == words
    encode_report(Report(epoch="a" * 8, records=(Record(1, 1_800_000_000, Tick(error=words)),)))


def test_a_call_within_its_limit_gives_its_result() -> None:
    """The result, or the exception, is the caller's."""
    assert within(5, lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        within(5, lambda: 1 / 0)


def test_calls_that_hang_are_left_behind_and_not_without_end() -> None:
    """Each takes its time limit and no more; when too many hang, the next one fails at once; when they end, all is well again."""
    release = threading.Event()
    for _ in range(MAX_THREADS):
        with pytest.raises(TimeoutError):
            within(0.01, release.wait)
    with pytest.raises(TimeoutError, match="too many"):
        within(60, lambda: None)
    release.set()
    deadline_s = time.monotonic() + 5
    while time.monotonic() < deadline_s:  # until the first of those threads has ended
        with suppress(TimeoutError):
            assert within(5, lambda: 1) == 1
            return
    pytest.fail("the calls that hung have not given their places back")
