"""The agent's way to the broker: one thread, one paho client for each connection, driven by ourselves (decision 3).

paho is handed a few reports at a time and never resends: a connection that ends is thrown away, and `delivery` decides what goes out again.
Any exception ends the connection, never the thread.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from kerege_agent import clock
from kerege_agent.backoff import UNREACHABLE, Backoff
from kerege_agent.clock import ClockModel
from kerege_agent.credentials import is_about_time
from kerege_agent.delivery import Delivery, Pace
from kerege_agent.link import FIVE, THREE, UNSUPPORTED_VERSION, Link
from kerege_agent.session import ConnectionEndedError, Session, is_expected, reason_of, text_of
from kerege_agent.settings import Settings
from kerege_agent.spool import Spool
from kerege_agent.version import VERSION
from kerege_wire import Presence, WireError, decode_ack, decode_state, encode_presence
from kerege_wire.topics import COLLECTOR_STATE

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
        self._protocol = FIVE
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
        if self._protocol != FIVE and time.monotonic() > self._newer_at_s:
            self._protocol = FIVE
        self._birth += 1
        link = Link(self._settings.mqtt, self._center, self._protocol, will=self._presence("lost"), check_times=self._check_times)
        try:
            reached_s = link.connect()
            link.await_connack(self._patience_s(reached_s), lambda: self._stop_why is not None)
            self._five_works = self._five_works or self._protocol == FIVE
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
        if self._protocol != FIVE:
            if refusal is None:  # the same silence: it was not the version, then
                self._protocol = FIVE
            return
        if refusal == UNSUPPORTED_VERSION or (refusal is None and not self._five_works):
            _log.info("uplink.older_protocol", extra={"fields": {"protocol": "3.1.1", "refusal": refusal}})
            self._protocol = THREE
            self._newer_at_s = time.monotonic() + (TRY_NEWER_AFTER_S if refusal else TRY_NEWER_AFTER_SILENCE_S)
            self._backoff.succeeded()

    def _presence(self, state: str, why: str | None = None) -> bytes:
        return encode_presence(
            Presence(state=state, epoch=self._spool.epoch, birth=self._birth, why=why, agent=VERSION, center=self._center)
        )

    def _talk(self, link: Link) -> None:
        now = clock.read()
        self.session = replace(self.session, connected=True, since_mono_ms=now.mono_ms, protocol=int(self._protocol), error=None)
        _log.info("uplink.connected", extra={"fields": {"broker": self.session.broker, "protocol": int(self._protocol)}})
        link.begin(self._presence("online"), self._heard, self._confirmed)
        self._delivery.connected(now.mono_ms)
        while self._stop_why is None:
            self._step(link)
        link.goodbye(self._presence("goodbye", self._stop_why[:64]))
        self.session = replace(self.session, connected=False, since_mono_ms=None)

    def _step(self, link: Link) -> None:
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

    def _heard(self, link: Link, name: str, payload: bytes, *, fresh: bool) -> None:
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
