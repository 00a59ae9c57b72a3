"""Real servers on loopback that take notices, refuse them or hang."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
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


class Hook:
    """What an HTTP server was given; ``status`` is what it answers."""

    def __init__(self) -> None:
        self.status = 200
        self.bodies: list[dict[str, Any]] = []
        self.gets: list[str] = []
        self.port = 0

    def url(self, more: str = "") -> str:
        return f"json://{HOST}:{self.port}/{more}"


@contextmanager
def hook() -> Iterator[Hook]:
    got = Hook()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            if got.status < 300:
                got.bodies.append(body)
            self._answer()

        def do_GET(self) -> None:
            got.gets.append(self.path)
            self._answer()

        def _answer(self) -> None:
            self.send_response(got.status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer((HOST, 0), Handler)
    got.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield got
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def silence() -> Iterator[int]:
    """The port of a server that takes connections and says nothing."""
    with socket.create_server((HOST, 0)) as server:
        yield int(server.getsockname()[1])


def free_port() -> int:
    with socket.create_server((HOST, 0)) as server:
        return int(server.getsockname()[1])


REFUSALS: Final = ("451 4.7.1 try again later", "550 5.1.1 no such user")
