"""The page, the API and what machines ask for: over real HTTP, and in a real browser."""

import hashlib
import http.client
import json
import math
import re
import shutil
import socket
import subprocess
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from kerege_collector.board import Board, CenterRow
from kerege_collector.centers import Center, Link
from kerege_collector.listening import CannotListenError, listen, url_of
from kerege_collector.metrics import Metrics
from kerege_collector.page import Page, number, span, utc
from kerege_collector.settings import Http
from kerege_collector.timekeeping import ClockState, Timekeeper
from kerege_collector.web import WebServer
from kerege_lab.servers import HOST, free_port
from kerege_wire import Ping, Presence, Record, Report, Tick

CHROMIUM: Final = shutil.which("chromium") or shutil.which("chromium-browser")
BROWSER_TIMEOUT_S: Final = 60.0

NAMES: Final = {
    "oskemen": ("Өскемен, Шығыс Қазақстан", "Өскемен"),
    "ulan": ("Ұлан ауылы", "Ұлан"),
    "kurshim": ("Күршім", "Күршім"),
    "zaisan": ("Зайсан", "Зайсан"),
    "script": ("<script>alert(1)</script>", 'a "district" & more'),
}


class House:
    """What the service gives to the pages."""

    def __init__(self) -> None:
        self.registry = {
            name: Center(id=name, name=label, district=district, link=Link(kind="geo", provider="Sputnik"))
            for name, (label, district) in NAMES.items()
        }
        self.board = Board(lambda: self.registry, gaps=lambda center: 12 if center == "ulan" else 0)
        self.metrics = Metrics()
        self.clock = ClockState(True, "synchronised", 12.0, 3.0)
        self.timekeeper = Timekeeper("kernel", ask=lambda: self.clock, now_s=time.monotonic)
        self.troubles: list[str] = []
        self.port = free_port()

    def trouble(self) -> list[str]:
        return self.troubles

    def tick(self, center: str, *, broken: str | None = None, rtt_ms: float = 612.0, waiting: int = 0) -> None:
        now_s = int(time.time())
        body = Tick("offline", broken=broken) if broken else Tick("online", rtt_ms=rtt_ms)
        ping = Ping("google", sent=10, received=9)
        records = (Record(1, now_s - 1, body), Record(2, now_s, ping))
        self.board.report(center, Report("epochAAA", waiting=waiting, records=records), now_s)


@contextmanager
def served(house: House) -> Iterator[House]:
    server = WebServer(Http(port=house.port), house)
    server.start()
    try:
        yield house
    finally:
        server.stop()
        assert not server.alive


@pytest.fixture
def house() -> Iterator[House]:
    house = House()
    house.tick("oskemen", waiting=1840)
    house.tick("ulan", broken="internet")
    house.tick("zaisan")
    house.board.presence("zaisan", Presence("goodbye", epoch="epochAAA", birth=1, why="shutdown"), int(time.time()))
    with served(house):
        yield house


def get(house: House, path: str, method: str = "GET") -> tuple[int, dict[str, str], str]:
    connection = http.client.HTTPConnection(HOST, house.port, timeout=10)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read().decode()
    finally:
        connection.close()


def api(house: House) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(get(house, "/api/v1/centers")[2])
    return found


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


def test_a_clock_in_doubt_is_told_but_is_no_reason_to_restart_anything(house: House) -> None:
    house.clock = ClockState(None, "the kernel does not answer")
    house.timekeeper = Timekeeper("kernel", ask=lambda: house.clock)
    status, _, body = get(house, "/healthz")
    assert (status, json.loads(body)["clock"]["synchronised"]) == (200, None)


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


# --- for people ---------------------------------------------------------------------------------------------------------


def test_the_page_is_complete_without_a_script(house: House) -> None:
    status, headers, page = get(house, "/")
    assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
    rows = dict(re.findall(r'<tr data-center="([a-z]+)" data-state="([a-z]+)">', page.partition("<template")[0]))
    assert rows == {"ulan": "down", "script": "unknown", "kurshim": "unknown", "zaisan": "off", "oskemen": "up"}
    for text in ("Өскемен, Шығыс Қазақстан", "Ұлан · geo · Sputnik", "612 ms", "10 %", "1840", "12 missing", "never", "shutdown"):
        assert text in page
    assert '<noscript><meta http-equiv="refresh"' in page
    assert "UTC" in page


def test_what_people_write_cannot_become_markup(house: House) -> None:
    page = get(house, "/")[2]
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page


def test_nothing_may_run_in_the_page_but_its_own_script(house: House) -> None:
    """The policy names style and script by their hashes, and both are what is in the page."""
    _, headers, page = get(house, "/")
    policy = headers["content-security-policy"]
    assert policy.startswith("default-src 'none';")
    for element in ("style", "script"):
        content = re.search(f"<{element}>(.*?)</{element}>", page, re.DOTALL)
        assert content is not None
        digest = b64encode(hashlib.sha256(content[1].encode()).digest()).decode()
        assert f"{element}-src 'sha256-{digest}'" in policy
    assert "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"


def test_trouble_and_a_clock_in_doubt_are_on_top_of_the_page() -> None:
    house = House()
    house.troubles = ["no connection to the broker", "store: disk-full: records.db"]
    house.clock = ClockState(False, "not synchronised, says the kernel")
    with served(house):
        notices = re.findall(r'<p class="notice bad">(.*?)</p>', get(house, "/")[2])
    assert notices[:2] == house.troubles
    assert "clock" in notices[2]


def test_an_empty_registry_says_what_to_do() -> None:
    house = House()
    house.registry.clear()
    with served(house):
        assert '<p id="empty">' in get(house, "/")[2]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-5, "0 s"), (59, "59 s"), (60, "1 min"), (3599, "59 min"), (11_520, "3 h 12 min"), (172_799, "47 h 59 min"), (442_800, "5 d 3 h")],
)
def test_durations_are_said_as_people_say_them(seconds: int, text: str) -> None:
    assert span(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.0, "0"), (0.731, "0.731"), (4.312, "4.31"), (612.0, "612"), (1250.4, "1250"), (99.96, "100")]
)
def test_numbers_have_three_digits_at_most_and_no_exponent(value: float, text: str) -> None:
    assert number(value) == text


def test_times_are_utc_and_say_so() -> None:
    assert utc(1_795_465_800) == "2026-11-23 20:30:00 UTC"


# --- in a browser -------------------------------------------------------------------------------------------------------


def seen_by_a_browser(house: House, profile: Path, *, after_ms: int) -> str:
    """The page's DOM as Chromium has it after so long."""
    if CHROMIUM is None:
        pytest.skip("no chromium on the path: run scripts/install-servers")
    quiet = ["disable-gpu", "disable-quic", "no-first-run", "disable-background-networking", "disable-component-update", "disable-sync"]
    options = [f"--{option}" for option in ("headless", "no-sandbox", "disable-dev-shm-usage", *quiet)]
    command = [
        CHROMIUM,
        *options,
        f"--user-data-dir={profile}",
        f"--virtual-time-budget={after_ms}",
        "--dump-dom",
        f"http://{HOST}:{house.port}/",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=BROWSER_TIMEOUT_S, check=True)
    return done.stdout


def test_the_script_writes_what_the_api_says_into_the_page(house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page as served is old; what the browser has a moment later is what the API says: rows new, gone, moved and changed."""
    render = Page.render

    def render_as_before(page: Page, content: dict[str, Any]) -> str:
        before = render(page, content)
        house.registry["new"] = Center(id="new", name="Жаңа кітапхана")
        del house.registry["kurshim"]
        house.tick("ulan", rtt_ms=41.27)
        house.board.trouble("new", "unreadable: not-json", int(time.time()))
        house.troubles = ["store: unreachable"]
        return before

    monkeypatch.setattr(Page, "render", render_as_before)
    monkeypatch.setattr("kerege_collector.web.VIEW_S", 0.0)
    dom = seen_by_a_browser(house, tmp_path / "profile", after_ms=2000)
    body = dom[dom.index('<tbody id="centers">') : dom.index("</tbody>")]
    rows = dict(re.findall(r'<tr data-center="([a-z]+)" data-state="([a-z]+)">', body))
    assert rows == {"script": "unknown", "new": "unknown", "zaisan": "off", "ulan": "up", "oskemen": "up"}
    assert list(rows) == [center["center"] for center in api(house)["centers"]]
    assert "Жаңа кітапхана" in body
    assert "unreadable: not-json" in body
    assert "41.3 ms" in body
    assert "&lt;script&gt;alert(1)" in body
    assert "UTC" not in re.sub(r'title="[^"]*"', "", body)  # the browser's own zone now
    assert "store: unreachable" in dom
    assert re.search(r'<div data-state="down">.*?<dd>0</dd>', dom, re.DOTALL)


def test_a_page_that_hears_nothing_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is shown must not be taken for the state of now."""
    house = House()
    rows, asked = house.board.rows, []

    def answer_once(now_s: int) -> list[CenterRow]:
        asked.append(now_s)
        if len(asked) > 1:
            raise RuntimeError("away")
        return rows(now_s)

    monkeypatch.setattr(house.board, "rows", answer_once)
    monkeypatch.setattr("kerege_collector.web.VIEW_S", 0.0)
    with served(house):
        dom = seen_by_a_browser(house, tmp_path / "profile", after_ms=2000)
    assert "The collector does not answer" in dom
    assert 'class="stale"' in dom


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
