"""The collector as a process: killed at random moments, stopped in good order, started where it cannot (`service`)."""

import os
import random
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from kerege_collector.ledger import Ledger
from kerege_collector.service import Service
from kerege_collector.settings import load
from kerege_collector.timekeeping import ClockState
from kerege_lab.house import Access, Center, Collector, collector_settings, influx_store, merged
from kerege_lab.servers import HOST, Influxd, Mosquitto, free_port
from kerege_wire import Record, Report, Tick, decode_ack, decode_state, encode_report
from kerege_wire.ranges import RangeSet
from kerege_wire.topics import COLLECTOR_STATE

DEADLINE_S = 60.0
RESEND_S = 1.0
WINDOW = 40


def wait(what: Callable[[], bool], collector: Collector | None = None) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not what():
        assert time.monotonic() < deadline, collector and collector.last_log_lines()
        time.sleep(0.02)


class Sender:
    """The smallest agent that keeps the rules: it sends each record until an ack names it."""

    def __init__(self, port: int, center: str, epoch: str, count: int, *, prompt: bool = True) -> None:
        self.count = count
        self.acked = RangeSet()
        self.refused: dict[int, str] = {}
        self.states: list[str] = []
        self.holds: list[str] = []
        self._center, self._epoch, self._prompt = center, epoch, prompt
        self._first_s = int(time.time()) - count
        self._sent_s: dict[int, float] = {}
        self._lock = threading.Lock()
        self._client = paho.Client(CallbackAPIVersion.VERSION2, client_id=center, protocol=paho.MQTTv5)
        self._client.reconnect_delay_set(1, 1)
        self._client.on_message = self._hear
        self._client.on_connect = lambda client, *_: client.subscribe([(f"kerege/v1/{center}/ack", 1), (COLLECTOR_STATE, 1)])
        self._client.connect(HOST, port)
        self._client.loop_start()

    @property
    def done(self) -> bool:
        with self._lock:
            return self.acked.count + len(self.refused) == self.count

    def send_what_is_due(self) -> None:
        """A window's worth of what was not sent within the last RESEND_S."""
        now = time.monotonic()
        with self._lock:
            waiting = [seq for first, last in self.acked.gaps(1, self.count) for seq in range(first, last + 1) if seq not in self.refused]
        due = [seq for seq in waiting[:WINDOW] if now - self._sent_s.get(seq, 0.0) > RESEND_S]
        for seq in due:
            self._sent_s[seq] = now
            self._client.publish(f"kerege/v1/{self._center}/report", self.report(seq), 1)

    def report(self, seq: int) -> bytes:
        tick = Tick("online", rtt_ms=float(seq))
        record = Record(seq, self._first_s + seq, tick)
        return encode_report(Report(self._epoch, sent=seq, ack="now" if self._prompt else None, records=(record,)))

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _hear(self, _: object, __: object, message: paho.MQTTMessage) -> None:
        if message.topic == COLLECTOR_STATE:
            self.states.append(decode_state(bytes(message.payload)).state)
            return
        ack = decode_ack(bytes(message.payload))
        with self._lock:
            if ack.hold is not None:
                self.holds.append(ack.hold)
            elif ack.epoch == self._epoch:
                for first, last in ack.stored:
                    self.acked.add(first, last)
                self.refused.update(ack.refused)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "collector"


@pytest.fixture
def collector(mosquitto: Mosquitto, directory: Path) -> Iterator[Collector]:
    found = Collector(directory, settings(mosquitto, directory), [Center("demo"), Center("other")])
    yield found
    found.stop()


@contextmanager
def started(collector: Collector) -> Iterator[Collector]:
    """It runs, and is stopped at the end."""
    collector.start()
    try:
        yield collector
    finally:
        collector.stop()


def settings(broker: Mosquitto, directory: Path, **changes: object) -> dict[str, object]:
    quick = {"batch": {"wait_s": 0.02}, "clock": {"trust": "always"}, "ack_within_s": 1}
    return merged(collector_settings(Access(broker.port), directory, port=free_port()), quick | changes)


def senders(port: int, count: int) -> Iterator[Sender]:
    for center in ("demo", "other"):
        yield Sender(port, center, f"{center}-{random.randrange(10**8):08d}"[-8:], count)


@pytest.mark.parametrize("kind", ["sqlite", "influx"])
def test_kill_9_at_random_moments_loses_and_doubles_nothing(
    kind: str, collector: Collector, mosquitto: Mosquitto, directory: Path, request: pytest.FixtureRequest
) -> None:
    """Every record is acked in the end; what is acked is in the store, once."""
    influxd: Influxd | None = None
    if kind == "influx":
        influxd = request.getfixturevalue("influxd")
        assert isinstance(influxd, Influxd)
        influxd.query("DROP DATABASE kills; CREATE DATABASE kills")
        collector.settings |= {"store": influx_store(influxd.target, directory) | {"bucket": "kills"}}
    collector.start()
    agents = list(senders(mosquitto.port, 1500))
    chance = random.Random()  # the moments are to differ from run to run
    kills, killed_s = 0, time.monotonic()
    deadline = time.monotonic() + DEADLINE_S
    while not all(agent.done for agent in agents):
        assert time.monotonic() < deadline, (collector.last_log_lines(), [agent.acked for agent in agents])
        for agent in agents:
            agent.send_what_is_due()
        time.sleep(0.01)
        if kills < 4 and time.monotonic() - killed_s > chance.uniform(0.05, 0.6):
            collector.kill()
            kills, killed_s = kills + 1, time.monotonic()
            collector.start()
    for agent in agents:
        agent.close()
    collector.stop()
    assert kills == 4
    assert [agent.refused for agent in agents] == [{}, {}]
    if influxd is not None:
        rows = [(row["center"], row["seq"]) for row in influxd.query('SELECT seq, center FROM "kills"."autogen".tick')]
    else:
        with sqlite3.connect(directory / "records.db") as records:
            rows = records.execute("SELECT center, seq FROM records").fetchall()
        records.close()
    assert sorted(rows) == [(center, seq) for center in ("demo", "other") for seq in range(1, 1501)]


def test_a_clean_stop_says_everything_and_goodbye(collector: Collector, mosquitto: Mosquitto) -> None:
    """Acks that were held back go out, then ``away``; after the start it is ``ready`` again and knows what it had."""
    collector.settings |= {"ack_within_s": 300}
    collector.start()
    agent = Sender(mosquitto.port, "demo", "cleanly0", 30, prompt=False)
    wait(lambda: "ready" in agent.states, collector)
    agent.send_what_is_due()
    wait(lambda: _accepted(collector) == 30, collector)
    assert not agent.acked.count
    collector.stop()
    wait(lambda: agent.done)
    wait(lambda: agent.states[-1] == "away")
    collector.start()
    wait(lambda: agent.states[-1] == "ready", collector)
    again = Sender(mosquitto.port, "demo", "cleanly0", 30)
    wait(lambda: bool(again.states), collector)
    again.send_what_is_due()
    wait(lambda: again.done, collector)
    assert 'kerege_records_total{outcome="repeated"} ' in _metrics(collector)
    assert _accepted(collector) == 0
    for sender in (agent, again):
        sender.close()


def test_a_center_is_admitted_after_a_reload(collector: Collector, mosquitto: Mosquitto, directory: Path) -> None:
    """SIGHUP reads the registry: the held center's records are then stored. A bad file changes nothing."""
    collector.start()
    agent = Sender(mosquitto.port, "newcomer", "newcomer", 3)
    wait(lambda: bool(agent.states), collector)
    agent.send_what_is_due()
    wait(lambda: set(agent.holds) == {"unknown center"}, collector)
    registry = directory / "centers.toml"
    good = registry.read_text() + '[[center]]\nid = "newcomer"\nname = "New"\n'
    registry.write_text(good + "nonsense")
    os.kill(collector.pid, signal.SIGHUP)
    wait(lambda: "centers.not_reloaded" in collector.log.read_text(), collector)
    registry.write_text(good)
    os.kill(collector.pid, signal.SIGHUP)
    wait(lambda: "centers.reloaded" in collector.log.read_text(), collector)

    def resent() -> bool:
        agent.send_what_is_due()
        return agent.done

    wait(resent, collector)
    agent.close()


def test_a_token_acts_until_a_reload_takes_it_away(mosquitto: Mosquitto, directory: Path) -> None:
    """In a house that tells nothing to strangers; its own commands use a token that they may read."""
    directory.mkdir(parents=True)
    token = directory / "desk.token"
    token.touch(mode=0o600)
    token.write_text("a" * 40)
    http = {"host": HOST, "port": free_port(), "reads": "token", "tokens": {"desk": token}}
    with started(Collector(directory, settings(mosquitto, directory, http=http), [Center("demo")])) as collector:

        def ack(given: str) -> int:
            url = f"{collector.url}/api/v1/incidents/1/ack"
            request = urllib.request.Request(url, b"", {"Authorization": f"Bearer {given}"})  # noqa: S310 - our own address
            with pytest.raises(urllib.error.HTTPError) as caught:
                urllib.request.urlopen(request, timeout=10)  # noqa: S310
            caught.value.close()
            return caught.value.code

        assert ack("a" * 40) == 404  # there is no such incident, which only somebody is told who may act
        command = [sys.executable, "-m", "kerege_collector", "centers", "--json", "--settings", str(collector.settings_file)]
        said = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
        assert '"center": "demo"' in said
        token.write_text("b" * 40)
        os.kill(collector.pid, signal.SIGHUP)
        wait(lambda: ack("a" * 40) in {401, 429}, collector)
        assert ack("b" * 40) == 404


def test_a_second_collector_on_the_same_directory_is_refused(collector: Collector) -> None:
    """It says whose place it is, and leaves it alone."""
    collector.start()
    pid = collector.pid
    second = collector.ask("run")
    assert second.returncode == 2
    assert f"another collector (process {pid}) runs here" in second.stderr
    assert "Traceback" not in second.stderr
    assert collector.running


def test_a_ledger_of_a_newer_version_is_refused(collector: Collector, directory: Path) -> None:
    """Exit 2 with the cure, and the file as it was."""
    directory.mkdir()
    ledger = Ledger(directory / "ledger.db")
    ledger.set_meta("schema", "99")
    ledger.close()
    collector._prepare()
    refused = collector.ask("run")
    assert refused.returncode == 2
    assert "made by a newer version" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_port_that_is_taken_is_said(collector: Collector) -> None:
    """Exit 2 with a clear word."""
    collector._prepare()
    with socket.create_server((HOST, collector.port)):
        refused = collector.ask("run")
    assert refused.returncode == 2
    assert "port" in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.platform_specific("systemd's socket")
def test_systemd_hears_how_it_is(collector: Collector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """READY when it serves, WATCHDOG while all parts live, STOPPING at the end."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(DEADLINE_S)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        collector.start()
        assert manager.recv(100) == b"READY=1"
        assert manager.recv(100) == b"WATCHDOG=1"
        collector.stop()
        said = b""
        while said != b"STOPPING=1":
            said = manager.recv(100)


WITHOUT_WEB = """
import sys, threading
from kerege_collector import cli, web
start = web.WebServer.start
def start_and_end(server):
    start(server)
    server.stop()
web.WebServer.start = start_and_end
sys.exit(cli.main(sys.argv[1:]))
"""


def test_a_collector_whose_web_server_has_ended_ends_so_that_it_is_started_again(mosquitto: Mosquitto, directory: Path) -> None:
    """Nobody could see how it is, nor could the agents find out whether a portal stands in between."""
    prepared = Collector(directory, settings(mosquitto, directory), [Center("demo")])
    prepared.start()
    prepared.stop()
    command = [sys.executable, "-c", WITHOUT_WEB, "run", "--settings", str(prepared.settings_file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert done.returncode == 1, done.stderr
    assert "collector.part_died" in done.stderr


def test_a_clock_in_doubt_is_trouble(mosquitto: Mosquitto, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is everybody's time: /healthz, the page and `status` say so, and the latter's exit status is 1."""
    prepared = Collector(directory, settings(mosquitto, directory), [Center("demo")])
    prepared.start()
    prepared.stop()
    service = Service(load(prepared.settings_file), threading.Event())
    try:
        monkeypatch.setattr(service.timekeeper, "state", lambda: ClockState(False, "not synchronised, says the kernel"))
        assert "this server's clock is in doubt: not synchronised, says the kernel" in service.trouble()
        monkeypatch.setattr(service.timekeeper, "state", lambda: ClockState(True, "synchronised"))
        assert not [text for text in service.trouble() if "clock" in text]
    finally:
        service.inbox.stop()
        service.close()


def test_it_is_well_while_the_broker_is_there(mosquitto: Mosquitto, collector: Collector) -> None:
    """/healthz names what is wrong, and is well again by itself."""
    collector.start()
    wait(lambda: _health(collector) == 200, collector)
    mosquitto.kill()
    wait(lambda: _health(collector) == 503, collector)
    mosquitto.start()
    wait(lambda: _health(collector) == 200, collector)


def _health(collector: Collector) -> int:
    with socket.create_connection((HOST, collector.port), timeout=DEADLINE_S) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        return int(connection.recv(4096).split()[1])


def _metrics(collector: Collector) -> str:
    with socket.create_connection((HOST, collector.port), timeout=DEADLINE_S) as connection:
        connection.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        found = b""
        while part := connection.recv(65536):
            found += part
    return found.decode()


def _accepted(collector: Collector) -> int:
    for line in _metrics(collector).splitlines():
        if line.startswith('kerege_records_total{outcome="accepted"}'):
            return int(float(line.split()[1]))
    return 0
