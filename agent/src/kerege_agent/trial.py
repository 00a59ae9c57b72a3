"""One question to the collector, as the agent asks it first: for ``kerege-agent check``.

No presence is left at the broker; the collector's page takes the center for alive, as after any report, until it falls silent.

An answer proves the whole way: that the broker takes reports of this center, that somebody stores them, and that acks come back.
"""

import secrets
import time
from dataclasses import dataclass
from typing import Final

from kerege_agent import clock
from kerege_agent.link import FIVE, THREE, UNSUPPORTED_VERSION, Link
from kerege_agent.session import ConnectionEndedError
from kerege_agent.settings import Settings
from kerege_wire import Ack, Report, WireError, decode_ack, decode_state, encode_report
from kerege_wire.topics import COLLECTOR_STATE

ANSWER_S: Final = 15.0
"""How long the answer is waited for: a geostationary round trip is below 2 s, a batch of the collector below one."""


CONNACK_S: Final = 8.0
"""How long the broker may think about a CONNECT, after which it is asked in the older version."""


@dataclass(slots=True)
class Trial:
    """What came of it.

    answer: the ack, None where none came; took_ms: from the report to its ack; state: what the collector has announced, None for nothing.
    """

    answer: Ack | None = None
    took_ms: int | None = None
    state: str | None = None


def ask_collector(settings: Settings) -> Trial:
    """Connect under the center's name, ask, and leave. Raises ConnectionEndedError, OSError and ValueError.

    Not while an agent runs with this identity: the broker would end its connection.
    """
    link = Link(settings.mqtt, settings.center, FIVE)
    try:
        return _ask(link, settings)
    except ConnectionEndedError:
        if link.accepted or link.refusal not in (None, UNSUPPORTED_VERSION):
            raise  # else as the uplink does: some that know only 3.1.1 say nothing to version 5
    finally:
        link.close()
    link = Link(settings.mqtt, settings.center, THREE)
    try:
        return _ask(link, settings)
    finally:
        link.close()


def _ask(link: Link, settings: Settings) -> Trial:
    trial = Trial()
    sent_ms = 0

    def heard(_: Link, name: str, payload: bytes, *, fresh: bool) -> None:  # noqa: ARG001 - the link's word
        try:
            if name == COLLECTOR_STATE:
                trial.state = decode_state(payload).state if payload else None
            elif (ack := decode_ack(payload)).sent == sent_ms:
                trial.answer, trial.took_ms = ack, clock.read().mono_ms - sent_ms
        except WireError:
            return

    link.connect()
    link.await_connack(min(settings.mqtt.connect_timeout_s, CONNACK_S), lambda: False)
    link.begin(None, heard, lambda _: None)
    until_s = time.monotonic() + ANSWER_S
    while not link.subscribed and time.monotonic() < until_s:
        link.loop(0.1)
    epoch, sent_ms = secrets.token_urlsafe(6), clock.read().mono_ms
    link.report(encode_report(Report(epoch=epoch, sent=sent_ms, center=settings.center, ack="now")), sent_ms)
    while trial.answer is None and time.monotonic() < until_s:
        link.loop(0.1)
    link.leave()
    return trial
