"""Echo requests, for real: on the loopback, in namespaces where datagram sockets are allowed or nothing is, and as bytes."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from struct import pack
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerege_agent.probes.echo import Aim, ask, method_of
from kerege_agent.probes.icmp import parse
from kerege_agent.probes.ping import measure
from kerege_agent.settings import PingSettings, Probes, Target
from tests.agent.probe_world import HAVE_NAMESPACES, NEEDS_NAMESPACES, context_of, loopback_settings, namespace, serving

NOBODY: Final = "127.0.0.1"
ASK: Final = (
    "import json, sys; from kerege_agent.probes.echo import Aim, ask\n"
    "aims = [Aim(address, 9, 0.5) for address in sys.argv[1:]]\n"
    "print(json.dumps([[a.via, a.sent, len(a.rtts_ns), a.error] for a in ask(aims, count=2, spacing_s=0.01)]))"
)

BECOME_NOBODY: Final = (
    "import os; import icmplib, kerege_agent.probes.echo; os.setgroups([]); os.setresgid(*[65534] * 3); os.setresuid(*[65534] * 3)\n"
)
"""With the code loaded before: who becomes somebody else may not be let into the directory where it is."""

needs_namespaces = pytest.mark.skipif(not HAVE_NAMESPACES, reason=NEEDS_NAMESPACES)
platform_specific = pytest.mark.platform_specific(NEEDS_NAMESPACES)


@contextmanager
def silent_server() -> Iterator[int]:
    """A port whose queue of connects is full, so that a further connect is neither answered nor refused."""
    with socket.socket() as listening, socket.socket() as first, socket.socket() as second:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        port = listening.getsockname()[1]
        for filling in (first, second):
            filling.settimeout(0)
            filling.connect_ex(("127.0.0.1", port))
        yield port


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_this_machine_answers(address: str) -> None:
    """IPv4 and IPv6, every request, within a few milliseconds; the answer says how it was asked."""
    [answer] = ask([Aim(address, 9)], count=5, spacing_s=0.005)
    assert (answer.sent, len(answer.rtts_ns), answer.error) == (5, 5, None)
    assert answer.via == (method_of(6 if ":" in address else 4) or "tcp")
    assert all(0 < rtt_ns < 3_000_000_000 for rtt_ns in answer.rtts_ns)


def test_a_refused_connect_is_an_answer_and_says_tcp() -> None:
    """Somebody at that address sent the reset."""
    [answer] = ask([Aim(NOBODY, 9, tcp=True)], count=3, spacing_s=0.001)
    assert (answer.via, answer.sent, len(answer.rtts_ns), answer.error) == ("tcp", 3, 3, None)


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_an_accepted_connect_is_an_answer(family: socket.AddressFamily) -> None:
    """And nothing is sent over it."""
    with serving(lambda connection: None, family) as port:
        [answer] = ask([Aim("::1" if family == socket.AF_INET6 else "127.0.0.1", port, tcp=True)])
    assert (answer.sent, len(answer.rtts_ns)) == (1, 1)


def test_silence_is_loss_after_the_time_limit() -> None:
    """What was sent and not answered counts as sent; there is no round-trip time, and no zero."""
    with silent_server() as port:
        began_s = time.monotonic()
        [answer] = ask([Aim("127.0.0.1", port, 0.2, tcp=True)], count=3, spacing_s=0.02)
        lasted_s = time.monotonic() - began_s
    assert (answer.sent, answer.rtts_ns, answer.error) == (3, (), None)
    assert 0.2 < lasted_s < 5.0


@platform_specific
@needs_namespaces
def test_slow_answers_do_not_hold_up_the_next_requests() -> None:
    """Ten requests 50 ms apart to a host that takes 600 ms, as a geostationary link does, take one second and not six."""
    code = (
        "import time; from kerege_agent.probes.echo import Aim, ask; began_s = time.monotonic()\n"
        "[answer] = ask([Aim('10.1.1.1')], count=10, spacing_s=0.05); print(time.monotonic() - began_s, *answer.rtts_ns)"
    )
    with namespace() as inside, inside.internet("10.1.1.1", delay_ms=600):
        done = inside.run(sys.executable, "-c", code)
    lasted_s, *rtts_ns = map(float, done.stdout.split())
    assert len(rtts_ns) == 10
    assert all(600 <= rtt_ns / 1e6 < 2500 for rtt_ns in rtts_ns)
    assert lasted_s < 4.0


@pytest.mark.parametrize("step_s", [+3600.0, -3600.0])
def test_a_wall_clock_that_jumps_makes_neither_loss_nor_wrong_times(monkeypatch: pytest.MonkeyPatch, step_s: float) -> None:
    """Each look at the wall clock is an hour further on, or back; icmplib looks at it, we do not."""
    looks = [time.time()]

    def jumping() -> float:
        looks.append(looks[-1] + step_s)
        return looks[-1]

    monkeypatch.setattr(time, "time", jumping)
    for name, module in list(sys.modules.items()):
        if name.startswith("icmplib") and hasattr(module, "time") and callable(module.time):
            monkeypatch.setattr(module, "time", jumping)
    [answer] = ask([Aim("127.0.0.1")], count=5, spacing_s=0.005)
    assert len(looks) > 5  # icmplib has looked
    assert (answer.sent, len(answer.rtts_ns)) == (5, 5)
    assert all(0 < rtt_ns < 3_000_000_000 for rtt_ns in answer.rtts_ns)


def test_an_answer_after_the_time_limit_is_loss_even_if_it_is_read() -> None:
    """A clock of ours that runs a second between sending and reading: too late is too late."""
    now_ns = [0]

    def clock_ns() -> int:
        now_ns[0] += 300_000_000
        return now_ns[0]

    [answer] = ask([Aim("127.0.0.1", timeout_s=0.2)], clock_ns=clock_ns)
    assert (answer.sent, answer.rtts_ns) == (1, ())


def test_asking_ends_with_the_first_answer_where_that_is_enough() -> None:
    """The silent one is not waited for."""
    with silent_server() as port:
        began_s = time.monotonic()
        silent, answer = ask([Aim("127.0.0.1", port, 3.0, tcp=True), Aim("127.0.0.1")], first_of=(0, 1))
        assert time.monotonic() - began_s < 2.5
    assert (silent.rtts_ns, len(answer.rtts_ns)) == ((), 1)


def test_two_trains_at_the_same_time_do_not_take_each_others_answers() -> None:
    """The tick and the ping probe may ask the same host at the same moment."""
    found: list[int] = []
    threads = [
        threading.Thread(target=lambda: found.append(len(ask([Aim("127.0.0.1")], count=20, spacing_s=0.002)[0].rtts_ns))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [20] * 4


def test_a_ping_record_says_everything() -> None:
    """Two targets, IPv4 and IPv6: sent, received, round-trip times in order, jitter."""
    targets = (Target(name="four", address="127.0.0.1"), Target(name="six", address="::1"))
    settings = loopback_settings(targets=targets, probes=Probes(ping=PingSettings(count=4, spacing_s=0.01, targets_per_run=2)))
    four, six = measure(context_of(settings))
    for record, name, family in ((four, "four", 4), (six, "six", 6)):
        assert (record.target, record.family, record.sent, record.received, record.error) == (name, family, 4, 4, None)
        assert record.rtt_min_ms is not None
        assert record.rtt_p50_ms is not None
        assert record.rtt_p95_ms is not None
        assert record.rtt_max_ms is not None
        assert record.jitter_ms is not None
        assert 0 < record.rtt_min_ms <= record.rtt_p50_ms <= record.rtt_p95_ms <= record.rtt_max_ms


def test_targets_take_turns() -> None:
    """One target a run, each in its turn, so that a metered link pays for one train."""
    targets = tuple(Target(name=name, address="127.0.0.1") for name in ("a", "b", "c"))
    context = context_of(loopback_settings(targets=targets, probes=Probes(ping=PingSettings(count=1, spacing_s=0.01))))
    assert [[record.target for record in measure(context)] for _ in range(4)] == [["a"], ["b"], ["c"], ["a"]]
    both = context_of(loopback_settings(targets=targets, probes=Probes(ping=PingSettings(count=1, spacing_s=0.01, targets_per_run=2))))
    assert [[record.target for record in measure(both)] for _ in range(2)] == [["a", "b"], ["c", "a"]]


@platform_specific
@needs_namespaces
def test_datagram_sockets_are_preferred_where_they_are_granted() -> None:
    """In a namespace with the sysctl set: by datagram, IPv4 and IPv6; without it, by raw socket."""
    with namespace() as inside:
        inside.configure("ip link set lo up")
        raw = inside.run(sys.executable, "-c", ASK, "127.0.0.1", "::1")
        assert json.loads(raw.stdout) == [["raw", 2, 2, None]] * 2
        allowed = inside.run("sysctl", "-q", "net.ipv4.ping_group_range=0 2147483647")
        assert allowed.returncode == 0, allowed.stderr
        datagram = inside.run(sys.executable, "-c", ASK, "127.0.0.1", "::1")
    assert json.loads(datagram.stdout) == [["datagram", 2, 2, None]] * 2


@platform_specific
@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="needs Linux and root, to become somebody who may not ping")
def test_who_may_not_ping_asks_by_tcp() -> None:
    """Neither datagram nor raw sockets: TCP connects, and the record says so."""
    allowed = Path("/proc/sys/net/ipv4/ping_group_range").read_text().split()
    if int(allowed[0]) <= int(allowed[1]):
        pytest.skip("this machine lets everybody ping")
    command = [sys.executable, "-c", BECOME_NOBODY + ASK, "127.0.0.1", "::1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert json.loads(done.stdout) == [["tcp", 2, 2, None]] * 2, done.stderr


@platform_specific
@needs_namespaces
def test_without_a_route_nothing_was_sent_and_nothing_was_lost() -> None:
    """No route is an error without numbers, never 0 % loss; no interface at all likewise, at once."""
    with namespace() as inside:
        nothing = inside.run(sys.executable, "-c", ASK, "192.0.2.1", "2001:db8::1", "127.0.0.1")
        inside.configure("ip link set lo up")
        loopback_only = inside.run(sys.executable, "-c", ASK, "192.0.2.1", "2001:db8::1")
    assert json.loads(nothing.stdout) == [["raw", 0, 0, "no route"]] * 3
    assert json.loads(loopback_only.stdout) == [["raw", 0, 0, "no route"]] * 2


@platform_specific
@needs_namespaces
def test_a_host_that_is_not_there_is_loss_and_not_an_error() -> None:
    """On a network without neighbours requests leave, and nobody answers."""
    with namespace() as inside:
        inside.configure(
            "ip link add here type veth peer name there",
            "ip link set there up",
            "ip address add 192.0.2.2/24 dev here",
            "ip link set here up",
        )
        done = inside.run(sys.executable, "-c", ASK, "192.0.2.77")
    assert json.loads(done.stdout) == [["raw", 2, 0, None]]


IPV4: Final = bytes((0x45,)) + bytes(19)
IPV4_WITH_OPTIONS: Final = bytes((0x47,)) + bytes(27)


def echoed(kind: int, identifier: int = 7, sequence: int = 9) -> bytes:
    return pack("!BBHHH", kind, 0, 0, identifier, sequence) + b"payload"


@pytest.mark.parametrize(
    ("packet", "family", "ip_header", "heard"),
    [
        (echoed(0), 4, False, (True, 7, 9)),
        (IPV4 + echoed(0), 4, True, (True, 7, 9)),
        (IPV4_WITH_OPTIONS + echoed(0), 4, True, (True, 7, 9)),
        (IPV4 + echoed(8), 4, True, None),  # our own request, on the loopback
        (IPV4 + pack("!BBHI", 3, 1, 0, 0) + IPV4 + echoed(8), 4, True, (False, 7, 9)),
        (IPV4 + pack("!BBHI", 11, 0, 0, 0) + IPV4_WITH_OPTIONS + echoed(8), 4, True, (False, 7, 9)),
        (IPV4 + pack("!BBHI", 3, 1, 0, 0) + IPV4 + echoed(0), 4, True, None),
        (IPV4 + pack("!BBHI", 5, 1, 0, 0) + IPV4 + echoed(8), 4, True, None),  # a redirect
        (echoed(129), 6, False, (True, 7, 9)),
        (echoed(128), 6, False, None),
        (pack("!BBHI", 1, 0, 0, 0) + bytes(40) + echoed(128), 6, False, (False, 7, 9)),
        (echoed(0)[:7], 4, False, None),
        (b"", 4, True, None),
        (IPV4, 4, True, None),
    ],
)
def test_messages_are_read_as_the_rfcs_write_them(packet: bytes, family: int, ip_header: bool, heard: object) -> None:
    """Replies, errors that quote a request, and everything else that a raw socket hears."""
    assert parse(packet, family, ip_header=ip_header) == heard


@given(st.binary(max_size=120), st.sampled_from([4, 6]), st.booleans())
def test_no_bytes_make_the_reader_stumble(packet: bytes, family: int, ip_header: bool) -> None:
    """Whatever a raw socket hears is read or ignored."""
    parse(packet, family, ip_header=ip_header)
