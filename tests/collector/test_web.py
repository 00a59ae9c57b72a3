"""The API and what machines ask for, over real HTTP."""

import http.client
import json
import math
import socket
import time

import pytest

from kerege_collector.board import CenterRow
from kerege_collector.listening import CannotListenError, listen, url_of
from kerege_collector.settings import Http
from kerege_collector.timekeeping import ClockState
from kerege_collector.web import WebServer
from kerege_lab.servers import HOST, free_port
from tests.collector.web_house import House, api, get, house, served

__all__ = ["house"]  # a fixture

# --- for machines -------------------------------------------------------------------------------------------------------


def test_the_portal_check_is_answered_with_nothing_in_few_bytes(house: House) -> None:
    """Each of its bytes crosses a metered satellite link."""
    with socket.create_connection((HOST, house.port), timeout=10) as connection:
        connection.sendall(b"GET /generate_204 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answer = b"".join(iter(lambda: connection.recv(4096), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert (head.split(b"\r\n")[0], body) == (b"HTTP/1.1 204 No Content", b"")
    assert len(answer) <= 50


def test_health_is_200_when_all_is_well_and_503_with_the_reasons_when_not(house: House) -> None:
    status, _, body = get(house, "/healthz")
    assert (status, json.loads(body)["status"], json.loads(body)["trouble"]) == (200, "well", [])
    house.troubles = ["no connection to the broker"]
    status, _, body = get(house, "/healthz")
    assert (status, json.loads(body)["trouble"]) == (503, ["no connection to the broker"])


def test_the_api_tells_each_center_and_first_those_that_need_a_look(house: House) -> None:
    said = api(house)
    assert said["counts"] == {"up": 1, "down": 1, "unknown": 2, "off": 1}
    assert [center["center"] for center in said["centers"]] == ["ulan", "script", "kurshim", "zaisan", "oskemen"]
    by_id = {center["center"]: center for center in said["centers"]}
    assert by_id["oskemen"] | {"since_s": 0, "last_seen_s": 0} == {
        "center": "oskemen",
        "name": "Өскемен, Шығыс Қазақстан",
        "district": "Өскемен",
        "provider": "Sputnik",
        "link": "geo",
        "registered": True,
        "state": "up",
        "cause": None,
        "since_s": 0,
        "last_seen_s": 0,
        "rtt_ms": 612.0,
        "loss_percent": 10.0,
        "spool_records": 1840,
        "gaps": 0,
        "connection": None,
        "two_agents_since_s": None,
        "trouble": None,
        "agent": None,
    }
    assert (by_id["ulan"]["state"], by_id["ulan"]["cause"], by_id["ulan"]["gaps"]) == ("down", "provider", 12)
    assert abs(said["now_s"] - time.time()) < 10


def test_many_who_look_at_once_make_the_board_work_once(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, asked = house.board.rows, []

    def count(now_s: int) -> list[CenterRow]:
        asked.append(now_s)
        return rows(now_s)

    monkeypatch.setattr(house.board, "rows", count)
    for _ in range(20):
        api(house)
    assert len(asked) <= 3


def test_metrics_are_for_prometheus(house: House) -> None:
    status, headers, body = get(house, "/metrics")
    assert (status, headers["content-type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    assert 'kerege_centers{state="down"} 1.0' in body
    assert "kerege_clock_synchronised 1.0" in body
    assert "kerege_clock_max_error_seconds 0.012" in body


def test_a_clock_that_nobody_knows_is_no_number() -> None:
    house = House()
    house.clock = ClockState(None, "the kernel does not answer")
    with served(house):
        line = next(line for line in get(house, "/metrics")[2].splitlines() if line.startswith("kerege_clock_synchronised"))
    assert math.isnan(float(line.split()[1]))


def test_no_center_is_named_in_the_metrics(house: House) -> None:
    """Ten thousand centers would be ten thousand series, and ids can be invented."""
    house.board.trouble("invented-by-somebody", "held: unknown center", int(time.time()))
    assert "invented-by-somebody" not in get(house, "/metrics")[2]


@pytest.mark.parametrize(("path", "method", "status"), [("/nowhere", "GET", 404), ("/", "POST", 405), ("/generate_204", "HEAD", 204)])
def test_other_questions_have_their_answer(house: House, path: str, method: str, status: int) -> None:
    assert get(house, path, method)[0] == status


def test_bad_http_is_refused_and_the_server_goes_on(house: House) -> None:
    with socket.create_connection((HOST, house.port), timeout=10) as connection:
        connection.sendall(b"\x16\x03\x01\x00\xa5 this is TLS, or nonsense\r\n\r\n")
        assert b"400" in connection.recv(4096)
    assert get(house, "/healthz")[0] == 200


@pytest.mark.parametrize("words", [b"", b"GET / HTTP/1.1\r\nHost: x\r\n"])
def test_callers_that_say_nothing_are_hung_up_on(house: House, monkeypatch: pytest.MonkeyPatch, words: bytes) -> None:
    """At once, or after a first answer: they must not take the place of others for good. Others are served meanwhile."""
    monkeypatch.setattr("kerege_collector.web.HEAD_S", 0.3)
    again = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    here = (HOST, house.port)
    with socket.create_connection(here, timeout=10) as silent, socket.create_connection(here, timeout=10) as second:
        silent.sendall(words)
        second.sendall(again)
        assert get(house, "/healthz")[0] == 200
        assert b"200 OK" in second.recv(4096)
        second.sendall(words)
        assert silent.recv(4096) == b""
        assert second.recv(4096) == b""


def test_long_answers_are_compressed_for_those_who_can_read_that(house: House) -> None:
    """A librarian looks at the page over the link that it tells about."""
    connection = http.client.HTTPConnection(HOST, house.port, timeout=10)
    connection.request("GET", "/", headers={"Accept-Encoding": "gzip"})
    answer = connection.getresponse()
    compressed = answer.read()
    connection.close()
    assert answer.headers["Content-Encoding"] == "gzip"
    assert len(compressed) < len(get(house, "/")[2].encode()) / 2


# --- listening ----------------------------------------------------------------------------------------------------------


def test_a_busy_port_is_said_with_its_cure() -> None:
    house = House()
    with served(house), pytest.raises(CannotListenError, match=rf"http\.port = {house.port}.*taken.*choose another"):
        WebServer(Http(port=house.port), House()).start()


@pytest.mark.parametrize(("host", "words"), [("192.0.2.1", "no interface"), ("no.such.name.invalid", "has no address")])
def test_an_address_that_is_not_ours_is_said_with_its_cure(host: str, words: str) -> None:
    with pytest.raises(CannotListenError, match=words):
        listen(Http(host=host, port=free_port()))


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8480"),
        ("0.0.0.0", "http://127.0.0.1:8480"),  # noqa: S104 - only asked about
        ("::", "http://[::1]:8480"),
        ("::1", "http://[::1]:8480"),
    ],
)
def test_the_pages_url_is_one_that_this_machine_can_open(host: str, url: str) -> None:
    assert url_of(Http(host=host)) == url


def test_it_listens_on_ipv6_too() -> None:
    with listen(Http(host="::1", port=free_port())) as listening:
        assert listening.family == socket.AF_INET6
