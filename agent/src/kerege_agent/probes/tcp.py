"""Asking by TCP connect, where ICMP is not to be had. A refusal counts as an answer: somebody at that address sent the reset."""

import errno
import os
import selectors
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from kerege_agent.probes.words import word_of, words_of

if TYPE_CHECKING:
    from kerege_agent.probes.echo import Shot

_UNDER_WAY: Final = frozenset({0, errno.EINPROGRESS, errno.EWOULDBLOCK, 10035})
"""10035 is Winsock's EWOULDBLOCK."""

_REFUSED: Final = frozenset({errno.ECONNREFUSED, 10061})


class TcpWay:
    """Connects under way, each on a socket of its own."""

    via = "tcp"

    def __init__(self, selector: selectors.BaseSelector, clock_ns: Callable[[], int]) -> None:
        self._selector = selector
        self._clock_ns = clock_ns
        self._sockets: set[socket.socket] = set()

    def send(self, shot: "Shot") -> None:
        """Begin one connect; what fails here never left the machine."""
        try:
            family, kind, protocol, _, address = _resolve(shot.aim.address, shot.aim.tcp_port)
            connecting = socket.socket(family, kind, protocol)
        except OSError as error:
            shot.error = words_of(error)
            return
        connecting.settimeout(0)
        sent_ns = self._clock_ns()
        result = connecting.connect_ex(address)
        if result in _REFUSED:  # on the loopback the reset is there at once
            shot.sent_ns, shot.answered_ns = sent_ns, self._clock_ns()
        if result not in _UNDER_WAY:
            if result not in _REFUSED:
                shot.error = word_of(result) or os.strerror(result)
            connecting.close()
            return
        shot.sent_ns = sent_ns
        self._sockets.add(connecting)
        self._selector.register(connecting, selectors.EVENT_WRITE, lambda: self._ended(connecting, shot))

    def _ended(self, connecting: socket.socket, shot: "Shot") -> None:
        ended_ns = self._clock_ns()
        result = connecting.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if result == 0 or result in _REFUSED:
            shot.answered_ns = ended_ns
        else:
            shot.error = word_of(result) or os.strerror(result)
        self._forget(connecting)

    def _forget(self, connecting: socket.socket) -> None:
        self._selector.unregister(connecting)
        self._sockets.discard(connecting)
        connecting.close()

    def close(self) -> None:
        for connecting in tuple(self._sockets):
            self._forget(connecting)


def _resolve(address: str, port: int) -> tuple[int, int, int, str, tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]]:
    return socket.getaddrinfo(address, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)[0]
