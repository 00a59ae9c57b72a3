"""The machine, the start of the agent, and the default route as the system tells it."""

import socket
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Final

import psutil
import pytest

from kerege_agent.probes import boot, host, routes
from kerege_agent.probes.routes import Route, default_routes, neighbour_answers
from kerege_agent.version import VERSION
from kerege_wire import Boot
from tests.agent.probe_world import FakeClock, FakeSpool, context_of, loopback_settings

LINUX_ONLY: Final = "reads /proc"


def burn(seconds: float) -> None:
    """Use the CPU for this long."""
    end_s = time.process_time() + seconds
    while time.process_time() < end_s:
        pass


def test_the_first_record_claims_no_cpu_figures_and_the_second_measures_them() -> None:
    """There is no interval before the first; afterwards the agent's own use is what it used."""
    context = context_of(loopback_settings(state_directory=Path(tempfile.gettempdir()) / "not" / "there"), spool=FakeSpool())
    [first] = host.measure(context)
    began_s = time.monotonic()
    burn(0.1)
    lasted_s = time.monotonic() - began_s
    [second] = host.measure(context)
    assert (first.cpu_percent, first.agent_cpu_percent) == (None, None)
    assert second.cpu_percent is not None
    assert second.agent_cpu_percent is not None
    assert 0 < second.cpu_percent <= 100
    assert second.agent_cpu_percent == pytest.approx(0.1 / lasted_s * 100, rel=0.5)


def test_every_figure_of_this_machine_is_plausible() -> None:
    """Memory, disk, uptime, the agent's own memory, the spool's depth and size."""
    [record] = host.measure(context_of(spool=FakeSpool()))
    assert record.memory_percent is not None
    assert record.disk_percent is not None
    assert record.agent_memory_mb is not None
    assert record.uptime_s is not None
    assert 0 < record.memory_percent <= 100
    assert 0 <= record.disk_percent <= 100
    assert 5 < record.agent_memory_mb < 2000
    assert record.uptime_s == pytest.approx(time.time() - psutil.boot_time(), abs=5)
    assert (record.spool_records, record.spool_mb, record.spool_state) == (3, 1.23, "disk")
    assert record.wall_clock_error_s is None


def test_without_a_spool_its_figures_are_absent() -> None:
    """Not zero."""
    [record] = host.measure(context_of())
    assert (record.spool_records, record.spool_mb, record.spool_state) == (None, None, None)


@pytest.mark.parametrize(("wall_ms", "error_s"), [(2_000_000_000_000, 0.0), (2_000_000_012_340, 12.3), (1_684_000_000_000, -316_000_000.0)])
def test_the_wall_clock_is_held_against_the_collectors(wall_ms: int, error_s: float) -> None:
    """Ten years off is ten years off, with its sign."""
    reading = FakeClock(mono_ms=1000, wall_ms=wall_ms)
    [record] = host.measure(context_of(read=reading, clock_offset_ms=lambda: 1_999_999_999_000))
    assert record.wall_clock_error_s == error_s


@dataclass
class Sensor:
    """As psutil shows one."""

    current: float


@pytest.mark.skipif(sys.platform != "linux", reason=LINUX_ONLY)
@pytest.mark.platform_specific(LINUX_ONLY)
@pytest.mark.parametrize(("readings", "hottest"), [([41.04, 63.26], 63.3), ([-273.0, 255.0], None), ([], None)])
def test_the_hottest_plausible_sensor_counts(monkeypatch: pytest.MonkeyPatch, readings: list[float], hottest: float | None) -> None:
    """Sensors that are not connected say nonsense."""
    monkeypatch.setattr(psutil, "sensors_temperatures", lambda: {"cpu": [Sensor(value) for value in readings]})
    [record] = host.measure(context_of())
    assert record.temperature_c == hottest


def test_a_figure_that_cannot_be_had_is_left_out_and_the_others_stand(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container without /proc/meminfo."""

    def fail() -> None:
        raise OSError("no such file")

    monkeypatch.setattr(psutil, "virtual_memory", fail)
    [record] = host.measure(context_of())
    assert record.memory_percent is None
    assert record.agent_memory_mb is not None
    assert record.error is None


@dataclass
class Before:
    """What a spool says of the run before."""

    epoch: str | None = "Zk3q9w2a"
    last_seq: int | None = 812
    stop: str | None = "unclean"
    why: str | None = None
    last_alive_s: int | None = 1_794_000_000
    same_boot: bool = False
    spool: str = "kept"
    salvaged: int = 0


@pytest.mark.parametrize(
    ("before", "said"),
    [
        (Before(), Boot(cause="host", stop="unclean", last_alive=1_794_000_000, previous_epoch="Zk3q9w2a", previous_seq=812, spool="kept")),
        (
            Before(stop="clean", why="upgrade", same_boot=True),
            Boot(
                cause="agent",
                stop="clean",
                why="upgrade",
                last_alive=1_794_000_000,
                previous_epoch="Zk3q9w2a",
                previous_seq=812,
                spool="kept",
            ),
        ),
        (Before(None, None, "first", None, None, spool="new"), Boot(stop="first", spool="new")),
        (Before(None, None, None, None, None, spool="damaged", salvaged=40), Boot(spool="damaged", salvaged=40)),
    ],
)
def test_the_boot_record_says_what_came_before(before: Before, said: Boot) -> None:
    """A power cut, an upgrade, the very first start, and a spool that was damaged: where nobody knows, nothing is claimed."""
    [record] = boot.measure(context_of(previous=before))
    known = ("cause", "stop", "why", "last_alive", "previous_epoch", "previous_seq", "spool", "salvaged", "error")
    assert {name: getattr(record, name) for name in known} == {name: getattr(said, name) for name in known}
    assert record.agent == VERSION
    assert record.system
    assert record.uptime_s is not None


def test_the_version_is_the_distributions() -> None:
    """One version, wherever it is asked for."""
    assert version("kerege-agent") == VERSION


ROUTES = (
    "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
    "wlan0\t00000000\t0101A8C0\t0003\t0\t0\t600\t00000000\t0\t0\t0\n"
    "eth0\t00000000\t0100A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0\n"
    "eth0\t0000A8C0\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0\n"
    "ppp0\t00000000\t00000000\t0001\t0\t0\t700\t00000000\t0\t0\t0\n"
    "tun0\t00000000\t0100000A\t0003\t0\t0\t50\t00000080\t0\t0\t0\n"
    "down0\t00000000\t0100000A\t0002\t0\t0\t1\t00000000\t0\t0\t0\n"
)
ROUTES_6 = (
    "00000000000000000000000000000000 00 00000000000000000000000000000000 00 fe80000000000000020000fffe000001 00000400 1 0 00000003 eth0\n"
    "00000000000000000000000000000000 00 00000000000000000000000000000000 00 00000000000000000000000000000000 ffffffff 1 0 00200200 lo\n"
    "fe800000000000000000000000000000 40 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 1 0 00000001 eth0\n"
)


@pytest.mark.skipif(sys.platform != "linux" or sys.byteorder != "little", reason=LINUX_ONLY)
@pytest.mark.platform_specific(LINUX_ONLY)
def test_default_routes_are_read_best_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """By metric, IPv4 before IPv6; half routes, dead ones and ones that reject do not count."""
    (tmp_path / "four").write_text(ROUTES)
    (tmp_path / "six").write_text(ROUTES_6)
    monkeypatch.setattr(routes, "IPV4_ROUTES", tmp_path / "four")
    monkeypatch.setattr(routes, "IPV6_ROUTES", tmp_path / "six")
    assert default_routes("192.0.2.1") == [
        Route("eth0", "192.168.0.1", 4, 100),
        Route("wlan0", "192.168.1.1", 4, 600),
        Route("ppp0", None, 4, 700),
        Route("eth0", "fe80::200:ff:fe00:1%eth0", 6, 1024),
    ]
    monkeypatch.setattr(routes, "IPV6_ROUTES", tmp_path / "nothing")
    assert len(default_routes("192.0.2.1")) == 3


@pytest.mark.parametrize("towards", ["127.0.0.1", "::1"])
def test_where_proc_tells_nothing_the_kernel_is_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, towards: str) -> None:
    """It names the interface that it would send through, and nothing is sent."""
    monkeypatch.setattr(routes, "IPV4_ROUTES", tmp_path / "nothing")
    [route] = default_routes(towards)
    assert (route.gateway, route.family) == (None, 6 if ":" in towards else 4)
    assert route.interface in psutil.net_if_addrs()


def test_without_a_route_the_kernel_knows_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The connect of a datagram socket says so."""

    class Refusing(socket.socket):
        def connect(self, address: object) -> None:
            raise OSError(101, "Network is unreachable")

    monkeypatch.setattr(routes, "IPV4_ROUTES", tmp_path / "nothing")
    monkeypatch.setattr(socket, "socket", Refusing)
    assert default_routes("192.0.2.1") == []


@pytest.mark.parametrize(("flags", "answers"), [("0x2", True), ("0x0", False), ("0x6", True)])
def test_neighbours_are_read_from_the_arp_table(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, flags: str, answers: bool) -> None:
    """An entry that is complete has answered; an address without entry is unknown."""
    table = tmp_path / "arp"
    table.write_text(f"IP address HW type Flags HW address Mask Device\n192.168.0.1 0x1 {flags} 02:00:00:00:00:05 * eth0\n")
    monkeypatch.setattr(routes, "ARP", table)
    assert neighbour_answers("192.168.0.1") is answers
    assert neighbour_answers("192.168.0.2") is None
    monkeypatch.setattr(routes, "ARP", tmp_path / "nothing")
    assert neighbour_answers("192.168.0.1") is None
