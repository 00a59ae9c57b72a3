"""Where the page is: the listening socket, and the URL for people and for commands.

CannotListenError (a SettingsError)    the address or the port cannot be had
"""

import errno
import socket
from typing import Final

from kerege_collector.mistakes import SettingsError
from kerege_collector.settings import Http

BACKLOG: Final = 128

CURES: Final = {
    errno.EADDRINUSE: "the port is taken, perhaps by another collector: end that, or choose another http.port",
    errno.EADDRNOTAVAIL: "no interface of this machine has that address; 127.0.0.1 is for this machine alone, 0.0.0.0 for all",
    errno.EACCES: "this user may not listen on that port: choose one from 1024 on",
}


class CannotListenError(SettingsError):
    """The address or the port of the settings cannot be had."""


def listen(http: Http) -> socket.socket:
    """A listening socket on the settings' address and port. Raises CannotListenError."""
    try:
        family, _, _, _, address = socket.getaddrinfo(http.host, http.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(address[:2], family=family, backlog=BACKLOG)
    except OSError as error:
        why = "that name has no address" if isinstance(error, socket.gaierror) else CURES.get(error.errno or 0, str(error))
        raise CannotListenError([f'http.host = "{http.host}", http.port = {http.port}: cannot listen there: {why}']) from error


def url_of(http: Http) -> str:
    """Where the page is, seen from this machine."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(http.host, http.host)  # noqa: S104 - compared, not bound
    return f"http://{f'[{host}]' if ':' in host else host}:{http.port}"
