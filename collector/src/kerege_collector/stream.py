"""The connection to the broker as paho sees it, with the PUBLISH packets already taken out.

paho 2.2 takes three system calls and the making of two MQTT 5 property tables to read one PUBLISH, 45 µs of the 100 that a report cost in
all. It keeps the session: CONNECT, SUBSCRIBE, keepalive, our own publishes. What comes by the thousand goes past it (decision 8).

paho lets its TLS context wrap each new connection: the public place where a stream of our own can stand, with TLS or without.
"""

import socket
import ssl
from collections.abc import Callable
from typing import Any, Final

from kerege_collector.publishes import Publish, take

READ_BYTES: Final = 262_144
"""Most bytes taken from the network at a time."""

_WOULD_BLOCK: Final = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Stream:
    """A socket for paho: `recv` gives it all packets but PUBLISH, which go to ``arrived``; what is sent waits for `flush`."""

    def __init__(self, connection: socket.socket, arrived: Callable[[list[Publish]], None], *, version5: bool) -> None:
        self._connection = connection
        self._arrived = arrived
        self._version5 = version5
        self._unread = b""  # the beginning of a packet
        self._skip = 0
        self._for_paho = b""
        self._outgoing = bytearray()

    @property
    def wants_write(self) -> bool:
        """Is there something that the network has not taken yet?"""
        return bool(self._outgoing)

    @property
    def has_more(self) -> bool:
        """Is there something for paho, or something that TLS has read and we have not, of which no selector knows?"""
        return bool(self._for_paho) or (isinstance(self._connection, ssl.SSLSocket) and self._connection.pending() > 0)

    def send(self, data: bytes) -> int:
        """Take the bytes; they go out with `flush`."""
        self._outgoing += data
        return len(data)

    def flush(self) -> None:
        """Give the network as much as it takes. Raises OSError."""
        while self._outgoing:
            try:
                sent = self._connection.send(self._outgoing)
            except _WOULD_BLOCK:
                return
            del self._outgoing[:sent]

    def recv(self, size: int) -> bytes:
        """Bytes for paho, empty at the end of the stream. Raises BlockingIOError where there are none now, other OSErrors as they come."""
        if not self._for_paho and not self._fill():
            return b""
        if not self._for_paho:
            raise BlockingIOError
        found, self._for_paho = self._for_paho[:size], self._for_paho[size:]
        return found

    def _fill(self) -> bool:
        """Read from the network and sort; False at the end of the stream."""
        try:
            data = self._connection.recv(READ_BYTES)
        except _WOULD_BLOCK as error:
            raise BlockingIOError from error
        if not data:
            return False
        if self._skip:
            skipped = min(self._skip, len(data))
            self._skip -= skipped
            data = data[skipped:]
        taken = take(self._unread + data if self._unread else data, version5=self._version5)
        self._unread = (self._unread + data)[taken.used :]
        self._skip += taken.skip
        self._for_paho += taken.others
        if taken.publishes:
            self._arrived(taken.publishes)
        return True

    def close(self) -> None:
        """Try to get the last words out, and close."""
        try:
            self.flush()
        except OSError:
            pass  # it is broken: that is why it is closed
        finally:
            self._connection.close()

    def fileno(self) -> int:
        return self._connection.fileno()

    def setblocking(self, flag: bool) -> None:  # noqa: FBT001 - as sockets have it
        self._connection.setblocking(flag)

    def settimeout(self, timeout_s: float | None) -> None:
        self._connection.settimeout(timeout_s)

    def do_handshake(self) -> None:
        """TLS, where there is any. Raises OSError; the connection is then closed, which paho would leave open."""
        if isinstance(self._connection, ssl.SSLSocket):
            try:
                self._connection.do_handshake()
            except BaseException:
                self._connection.close()
                raise


class Wrapper:
    """What paho believes to be its TLS context: makes a `Stream` of each new connection, over TLS where ``context`` is given."""

    check_hostname: Final = True
    """Read by paho: the real context has checked the name, and without TLS there is none to check."""

    def __init__(self, context: ssl.SSLContext | None, arrived: Callable[[list[Publish]], None], *, version5: bool) -> None:
        self._context = context
        self._arrived = arrived
        self._version5 = version5

    def wrap_socket(self, connection: socket.socket, server_hostname: str | None = None, **options: Any) -> Stream:
        """As ssl.SSLContext.wrap_socket. Raises ssl.SSLError, ValueError (a name that TLS cannot carry)."""
        if self._context is not None:
            connection = self._context.wrap_socket(connection, server_hostname=server_hostname, **options)
        return Stream(connection, self._arrived, version5=self._version5)
