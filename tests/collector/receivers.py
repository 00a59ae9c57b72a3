"""Real servers on loopback that take notices, refuse them or hang."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any, Final

from aiosmtpd.controller import Controller

from kerege_lab.servers import HOST


class Mailbox:
    """What an SMTP server (RFC 5321) has taken; ``answer`` is what it says to a message."""

    def __init__(self) -> None:
        self.answer = "250 OK"
        self.recipient_answer = "250 OK"
        self.mails: list[EmailMessage] = []
        self.raw: list[bytes] = []
        self.port = 0

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: Any) -> str:  # noqa: N802 - aiosmtpd's name
        if self.recipient_answer.startswith("250"):
            envelope.rcpt_tos.append(address)
        return self.recipient_answer

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
        if self.answer.startswith("250"):
            self.raw.append(envelope.content)
            mail = message_from_bytes(envelope.content, policy=policy.default)
            assert isinstance(mail, EmailMessage)
            self.mails.append(mail)
        return self.answer

    def url(self, more: str = "") -> str:
        return f"mailto://{HOST}:{self.port}/?from=kerege@example.kz&to=it@example.kz&mode=insecure{more}"


@contextmanager
def mailbox() -> Iterator[Mailbox]:
    box = Mailbox()
    controller = Controller(box, hostname=HOST, port=free_port())
    controller.start()
    box.port = controller.port
    try:
        yield box
    finally:
        controller.stop()


@contextmanager
def silence() -> Iterator[int]:
    """The port of a server that takes connections and says nothing."""
    with socket.create_server((HOST, 0)) as server:
        yield int(server.getsockname()[1])


def free_port() -> int:
    with socket.create_server((HOST, 0)) as server:
        return int(server.getsockname()[1])


REFUSALS: Final = ("451 4.7.1 try again later", "550 5.1.1 no such user")
