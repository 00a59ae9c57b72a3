"""A real HTTP server on the loopback that takes notices, for whoever wants to know which have come."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from kerege_lab.servers import HOST


class Hook:
    """What an HTTP server was given; ``status`` is what it answers, and only what it takes is in ``bodies``."""

    def __init__(self) -> None:
        self.status = 200
        self.bodies: list[dict[str, Any]] = []
        self.gets: list[str] = []
        self.port = 0

    def url(self, more: str = "") -> str:
        return f"json://{HOST}:{self.port}/{more}"


@contextmanager
def hook() -> Iterator[Hook]:
    """One on the loopback, as long as the context lasts."""
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
