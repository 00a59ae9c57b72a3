"""One connection to the broker, from CONNECT to its end: paho's session over a `stream` of our own. Used by one thread.

MQTT 5, or 3.1.1 for brokers that know no better. A new object is made for each connection, so that nothing of an old one lives on.
"""

import logging
import os
import selectors
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, cast

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from kerege_collector.publishes import MAX_PACKET_BYTES, Publish, pubacks
from kerege_collector.stream import Stream, Wrapper
from kerege_wire.topics import COLLECTOR_STATE, topic

log = logging.getLogger(__name__)

CONNACK_S: Final = 5.0
"""How long a broker may think about a CONNECT before the other version is tried: some that know no version 5 misread its properties
and wait for bytes that never come (amqtt 0.12)."""

UNSUPPORTED_VERSION: Final = "Unsupported protocol version"
"""How paho names the CONNACK of a broker that knows no version 5, whichever of the two forms it has."""

NO_ANSWER: Final = "no answer to CONNECT"

OTHER_VERSION: Final = (UNSUPPORTED_VERSION, NO_ANSWER)
"""Failures after which the other version is worth a try."""


@dataclass(frozen=True, slots=True)
class Broker:
    """Where the broker is and how to speak to it. shared_group: share the reports with other collectors of that group."""

    host: str
    port: int
    client_id: str = "collector"
    tls: bool = False
    ca_file: Path | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    keepalive_s: int = 90
    connect_timeout_s: float = 30.0
    receive_maximum: int = 2000
    shared_group: str | None = None
    ack_within_s: int = 300

    @property
    def subscriptions(self) -> tuple[str, ...]:
        """Reports, shared with others of the group where there is one, and presence, which each must see."""
        reports = topic("+", "report")
        return (f"$share/{self.shared_group}/{reports}" if self.shared_group else reports, topic("+", "presence"))


def tls_context(broker: Broker) -> ssl.SSLContext | None:
    """The broker's authority and our certificate; None without TLS. Raises OSError, ssl.SSLError where the files cannot be used."""
    if not broker.tls:
        return None
    context = ssl.create_default_context(cafile=os.fspath(broker.ca_file) if broker.ca_file else None)
    context.hostname_checks_common_name = False  # RFC 9525 section 6: the name is in the subject alternative name, or it is none
    if broker.certificate_file is not None:
        context.load_cert_chain(broker.certificate_file, broker.key_file)
    return context


class Session:
    """One connection. `open` it, then take turns of `wait`, `read`, `flush`, `keep`; the first that says False, or raises, was the last.

    will: what the broker shall say of the collector's state when the connection breaks; None: nothing.
    arrived: gets the PUBLISH packets. subscribed: are we there, for the agents? failure: why not, or why no longer.
    """

    def __init__(self, broker: Broker, *, version5: bool, will: bytes | None, arrived: Callable[[list[Publish]], None]) -> None:
        self._broker = broker
        self._version5 = version5
        self._arrived = arrived
        self._selector = selectors.DefaultSelector()
        self._client = self._new_client(will)
        self._opened_s = 0.0
        self.subscribed = False
        self.failure: str | None = None

    def open(self) -> None:
        """Connect and say CONNECT. Raises OSError (ssl.SSLError is one), ValueError (a host name that cannot be one)."""
        broker = self._broker
        self._client.tls_set_context(cast("ssl.SSLContext", Wrapper(tls_context(broker), self._arrived, version5=self._version5)))
        if self._version5:
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            properties.ReceiveMaximum = broker.receive_maximum
            properties.MaximumPacketSize = MAX_PACKET_BYTES
            self._client.connect(broker.host, broker.port, broker.keepalive_s, clean_start=True, properties=properties)
        else:
            self._client.connect(broker.host, broker.port, broker.keepalive_s)
        self._opened_s = time.monotonic()
        self.flush()

    def wait(self, timeout_s: float, wake: socket.socket) -> None:
        """Until there is something to read or to write, or ``wake`` says so, or the time is over."""
        stream = self._stream
        if stream is None or stream.has_more:
            return
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if stream.wants_write else 0)
        if stream not in self._selector.get_map():
            self._selector.register(stream, events)
            self._selector.register(wake, selectors.EVENT_READ)
        elif self._selector.get_key(stream).events != events:
            self._selector.modify(stream, events)
        self._selector.select(timeout_s)

    def read(self) -> bool:
        """Take what is there; False when the connection is over."""
        while (stream := self._stream) is not None:
            if self._client.loop_read() != MQTTErrorCode.MQTT_ERR_SUCCESS:
                return False
            if not stream.has_more:
                return self._stream is not None
        return False

    def flush(self) -> bool:
        """Give the network what is to be said; False when the connection is over. Raises OSError."""
        if self._client.want_write() and self._client.loop_write() != MQTTErrorCode.MQTT_ERR_SUCCESS:
            return False
        if (stream := self._stream) is None:
            return False
        stream.flush()
        return True

    def keep(self) -> bool:
        """Keepalive; False when the connection is over, or never came about."""
        if not self._client.is_connected() and time.monotonic() - self._opened_s > CONNACK_S:
            self.failure = NO_ANSWER
            return False
        return self._client.loop_misc() == MQTTErrorCode.MQTT_ERR_SUCCESS

    def puback(self, packet_ids: list[int]) -> None:
        """The broker may forget these messages."""
        if (stream := self._stream) is not None:
            stream.send(pubacks(packet_ids))

    def publish(self, name: str, payload: bytes, *, qos: int, retain: bool) -> paho.MQTTMessageInfo:
        """Hand a message to paho."""
        return self._client.publish(name, payload, qos, retain)

    def close(self) -> None:
        """End it, with a DISCONNECT where there is somebody to hear it (the will is then not sent)."""
        self._client.on_disconnect = None
        try:
            if self._client.socket() is not None:
                self._client.disconnect()
                self.flush()
        except OSError:
            log.debug("session.close_failed", exc_info=True)
        finally:
            self._selector.close()

    @property
    def _stream(self) -> Stream | None:
        return cast("Stream | None", self._client.socket())

    def _new_client(self, will: bytes | None) -> paho.Client:
        broker = self._broker
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=broker.client_id,
            clean_session=None if self._version5 else True,
            protocol=paho.MQTTv5 if self._version5 else paho.MQTTv311,
            reconnect_on_failure=False,
        )
        client.connect_timeout = broker.connect_timeout_s
        if broker.username is not None:
            client.username_pw_set(broker.username, broker.password)
        if will is not None:
            client.will_set(COLLECTOR_STATE, will, qos=1, retain=True)
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_disconnect = self._on_disconnect
        client.on_socket_register_write = _nothing
        return client

    def _on_connect(self, client: paho.Client, _: object, __: object, reason: ReasonCode, ___: object) -> None:
        if reason.is_failure:
            self.failure = str(reason)
        elif self._version5:
            client.subscribe([(name, SubscribeOptions(qos=1)) for name in self._broker.subscriptions])
        else:
            client.subscribe([(name, 1) for name in self._broker.subscriptions])

    def _on_subscribe(self, client: paho.Client, _: object, __: int, reasons: list[ReasonCode], ___: object) -> None:
        refused = [f"{name}: {reason}" for name, reason in zip(self._broker.subscriptions, reasons, strict=False) if reason.is_failure]
        if refused:
            self.failure = f"the broker refuses subscriptions: {'; '.join(refused)}"
            client.disconnect()
        else:
            self.subscribed = True

    def _on_disconnect(self, _: paho.Client, __: object, ___: object, reason: ReasonCode, ____: object) -> None:
        self.subscribed = False
        if self.failure is None:
            self.failure = str(reason)


def _nothing(*_: Any) -> None:
    """paho calls this when it has something to write; with it in place, packets wait for `Session.flush`."""
