"""Traffic: what really passed an interface, and what the plan has given."""

import json
import socket
import sys
import threading
import time
from pathlib import Path

import pytest

from kerege_agent.probes import Context, traffic
from kerege_agent.probes.meter import Counters
from kerege_agent.settings import Traffic
from tests.agent.probe_world import (
    HAVE_NAMESPACES,
    NEEDS_NAMESPACES,
    FakeClock,
    FakeSpool,
    context_of,
    loopback_settings,
    namespace,
    settings_file,
)

MB = 1_000_000
NOVEMBER_MS = 1_794_000_000_000
"""2026-11-06."""


def send_over_loopback(count: int) -> None:
    """At least ``count`` bytes over the interface lo."""
    with socket.socket() as listening, socket.socket() as sending:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        sending.connect(listening.getsockname())
        receiving, _ = listening.accept()
        with receiving:
            reader = threading.Thread(target=lambda: receiving.recv(count, socket.MSG_WAITALL))
            reader.start()
            sending.sendall(bytes(count))
            reader.join()


@pytest.mark.skipif(sys.platform != "linux", reason="the loopback has no counters there")
@pytest.mark.platform_specific("the loopback has counters on Linux")
def test_what_passed_is_counted() -> None:
    """A megabyte over the loopback is at least a megabyte in both directions."""
    context = context_of()
    traffic.sample(context)
    send_over_loopback(MB)
    time.sleep(0.01)
    [record] = traffic.measure(context)
    assert (record.interface, record.error) == ("lo", None)
    assert record.received_bytes is not None
    assert record.sent_bytes is not None
    assert record.interval_s is not None
    assert MB < record.received_bytes < 100 * MB
    assert MB < record.sent_bytes < 100 * MB
    assert 0 < record.interval_s < 60


def test_without_an_interval_the_probe_waits_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run by hand it has never looked at the counters: it looks twice, and never divides by nothing."""
    monkeypatch.setattr(traffic, "FIRST_INTERVAL_S", 0.02)
    [record] = traffic.measure(context_of(loopback_settings(traffic=Traffic(interface="lo"))))
    assert record.error is None
    assert record.interval_s is not None
    assert record.interval_s >= 0.02


class Interface:
    """An interface whose counters a test sets."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock = FakeClock()
        self.received = 0
        self.sent = 0
        monkeypatch.setattr(traffic, "read_counters", self.read)
        monkeypatch.setattr(traffic, "counts_since_boot", lambda: True)

    def read(self, context: Context) -> Counters | str:
        return Counters("eth0", self.clock.mono_ms, self.received, self.sent)

    def passes(self, seconds: float, received: int, sent: int = 0) -> None:
        self.clock.mono_ms += int(seconds * 1000)
        self.received += received
        self.sent += sent


@pytest.fixture
def interface(monkeypatch: pytest.MonkeyPatch) -> Interface:
    return Interface(monkeypatch)


def test_the_peak_is_the_steepest_of_the_samples(interface: Interface) -> None:
    """300 s with one busy ten seconds in it."""
    context = context_of(read=interface.clock)
    traffic.sample(context)
    for second in range(30):
        interface.passes(10, 2_500_000 if second == 7 else 1000, 10)
        traffic.sample(context)
    [record] = traffic.measure(context)
    assert (record.interval_s, record.received_bytes, record.sent_bytes) == (300, 2_500_000 + 29_000, 300)
    assert (record.received_peak_kbps, record.sent_peak_kbps) == (2000, 0.008)


def test_intervals_meet_without_a_gap(interface: Interface) -> None:
    """What is sampled after a record belongs to the next one; the sum of all is what passed."""
    context = context_of(read=interface.clock)
    traffic.sample(context)
    total = 0
    for _ in range(5):
        interface.passes(7, 900)
        traffic.sample(context)
        interface.passes(3, 100)
        [record] = traffic.measure(context)
        assert record.received_bytes is not None
        total += record.received_bytes
    assert total == interface.received == 5000


def test_the_plan_survives_the_agent_and_the_power(interface: Interface) -> None:
    """A new agent in the same boot adds what passed meanwhile; after a reboot the counters began at nothing."""
    spool = FakeSpool()

    def agent() -> Context:
        context = context_of(read=interface.clock, spool=spool, clock_offset_ms=lambda: NOVEMBER_MS)
        traffic.sample(context)
        return context

    first = agent()
    interface.passes(300, 10 * MB)
    assert traffic.measure(first)[0].plan_used_mb is None  # the month began before anybody counted
    spool.accounts["plan"]["whole"] = True
    interface.passes(300, 1 * MB)
    assert traffic.measure(first)[0].plan_used_mb == 11.0
    interface.passes(300, 5 * MB)  # nobody looks
    second = agent()
    interface.passes(300, 2 * MB)
    assert traffic.measure(second)[0].plan_used_mb == 18.0
    interface.clock.boot_id, interface.received, interface.sent = "another", 3 * MB, 0
    third = agent()
    interface.passes(300, 1 * MB, 1 * MB)
    assert traffic.measure(third)[0].plan_used_mb == 23.0
    interface.passes(300, 0)
    assert traffic.measure(third)[0].plan_used_mb == 23.0


def test_a_new_month_begins_on_the_reset_day(interface: Interface) -> None:
    """From then on the use is known."""
    spool, now_ms = FakeSpool(), [NOVEMBER_MS]
    context = context_of(read=interface.clock, spool=spool, clock_offset_ms=lambda: now_ms[0])
    traffic.sample(context)
    interface.passes(300, 10 * MB)
    assert traffic.measure(context)[0].plan_used_mb is None
    now_ms[0] += 30 * 86_400_000
    interface.passes(300, 3 * MB)
    assert traffic.measure(context)[0].plan_used_mb == 3.0


def test_without_a_time_no_month_begins(interface: Interface) -> None:
    """A wall clock in 1970 ends nobody's plan."""
    spool = FakeSpool()
    context = context_of(read=interface.clock, spool=spool)
    traffic.sample(context)
    interface.passes(300, MB)
    assert traffic.measure(context)[0].plan_used_mb is None
    assert spool.accounts["plan"]["period"] is None
    assert spool.accounts["plan"]["used_bytes"] == MB


def test_an_interface_that_is_not_there_is_said() -> None:
    """No counters, no zeros."""
    [record] = traffic.measure(context_of(loopback_settings(traffic=Traffic(interface="wwan7"))))
    assert (record.interface, record.received_bytes, record.interval_s, record.error) == ("wwan7", None, None, "no interface wwan7")


@pytest.mark.platform_specific(NEEDS_NAMESPACES)
@pytest.mark.skipif(not HAVE_NAMESPACES, reason=NEEDS_NAMESPACES)
def test_the_interface_of_the_default_route_is_counted(tmp_path: Path) -> None:
    """IPv4 or IPv6; without a default route there is nothing to count, and the record says so."""
    command = [sys.executable, "-m", "kerege_agent", "probe", "traffic", "--json", "--settings", str(settings_file(tmp_path))]
    with namespace() as inside:
        nothing = inside.run(*command)
        inside.configure(
            "ip link add wan0 type veth peer name other0",
            "ip link set wan0 up",
            "ip link set other0 up",
            "ip address add 2001:db8::2/64 dev wan0 nodad",
            "ip route add default via 2001:db8::1 dev wan0",
        )
        six = inside.run(*command)
        inside.configure("ip address add 192.0.2.2/24 dev other0", "ip route add default via 192.0.2.1 dev other0")
        four = inside.run(*command)
    assert json.loads(nothing.stdout)["record"] == {"kind": "traffic", "error": "no default route, so no interface to count"}
    assert [json.loads(done.stdout)["record"]["interface"] for done in (six, four)] == ["wan0", "other0"]
