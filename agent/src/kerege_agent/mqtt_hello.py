"""Does somebody speak MQTT there: one CONNECT of version 3.1.1 and the answer to it, without paho, for ``kerege-agent check``.

The client id is empty; a broker that takes it from the certificate would end the connection of an agent that runs.
"""

import socket
from struct import pack
from typing import Final

CONNECT: Final = 0x10
CONNACK: Final = 0x20
DISCONNECT: Final = b"\xe0\x00"
CLEAN: Final = 0x02
HAS_USERNAME: Final = 0x80
HAS_PASSWORD: Final = 0x40
KEEPALIVE_S: Final = 30

ANSWERS: Final = {
    1: "speaks no MQTT 3.1.1",
    2: "refuses a client without an id",
    3: "says that it is not available now",
    4: "refuses the user name or the password",
    5: "refuses this client: not authorised",
}
"""Return codes of a CONNACK (MQTT 3.1.1 section 3.2.2.3); 0 is a welcome."""

HARMLESS: Final = (1, 2)
"""Refusals of this question only: the agent itself asks by version 5 first, and has an id."""


class NotMqttError(Exception):
    """What answers there speaks something else."""


def hello(connection: socket.socket, *, username: str | None, password: str | None) -> int:
    """The return code with which the broker answers. Raises OSError (TimeoutError among them) and NotMqttError."""
    connection.sendall(_connect(username, password))
    answer = b""
    while len(answer) < 4:
        try:
            chunk = connection.recv(4 - len(answer))
        except ConnectionResetError:
            chunk = b""
        if not chunk:
            raise NotMqttError("closed the connection without an answer")
        answer += chunk
    if answer[0] != CONNACK:
        raise NotMqttError("answers, but not in MQTT")
    if answer[3] == 0:
        connection.sendall(DISCONNECT)
    return answer[3]


def _connect(username: str | None, password: str | None) -> bytes:
    flags = CLEAN | (HAS_USERNAME if username is not None else 0) | (HAS_PASSWORD if password is not None else 0)
    body = _text("MQTT") + pack("!BBH", 4, flags, KEEPALIVE_S) + _text("")
    body += b"".join(_text(part) for part in (username, password) if part is not None)
    return bytes((CONNECT,)) + _length(len(body)) + body


def _text(text: str) -> bytes:
    encoded = text.encode()
    return pack("!H", len(encoded)) + encoded


def _length(length: int) -> bytes:
    """MQTT's variable byte integer."""
    encoded = bytearray()
    while True:
        length, digit = divmod(length, 128)
        encoded.append(digit | (0x80 if length else 0))
        if not length:
            return bytes(encoded)
