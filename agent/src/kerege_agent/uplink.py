"""The agent's way to the broker: one thread, one paho client for each connection, driven by ourselves (decision 3).

paho is handed a few reports at a time and never resends: a connection that ends is thrown away, and `delivery` decides what goes out again.
Any exception ends the connection, never the thread.
"""

import logging
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from importlib.util import find_spec
from typing import Any, Final

from kerege_agent import clock
from kerege_agent.backoff import FORBIDDEN, REFUSED, UNREACHABLE, Backoff
from kerege_agent.clock import ClockModel
from kerege_agent.credentials import RememberingContext, is_about_time, is_valid_at, secret, tls_context
from kerege_agent.delivery import Delivery, Pace
from kerege_agent.lean import without
from kerege_agent.session import ConnectionEndedError, Session, is_expected, reason_of, text_of
from kerege_agent.settings import Settings
from kerege_agent.spool import Spool
from kerege_agent.version import VERSION
from kerege_wire import Presence, WireError, decode_ack, decode_state, encode_presence
from kerege_wire.topics import COLLECTOR_STATE, topic

_UNUSED: Final = () if find_spec("socks") else ("hashlib", "urllib.request", "uuid")
"""What paho loads for proxies (which need PySocks besides), for web sockets and for clients without an id: 2.5 MB that would stay."""

with without(*_UNUSED):
    from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage
    from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
    from paho.mqtt.packettypes import PacketTypes
    from paho.mqtt.properties import Properties
    from paho.mqtt.reasoncodes import ReasonCode

PUBACK_TIMEOUT_S: Final = 20.0
"""A broker that has not confirmed a message after this long is not there any more; TCP itself would notice after minutes."""

LOOP_S: Final = 1.0
"""Longest time in one select: how soon a new tick is noticed."""

LASTED_S: Final = 60.0
"""A connection that held this long was a success: the backoff begins anew after it."""

CONNACK_S: Final = 3.0
CONNECT_TIMES: Final = 6
"""How long a broker that has never spoken MQTT 5 with us may think about a CONNECT in it: as many times as long as reaching it took, but
at least so long. Some that know only 3.1.1 do not refuse; they wait for more bytes."""

TRY_NEWER_AFTER_S: Final = 86_400.0
TRY_NEWER_AFTER_SILENCE_S: Final = 3_600.0
"""After a fallback to 3.1.1: MQTT 5 is tried again at the first connection after a day; after silence instead of a refusal, an hour."""

_UNSUPPORTED_VERSION: Final = "Unsupported protocol version"
_TAKEN_OVER: Final = "Session taken over"
_FORBIDDEN_NAMES: Final = frozenset(
    ("Bad user name or password", "Not authorized", "Client identifier not valid", "Banned", "Bad authentication method", _TAKEN_OVER)
)
_log = logging.getLogger(__name__)


class Uplink:
    """Starts a thread that keeps records flowing. `session` may be read from any thread."""

    def __init__(
        self, settings: Settings, spool: Spool, clock_model: ClockModel, center: str, *, online: Callable[[], bool | None] = lambda: None
    ) -> None:
        """``online``: does the Internet work, as far as the last tick knows?"""
        pace = settings.uplink
        self.session = Session(broker=f"{settings.mqtt.host}:{settings.mqtt.port}")
        self._settings = settings
        self._spool = spool
        self._clock = clock_model
        self._center = center
        self._online = online
        self._delivery = Delivery(
            spool,
            center=center,
            pace=Pace(pace.window, pace.batch_records, pace.backlog_reports_per_s, pace.backlog_start_delay_s),
        )
        self._backoff = Backoff(pace.reconnect_min_s, pace.reconnect_max_s)
        self._birth = 0
        self._stop_why: str | None = None
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._protocol = MQTTProtocolVersion.MQTTv5
        self._newer_at_s = 0.0
        self._five_works = False
        self._check_times = True

    def start(self) -> None:
        """Start the thread, or a new one where the old one has died."""
        self.session = replace(self.session, connected=False, since_mono_ms=None)
        self._thread = threading.Thread(target=self._run, name="uplink", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Is the thread at work?"""
        return self._thread is not None and self._thread.is_alive()

    def wake(self) -> None:
        """Connect now rather than when the backoff ends."""
        self._wake.set()

    def stop(self, why: str, timeout_s: float = 5.0) -> bool:
        """Say goodbye and end the thread. Did it end in time? It is a daemon: the process may end without it."""
        self._stop_why = why
        self._wake.set()
        if self._thread is not None:
            self._thread.join(timeout_s)
        return not self.alive

    def _run(self) -> None:
        while self._stop_why is None:
            began_s = time.monotonic()
            try:
                self._connection()
                reason = UNREACHABLE
            except Exception as error:  # noqa: BLE001 - whatever it is, the next connection is a fresh start
                reason = self._ended(error)
            if time.monotonic() - began_s >= LASTED_S:
                self._backoff.succeeded()
            if self._stop_why is None:
                self._pause(self._backoff.delay_s(reason, online=self._online()))

    def _pause(self, delay_s: float) -> None:
        self._wake.clear()
        until_s = time.monotonic() + delay_s
        while self._stop_why is None and not self._wake.is_set() and (left_s := until_s - time.monotonic()) > 0:
            self._wake.wait(min(left_s, LOOP_S))
            self._spool.tend(clock.read())

    def _ended(self, error: Exception) -> str:
        """Note why a connection failed or ended; the class of reason for the backoff."""
        text, reason = text_of(error), reason_of(error)
        previous, self.session = self.session, replace(self.session, connected=False, since_mono_ms=None, error=text)
        if is_about_time(error) and self._check_times:
            _log.warning(
                "uplink.certificate_times", extra={"fields": {"error": text, "next": "connect, and check them against the true time"}}
            )
            self._check_times, reason = False, UNREACHABLE
        if not is_expected(error):
            _log.exception("uplink.failed", extra={"fields": {"error": text}})
        elif previous.connected or previous.error != text:  # said once, not at every attempt of a long outage
            _log.warning("uplink.disconnected", extra={"fields": {"error": text, "reason": reason}})
        return reason

    def _connection(self) -> None:
        if self._protocol != MQTTProtocolVersion.MQTTv5 and time.monotonic() > self._newer_at_s:
            self._protocol = MQTTProtocolVersion.MQTTv5
        self._birth += 1
        link = _Link(self._settings, self._center, self._protocol, self._presence, check_times=self._check_times)
        try:
            reached_s = link.connect()
            link.await_connack(self._patience_s(reached_s), lambda: self._stop_why is not None)
            self._five_works = self._five_works or self._protocol == MQTTProtocolVersion.MQTTv5
            self._talk(link)
        except ConnectionEndedError:
            if not link.accepted:
                self._consider_version(link.refusal)
            raise
        finally:
            link.close()

    def _patience_s(self, reached_s: float) -> float:
        longest_s = self._settings.mqtt.connect_timeout_s
        return longest_s if self._five_works else min(longest_s, max(CONNACK_S, CONNECT_TIMES * reached_s))

    def _consider_version(self, refusal: str | None) -> None:
        """Another version of MQTT for the next connection, where the broker's refusal or its silence asks for it."""
        if self._protocol != MQTTProtocolVersion.MQTTv5:
            if refusal is None:  # the same silence: it was not the version, then
                self._protocol = MQTTProtocolVersion.MQTTv5
            return
        if refusal == _UNSUPPORTED_VERSION or (refusal is None and not self._five_works):
            _log.info("uplink.older_protocol", extra={"fields": {"protocol": "3.1.1", "refusal": refusal}})
            self._protocol = MQTTProtocolVersion.MQTTv311
            self._newer_at_s = time.monotonic() + (TRY_NEWER_AFTER_S if refusal else TRY_NEWER_AFTER_SILENCE_S)
            self._backoff.succeeded()

    def _presence(self, state: str, why: str | None = None) -> bytes:
        return encode_presence(
            Presence(state=state, epoch=self._spool.epoch, birth=self._birth, why=why, agent=VERSION, center=self._center)
        )

    def _talk(self, link: "_Link") -> None:
        now = clock.read()
        self.session = replace(self.session, connected=True, since_mono_ms=now.mono_ms, protocol=int(self._protocol), error=None)
        _log.info("uplink.connected", extra={"fields": {"broker": self.session.broker, "protocol": int(self._protocol)}})
        link.begin(self._presence("online"), self._heard, self._confirmed)
        self._delivery.connected(now.mono_ms)
        while self._stop_why is None:
            self._step(link)
        link.goodbye(self._presence("goodbye", self._stop_why[:64]))
        self.session = replace(self.session, connected=False, since_mono_ms=None)

    def _step(self, link: "_Link") -> None:
        now = clock.read()
        self._spool.tend(now)
        wait_s = LOOP_S
        if link.subscribed:
            while self._spool.waits_for_time and self._spool.fix_times():
                link.check()
            while (outgoing := self._delivery.next(now.mono_ms, now.boot_id)) is not None:
                link.report(outgoing.payload, outgoing.sent)
            wait_s = min(LOOP_S, self._delivery.wait_ms(now.mono_ms) / 1000)
            if self.session.phase != self._delivery.phase:
                self.session = replace(self.session, phase=self._delivery.phase)
        link.loop(max(wait_s, 0.01))

    def _confirmed(self, sent: int | None) -> None:
        self.session = replace(self.session, last_puback_mono_ms=clock.read().mono_ms)
        if sent is not None:
            self._delivery.published(sent)

    def _heard(self, link: "_Link", name: str, payload: bytes, *, fresh: bool) -> None:
        now = clock.read()
        try:
            if name == COLLECTOR_STATE:
                if payload:  # an empty retained message: taken back
                    self._delivery.announced(decode_state(payload), now.mono_ms, fresh=fresh)
                return
            ack = decode_ack(payload)
        except WireError as error:
            _log.warning("uplink.unreadable_message", extra={"fields": {"topic": name, "error": str(error)}})
            return
        self.session = replace(self.session, last_ack_mono_ms=now.mono_ms)
        sent = self._delivery.sent_in(ack, now.boot_id)
        if sent is not None and ack.received is not None and ack.replied is not None:
            self._clock.learn(sent_ms=sent, received_ms=ack.received, replied_ms=ack.replied, arrived=now, quality=ack.clock)
            link.check_certificate(self._clock.utc_s(now))
        self._delivery.acknowledged(ack, now.mono_ms)


class _Link:
    """One connection with its paho client, used once."""

    def __init__(
        self, settings: Settings, center: str, protocol: MQTTProtocolVersion, presence: Callable[..., bytes], *, check_times: bool
    ) -> None:
        self.accepted = False
        self.refusal: str | None = None
        self.subscribed = False
        self._mqtt = settings.mqtt
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
        self._client.will_set(topic(center, "presence"), presence("lost"), qos=1, retain=True)

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

    def begin(self, birth: bytes, heard: Callable[..., None], confirmed: Callable[[int | None], None]) -> None:
        """Subscribe, and say that we are there."""
        self._heard, self._confirmed = heard, confirmed
        self._client.subscribe([(topic(self._center, "ack"), 0), (COLLECTOR_STATE, 1)])
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
            raise ConnectionEndedError(f"refused: {self.refusal}", FORBIDDEN if self.refusal in _FORBIDDEN_NAMES else REFUSED)
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
        if flags.is_disconnect_packet_from_server and str(code) in _FORBIDDEN_NAMES:
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
