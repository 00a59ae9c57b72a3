"""A link that is cut, and a database that answers errors, break the way that they say."""

import socket
import threading
import time
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from kerege_lab.proxy import FaultyHttp, Workshop
from kerege_lab.servers import HOST

SOON_S = 5.0
MOMENT_S = 0.2


@pytest.fixture
def echo_port() -> Iterator[int]:
    """A server that says what it hears, in capitals."""
    listener = socket.create_server((HOST, 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=answer, args=(connection,), daemon=True).start()

    def answer(connection: socket.socket) -> None:
        with connection:
            try:
                while heard := connection.recv(100):
                    connection.sendall(heard.upper())
            except OSError:
                return

    threading.Thread(target=serve, daemon=True).start()
    yield listener.getsockname()[1]
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


@pytest.fixture
def workshop() -> Iterator[Workshop]:
    with Workshop() as started:
        yield started


def connect(port: int) -> socket.socket:
    return socket.create_connection((HOST, port), timeout=SOON_S)


def ask(connection: socket.socket, words: bytes) -> bytes:
    connection.sendall(words)
    return connection.recv(100)


def test_an_open_link_carries_bytes_both_ways(workshop: Workshop, echo_port: int) -> None:
    with connect(workshop.link(echo_port).port) as connection:
        assert ask(connection, b"hello") == b"HELLO"


def test_a_blackhole_swallows_until_it_is_over_and_then_tcp_delivers(workshop: Workshop, echo_port: int) -> None:
    link = workshop.link(echo_port)
    with connect(link.port) as connection:
        assert ask(connection, b"before") == b"BEFORE"
        link.cut("blackhole")
        connection.settimeout(MOMENT_S)
        with pytest.raises(TimeoutError):
            ask(connection, b"within")
        link.restore()
        connection.settimeout(SOON_S)
        assert connection.recv(100) == b"WITHIN"


def test_a_connection_into_a_blackhole_gets_no_answer_until_it_is_over(workshop: Workshop, echo_port: int) -> None:
    link = workshop.link(echo_port)
    link.cut("blackhole")
    with connect(link.port) as connection:
        connection.settimeout(MOMENT_S)
        with pytest.raises(TimeoutError):
            ask(connection, b"anyone")
        link.restore()
        connection.settimeout(SOON_S)
        assert connection.recv(100) == b"ANYONE"


def test_a_reset_link_resets_connections_and_refuses_new_ones(workshop: Workshop, echo_port: int) -> None:
    link = workshop.link(echo_port)
    with connect(link.port) as connection:
        assert ask(connection, b"before") == b"BEFORE"
        link.cut("reset")
        with pytest.raises(ConnectionResetError):
            connection.recv(100)
    with pytest.raises(ConnectionRefusedError):
        connect(link.port)
    link.restore()
    with connect(link.port) as connection:
        assert ask(connection, b"after") == b"AFTER"


def test_a_reset_also_ends_connections_that_hang_in_a_blackhole(workshop: Workshop, echo_port: int) -> None:
    link = workshop.link(echo_port)
    link.cut("blackhole")
    with connect(link.port) as connection:
        connection.sendall(b"x")
        time.sleep(MOMENT_S)
        link.cut("reset")
        with pytest.raises(ConnectionResetError):
            connection.recv(100)


def test_a_link_to_nobody_resets_who_connects(workshop: Workshop, echo_port: int) -> None:
    with socket.create_server((HOST, 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(ConnectionResetError), connect(workshop.link(port).port) as connection:
        connection.recv(100)  # if it was not reset while it was being made


class Notebook(BaseHTTPRequestHandler):
    """A database that notes what it is told."""

    notes: list[bytes]

    def do_POST(self) -> None:
        self.notes.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(204)
        self.send_header("X-Kept", str(len(self.notes)))
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@pytest.fixture
def notes() -> list[bytes]:
    return []


@pytest.fixture
def database(notes: list[bytes]) -> Iterator[FaultyHttp]:
    server = HTTPServer((HOST, 0), type("Mine", (Notebook,), {"notes": notes}))
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    with FaultyHttp(server.server_port) as proxy:
        yield proxy
    server.shutdown()
    server.server_close()
    thread.join()


def write(proxy: FaultyHttp, body: bytes, timeout_s: float = SOON_S) -> tuple[int, str | None, bytes]:
    connection = HTTPConnection(HOST, proxy.port, timeout=timeout_s)
    try:
        connection.request("POST", "/write", body)
        response = connection.getresponse()
        return response.status, response.getheader("X-Kept"), response.read()
    finally:
        connection.close()


def test_a_healthy_proxy_passes_requests_and_answers_on(database: FaultyHttp, notes: list[bytes]) -> None:
    assert write(database, b"tick") == (204, "1", b"")
    assert notes == [b"tick"]


def test_an_error_is_answered_in_the_database_s_place(database: FaultyHttp, notes: list[bytes]) -> None:
    database.answer(429, "slow down", {"Retry-After": "1"})
    assert write(database, b"tick") == (429, None, b"slow down")
    assert notes == []
    assert database.spoiled == 1
    database.pass_on()
    assert write(database, b"tock")[0] == 204


def test_an_answer_that_is_forgotten_was_acted_on(database: FaultyHttp, notes: list[bytes]) -> None:
    database.forget()
    with pytest.raises((HTTPException, ConnectionError)):
        write(database, b"tick")
    assert notes == [b"tick"]


def test_a_hanging_database_answers_nothing_and_keeps_nothing(database: FaultyHttp, notes: list[bytes]) -> None:
    database.hang()
    with pytest.raises(TimeoutError):
        write(database, b"tick", MOMENT_S)
    database.pass_on()
    assert write(database, b"tock")[1] == "1"
    assert notes == [b"tock"]
