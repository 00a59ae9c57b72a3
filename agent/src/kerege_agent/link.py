"""One connection to the broker with its paho client, used once and thrown away. Called by one thread.

paho is handed a few messages at a time and never resends: what goes out again is `delivery`'s to say.
"""

import socket
import time
from collections.abc import Callable
from contextlib import suppress
from importlib.util import find_spec
from typing import Any, Final

from kerege_agent.backoff import FORBIDDEN, REFUSED
from kerege_agent.credentials import RememberingContext, is_valid_at, secret, tls_context
from kerege_agent.lean import without
from kerege_agent.session import ConnectionEndedError
from kerege_agent.settings import Mqtt
from kerege_wire.topics import COLLECTOR_STATE, topic

_UNUSED: Final = () if find_spec("socks") else ("hashlib", "urllib.request", "uuid")
"""What paho loads for proxies (which need PySocks besides), for web sockets and for clients without an id: 2.5 MB that would stay."""

with without(*_UNUSED):
    from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage
    from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
    from paho.mqtt.packettypes import PacketTypes
    from paho.mqtt.properties import Properties
    from paho.mqtt.reasoncodes import ReasonCode

FIVE: Final = MQTTProtocolVersion.MQTTv5
THREE: Final = MQTTProtocolVersion.MQTTv311
"""MQTT 5 and 3.1.1."""

UNSUPPORTED_VERSION: Final = "Unsupported protocol version"
"""How a broker that knows no version 5 refuses."""

PUBACK_TIMEOUT_S: Final = 20.0
"""A broker that has not confirmed a message after this long is not there any more; TCP itself would notice after minutes."""

_TAKEN_OVER: Final = "Session taken over"
FORBIDDEN_NAMES: Final = frozenset(
    ("Bad user name or password", "Not authorized", "Client identifier not valid", "Banned", "Bad authentication method", _TAKEN_OVER)
)
"""Refusals that people must cure."""


class Link:
    """One connection with its paho client, used once."""

    def __init__(
        self, mqtt: Mqtt, center: str, protocol: MQTTProtocolVersion, *, will: bytes | None = None, check_times: bool = True
    ) -> None:
        """``will``: the presence that the broker keeps for us; None leaves no trace there."""
        self.accepted = False
        self.refusal: str | None = None
        self.subscribed = False
        self._mqtt = mqtt
        self._center = center
        self._five = protocol == MQTTProtocolVersion.MQTTv5
        self._check_times = check_times
        self._tls: RememberingContext | None = None
        self._ended: str | None = None
        self._forbidden: str | None = None
        self._waiting: dict[int, tuple[float, int | None]] = {}  # message id → (published at, `sent` of the report)
        self._topic = topic(center, "report")
        self._alias: Properties | None = None
        self._heard: Callable[..., None] | None = None
        self._confirmed: Callable[[int | None], None] | None = None
        self._client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=center,
            protocol=protocol,
            clean_session=None if self._five else True,
            reconnect_on_failure=False,
        )
        self._client.connect_timeout = self._mqtt.connect_timeout_s
        if will is not None:
            self._client.will_set(topic(center, "presence"), will, qos=1, retain=True)

    def connect(self) -> float:
        """Open the socket and send CONNECT. Returns how many seconds that took.

        Raises OSError (ssl.SSLError and socket.gaierror among them) and ValueError.
        """
        if self._mqtt.tls:
            self._tls = tls_context(self._mqtt, check_times=self._check_times)
            self._client.tls_set_context(self._tls)
        username = secret(self._mqtt.username_file)
        if username is not None:
            self._client.username_pw_set(username, secret(self._mqtt.password_file))
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        self._client.on_subscribe = self._on_subscribe
        self._client.on_publish = self._on_publish
        self._client.on_message = self._on_message
        options: dict[str, Any] = {"clean_start": True} if self._five else {}
        began_s = time.monotonic()
        self._client.connect(self._mqtt.host, self._mqtt.port, self._mqtt.keepalive_s, **options)
        return time.monotonic() - began_s

    def await_connack(self, timeout_s: float, stopping: Callable[[], bool]) -> None:
        """Wait for the broker's word. Raises ConnectionEndedError where it refuses, says nothing, or we shall stop."""
        until_s = time.monotonic() + timeout_s
        while not self.accepted:
            if stopping() or time.monotonic() > until_s:
                raise ConnectionEndedError("stopped" if stopping() else f"no answer to CONNECT within {timeout_s:g} s")
            self.loop(0.2)

    def begin(self, birth: bytes | None, heard: Callable[..., None], confirmed: Callable[[int | None], None]) -> None:
        """Subscribe, and say that we are there."""
        self._heard, self._confirmed = heard, confirmed
        self._client.subscribe([(topic(self._center, "ack"), 0), (COLLECTOR_STATE, 1)])
        if birth is not None:
            self._publish(topic(self._center, "presence"), birth, None, retain=True)

    def report(self, payload: bytes, sent: int) -> None:
        """Hand a report to MQTT. With an alias (MQTT 5) the topic's name travels once a connection."""
        self._publish(self._topic, payload, sent, properties=self._alias)
        if self._alias is not None:
            self._topic = ""

    def _publish(self, name: str, payload: bytes, sent: int | None, *, retain: bool = False, properties: Properties | None = None) -> None:
        info = self._client.publish(name, payload, qos=1, retain=retain, properties=properties)
        if info.rc not in (MQTTErrorCode.MQTT_ERR_SUCCESS, MQTTErrorCode.MQTT_ERR_AGAIN):
            raise ConnectionEndedError(f"publish: {info.rc.name}")
        self._waiting[info.mid] = (time.monotonic(), sent)

    def loop(self, timeout_s: float) -> None:
        """One turn of paho's loop. Raises ConnectionEndedError when the connection is over."""
        code = self._client.loop(timeout_s)
        self.check()
        if code != MQTTErrorCode.MQTT_ERR_SUCCESS:
            raise ConnectionEndedError(f"connection lost: {code.name}")

    def check(self) -> None:
        """Raises ConnectionEndedError when the connection is over, or silent for too long."""
        if self._forbidden is not None:
            raise ConnectionEndedError(self._forbidden, FORBIDDEN)
        if self.refusal is not None:
            raise ConnectionEndedError(f"refused: {self.refusal}", FORBIDDEN if self.refusal in FORBIDDEN_NAMES else REFUSED)
        if self._ended is not None:
            raise ConnectionEndedError(self._ended)
        oldest = next(iter(self._waiting.values()), None)
        if oldest is not None and time.monotonic() - oldest[0] > PUBACK_TIMEOUT_S:
            raise ConnectionEndedError(f"the broker confirmed nothing for {PUBACK_TIMEOUT_S:g} s")

    def check_certificate(self, utc_s: int | None) -> None:
        """Where the certificate's dates could not be checked by the host's own clock, check them by the true time, now that it is known."""
        if self._check_times or utc_s is None or self._tls is None or self._tls.latest is None:
            return
        if not is_valid_at(self._tls.latest.getpeercert() or {}, utc_s):
            self._forbidden = "the broker's certificate is not valid at the time that the collector tells"

    def goodbye(self, presence: bytes, timeout_s: float = 3.0) -> None:
        """Say that we stop, and disconnect so that the broker keeps our will to itself."""
        self._publish(topic(self._center, "presence"), presence, None, retain=True)
        mid = next(reversed(self._waiting))
        until_s = time.monotonic() + timeout_s
        while mid in self._waiting and time.monotonic() < until_s:
            self.loop(0.1)
        self.leave()

    def leave(self) -> None:
        """Disconnect in good order: the broker keeps our will to itself."""
        self._client.disconnect()

    def close(self) -> None:
        """Close the socket without another word: if nothing was said before, the broker sends our will."""
        for name in ("on_connect", "on_disconnect", "on_subscribe", "on_publish", "on_message"):
            setattr(self._client, name, None)  # no cycle is left: sockets close now, not at some collection
        sock = self._client.socket() if self._tls is None else self._tls.latest  # paho forgets one whose handshake failed
        if sock is not None:
            with suppress(OSError):  # it was closed by the other side already
                sock.shutdown(socket.SHUT_RDWR)  # type: ignore[union-attr] # it is no web socket
            sock.close()

    # --- paho's callbacks, all called from `loop` ---

    def _on_connect(self, _client: Client, _data: object, _flags: ConnectFlags, code: ReasonCode, properties: Properties | None) -> None:
        self.accepted = not code.is_failure
        if code.is_failure:
            self.refusal = str(code)
        elif getattr(properties, "TopicAliasMaximum", 0) > 0:
            self._alias = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
            self._alias.TopicAlias = 1

    def _on_disconnect(
        self, _client: Client, _data: object, flags: DisconnectFlags, code: ReasonCode, _properties: Properties | None
    ) -> None:
        self._ended = f"disconnected: {code}"
        if flags.is_disconnect_packet_from_server and str(code) in FORBIDDEN_NAMES:
            self._forbidden = f"the broker ended the session: {code}"

    def _on_subscribe(self, _client: Client, _data: object, _mid: int, codes: list[ReasonCode], _properties: Properties | None) -> None:
        refused = [str(code) for code in codes if code.is_failure]
        if refused:
            self._forbidden = f"subscription refused: {refused[0]}"
        self.subscribed = not refused

    def _on_publish(self, _client: Client, _data: object, mid: int, code: ReasonCode, _properties: Properties | None) -> None:
        _, sent = self._waiting.pop(mid, (0.0, None))
        if code.is_failure:
            self._forbidden = f"publish refused: {code}"
        elif self._confirmed is not None:
            self._confirmed(sent)

    def _on_message(self, _client: Client, _data: object, message: MQTTMessage) -> None:
        if self._heard is not None:
            self._heard(self, message.topic, bytes(message.payload), fresh=not message.retain)
