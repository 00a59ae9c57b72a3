"""What went wrong, in the few words that records carry: the same cause gives the same text, on every system."""

import errno
import socket
import ssl
from typing import Final

TIMEOUT: Final = "timeout"
NO_ROUTE: Final = "no route"
UNREACHABLE: Final = "unreachable"
REFUSED: Final = "refused"
RESET: Final = "reset"
NAME_UNKNOWN: Final = "name not known"
NO_RESOLVER: Final = "no resolver answers"
NOT_PERMITTED: Final = "not permitted"

MAX_ERROR: Final = 200
"""Characters of an error that are kept; the wire carries 256."""

_WINDOWS: Final = {10051: NO_ROUTE, 10065: UNREACHABLE, 10060: TIMEOUT, 10061: REFUSED, 10054: RESET, 10013: NOT_PERMITTED}
"""Winsock's numbers, which `errno` knows under other names or, off Windows, not at all."""

_ERRNO: Final = _WINDOWS | {
    errno.ENETUNREACH: NO_ROUTE,
    errno.ENETDOWN: NO_ROUTE,
    errno.EADDRNOTAVAIL: NO_ROUTE,
    errno.EHOSTUNREACH: UNREACHABLE,
    errno.EHOSTDOWN: UNREACHABLE,
    errno.ETIMEDOUT: TIMEOUT,
    errno.ECONNREFUSED: REFUSED,
    errno.ECONNRESET: RESET,
    errno.EPIPE: RESET,
    errno.EPERM: NOT_PERMITTED,
    errno.EACCES: NOT_PERMITTED,
}


def word_of(number: int) -> str | None:
    """The word for an errno, None where it has none."""
    return _ERRNO.get(number)


def words_of(error: BaseException) -> str:
    """A record's ``error`` for an exception: a word for what a network does every day, else class and text."""
    if isinstance(error, TimeoutError):  # socket.timeout is the same class
        return TIMEOUT
    if isinstance(error, socket.gaierror):
        return NO_RESOLVER if error.errno == socket.EAI_AGAIN else NAME_UNKNOWN
    if isinstance(error, ssl.SSLCertVerificationError):
        return printable(f"certificate: {error.verify_message}")
    if isinstance(error, OSError) and error.errno is not None and error.errno in _ERRNO and not isinstance(error, ssl.SSLError):
        return _ERRNO[error.errno]
    return printable(f"{type(error).__name__}: {error}")


def printable(text: str) -> str:
    """Text that the wire carries: one line without control characters or lone surrogates, not too long."""
    safe = text.encode("utf-8", "replace").decode()
    return "".join(character if character.isprintable() else " " for character in safe)[:MAX_ERROR].strip() or "unknown"
