"""HTTP phase by phase, against servers that answer, redirect, babble, hang up and keep silent."""

import socket
import ssl
import threading
import time
from collections.abc import Callable
from typing import Any, Final

import pytest

from kerege_agent.probes import http
from kerege_agent.probes.fetch import MAX_HEAD_BYTES, fetch
from kerege_agent.settings import Http, HttpTarget, Portal, Probes, RareSettings
from kerege_lab.certificates import Certificates
from tests.agent.probe_world import NO_CONTENT, answering, context_of, loopback_settings, serving

SOON_S: Final = 5.0


@pytest.mark.parametrize(
    ("content", "status", "portal", "error"),
    [
        (NO_CONTENT, 204, False, None),
        (b"HTTP/1.0 204 No Content\r\n\r\n", 204, False, None),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 200, False, None),
        (b"HTTP/1.1 200 OK\r\ncontent-length:0\r\nX: y\r\n\r\n", 200, False, None),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nlogin", 200, True, None),
        (b"HTTP/1.1 200 OK\r\n\r\n<html>", 200, True, None),
        (b"HTTP/1.1 302 Found\r\nLocation: /login\r\nContent-Length: 0\r\n\r\n", 302, True, None),
        (b"HTTP/1.1 511 Network Authentication Required\r\n\r\n", 511, True, None),
        (b"HTTP/1.1 404 Not Found\r\n\r\n", 404, None, None),
        (b"HTTP/1.1 502 Bad Gateway\r\n\r\n", 502, None, None),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", None, None, "the answer is not HTTP"),
        (b"HTTP/1.1 2\xff4 ?\r\n\r\n", None, None, "the answer is not HTTP"),
        (b"", None, None, "closed without an answer"),
    ],
)
def test_what_answers_in_the_portal_pages_place_is_told(content: bytes, status: int | None, portal: bool | None, error: str | None) -> None:
    """204 or an empty 200 is the page, a redirect or a page of its own a portal, anything else nobody's proof."""
    with serving(answering(content)) as port:
        fetched = fetch(f"http://127.0.0.1:{port}/generate_204", timeout_s=SOON_S)
    assert (fetched.status, fetched.portal, fetched.error) == (status, portal, error)


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_every_phase_has_its_duration(family: socket.AddressFamily) -> None:
    """Resolution, connect, first byte; TLS is absent without TLS. IPv4 and IPv6."""
    host, version = ("[::1]", 6) if family == socket.AF_INET6 else ("127.0.0.1", 4)
    with serving(answering(NO_CONTENT), family) as port:
        settings = loopback_settings(portal=Portal(url=f"http://{host}:{port}/"))
        [record] = http.measure(context_of(settings))
    assert (record.target, record.family, record.status, record.portal, record.error) == ("portal", version, 204, False, None)
    assert record.tls_ms is None
    for duration_ms in (record.resolve_ms, record.connect_ms, record.first_byte_ms):
        assert duration_ms is not None
        assert 0 < duration_ms < 1000


def test_the_first_byte_is_timed_and_not_the_connect() -> None:
    """A server that thinks for 0.1 s shows in the first byte."""

    def thinking(connection: socket.socket) -> None:
        time.sleep(0.1)
        answering(NO_CONTENT)(connection)

    with serving(thinking) as port:
        fetched = fetch(f"http://127.0.0.1:{port}/", timeout_s=SOON_S)
    assert fetched.first_byte_ns is not None
    assert fetched.connect_ns is not None
    assert fetched.first_byte_ns > 100_000_000 > fetched.connect_ns


def test_each_target_has_its_record_and_only_the_portals_says_portal() -> None:
    """A page of one's own may redirect."""
    redirect = b"HTTP/1.1 301 Moved\r\nLocation: /\r\n\r\n"
    with serving(answering(redirect)) as port:
        page = f"http://127.0.0.1:{port}/"
        settings = loopback_settings(http=Http(targets=(HttpTarget(name="page", url=page),)), portal=Portal(url=page))
        found = http.measure(context_of(settings))
    assert [(record.target, record.status, record.portal) for record in found] == [("page", 301, None), ("portal", 301, None)]


def tls_server(certificates: Certificates) -> Callable[[socket.socket], None]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.server.certificate, certificates.server.key)

    def answer(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as secured:
            answering(NO_CONTENT)(secured)

    return answer


def test_tls_has_its_phase_and_its_certificate_is_verified(certificates: Certificates, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the system's authorities only, which this test points at its own and then away from it."""
    with serving(tls_server(certificates)) as port:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificates.ca))
        trusted = fetch(f"https://localhost:{port}/", timeout_s=SOON_S)
        wrong_name = fetch(f"https://127.0.0.2:{port}/", timeout_s=SOON_S)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificates.server.certificate))
        untrusted = fetch(f"https://localhost:{port}/", timeout_s=SOON_S)
    assert (trusted.status, trusted.error) == (204, None)
    assert trusted.tls_ns is not None
    assert trusted.tls_ns > 0
    assert wrong_name.error in {"refused", "certificate: IP address mismatch, certificate is not valid for '127.0.0.2'."}
    assert (untrusted.status, untrusted.tls_ns) == (None, None)
    assert untrusted.error is not None
    assert untrusted.error.startswith("certificate: ")
    assert untrusted.connect_ns is not None


def test_tls_where_nobody_speaks_it_is_an_error() -> None:
    """The connect stands, the handshake does not."""
    with serving(lambda connection: connection.sendall(b"220 mail\r\n")) as port:
        fetched = fetch(f"https://127.0.0.1:{port}/", timeout_s=SOON_S)
    assert fetched.connect_ns is not None
    assert fetched.tls_ns is None
    assert fetched.error is not None


def _wait(release: threading.Event) -> None:
    release.wait(SOON_S)


def test_a_server_that_keeps_silent_is_a_timeout() -> None:
    """Within the one deadline of all phases; what was measured before stands."""
    release = threading.Event()
    with serving(lambda connection: _wait(release)) as port:
        began_s = time.monotonic()
        fetched = fetch(f"http://127.0.0.1:{port}/", timeout_s=0.2)
        lasted_s = time.monotonic() - began_s
        release.set()
    assert (fetched.status, fetched.error) == (None, "timeout")
    assert fetched.connect_ns is not None
    assert lasted_s < SOON_S


def test_a_server_that_drips_does_not_keep_the_probe() -> None:
    """A byte every now and then does not move the deadline."""

    def dripping(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n")
        for _ in range(1000):
            connection.sendall(b"X")
            time.sleep(0.02)

    with serving(dripping) as port:
        began_s = time.monotonic()
        fetched = fetch(f"http://127.0.0.1:{port}/", timeout_s=0.2)
        assert time.monotonic() - began_s < SOON_S
    assert fetched.error == "timeout"
    assert fetched.first_byte_ns is not None


def test_an_endless_page_is_not_read() -> None:
    """The head is limited, the window small, and what follows is left with the server."""
    sent = [0]

    def endless(connection: socket.socket) -> None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, MAX_HEAD_BYTES)
        connection.sendall(b"HTTP/1.1 200 OK\r\nX: ")
        while True:
            sent[0] += connection.send(b"y" * 4096)

    with serving(endless) as port:
        fetched = fetch(f"http://127.0.0.1:{port}/", timeout_s=SOON_S)
    assert (fetched.status, fetched.error) == (200, None)
    assert sent[0] < 10 * MAX_HEAD_BYTES


def test_nobody_there_is_a_refusal_and_a_name_that_is_none_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each failure at its phase."""
    refused = fetch("http://127.0.0.1:9/", timeout_s=SOON_S)
    assert (refused.error, refused.connect_ns) == ("refused", None)
    assert refused.resolve_ns is not None

    def unknown(*arguments: object, **names: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    nameless = fetch("http://library.invalid/", timeout_s=SOON_S)
    assert (nameless.error, nameless.resolve_ns) == ("name not known", None)


def test_the_second_address_is_tried_where_the_first_is_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where IPv6 is announced but leads nowhere: the connect's duration is that of the one which worked."""
    real = socket.getaddrinfo
    with serving(answering(NO_CONTENT)) as port:

        def both(host: str, wanted: int, *rest: Any, **names: Any) -> Any:
            return [*real("::1", 9, *rest, **names), *real("127.0.0.1", wanted, *rest, **names)]

        monkeypatch.setattr(socket, "getaddrinfo", both)
        fetched = fetch(f"http://two.invalid:{port}/", timeout_s=SOON_S)
    assert (fetched.status, fetched.family, fetched.error) == (204, 4, None)


def test_all_targets_together_keep_within_the_probes_time() -> None:
    """Each has its share, so that a silent one does not cost the others their records."""
    release = threading.Event()
    with serving(lambda connection: _wait(release)) as silent, serving(answering(NO_CONTENT)) as answers:
        settings = loopback_settings(
            http=Http(targets=(HttpTarget(name="silent", url=f"http://127.0.0.1:{silent}/"),)),
            portal=Portal(url=f"http://127.0.0.1:{answers}/"),
            probes=Probes(http=RareSettings(timeout_s=0.5)),
        )
        began_s = time.monotonic()
        found = http.measure(context_of(settings))
        assert time.monotonic() - began_s < SOON_S
        release.set()
    assert [(record.target, record.status, record.error) for record in found] == [("silent", None, "timeout"), ("portal", 204, None)]
