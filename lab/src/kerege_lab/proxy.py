"""What stands between two parts and can break: a link that is cut, and a database that answers errors.

    with Workshop() as workshop:
        link = workshop.link(broker.port)           # agents connect to link.port
        link.cut("blackhole")                       # nothing passes, nobody is told: a dish in the snow
        link.restore()                              # what TCP still holds arrives now
        link.cut("reset")                           # connections are reset, new ones refused: a router that was unplugged

    with FaultyHttp(influxd.port) as database:      # the collector writes to database.url
        database.answer(503, "overloaded")
        database.forget()                           # does what it is asked to, and hangs up before it says so
        database.pass_on()

All of it listens on 127.0.0.1.
"""

import asyncio
import contextlib
import socket
import struct
import sys
import threading
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Final, Literal, Self

from kerege_lab.servers import HOST, free_port

CHUNK_BYTES: Final = 65_536
CALL_TIMEOUT_S: Final = 10.0
UPSTREAM_TIMEOUT_S: Final = 30.0
"""How long the HTTP proxy waits for the database, so that a paused one costs a thread for a while and not for ever."""

SHUTDOWN_POLL_S: Final = 0.05
"""How often the HTTP proxy looks whether it shall end."""

_RESET_AT_CLOSE: Final = struct.pack("ii", 1, 0)
"""SO_LINGER on, zero seconds: closing then sends RST instead of FIN."""

Cut = Literal["blackhole", "reset"]


class Workshop:
    """The thread that carries the bytes of all links."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="links", daemon=True)
        self._links: list[Link] = []

    def link(self, upstream_port: int) -> "Link":
        """A new link that leads to ``upstream_port`` on the loopback; it listens at once."""
        link = Link(self, upstream_port)
        link.restore()
        self._links.append(link)
        return link

    def call(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something in that thread, and wait until it is done."""
        asyncio.run_coroutine_threadsafe(work, self._loop).result(CALL_TIMEOUT_S)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for link in self._links:
            link.cut("reset")
        self.call(_cancel_others())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _cancel_others() -> None:
    others = asyncio.all_tasks() - {task for task in [asyncio.current_task()] if task}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


class Link:
    """One TCP link to a port on the loopback, open unless it is cut. Its methods may be called from any thread."""

    def __init__(self, workshop: Workshop, upstream_port: int) -> None:
        self.port = free_port()
        self._upstream_port = upstream_port
        self._workshop = workshop
        self._server: asyncio.Server | None = None
        self._passing = asyncio.Event()
        self._writers: set[asyncio.StreamWriter] = set()

    def cut(self, how: Cut) -> None:
        """Let nothing pass from now on."""
        self._workshop.call(self._reset() if how == "reset" else self._swallow())

    def restore(self) -> None:
        """Let everything pass again."""
        self._workshop.call(self._open())

    async def _open(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._carry, HOST, self.port)
        self._passing.set()

    async def _swallow(self) -> None:
        self._passing.clear()

    async def _reset(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in list(self._writers):
            _reset(writer)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, until either side ends it."""
        mine = [writer]
        self._writers.add(writer)
        try:
            await self._passing.wait()  # a connection that is made while the link swallows gets no answer
            far_reader, far_writer = await asyncio.open_connection(HOST, self._upstream_port)
            mine.append(far_writer)
            self._writers.add(far_writer)
            await _first_of(self._pump(reader, far_writer), self._pump(far_reader, writer))
        except OSError:
            _reset(writer)  # nobody listens at the far end: what a refused connection looks like through a gateway
        finally:
            for each in mine:
                self._writers.discard(each)
                each.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await self._passing.wait()
            chunk = await reader.read(CHUNK_BYTES)
            await self._passing.wait()
            if not chunk:
                return
            writer.write(chunk)
            await writer.drain()


async def _first_of(*works: Coroutine[Any, Any, None]) -> None:
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _reset(writer: asyncio.StreamWriter) -> None:
    raw = writer.get_extra_info("socket")
    if raw is not None:
        with contextlib.suppress(OSError):
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_AT_CLOSE)
    writer.transport.abort()


@dataclass(frozen=True, slots=True)
class Answer:
    """What is said in the database's place."""

    status: int
    body: bytes
    headers: Mapping[str, str]


class FaultyHttp:
    """An HTTP server in front of another one on the loopback: passes everything on until it is told otherwise."""

    def __init__(self, upstream_port: int) -> None:
        self.upstream_port = upstream_port
        self.port = free_port()
        self.spoiled = 0
        """How many requests met the fault of the moment or an earlier one."""
        self._mode: Literal["pass", "answer", "hang", "forget"] = "pass"
        self._answer = Answer(200, b"", {})
        self._released = threading.Event()
        self._server = _QuietServer((HOST, self.port), _handler(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(SHUTDOWN_POLL_S,), name="faulty-http", daemon=True)

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def answer(self, status: int, body: str = "", headers: Mapping[str, str] | None = None) -> None:
        """Answer every request with this, and pass none on."""
        self._answer = Answer(status, body.encode(), headers or {})
        self._switch("answer")

    def hang(self) -> None:
        """Take every request, and answer none until `pass_on`."""
        self._switch("hang")

    def forget(self) -> None:
        """Pass every request on, and hang up instead of passing the answer back."""
        self._switch("forget")

    def pass_on(self) -> None:
        """Be well again."""
        self._switch("pass")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._switch("pass")
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _switch(self, mode: Literal["pass", "answer", "hang", "forget"]) -> None:
        self._mode = mode
        released, self._released = self._released, threading.Event()
        released.set()

    def respond(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Answer | None:
        """What to say to a request; None is to hang up without a word."""
        mode, released, answer = self._mode, self._released, self._answer
        if mode == "pass":
            return self._forward(method, path, headers, body)
        self.spoiled += 1
        if mode == "answer":
            return answer
        if mode == "forget":
            self._forward(method, path, headers, body)
            return None
        released.wait()
        return None

    def _forward(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Answer | None:
        connection = HTTPConnection(HOST, self.upstream_port, timeout=UPSTREAM_TIMEOUT_S)
        try:
            connection.request(method, path, body or None, dict(headers))
            response = connection.getresponse()
            kept = {name: value for name, value in response.getheaders() if name.lower() not in _OWN_HEADERS}
            return Answer(response.status, response.read(), kept)
        except (OSError, HTTPException):
            return None
        finally:
            connection.close()


class _QuietServer(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that is killed resets its connections: nothing to say about that."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


_OWN_HEADERS: Final = frozenset({"connection", "content-length", "transfer-encoding", "date", "server", "keep-alive"})


def _handler(proxy: FaultyHttp) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            answer = proxy.respond(self.command, self.path, dict(self.headers), body)
            self.close_connection = answer is None
            if answer is not None:
                self._say(answer)

        def _say(self, answer: Answer) -> None:
            with contextlib.suppress(OSError):  # it did not wait for us
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                if answer.status != 204:  # which may have no body (RFC 9110 section 8.6)
                    self.send_header("Content-Length", str(len(answer.body)))
                self.end_headers()
                self.wfile.write(answer.body)

        do_GET = do_POST = do_HEAD = _serve  # noqa: N815 - the names that http.server looks for

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
            """Say nothing: the collector's log tells what it met."""

    return Handler
