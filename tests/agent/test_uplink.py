"""The uplink against real brokers: what is put arrives, unchanged, whatever breaks in between."""

import logging
import random
import shutil
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import MQTTProtocolVersion

from kerege_agent import clock, uplink
from kerege_agent.backoff import FORBIDDEN, REFUSED, UNREACHABLE, Backoff
from kerege_agent.clock import ClockModel
from kerege_agent.settings import Mqtt, Settings, UplinkSettings
from kerege_agent.spool import Spool
from kerege_agent.uplink import Uplink
from kerege_lab.certificates import Certificates, make_certificates
from kerege_lab.proxy import Workshop
from kerege_lab.servers import EmbeddedBroker, Mosquitto, write_passwords
from kerege_wire import Ack, Tick
from tests.agent.collector_double import CollectorDouble, until

QUICK = UplinkSettings(backlog_reports_per_s=100.0, backlog_start_delay_s=0.0, reconnect_min_s=0.05, reconnect_max_s=0.2)


class Station:
    """An agent's spool and uplink without its probes."""

    def __init__(self, directory: Path, port: int, *, center: str = "demo", pace: UplinkSettings = QUICK, **mqtt: Any) -> None:
        wanted: dict[str, Any] = {"host": "127.0.0.1", "port": port, "tls": False, "connect_timeout_s": 5.0} | mqtt
        self.settings = Settings(center=center, mqtt=Mqtt(**wanted), state_directory=directory, uplink=pace)
        self.clock = ClockModel()
        self.spool = Spool.open(directory, clock=self.clock, reading=clock.read())
        self.uplink = Uplink(self.settings, self.spool, self.clock, center)

    def start(self) -> "Station":
        self.uplink.start()
        return self

    def tick(self, count: int = 1) -> list[int]:
        return [self.spool.put(Tick(result="online"), clock.read()) for _ in range(count)]

    def stop(self, why: str = "stop") -> None:
        assert self.uplink.stop(why, 10.0)
        self.spool.close(why)


@pytest.fixture(autouse=True)
def _short_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stops and new ticks are noticed sooner than in the field, where a turn of the loop may take a second."""
    monkeypatch.setattr(uplink, "LOOP_S", 0.05)


@pytest.fixture
def stations(tmp_path: Path) -> Iterator[Callable[..., Station]]:
    made: list[Station] = []

    def make(*arguments: Any, directory: Path | None = None, **options: Any) -> Station:
        made.append(Station(directory or tmp_path, *arguments, **options))
        return made[-1]

    yield make
    for station in made:
        station.stop()


Make = Callable[..., Station]


def has_failed(station: Station) -> bool:
    return station.uplink.session.error is not None


def arrived(collector: CollectorDouble, station: Station, seqs: list[int]) -> None:
    """All of these have arrived, nothing that was sent twice had changed, and the spool is empty."""
    until(lambda: station.spool.depth == 0)
    assert collector.seqs(station.spool.epoch) == seqs
    assert collector.changed == []


def test_what_is_put_arrives_and_leaves_the_spool(stations: Make, mosquitto: Mosquitto) -> None:
    """Records put before and after the connection arrive with their identity and the collector's time, and are deleted when acked."""
    station = stations(mosquitto.port)
    with CollectorDouble(mosquitto.port) as collector:
        before = station.tick(3)
        station.start()
        until(lambda: station.spool.depth == 0)
        arrived(collector, station, before + station.tick(2))
        times = [collector.records[station.spool.epoch, seq].time for seq in range(1, 6)]
        assert len(set(times)) == 5
        assert abs(times[0] - collector.now_ms() // 1000) <= 2
        assert station.uplink.session.protocol == 5
        station.uplink.stop("shutdown")
        until(lambda: collector.presences and collector.presences[-1].state == "goodbye")
        states = [(presence.state, presence.why, presence.epoch, presence.birth) for presence in collector.presences]
        assert states[-2:] == [("online", None, station.spool.epoch, 1), ("goodbye", "shutdown", station.spool.epoch, 1)]


def test_a_start_while_the_link_is_down_is_an_ordinary_start(stations: Make, tmp_path: Path) -> None:
    """Without a broker records gather; within seconds of its coming they flow."""
    broker = Mosquitto(tmp_path / "broker")
    station = stations(broker.port).start()
    seqs = station.tick(5)
    until(lambda: station.uplink.session.error)
    assert not station.uplink.session.connected
    with broker.start(), CollectorDouble(broker.port) as collector:
        arrived(collector, station, seqs)
        station.uplink.stop("stop")


def test_a_host_name_that_means_nothing_does_no_harm(tmp_path: Path) -> None:
    """A name that cannot be resolved, and one that no resolver may be asked for (paho's own thread dies of it)."""
    for name in ("no-such-host.invalid", "a" * 70 + ".example", "xn--"):
        station = Station(tmp_path, 1, host=name).start()
        until(partial(has_failed, station))
        assert station.uplink.alive
        station.stop()


def test_nothing_is_lost_when_the_broker_is_killed_again_and_again(stations: Make, tmp_path: Path) -> None:
    """A broker without persistence, killed six times while records flow: everything arrives, and repeats are the same to the letter."""
    broker = Mosquitto(tmp_path / "broker").start()
    chance = random.Random(5)
    with broker, CollectorDouble(broker.port) as collector:
        station = stations(broker.port).start()
        seqs: list[int] = []
        for _ in range(6):
            seqs += station.tick(chance.randrange(1, 200))
            if chance.random() < 0.5:
                until(lambda: station.uplink.session.connected)
            broker.kill()
            seqs += station.tick(20)
            broker.start()
        arrived(collector, station, seqs)
        station.uplink.stop("stop")


def test_lost_reports_and_lost_acks_are_made_good(stations: Make, mosquitto: Mosquitto, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports that vanish behind the broker and acks that never come: asked for again, sent again, arrived."""
    monkeypatch.setattr("kerege_agent.delivery.PROMPT_TIMEOUT_MS", 300)
    monkeypatch.setattr("kerege_agent.delivery.GREETING_TIMEOUT_MS", 300)
    monkeypatch.setattr("kerege_agent.delivery.COALESCED_GRACE_MS", 100)
    with CollectorDouble(mosquitto.port, ack_within_s=0) as collector:
        station = stations(mosquitto.port).start()
        until(lambda: station.uplink.session.phase == "open")
        collector.deaf = True
        seqs = station.tick(3)
        until(lambda: station.uplink.session.phase == "greeting")
        collector.deaf = False
        arrived(collector, station, seqs)
        collector.silent = True
        seqs += station.tick(3)
        until(lambda: collector.seqs(station.spool.epoch) == seqs)
        until(lambda: station.uplink.session.phase == "greeting")
        collector.silent = False
        arrived(collector, station, seqs)


def test_a_lost_link_is_noticed_and_made_good(stations: Make, mosquitto: Mosquitto, monkeypatch: pytest.MonkeyPatch) -> None:
    """A link that swallows everything without a word (a dish in the snow), or resets: records flow within seconds of its return."""
    monkeypatch.setattr("kerege_agent.link.PUBACK_TIMEOUT_S", 0.4)
    with Workshop() as workshop, CollectorDouble(mosquitto.port) as collector:
        link = workshop.link(mosquitto.port)
        station = stations(link.port, connect_timeout_s=0.5).start()
        seqs = station.tick(2)
        until(lambda: station.spool.depth == 0)
        link.cut("blackhole")
        seqs += station.tick(2)
        until(lambda: not station.uplink.session.connected)
        link.restore()
        seqs += station.tick(1)
        arrived(collector, station, seqs)
        link.cut("reset")
        until(lambda: not station.uplink.session.connected)
        seqs += station.tick(1)
        link.restore()
        arrived(collector, station, seqs)
        births = [
            presence.birth for presence in collector.presences if presence.state == "online" and presence.epoch == station.spool.epoch
        ]
        assert births == sorted(set(births))
        assert len(births) >= 3
        station.stop()
        station.uplink._thread = None


def test_a_paused_broker_is_left_and_found_again(stations: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker that hangs keeps its sockets open and says nothing."""
    monkeypatch.setattr("kerege_agent.link.PUBACK_TIMEOUT_S", 0.4)
    with Mosquitto(tmp_path / "broker").start() as broker, CollectorDouble(broker.port) as collector:
        station = stations(broker.port, connect_timeout_s=0.5).start()
        until(lambda: station.uplink.session.phase == "open")
        broker.pause()
        seqs = station.tick(1)
        until(lambda: not station.uplink.session.connected)
        broker.resume()
        arrived(collector, station, seqs)
        station.uplink.stop("stop")


def test_the_will_says_that_an_agent_was_lost(tmp_path: Path, mosquitto: Mosquitto) -> None:
    """An agent that is killed leaves its will, with the birth that it belongs to."""
    script = (
        "import sys; from pathlib import Path; from tests.agent.test_uplink import Station\n"
        "station = Station(Path(sys.argv[1]), int(sys.argv[2]), center='other').start(); station.uplink._thread.join()"
    )
    with CollectorDouble(mosquitto.port) as collector:
        with subprocess.Popen([sys.executable, "-c", script, str(tmp_path), str(mosquitto.port)]) as process:
            born = until(
                lambda: [presence for presence in collector.presences if presence.state == "online" and presence.center == "other"]
            )[0]
            process.kill()
        lost = until(lambda: [presence for presence in collector.presences if presence.state == "lost"])[0]
        assert (lost.epoch, lost.birth, lost.center) == (born.epoch, born.birth, "other")


def test_a_broker_that_knows_only_3_1_1_is_spoken_to_in_that(stations: Make, tmp_path: Path) -> None:
    """Refused in version 5, connected in 3.1.1 at once, and everything works."""
    with (
        EmbeddedBroker(tmp_path / "broker").start() as broker,
        CollectorDouble(broker.port, protocol=MQTTProtocolVersion.MQTTv311) as collector,
    ):
        station = stations(broker.port).start()
        seqs = station.tick(3)
        arrived(collector, station, seqs)
        assert station.uplink.session.protocol == 4
        station.uplink.stop("stop")


def test_tls_with_client_certificates(stations: Make, tmp_path: Path, certificates: Certificates) -> None:
    """The center's certificate opens the broker; the collector is reached, and the server is checked by its name."""
    with Mosquitto(tmp_path / "broker", tls=certificates).start() as broker:
        context = ssl.create_default_context(cafile=certificates.ca)
        context.load_cert_chain(certificates.clients["collector"].certificate, certificates.clients["collector"].key)
        with CollectorDouble(broker.port, tls=context) as collector:
            mine = certificates.clients["demo"]
            tls = {"tls": True, "ca_file": certificates.ca, "certificate_file": mine.certificate, "key_file": mine.key}
            station = stations(broker.port, **tls).start()
            arrived(collector, station, station.tick(2))
            station.uplink.stop("stop")


def test_a_broker_with_a_strangers_certificate_gets_nothing(stations: Make, tmp_path: Path, certificates: Certificates) -> None:
    """A server that our authority has not signed is refused before a byte of ours is sent, and tried ever more seldom."""
    stranger = make_certificates(tmp_path / "stranger", []).ca
    with Mosquitto(tmp_path / "broker", tls=certificates).start() as broker:
        station = stations(broker.port, tls=True, ca_file=stranger).start()
        until(lambda: "certificate verify failed" in (station.uplink.session.error or ""))
        assert not station.uplink.session.connected
        assert station.uplink._check_times


@pytest.mark.parametrize("shift_days", [-3650, 7300])
def test_a_dead_clock_battery_does_not_lock_out_a_center(shift_days: int, tmp_path: Path, certificates: Certificates) -> None:
    """With the host's clock ten years slow or twenty fast the broker's certificate has wrong dates: the collector's time judges them."""
    faketime = shutil.which("faketime")
    assert faketime is not None
    script = (
        "import sys, threading; from pathlib import Path; from tests.agent.test_uplink import Station\n"
        "certificates = Path(sys.argv[3])\n"
        "tls = dict(tls=True, ca_file=Path(sys.argv[3]), certificate_file=Path(sys.argv[4]), key_file=Path(sys.argv[5]))\n"
        "station = Station(Path(sys.argv[1]), int(sys.argv[2]), **tls).start(); station.tick(2)\n"
        "while station.spool.depth: threading.Event().wait(0.05)\n"
        "station.stop()"
    )
    with Mosquitto(tmp_path / "broker", tls=certificates).start() as broker:
        context = ssl.create_default_context(cafile=certificates.ca)
        context.load_cert_chain(certificates.clients["collector"].certificate, certificates.clients["collector"].key)
        with CollectorDouble(broker.port, tls=context) as collector:
            mine = certificates.clients["demo"]
            files = [str(path) for path in (certificates.ca, mine.certificate, mine.key)]
            command = [
                faketime,
                "-m",
                "-f",
                f"{shift_days:+d}d",
                sys.executable,
                "-c",
                script,
                str(tmp_path / "state"),
                str(broker.port),
                *files,
            ]
            (tmp_path / "state").mkdir()
            subprocess.run(command, check=True, timeout=60, env={"DONT_FAKE_MONOTONIC": "1", "PATH": "/usr/bin:/bin"})
            times = [record.time for record in collector.records.values()]
            assert len(times) == 2
            assert all(abs(time_s - collector.now_ms() // 1000) < 10 for time_s in times)


def test_an_expired_certificate_is_found_out_by_the_true_time(stations: Make, tmp_path: Path, certificates: Certificates) -> None:
    """Where the dates were not checked because the clock is wrong, they are checked once the collector has told the time."""
    with Mosquitto(tmp_path / "broker", tls=certificates).start() as broker:
        context = ssl.create_default_context(cafile=certificates.ca)
        context.load_cert_chain(certificates.clients["collector"].certificate, certificates.clients["collector"].key)
        with CollectorDouble(broker.port, tls=context) as collector:
            collector.shift_ms = 20 * 365 * 86_400_000  # at the collector's time the broker's certificate has expired
            mine = certificates.clients["demo"]
            station = stations(broker.port, tls=True, ca_file=certificates.ca, certificate_file=mine.certificate, key_file=mine.key)
            station.uplink._check_times = False
            station.start()
            until(lambda: "not valid at the time" in (station.uplink.session.error or ""))
            station.uplink.stop("stop")


def test_passwords_come_from_files(stations: Make, tmp_path: Path) -> None:
    """A wrong password is a refusal that grows the backoff; the file is read anew for the next attempt."""
    passwords = write_passwords(tmp_path / "passwords", {"demo": "right", "collector": "also"})
    (tmp_path / "user").write_text("demo\n")
    (tmp_path / "password").write_text("wrong\n")
    with Mosquitto(tmp_path / "broker", password_file=passwords).start() as broker:
        station = stations(broker.port, username_file=tmp_path / "user", password_file=tmp_path / "password").start()
        until(lambda: "Not authorized" in (station.uplink.session.error or "") or "Bad user name" in (station.uplink.session.error or ""))
        (tmp_path / "password").write_text("right\n")
        until(lambda: station.uplink.session.connected)
        station.uplink.stop("stop")


def test_strange_messages_do_no_harm(stations: Make, mosquitto: Mosquitto, caplog: pytest.LogCaptureFixture) -> None:
    """Garbage on the ack topic, acks for epochs of others, acks repeated three times: said, ignored, and the work goes on."""
    with CollectorDouble(mosquitto.port) as collector:
        collector.copies = 3
        station = stations(mosquitto.port).start()
        until(lambda: station.uplink.session.connected)
        for payload in (b"", b"\x01garbage", b"{}", b'{"stored":[[1,5]]}', b"\xff" * 70_000):
            collector.send("demo", payload)
        collector.send("demo", Ack("whoknows", stored=((1, 10**12),)))
        seqs = station.tick(3)
        arrived(collector, station, seqs)
        until(lambda: "uplink.unreadable_message" in [record.message for record in caplog.records])
        assert station.uplink.session.connected


def test_a_bug_in_the_way_ends_the_connection_and_not_the_thread(
    stations: Make, mosquitto: Mosquitto, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever is raised while a connection is at work: said with its traceback, and the next connection does the work."""
    with CollectorDouble(mosquitto.port) as collector:
        station = stations(mosquitto.port)
        real, calls = station.uplink._delivery.acknowledged, []

        def broken_twice(*arguments: Any) -> None:
            calls.append(arguments)
            if len(calls) <= 2:
                raise RuntimeError("a bug")
            real(*arguments)

        monkeypatch.setattr(station.uplink._delivery, "acknowledged", broken_twice)
        seqs = station.tick(2)
        station.start()
        arrived(collector, station, seqs)
        failures = [record for record in caplog.records if record.message == "uplink.failed"]
        assert len(failures) == 2
        assert failures[0].exc_info is not None


def test_while_the_collector_is_away_nothing_is_sent(stations: Make, mosquitto: Mosquitto) -> None:
    """An announced absence is respected from the first moment of a connection on, and ends with `ready`."""
    with CollectorDouble(mosquitto.port) as collector:
        collector.say("away")
        station = stations(mosquitto.port).start()
        seqs = station.tick(2)
        until(lambda: station.uplink.session.phase == "away")
        assert not any(report.records for report in collector.reports)
        collector.say("ready")
        arrived(collector, station, seqs)


def test_a_held_center_keeps_everything(stations: Make, mosquitto: Mosquitto) -> None:
    with CollectorDouble(mosquitto.port) as collector:
        collector.hold = "unknown-center"
        station = stations(mosquitto.port).start()
        station.tick(2)
        until(lambda: station.uplink.session.phase == "held")
        assert station.spool.depth == 2
        assert not any(report.records for report in collector.reports)


def test_a_backlog_of_an_earlier_run_arrives_under_its_own_epoch(stations: Make, mosquitto: Mosquitto, tmp_path: Path) -> None:
    """What a run could not send is sent by the next, newest first, and nothing twice."""
    first = Station(tmp_path, 1)
    first.tick(250)
    first.spool.close("stop")
    with CollectorDouble(mosquitto.port) as collector:
        station = stations(mosquitto.port).start()
        arrived(collector, station, [])
        assert collector.seqs(first.spool.epoch) == list(range(1, 251))
        assert collector.repeats == 0
        order = [report.records[-1].seq for report in collector.reports if report.records]
        assert order == sorted(order, reverse=True)


def test_bytes_of_a_connection_are_few(stations: Make, mosquitto: Mosquitto, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the long run a tick alone costs at most 64 bytes of MQTT payload and 10 of packet: the topic travels once."""
    with CollectorDouble(mosquitto.port) as collector:
        station = stations(mosquitto.port)
        sizes: list[int] = []
        station.start()
        until(lambda: station.uplink.session.phase == "open")
        station.tick(1)
        until(lambda: station.spool.depth == 0)
        real = Client._packet_queue

        def measured(self: Client, command: int, packet: bytes, *rest: Any) -> Any:
            sizes.append(len(packet))
            return real(self, command, packet, *rest)

        monkeypatch.setattr(Client, "_packet_queue", measured)
        tick = Tick(result="online", rungs="++.+==+", target="cloudflare", via="datagram", rtt_ms=612.0, gateway_rtt_ms=0.73)
        seqs = station.spool.put(tick, clock.read())
        until(lambda: station.spool.depth == 0)
        assert collector.seqs(station.spool.epoch)[-1] == seqs
        assert sizes
        assert max(sizes) <= 74


def test_stop_is_quick_even_while_nobody_answers(tmp_path: Path) -> None:
    """A stop while connecting, or while waiting for the next attempt, takes no longer than it is given."""
    station = Station(tmp_path, 9).start()
    until(lambda: station.uplink.session.error)
    assert station.uplink.stop("stop", 2.0)
    station.spool.close("stop")


# --- backoff ---


def limits(backoff: Backoff, reason: str, *, online: bool | None, count: int = 12) -> list[float]:
    """The largest delay that each attempt could have had."""

    class Most(random.Random):
        def uniform(self, a: float, b: float) -> float:
            return b

    backoff.chance = Most()
    return [backoff.delay_s(reason, online=online) for _ in range(count)]


def test_backoff_stays_short_while_the_link_is_down() -> None:
    assert limits(Backoff(1.0, 15.0), UNREACHABLE, online=False) == [1, 2, 4, 8, *[15] * 8]


def test_backoff_grows_where_the_broker_refuses() -> None:
    """A broker that refuses while the Internet works: a minute. Wrong credentials: five."""
    assert limits(Backoff(1.0, 15.0), REFUSED, online=True)[-1] == 60
    assert limits(Backoff(1.0, 15.0), REFUSED, online=False)[-1] == 15
    assert limits(Backoff(1.0, 15.0), FORBIDDEN, online=True)[-1] == 300


def test_backoff_is_fully_jittered_and_begins_anew() -> None:
    backoff = Backoff(1.0, 15.0, random.Random(1))
    delays = [backoff.delay_s(UNREACHABLE, online=None) for _ in range(200)]
    assert min(delays[4:]) < 1
    assert max(delays) > 14
    backoff.succeeded()
    assert backoff.delay_s(UNREACHABLE, online=None) <= 1


def test_no_secret_is_logged(stations: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Even at the most talkative level neither password nor key appears in the log."""
    caplog.set_level(logging.DEBUG)
    (tmp_path / "user").write_text("demo\n")
    (tmp_path / "password").write_text("hunter2hunter2\n")
    station = stations(9, username_file=tmp_path / "user", password_file=tmp_path / "password").start()
    until(lambda: station.uplink.session.error)
    assert "hunter2" not in caplog.text
