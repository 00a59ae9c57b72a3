"""Servers start, hang, die and come back, and none is left behind."""

import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from kerege_lab import servers
from kerege_lab.certificates import Certificates
from kerege_lab.servers import (
    HOST,
    HOUSE_ACL,
    PORTS,
    EmbeddedBroker,
    Influxd,
    InfluxTarget,
    Mosquitto,
    Server,
    ServerError,
    ServerMissingError,
    find_influxd,
    free_port,
    write_passwords,
)

WAIT_S = 40.0


@dataclass
class Talk:
    """A connected client and what it was told."""

    client: paho.Client
    connected: list[ReasonCode] = field(default_factory=list)
    got: list[tuple[str, bytes]] = field(default_factory=list)
    published: list[ReasonCode] = field(default_factory=list)
    subscribed: list[ReasonCode] = field(default_factory=list)

    def publish(self, topic: str, payload: bytes) -> ReasonCode:
        before = len(self.published)
        self.client.publish(topic, payload, qos=1)
        wait_until(lambda: len(self.published) > before)
        return self.published[-1]

    def subscribe(self, topic: str) -> ReasonCode:
        before = len(self.subscribed)
        self.client.subscribe(topic, qos=1)
        wait_until(lambda: len(self.subscribed) > before)
        return self.subscribed[-1]


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@contextmanager
def talk(
    server: Server,
    *,
    protocol: MQTTProtocolVersion = MQTTProtocolVersion.MQTTv5,
    tls: Certificates | None = None,
    center: str | None = None,
    password: str | None = None,
    session: str | None = None,
) -> Iterator[Talk]:
    """A client; with ``session`` the broker keeps its subscriptions and messages when it is gone."""
    client = paho.Client(CallbackAPIVersion.VERSION2, session or "", protocol=protocol)
    said = Talk(client)
    client.on_connect = lambda _client, _data, _flags, reason, _properties: said.connected.append(reason)
    client.on_message = lambda _client, _data, message: said.got.append((message.topic, bytes(message.payload)))
    client.on_publish = lambda _client, _data, _mid, reason, _properties: said.published.append(reason)
    client.on_subscribe = lambda _client, _data, _mid, reasons, _properties: said.subscribed.extend(reasons)
    if tls:
        identity = tls.clients[center] if center else None
        certificate, key = (str(identity.certificate), str(identity.key)) if identity else (None, None)
        client.tls_set(str(tls.ca), certificate, key, cert_reqs=ssl.CERT_REQUIRED)
    elif center:
        client.username_pw_set(center, password)
    if session:
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call] # paho 2.2 types all but this
        properties.SessionExpiryInterval = 60
        client.connect(HOST, server.port, clean_start=False, properties=properties)
    else:
        client.connect(HOST, server.port)
    client.loop_start()
    try:
        wait_until(lambda: bool(said.connected))
        yield said
    finally:
        client.disconnect()
        client.loop_stop()
        # paho closes its pair of wake-up sockets only when the object dies: undo the circle that keeps it until some garbage collection
        client.on_connect = client.on_message = client.on_publish = client.on_subscribe = None


def test_a_killed_broker_comes_back_on_the_same_port(mosquitto: Mosquitto) -> None:
    port, pid = mosquitto.port, mosquitto.pid
    mosquitto.kill()
    assert not mosquitto.running
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((HOST, port), timeout=1)
    mosquitto.start()
    assert (mosquitto.port, mosquitto.url) == (port, f"mqtt://127.0.0.1:{port}")
    assert mosquitto.pid != pid
    with talk(mosquitto) as agent:
        assert agent.connected[0].value == 0


def test_a_broker_with_persistence_keeps_retained_messages_over_a_restart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with Mosquitto(Path("broker"), persistence=True) as broker:
        with talk(broker) as agent:
            agent.client.publish("a/b", b"kept", qos=1, retain=True)
            wait_until(lambda: bool(agent.published))
        broker.restart()
        with talk(broker) as reader:
            reader.subscribe("a/b")
            wait_until(lambda: reader.got == [("a/b", b"kept")])


def test_a_paused_broker_accepts_and_answers_nothing_until_it_is_resumed(mosquitto: Mosquitto) -> None:
    mosquitto.pause()
    try:
        with socket.create_connection((HOST, mosquitto.port), timeout=1) as connection:
            connection.settimeout(0.3)
            connection.sendall(b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00")  # CONNECT, 3.1.1, clean, no name
            with pytest.raises(TimeoutError):
                connection.recv(4)
            mosquitto.resume()
            connection.settimeout(WAIT_S)
            assert connection.recv(4) == b"\x20\x02\x00\x00"  # CONNACK, accepted
    finally:
        mosquitto.resume()


def test_a_paused_server_can_be_stopped(tmp_path: Path) -> None:
    with Mosquitto(tmp_path) as broker:
        pid = broker.pid
        broker.pause()
        broker.stop()
    assert not Path(f"/proc/{pid}").exists()


def test_only_as_many_messages_are_queued_as_was_said(tmp_path: Path) -> None:
    with Mosquitto(tmp_path, max_queued=5) as broker:
        with talk(broker, session="reader") as reader:
            reader.subscribe("a")
        with talk(broker) as writer:
            for number in range(20):
                writer.publish("a", b"%d" % number)
        with talk(broker, session="reader") as reader:
            wait_until(lambda: len(reader.got) == 5)
            reader.subscribe("b")  # whatever else was queued would have come before the answer
            assert [payload for _, payload in reader.got] == [b"0", b"1", b"2", b"3", b"4"]


def test_passwords_let_in_who_has_one(tmp_path: Path) -> None:
    passwords = write_passwords(tmp_path / "passwords", {"demo": "right"})
    with Mosquitto(tmp_path, password_file=passwords) as broker:
        with talk(broker, center="demo", password="right") as agent:
            assert not agent.connected[0].is_failure
        with talk(broker, center="demo", password="wrong") as stranger:
            assert stranger.connected[0].is_failure


def test_a_center_with_a_certificate_may_write_its_own_topics_only(tmp_path: Path, certificates: Certificates) -> None:
    with (
        Mosquitto(tmp_path, tls=certificates, acl=HOUSE_ACL) as broker,
        talk(broker, tls=certificates, center="collector") as collector,
        talk(broker, tls=certificates, center="demo") as agent,
    ):
        assert collector.subscribe("kerege/v1/+/report").value == 1
        assert agent.connected[0].value == 0
        assert agent.publish("kerege/v1/other/report", b"forged").is_failure
        assert agent.publish("kerege/v1/demo/ack", b"forged").is_failure
        assert agent.publish("kerege/v1/demo/report", b"true").value == 0
        wait_until(lambda: bool(collector.got))
        assert collector.got == [("kerege/v1/demo/report", b"true")]


def test_a_center_reads_its_own_acks_and_the_state_of_the_collector_only(tmp_path: Path, certificates: Certificates) -> None:
    with (
        Mosquitto(tmp_path, tls=certificates, acl=HOUSE_ACL) as broker,
        talk(broker, tls=certificates, center="collector") as collector,
        talk(broker, tls=certificates, center="demo") as agent,
    ):
        for topic in ("kerege/v1/+/ack", "kerege/v1/+/report", "kerege/v1/demo/ack", "kerege/v1/collector/state"):
            agent.subscribe(topic)
        for topic in ("kerege/v1/other/ack", "kerege/v1/demo/ack", "kerege/v1/collector/state"):
            assert not collector.publish(topic, b"").is_failure
        wait_until(lambda: ("kerege/v1/collector/state", b"") in agent.got)
        assert {topic for topic, _ in agent.got} == {"kerege/v1/demo/ack", "kerege/v1/collector/state"}


def test_without_a_certificate_nobody_is_let_in(tmp_path: Path, certificates: Certificates) -> None:
    with Mosquitto(tmp_path, tls=certificates) as broker:
        context = ssl.create_default_context(cafile=str(certificates.ca))
        with socket.create_connection((HOST, broker.port)) as plain, context.wrap_socket(plain, server_hostname="localhost") as connection:
            connection.settimeout(WAIT_S)
            with pytest.raises(ssl.SSLError):  # TLS 1.3 says so on the first read
                connection.recv(1)


def test_the_embedded_broker_speaks_3_1_1_and_refuses_5(tmp_path: Path) -> None:
    with EmbeddedBroker(tmp_path) as broker:
        with talk(broker, protocol=MQTTProtocolVersion.MQTTv311) as agent:
            assert agent.connected[0].value == 0
            agent.subscribe("a")
            agent.publish("a", b"heard")
            wait_until(lambda: agent.got == [("a", b"heard")])
        with talk(broker) as modern:
            assert modern.connected[0].is_failure


def test_what_was_written_to_influxdb_is_read_back(any_influx: InfluxTarget) -> None:
    now = int(time.time())
    center = f"read-back-{now}"
    any_influx.write(f"read_one,center={center} online=true,rtt_ms=6.5 {now}\nread_two,center={center} sent=10i {now}")
    found = any_influx.query_series(f"SELECT * FROM read_one, read_two WHERE center = '{center}'")
    assert found["read_one"][0].items() >= {"time": now, "center": center, "online": True, "rtt_ms": 6.5}.items()
    assert found["read_two"][0]["sent"] == 10


def test_influxdb_says_what_it_refuses(influxd: Influxd) -> None:
    influxd.target.write("refused value=1i")
    with pytest.raises(ServerError, match="field type conflict"):
        influxd.target.write('refused value="text"')
    with pytest.raises(ServerError, match="error parsing query"):
        influxd.query("SELEC")


def test_influxdb_keeps_its_points_when_killed_and_loses_them_when_emptied(tmp_path: Path) -> None:
    with Influxd(tmp_path) as database:
        database.target.write("tick online=true 1790000000")
        database.kill()
        with pytest.raises(ServerError, match="does not answer"):
            database.query("SELECT * FROM tick")
        database.start()
        assert database.query("SELECT * FROM tick") == [{"time": 1790000000, "online": True}]
        database.empty()
        assert database.query("SELECT * FROM tick") == []


def test_a_server_that_cannot_start_shows_its_last_words(tmp_path: Path) -> None:
    with pytest.raises(ServerError, match=r"mosquitto has ended with status(.|\n)*no_such_setting"):
        Mosquitto(tmp_path, lines=["no_such_setting true"]).start()


def test_a_server_whose_port_is_taken_says_so(tmp_path: Path) -> None:
    with socket.create_server((HOST, free_port())) as taken:
        server = EmbeddedBroker(tmp_path, port=taken.getsockname()[1])
        with pytest.raises(ServerError, match=r"port \d+ is taken"):
            server.start()
        assert not server.running


def test_a_server_dies_with_the_process_that_started_it(tmp_path: Path) -> None:
    script = f"""
import pathlib, time
from kerege_lab.servers import Mosquitto
print(Mosquitto(pathlib.Path({str(tmp_path)!r})).start().pid, flush=True)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout is not None
        pid = int(starter.stdout.readline())
        assert Path(f"/proc/{pid}").exists()
        os.kill(starter.pid, signal.SIGKILL)
    wait_until(lambda: not Path(f"/proc/{pid}/exe").exists())


def test_what_is_not_running_says_so(tmp_path: Path) -> None:
    server = Mosquitto(tmp_path)
    server.stop()
    server.kill()
    for act in (server.pause, server.resume, lambda: server.pid):
        with pytest.raises(ServerError, match="does not run"):
            act()


def test_a_missing_program_names_the_cure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("KEREGE_CACHE", str(tmp_path))
    with pytest.raises(ServerMissingError, match="run scripts/install-servers"):
        find_influxd()


def test_an_influxdb_2_on_the_path_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on_path, in_cache = tmp_path / "influxd", tmp_path / "cache" / "bin" / "influxd"
    in_cache.parent.mkdir(parents=True)
    for program, version in ((on_path, "v2.7.12"), (in_cache, "v1.12.4")):
        program.write_text(f"#!/bin/sh\necho InfluxDB {version}\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setenv("KEREGE_CACHE", str(tmp_path / "cache"))
    assert find_influxd() == in_cache


def test_free_ports_are_none_that_outgoing_connections_get(monkeypatch: pytest.MonkeyPatch) -> None:
    assert {free_port() for _ in range(50)} <= set(PORTS)
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setattr(servers, "PORTS", range(port, port + 1))
        with pytest.raises(ServerError, match="no free port"):
            free_port()
