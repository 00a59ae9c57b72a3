"""The state of the connection to the broker as others may see it, and the ways in which a connection ends."""

import ssl
from dataclasses import dataclass

from kerege_agent.backoff import FORBIDDEN, REFUSED, UNREACHABLE


@dataclass(frozen=True, slots=True)
class Session:
    """The MQTT session; all times on the monotonic clock in ms. Swapped as a whole by the uplink, never changed.

    phase: what `delivery` is doing; error: why there is no connection; protocol: 5 or 4 (3.1.1).
    """

    connected: bool = False
    since_mono_ms: int | None = None
    last_ack_mono_ms: int | None = None
    last_puback_mono_ms: int | None = None
    broker: str = ""
    protocol: int | None = None
    phase: str = "greeting"
    error: str | None = None


class ConnectionEndedError(Exception):
    """The connection is over; ``reason`` is one of `backoff`'s."""

    def __init__(self, text: str, reason: str = UNREACHABLE) -> None:
        super().__init__(text)
        self.reason = reason


def reason_of(error: Exception) -> str:
    """Nobody there, not now, or not you."""
    if isinstance(error, ConnectionEndedError):
        return error.reason
    if isinstance(error, ssl.SSLCertVerificationError):
        return FORBIDDEN
    return REFUSED if isinstance(error, (ConnectionRefusedError, ssl.SSLError)) else UNREACHABLE


def is_expected(error: Exception) -> bool:
    """Is this one of the ways in which networks fail, rather than a fault of ours?"""
    return isinstance(error, (ConnectionEndedError, OSError))


def text_of(error: Exception) -> str:
    """What happened, in one line."""
    return f"{type(error).__name__}: {error}"[:200]
