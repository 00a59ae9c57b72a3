"""The inbox against real brokers (`inbox`, `session`): what it takes over, when it says so, and how it comes back."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from kerege_collector import inbox as inbox_module
from kerege_collector import session as session_module
from kerege_collector.inbox import Inbox, Message
from kerege_collector.publishes import Publish
from kerege_collector.session import Broker
from kerege_collector.stages import Stages
from kerege_lab.bench.ingest_publisher import connect_packet, publish_packet
from kerege_lab.certificates import Certificates, make_certificates
from kerege_lab.servers import HOST, HOUSE_ACL, EmbeddedBroker, Mosquitto, free_port, write_passwords
from kerege_wire import CollectorState, decode_state
from kerege_wire.topics import COLLECTOR_STATE

DEADLINE_S = 60.0
REPORT = "kerege/v1/demo/report"


@pytest.fixture(autouse=True)
def _quick_to_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbox_module, "FIRST_BACKOFF_S", 0.02)
    monkeypatch.setattr(inbox_module, "MAX_BACKOFF_S", 0.1)
    monkeypatch.setattr(inbox_module, "LOOP_S", 0.1)
    monkeypatch.setattr(session_module, "CONNACK_S", 0.5)


def wait(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@contextmanager
def running(broker: Broker) -> Iterator[Inbox]:
    inbox = Inbox(broker, Stages())
    inbox.start()
    try:
        yield inbox
    finally:
        inbox.stop()
        assert not inbox.alive


@contextmanager
def connected(broker: Broker) -> Iterator[Inbox]:
    with running(broker) as inbox:
        wait(lambda: inbox.connected)
        yield inbox


class Publisher:
    """An agent's hands: raw MQTT 3.1.1, so that it is seen exactly what the broker says."""

    def __init__(self, port: int) -> None:
        self._connection = socket.create_connection((HOST, port), timeout=DEADLINE_S)
        self._connection.sendall(connect_packet(f"publisher-{time.monotonic_ns()}"))
        assert self._connection.recv(4) == b"\x20\x02\x00\x00"
        self._packet_id = 0

    def publish(self, *payloads: bytes, topic: str = REPORT) -> None:
        """At QoS 1; returns when the broker has them all."""
        for payload in payloads:
            self._packet_id = self._packet_id % 65535 + 1
            self._connection.sendall(publish_packet(topic, payload, self._packet_id))
        awaited = 4 * len(payloads)
        while awaited:
            awaited -= len(self._connection.recv(awaited))

    def publish_once(self, *payloads: bytes, topic: str = REPORT) -> None:
        """At QoS 0, and a QoS 1 after it elsewhere, so that it is known when the broker has passed them on."""
        for payload in payloads:
            name = topic.encode()
            body = len(name).to_bytes(2, "big") + name + payload
            self._connection.sendall(b"\x30" + bytes([len(body)]) + body)
        self.publish(b"", topic="elsewhere")

    def close(self) -> None:
        self._connection.close()


@pytest.fixture
def publisher(mosquitto: Mosquitto) -> Iterator[Publisher]:
    found = Publisher(mosquitto.port)
    yield found
    found.close()


class Listener:
    """Sees the collector's state as agents do."""

    def __init__(self, port: int) -> None:
        self.states: list[tuple[str, bool]] = []
        self._client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
        self._client.on_message = lambda _, __, message: self.states.append((decode_state(bytes(message.payload)).state, message.retain))
        self._client.on_connect = lambda client, *_: client.subscribe(COLLECTOR_STATE, 1)
        self._client.connect(HOST, port)
        self._client.loop_start()

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


@contextmanager
def listening(port: int) -> Iterator[Listener]:
    found = Listener(port)
    try:
        yield found
    finally:
        found.close()


def take_all(inbox: Inbox, count: int) -> list[Message]:
    found: list[Message] = []

    def enough() -> bool:
        found.extend(inbox.take(1000, 0.0, 0.01))
        return len(found) >= count

    wait(enough)
    return found


def texts(messages: list[Message]) -> list[str]:
    return [message.payload.decode() for message in messages]


def test_messages_come_in_order_with_their_topic(mosquitto: Mosquitto, publisher: Publisher) -> None:
    """Topic, payload and time of arrival; reports of all centers and their presence, and nothing else."""
    with connected(Broker(HOST, mosquitto.port)) as inbox:
        publisher.publish(b"1")
        publisher.publish(b"2", topic="kerege/v1/other/presence")
        publisher.publish(b"3", topic="kerege/v1/demo/ack")
        publisher.publish_once(b"4")
        found = take_all(inbox, 3)
        assert [(item.topic, item.payload, bool(item.packet_id)) for item in found] == [
            (REPORT, b"1", True),
            ("kerege/v1/other/presence", b"2", True),
            (REPORT, b"4", False),
        ]
        assert all(abs(item.received_ms - time.time() * 1000) < 60_000 for item in found)


def test_the_broker_keeps_what_is_beyond_receive_maximum(mosquitto: Mosquitto, publisher: Publisher) -> None:
    """With five in flight no sixth comes until one of them is done; in the end all have come, in order."""
    with connected(Broker(HOST, mosquitto.port, receive_maximum=5)) as inbox:
        publisher.publish(*[str(number).encode() for number in range(12)])
        found = take_all(inbox, 5)
        publisher.publish_once(b"passed on")  # after all that the broker was willing to send
        assert texts(take_all(inbox, 1)) == ["passed on"]
        inbox.done(found)
        while len(found) < 12:
            more = take_all(inbox, 1)
            inbox.done(more)
            found += more
        assert texts(found) == [str(number) for number in range(12)]


def test_only_what_is_done_is_puback_ed(tmp_path: Path) -> None:
    """The broker's own log shows the PUBACK of each message that is done, and of no other."""
    with Mosquitto(tmp_path, lines=["log_type all"]) as server, connected(Broker(HOST, server.port, client_id="watched")) as inbox:
        publisher = Publisher(server.port)
        publisher.publish(b"1", b"2", b"3")
        found = take_all(inbox, 3)
        inbox.done([found[1]])
        wait(lambda: f"Received PUBACK from watched (Mid: {found[1].packet_id}," in server.log.read_text())
        assert server.log.read_text().count("Received PUBACK from watched") == 1
        publisher.close()


def test_an_old_connection_is_not_acknowledged_on_a_new_one(mosquitto: Mosquitto) -> None:
    """After the broker was killed, being done with old messages opens no window of the new connection."""
    with connected(Broker(HOST, mosquitto.port, receive_maximum=3)) as inbox:
        before = Publisher(mosquitto.port)
        before.publish(b"old 1", b"old 2", b"old 3")
        old = take_all(inbox, 3)
        before.close()
        mosquitto.kill()
        wait(lambda: not inbox.connected)
        mosquitto.start()
        wait(lambda: inbox.connected)
        after = Publisher(mosquitto.port)
        after.publish(*[f"new {number}".encode() for number in range(6)])
        new = take_all(inbox, 3)
        assert [item.packet_id for item in new] == [item.packet_id for item in old]
        inbox.done(old)
        after.publish_once(b"passed on")
        assert texts(take_all(inbox, 1)) == ["passed on"]
        inbox.done(new)
        assert texts(take_all(inbox, 3)) == ["new 3", "new 4", "new 5"]
        after.close()


def test_ready_is_said_on_each_connection_and_away_at_the_end(mosquitto: Mosquitto) -> None:
    """Retained, so that an agent that comes later knows; a broker without persistence is told again after its restart."""
    with running(Broker(HOST, mosquitto.port, ack_within_s=77)) as inbox:
        inbox.announce("ready")
        wait(lambda: inbox.connected)
        with listening(mosquitto.port) as listener:
            wait(lambda: ("ready", True) in listener.states or ("ready", False) in listener.states)
        mosquitto.kill()
        wait(lambda: not inbox.connected)
        mosquitto.start()
        wait(lambda: inbox.connected)
        with listening(mosquitto.port) as listener:
            wait(lambda: bool(listener.states))
            assert listener.states[0][0] == "ready"
            inbox.announce("away")
            wait(lambda: listener.states[-1][0] == "away")
            inbox.announce("ready")
            wait(lambda: listener.states[-1][0] == "ready")
            inbox.stop()
            wait(lambda: listener.states[-1][0] == "away")


def test_a_connection_that_breaks_leaves_a_will(mosquitto: Mosquitto) -> None:
    """When the collector dies the broker says ``away`` for it."""
    inbox = Inbox(Broker(HOST, mosquitto.port, client_id="mortal"), Stages())
    inbox.announce("ready")
    inbox.start()
    wait(lambda: inbox.connected)
    with listening(mosquitto.port) as listener:
        wait(lambda: bool(listener.states) and listener.states[-1][0] == "ready")
        # another client of the same id makes the broker close the connection, without a DISCONNECT of ours
        with socket.create_connection((HOST, mosquitto.port)) as usurper:
            usurper.sendall(connect_packet("mortal"))
            wait(lambda: "away" in [state for state, _ in listener.states])
    inbox.stop()


def test_one_of_a_group_does_not_speak_for_the_others(mosquitto: Mosquitto, publisher: Publisher) -> None:
    """Two collectors share the reports, each gets all presence, and the end of one is not said to be the end of all."""
    broker = Broker(HOST, mosquitto.port, shared_group="collectors", client_id="one")
    other = Broker(HOST, mosquitto.port, shared_group="collectors", client_id="two")
    with listening(mosquitto.port) as listener, connected(broker) as first, connected(other) as second:
        first.announce("ready")
        wait(lambda: bool(listener.states) and listener.states[-1][0] == "ready")
        publisher.publish(*[str(number).encode() for number in range(20)])
        publisher.publish(b"presence", topic="kerege/v1/demo/presence")
        shared: list[str] = []
        for inbox in (first, second):
            mine: list[str] = []
            while "presence" not in mine:
                mine += texts(take_all(inbox, 1))
            mine += texts(inbox.take(100, 0.0, 0.0))
            assert len(mine) > 1
            shared += [text for text in mine if text != "presence"]
        assert sorted(shared, key=int) == [str(number) for number in range(20)]
        second.stop()
        publisher.publish(b"later")
        assert texts(take_all(first, 1)) == ["later"]
        assert listener.states[-1][0] == "ready"


def test_a_flood_at_qos_0_leaves_room_for_qos_1(mosquitto: Mosquitto, publisher: Publisher) -> None:
    """What finds the queue full at QoS 0 is dropped and counted; the window of QoS 1 is never touched by it."""
    with connected(Broker(HOST, mosquitto.port, receive_maximum=10)) as inbox:
        publisher.publish_once(*[f"flood {number}".encode() for number in range(50)])
        publisher.publish(*[str(number).encode() for number in range(10)])
        wait(lambda: inbox.depth == 20)
        found = take_all(inbox, 20)
        assert texts(found) == [f"flood {number}" for number in range(10)] + [str(number) for number in range(10)]
        assert inbox.overflowed == 40


def test_a_broker_that_ignores_our_window_cannot_fill_our_memory() -> None:
    """At QoS 1 too there is an end: what is beyond is dropped, counted, and PUBACKed so that the broker goes on."""
    inbox = Inbox(Broker(HOST, 1, receive_maximum=3), Stages())
    room = 3 * inbox_module.QUEUE_PER_WINDOW
    inbox._arrive([Publish(REPORT.encode(), b"x", number + 1, False) for number in range(room + 20)], 0)
    assert (inbox.depth, inbox.overflowed) == (room, 20)
    assert [packet_ids for _, packet_ids in inbox._to_puback] == [[room + number] for number in range(1, 21)]
    inbox.stop()


def test_a_payload_larger_than_any_report_is_not_kept(mosquitto: Mosquitto, publisher: Publisher) -> None:
    """Two megabytes do not even leave a broker of version 5; the connection lives on."""
    with connected(Broker(HOST, mosquitto.port)) as inbox:
        publisher.publish(bytes(2_000_000))
        publisher.publish(b"small")
        assert texts(take_all(inbox, 1)) == ["small"]


def test_a_long_outage_of_the_store_does_not_cost_the_connection(tmp_path: Path) -> None:
    """With the window full and nobody taking anything, pings go on: the broker sees a living client for longer than its patience."""
    with (
        Mosquitto(tmp_path, lines=["log_type all"]) as server,
        connected(Broker(HOST, server.port, client_id="patient", keepalive_s=2, receive_maximum=5)) as inbox,
    ):
        publisher = Publisher(server.port)
        publisher.publish(*[str(number).encode() for number in range(20)])
        wait(lambda: inbox.depth == 5)
        wait(lambda: server.log.read_text().count("Received PINGREQ from patient") >= 3)
        assert inbox.connected
        found = take_all(inbox, 5)
        inbox.done(found)
        assert texts(take_all(inbox, 5))[0] == "5"
        publisher.close()


def test_it_comes_when_the_broker_comes(tmp_path: Path) -> None:
    """A start while nobody listens is an ordinary start."""
    port = free_port()
    with running(Broker(HOST, port)) as inbox:
        assert not inbox.publish("kerege/v1/demo/ack", b"nobody")
        with Mosquitto(tmp_path, port=port):
            wait(lambda: inbox.connected)
        wait(lambda: not inbox.connected)


def test_a_broker_of_3_1_1_will_do(tmp_path: Path) -> None:
    """amqtt knows no version 5 and misreads its CONNECT: the other version is tried, and messages flow."""
    with EmbeddedBroker(tmp_path) as server, connected(Broker(HOST, server.port)) as inbox:
        agent = Publisher(server.port)
        sender = threading.Thread(target=agent.publish, args=(b"1", b"2", b"3"))
        sender.start()
        found: list[Message] = []
        while len(found) < 3:
            more = take_all(inbox, 1)
            inbox.done(more)
            found += more
        assert texts(found) == ["1", "2", "3"]
        sender.join()
        agent.close()


def test_tls_with_a_certificate_and_the_houses_rules(tmp_path: Path, certificates: Certificates) -> None:
    """With its own certificate the collector may read all reports and write acks and its state."""
    identity = certificates.clients["collector"]
    with Mosquitto(tmp_path, tls=certificates, acl=HOUSE_ACL) as server:
        broker = Broker(
            "localhost", server.port, tls=True, ca_file=certificates.ca, certificate_file=identity.certificate, key_file=identity.key
        )
        with connected(broker) as inbox:
            agent = paho.Client(CallbackAPIVersion.VERSION2, client_id="demo", protocol=paho.MQTTv5)
            demo = certificates.clients["demo"]
            agent.tls_set(str(certificates.ca), str(demo.certificate), str(demo.key))
            acks: list[bytes] = []
            agent.on_message = lambda _, __, message: acks.append(bytes(message.payload))
            agent.on_connect = lambda client, *_: client.subscribe("kerege/v1/demo/ack")
            subscribed = threading.Event()
            agent.on_subscribe = lambda *_: subscribed.set()
            agent.connect("localhost", server.port)
            agent.loop_start()
            assert subscribed.wait(DEADLINE_S)
            payloads = [bytes([number]) * 5000 for number in range(100)]  # more than one TLS record at a time
            for payload in payloads:
                agent.publish(REPORT, payload, 1)
            found = take_all(inbox, 100)
            assert [message.payload for message in found] == payloads
            inbox.done(found)
            inbox.publish("kerege/v1/demo/ack", b"ack")
            wait(lambda: acks == [b"ack"])
            agent.disconnect()
            agent.loop_stop()


def test_a_broker_with_a_strange_certificate_is_not_trusted(
    tmp_path: Path, certificates: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    """It is not of our authority: no connection, a word why, and the next try."""
    strange = make_certificates(tmp_path / "strange", [])
    identity = certificates.clients["collector"]
    with Mosquitto(tmp_path / "broker", tls=strange) as server:
        broker = Broker(
            "localhost", server.port, tls=True, ca_file=certificates.ca, certificate_file=identity.certificate, key_file=identity.key
        )
        with running(broker) as inbox:
            wait(lambda: any("CERTIFICATE_VERIFY_FAILED" in str(vars(record).get("fields")) for record in caplog.records))
            assert not inbox.connected
            assert inbox.alive


def test_a_password_that_is_wrong_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The broker's reason is in the log, the password is not."""
    passwords = write_passwords(tmp_path / "passwords", {"collector": "right"})
    with Mosquitto(tmp_path / "broker", password_file=passwords) as server:
        with running(Broker(HOST, server.port, username="collector", password="wrong-one")):
            wait(lambda: any("ot authori" in str(vars(record).get("fields")) for record in caplog.records))
        with connected(Broker(HOST, server.port, username="collector", password="right")):
            pass
    assert "wrong-one" not in str([vars(record) for record in caplog.records])
    assert "wrong-one" not in repr(Broker(HOST, 1, password="wrong-one"))


def test_a_name_that_cannot_be_one_does_not_kill_the_thread(caplog: pytest.LogCaptureFixture) -> None:
    """A host that IDNA cannot encode is a mistake that somebody may mend; the thread lives on and says so."""
    with running(Broker("a" * 70 + ".example", 1883)) as inbox:
        wait(lambda: any("UnicodeError" in str(vars(record).get("fields")) for record in caplog.records))
        assert inbox.alive


def test_states_can_be_read_by_agents(mosquitto: Mosquitto) -> None:
    """The state carries the longest time that an ack may be held back."""
    states: list[CollectorState] = []
    client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
    client.on_message = lambda _, __, message: states.append(decode_state(bytes(message.payload)))
    client.on_connect = lambda found, *_: found.subscribe(COLLECTOR_STATE, 1)
    with connected(Broker(HOST, mosquitto.port, ack_within_s=77)) as inbox:
        inbox.announce("ready")
        client.connect(HOST, mosquitto.port)
        client.loop_start()
        wait(lambda: bool(states) and states[-1].state == "ready")
        client.disconnect()
        client.loop_stop()
    assert states[-1].ack_within_s == 77
