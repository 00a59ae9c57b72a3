"""The tick, for real: on the loopback with small servers, and in namespaces that are cut off in every way."""

import json
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from kerege_agent.probes import tick
from kerege_agent.probes.echo import Aim, Answer
from kerege_agent.probes.limited import within
from kerege_agent.settings import Dns, Link, Mqtt, Portal
from kerege_wire import Tick
from tests.agent.probe_world import (
    HAVE_NAMESPACES,
    NEEDS_NAMESPACES,
    NO_CONTENT,
    FakeClock,
    FakeSession,
    FakeSpool,
    answering,
    context_of,
    loopback_settings,
    namespace,
    serving,
    settings_file,
)

needs_namespaces = pytest.mark.skipif(not HAVE_NAMESPACES, reason=NEEDS_NAMESPACES)
platform_specific = pytest.mark.platform_specific(NEEDS_NAMESPACES)

REDIRECT: Final = b"HTTP/1.1 302 Found\r\nLocation: http://login.example/\r\nContent-Length: 0\r\n\r\n"
TICKS: Final = """
from kerege_agent.probes import tick
from kerege_agent.settings import *
import subprocess, time
targets = tuple(Target(name=name, address=address, tcp_port=9) for name, address in (item.split("=") for item in sys.argv[2:]))
link = Link(**json.loads(sys.argv[1]))
context = context_of(loopback_settings(link=link, targets=targets, probes=Probes(tick=TickSettings(timeout_s=1.2))))
found = []
def look():
    began_s = time.monotonic()
    [record] = tick.measure(context)
    found.append([record.rungs, record.result, record.broken, record.target, record.via, round(time.monotonic() - began_s, 3)])
"""
"""Ticks in a namespace: ``look()`` adds one to ``found``. Rounds are 0.3 s each."""


@contextmanager
def portal(content: Callable[[], bytes]) -> Iterator[tuple[Portal, list[float]]]:
    """A portal page that answers with ``content()``, and the times at which it was asked."""
    asked: list[float] = []

    def answer(connection: socket.socket) -> None:
        asked.append(time.monotonic())
        answering(content())(connection)

    with serving(answer) as port:
        yield Portal(url=f"http://127.0.0.1:{port}/generate_204"), asked


def tick_of(context: Any) -> Tick:
    [record] = tick.measure(context)
    return record


def test_on_the_loopback_everything_works() -> None:
    """Target, gateway, names and portal page are this machine; there is no session to ask about."""
    with portal(lambda: NO_CONTENT) as (page, asked):
        record = tick_of(context_of(loopback_settings(portal=page)))
    assert (record.result, record.broken, record.rungs, record.target) == ("online", None, "++.+++?", "lo")
    assert record.rtt_ms is not None
    assert record.gateway_rtt_ms is not None
    assert len(asked) == 1


def test_what_was_proven_a_moment_ago_is_not_asked_again() -> None:
    """Names for five minutes, the portal page for fifteen; the marks say so."""
    time_passes = FakeClock()
    with portal(lambda: NO_CONTENT) as (page, asked):
        context = context_of(loopback_settings(portal=page), read=time_passes)
        marks = []
        for minute in (0, 1, 4.9, 5.1, 14.9, 15.1):
            time_passes.mono_ms = 1_000_000 + int(minute * 60_000)
            marks.append(tick_of(context).rungs)
    assert marks == ["++.+++?", "++.+==?", "++.+==?", "++.++=?", "++.++=?", "++.+=+?"]
    assert len(asked) == 2


@pytest.mark.parametrize("proof", [{"last_ack_mono_ms": 1_000_000}, {"last_puback_mono_ms": 1_000_000}])
def test_a_live_tls_session_proves_that_there_is_no_portal(proof: dict[str, Any]) -> None:
    """As long as its last answer is younger than two minutes; then the page is asked."""
    time_passes = FakeClock(mono_ms=1_000_000 + 119_000)
    with portal(lambda: NO_CONTENT) as (page, asked):
        settings = loopback_settings(portal=page, mqtt=Mqtt(host="127.0.0.1"))
        context = context_of(settings, read=time_passes, session=lambda: FakeSession(connected=True, **proof))
        assert tick_of(context).rungs == "++.++=+"
        assert asked == []
        time_passes.mono_ms += 2000
        assert tick_of(context).rungs == "++.+=++"
        assert len(asked) == 1


@pytest.mark.parametrize(
    ("tls", "session"),
    [
        (False, FakeSession(last_ack_mono_ms=1_000_000)),
        (True, FakeSession(connected=False, error="refused", last_ack_mono_ms=1_000_000)),
        (True, FakeSession()),
    ],
)
def test_other_sessions_prove_nothing(tls: bool, session: FakeSession) -> None:
    """One without TLS, one that is gone, one that has heard nothing yet."""
    with portal(lambda: NO_CONTENT) as (page, asked):
        settings = loopback_settings(portal=page, mqtt=Mqtt(host="127.0.0.1", tls=tls))
        record = tick_of(context_of(settings, read=FakeClock(), session=lambda: session))
    assert len(asked) == 1
    assert record.rungs == ("++.++++" if session.connected else "++.+++-")


def test_a_captive_portal_is_offline_and_everything_is_asked_anew_afterwards() -> None:
    """A redirect in the page's place is a portal; when it is gone the next tick finds out by itself."""
    answers = [NO_CONTENT, REDIRECT, REDIRECT, NO_CONTENT]
    time_passes = FakeClock()
    with portal(lambda: answers.pop(0)) as (page, _):
        context = context_of(loopback_settings(portal=page), read=time_passes, spool=FakeSpool())
        tick_of(context)
        time_passes.mono_ms += 901_000
        found = [tick_of(context) for _ in range(3)]
    assert [(record.result, record.broken, record.rungs) for record in found] == [
        ("offline", "portal", "++.++-?"),
        ("offline", "portal", "++.++-?"),
        ("online", None, "++.+++?"),
    ]


def test_a_page_that_has_never_answered_204_is_no_portal(caplog: pytest.LogCaptureFixture) -> None:
    """A wrong URL, or a web server that sends everybody to HTTPS: unknown, and said with its cure. One 204 is remembered over restarts."""
    answers = [REDIRECT, NO_CONTENT, REDIRECT, REDIRECT]
    spool = FakeSpool()
    with portal(lambda: answers.pop(0)) as (page, _):
        found = [tick_of(context_of(loopback_settings(portal=page), spool=spool)).rungs for _ in range(3)]
        elsewhere = loopback_settings(portal=Portal(url=page.url.replace("generate", "generates") if page.url else None))
        found.append(tick_of(context_of(elsewhere, spool=spool)).rungs)
    assert found == ["++.++??", "++.+++?", "++.++-?", "++.++??"]
    assert [record.message for record in caplog.records if "204" in record.message] == ["portal.no_204_known"] * 2


def test_a_connect_that_is_answered_proves_nothing_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """A satellite modem answers connects on a dead link. The page that answers 204, or a live TLS session, proves the Internet with it."""

    def only_tcp(aims: list[Aim], **_: Any) -> list[Answer]:
        return [Answer("tcp", 1, (20_000_000,)) if aim.tcp else Answer("raw", 1) for aim in aims]

    monkeypatch.setattr(tick, "ask", only_tcp)
    time_passes = FakeClock()
    answers = [NO_CONTENT, NO_CONTENT]
    with portal(lambda: answers.pop(0) if answers else b"") as (page, asked):
        context = context_of(loopback_settings(portal=page), read=time_passes)
        found = []
        for second in (0, 60, 121, 242):
            time_passes.mono_ms = 1_000_000 + second * 1000
            found.append(tick_of(context))
        tls = loopback_settings(portal=page, mqtt=Mqtt(host="127.0.0.1"))
        live = tick_of(context_of(tls, read=FakeClock(), session=lambda: FakeSession(last_ack_mono_ms=1_000_000)))
    assert [record.rungs for record in found] == ["+?.+++?", "+?.+==?", "+?.+=+?", "+?.?=??"]
    assert [record.result for record in found] == ["online", "online", "online", None]
    assert found[-1].error == "only TCP connects are answered: a proxy may do that on a dead link"
    assert (live.result, live.rungs, live.via) == ("online", "+?.++=+", "tcp")
    assert len(asked) == 3


def test_a_collector_that_is_away_is_not_the_librarys_outage() -> None:
    """Online, broken at the collector; and names and portal are asked anew at each tick meanwhile."""
    with portal(lambda: NO_CONTENT) as (page, asked):
        context = context_of(loopback_settings(portal=page), session=lambda: FakeSession(connected=False, error="refused"))
        found = [tick_of(context) for _ in range(2)]
    assert [(record.result, record.broken, record.rungs) for record in found] == [("online", "collector", "++.+++-")] * 2
    assert len(asked) == 2


def test_a_session_that_is_being_made_is_not_known_to_fail() -> None:
    """The first tick comes with the agent's start."""
    assert tick_of(context_of(session=lambda: FakeSession(connected=False))).rungs == "++.++??"


def test_a_portal_page_that_cannot_be_fetched_proves_nothing() -> None:
    """Refused is the page's own trouble: unknown, and not offline."""
    assert tick_of(context_of()).rungs == "++.++??"


def test_without_names_the_ladder_has_no_such_rung() -> None:
    """Names are optional."""
    assert tick_of(context_of(loopback_settings(dns=Dns(names=())))).rungs == "++.+.??"


def test_a_resolver_that_hangs_costs_its_share_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tick still says what it knows: the Internet answers, names do not resolve."""
    release = threading.Event()

    def hang(*arguments: object, **names: object) -> None:
        release.wait()
        raise socket.gaierror(socket.EAI_AGAIN, "at last")

    real = socket.getaddrinfo
    monkeypatch.setattr(tick, "ASK_TIMEOUT_S", 0.1)
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda host, *rest, **names: (hang if host == "slow.invalid" else real)(host, *rest, **names)
    )
    began_s = time.monotonic()
    record = tick_of(context_of(loopback_settings(dns=Dns(names=("slow.invalid", "localhost")))))
    assert time.monotonic() - began_s < 10.0
    assert (record.result, record.broken, record.rungs) == ("offline", "dns", "++.+-??")
    release.set()
    within(5, lambda: None)


def test_the_second_name_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that does not exist any more is not an outage."""
    real = socket.getaddrinfo

    def resolve(host: str, *rest: Any, **names: Any) -> Any:
        if host == "gone.invalid":
            raise socket.gaierror(socket.EAI_NONAME, "not known")
        return real(host, *rest, **names)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    assert tick_of(context_of(loopback_settings(dns=Dns(names=("gone.invalid", "localhost"))))).rungs == "++.++??"


def test_a_terminal_that_answers_is_a_rung() -> None:
    """With its own round-trip time."""
    record = tick_of(context_of(loopback_settings(link=Link(gateway="127.0.0.1", terminal="127.0.0.2"))))
    assert record.rungs == "+++++??"
    assert record.terminal_rtt_ms is not None


@platform_specific
@needs_namespaces
def test_the_command_says_where_a_machine_without_any_interface_is_cut_off(tmp_path: Path) -> None:
    """`probe tick` in a namespace with nothing, and with a loopback only: offline at the route, at once, exit status 1."""
    path = settings_file(tmp_path, "")
    path.write_text(path.read_text().replace('address = "127.0.0.1"', 'address = "192.0.2.1"'))
    command = [sys.executable, "-m", "kerege_agent", "probe", "tick", "--json", "--settings", str(path)]
    with namespace() as inside:
        nothing = inside.run(*command)
        inside.configure("ip link set lo up")
        loopback_only = inside.run(*command)
    for done in (nothing, loopback_only):
        assert done.returncode == 1, done.stderr
        record = json.loads(done.stdout)["record"]
        assert record == {"kind": "tick", "result": "offline", "broken": "route", "rungs": "-?.-???"}
        assert "Traceback" not in done.stderr


@platform_specific
@needs_namespaces
def test_a_host_route_is_a_route_and_a_dead_resolver_is_the_dns_rung() -> None:
    """No default route, but the target answers; name servers cannot be reached."""
    more = 'context = context_of(loopback_settings(link=Link(), dns=Dns(names=("library.invalid",))))\nlook(); print(json.dumps(found))'
    with namespace() as inside:
        inside.configure("ip link set lo up")
        [found] = inside.python(TICKS + more, "{}", "lo=127.0.0.1")
    assert found[:4] == ["+..+-??", "offline", "dns", "lo"]


@platform_specific
@needs_namespaces
def test_any_of_the_targets_is_enough_and_is_asked_first_from_then_on() -> None:
    """Two of three are silent: the first tick asks all, the next only the one that answered."""
    with namespace() as inside, inside.internet("10.1.0.2", "10.9.9.1", delay_ms=20):
        first, second = inside.python(TICKS + "look(); look(); print(json.dumps(found))", "{}", "a=10.1.0.1", "b=10.1.0.2", "c=10.1.0.3")
    assert first[:5] == ["++.++??", "online", None, "b", "raw"]
    assert second[:5] == ["++.+=??", "online", None, "b", "raw"]
    assert first[5] > 0.3
    assert second[5] < first[5]


@platform_specific
@needs_namespaces
def test_an_internet_that_answers_nothing_is_the_internet_rung() -> None:
    """The gateway answers, none of the targets does; the tick ends well within its time."""
    with namespace() as inside, inside.internet("10.9.9.1"):
        [found] = inside.python(TICKS + "look(); print(json.dumps(found))", "{}", "a=10.1.0.1", "b=10.1.0.2")
    assert found[:5] == ["++.-???", "offline", "internet", None, None]
    assert found[5] < 6.0


@platform_specific
@needs_namespaces
def test_a_gateway_that_falls_silent_with_the_internet_is_broken_and_one_that_never_answered_is_not() -> None:
    """It is known to answer pings, so its silence means something."""
    cut = 'subprocess.run(["ip", "route", "add", "blackhole", sys.argv[2].split("=")[1] + "/32"], check=True)\n'
    cut_both = cut + 'subprocess.run(["ip", "route", "add", "blackhole", "10.9.9.1/32"], check=True)\n'
    code = TICKS + f"look()\n{cut_both}look(); print(json.dumps(found))"
    with namespace() as inside, inside.internet("10.1.0.1", "10.9.9.1"):
        answers, silent = inside.python(code, "{}", "a=10.1.0.1")
    assert answers[:3] == ["++.++??", "online", None]
    assert silent[:3] == ["+-.-???", "offline", "gateway"]
    with namespace() as inside, inside.internet("10.1.0.1"):
        works, dead = inside.python(TICKS + f"look()\n{cut}look(); print(json.dumps(found))", "{}", "a=10.1.0.1")
    assert works[:3] == ["+?.++??", "online", None]
    assert dead[:3] == ["+?.-???", "offline", "internet"]


@platform_specific
@needs_namespaces
def test_a_silent_terminal_is_the_terminals_outage() -> None:
    """It was configured because it answers."""
    with namespace() as inside, inside.internet("10.9.9.1"):
        [found] = inside.python(TICKS + "look(); print(json.dumps(found))", '{"terminal": "10.9.9.3"}', "a=10.1.0.1")
    assert found[:3] == ["++--???", "offline", "terminal"]


@platform_specific
@needs_namespaces
def test_arp_tells_a_gateway_that_is_not_there_from_one_that_does_not_answer_pings() -> None:
    """On an Ethernet: nobody has the gateway's address, so the gateway it is, although it never answered before."""
    with namespace() as inside:
        inside.configure(
            "ip link set lo up",
            "ip link add here type veth peer name there",
            "ip address add 10.9.9.2/24 dev here",
            "ip link set here up",
            "ip link set there up",
            "ip route add default via 10.9.9.1",
        )
        [nobody] = inside.python(TICKS + "look(); print(json.dumps(found))", "{}", "a=10.1.0.1")
        inside.configure("ip neighbour replace 10.9.9.1 lladdr 02:00:00:00:00:01 dev here nud reachable")
        [mute] = inside.python(TICKS + "look(); print(json.dumps(found))", "{}", "a=10.1.0.1")
    assert nobody[:3] == ["+-.-???", "offline", "gateway"]
    assert mute[:3] == ["+?.-???", "offline", "internet"]


@platform_specific
@needs_namespaces
def test_a_network_that_swallows_pings_is_asked_by_tcp_and_pinged_again() -> None:
    """The record says tcp; as soon as pings are answered again it says so."""
    allow = 'open("/proc/sys/net/ipv4/icmp_echo_ignore_all", "w").write("0")\n'
    with namespace() as inside:
        inside.configure("ip link set lo up", "sysctl -q net.ipv4.icmp_echo_ignore_all=1")
        swallowed, again, pinged = inside.python(TICKS + f"look(); look()\n{allow}look(); print(json.dumps(found))", "{}", "a=127.0.0.1")
    assert [found[3:5] for found in (swallowed, again, pinged)] == [["a", "tcp"], ["a", "tcp"], ["a", "raw"]]
    assert (swallowed[:2], pinged[:2]) == (["+..?+??", None], ["+..+=??", "online"])
