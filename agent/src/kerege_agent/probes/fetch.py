"""One HTTP request, phase by phase, with one deadline for all of them; only the head of the answer is read."""

import re
import socket
import ssl
import time
from dataclasses import dataclass
from typing import Final
from urllib.parse import SplitResult, urlsplit

from kerege_agent.probes.limited import within
from kerege_agent.probes.words import words_of
from kerege_agent.version import VERSION

MAX_HEAD_BYTES: Final = 16_384
"""Longest head of an answer that is read."""

RECEIVE_BUFFER_BYTES: Final = 8_192
"""Keeps the TCP window small: a server with a long page would else send tens of kilobytes that nobody reads, on a metered link."""

CHUNK_BYTES: Final = 2_048

_STATUS: Final = re.compile(rb"HTTP/\d(?:\.\d)? (\d{3})[ \r\n]")
_EMPTY: Final = re.compile(rb"(?mi)^content-length:[ \t]*0[ \t]*\r?$")


@dataclass(slots=True)
class Fetched:
    """What is known of a request; the phases after the one that failed are None. Durations in nanoseconds.

    empty: the head promises no body.
    """

    family: int | None = None
    resolve_ns: int | None = None
    connect_ns: int | None = None
    tls_ns: int | None = None
    first_byte_ns: int | None = None
    status: int | None = None
    empty: bool | None = None
    error: str | None = None

    @property
    def portal(self) -> bool | None:
        """For a URL that answers 204: did something else answer in its place? None where that cannot be said.

        A redirect or a page of its own is what portals send, 511 what RFC 6585 asks of them. Other errors are the server's own.
        """
        if self.status is None or self.status < 200:
            return None
        if self.status == 204 or (self.status == 200 and self.empty):
            return False
        return True if self.status < 400 or self.status == 511 else None


class _Stopwatch:
    def __init__(self, timeout_s: float) -> None:
        self._deadline_s = time.monotonic() + timeout_s
        self._lap_ns = time.monotonic_ns()

    def left_s(self) -> float:
        left_s = self._deadline_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        return left_s

    def lap_ns(self) -> int:
        before_ns, self._lap_ns = self._lap_ns, time.monotonic_ns()
        return self._lap_ns - before_ns


def fetch(url: str, *, timeout_s: float) -> Fetched:
    """GET ``url``, its certificate verified. Raises nothing that a network can cause: that is in ``error``."""
    parts, fetched = urlsplit(url), Fetched()
    try:
        _fetch(parts, fetched, _Stopwatch(timeout_s))
    except (OSError, ValueError) as error:
        fetched.error = words_of(error)
    return fetched


def _fetch(parts: SplitResult, fetched: Fetched, watch: _Stopwatch) -> None:
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    found = within(watch.left_s(), lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
    fetched.resolve_ns = watch.lap_ns()
    connection = _connect([(family, address) for family, _, _, _, address in found], fetched, watch)
    try:
        if parts.scheme == "https":
            connection.settimeout(watch.left_s())
            connection = ssl.create_default_context().wrap_socket(connection, server_hostname=host)
            fetched.tls_ns = watch.lap_ns()
        _converse(connection, parts, fetched, watch)
    finally:
        connection.close()


def _connect(found: list[tuple[int, object]], fetched: Fetched, watch: _Stopwatch) -> socket.socket:
    """To the first address that answers, in the resolver's order (RFC 6724), each with its share of what is left of the time."""
    problem: OSError = OSError("the name has no address")
    for place, (family, address) in enumerate(found):
        connection = socket.socket(family, socket.SOCK_STREAM)
        try:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
            connection.settimeout(watch.left_s() / (len(found) - place))
            watch.lap_ns()
            connection.connect(address)  # type: ignore[arg-type]
        except OSError as error:
            connection.close()
            problem = error
        else:
            fetched.connect_ns = watch.lap_ns()
            fetched.family = 6 if family == socket.AF_INET6 else 4
            return connection
    raise problem


def _converse(connection: socket.socket, parts: SplitResult, fetched: Fetched, watch: _Stopwatch) -> None:
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    host = parts.netloc.rpartition("@")[2]
    request = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: kerege-agent/{VERSION}\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    connection.settimeout(watch.left_s())
    connection.sendall(request.encode("ascii"))
    watch.lap_ns()
    head = b""
    while b"\r\n\r\n" not in head and len(head) < MAX_HEAD_BYTES:
        connection.settimeout(watch.left_s())
        chunk = connection.recv(CHUNK_BYTES)
        if not chunk:
            break
        if not head:
            fetched.first_byte_ns = watch.lap_ns()
        head += chunk
    _judge(head, fetched)


def _judge(head: bytes, fetched: Fetched) -> None:
    status = _STATUS.match(head)
    if status is None:
        fetched.error = "the answer is not HTTP" if head else "closed without an answer"
        return
    fetched.status = int(status[1])
    fetched.empty = fetched.status in {204, 304} or _EMPTY.search(head.partition(b"\r\n\r\n")[0] + b"\r") is not None
