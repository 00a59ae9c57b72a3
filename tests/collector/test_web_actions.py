"""Writing over real HTTP: who may, what it does, and how every bad request is refused."""

import base64
import http.client
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import sqlalchemy as sa

from kerege_collector import incidents, verdict_tables
from kerege_collector.incident import Rules, Seen, World
from kerege_collector.mistakes import SettingsError
from kerege_collector.stores import RetryLater
from kerege_collector.tokens import CURE, Tokens, token_mistakes
from kerege_collector.web_actions import MAX_BODY_BYTES
from kerege_collector.web_guard import WRONG_EACH_MINUTE
from kerege_lab.servers import HOST
from tests.collector.web_house import House, get, served

TOKEN: Final = "a" * 40
OTHER: Final = "b" * 40
NOW_S: Final = 1_795_465_800
ACK: Final = "/api/v1/incidents/1/ack"


@pytest.fixture
def tokens(tmp_path: Path) -> dict[str, Path]:
    return {name: token_file(tmp_path, name, token) for name, token in (("Айгүл Серікова", TOKEN), ("desk", OTHER))}


def token_file(directory: Path, name: str, token: str, mode: int = 0o600) -> Path:
    path = directory / f"{name}.token"
    path.write_text(token + "\n")
    path.chmod(mode)
    return path


def with_incident(house: House) -> House:
    """Number 1: ulan is silent."""
    seen = [Seen(name, {}, 60, 0, "up", None, NOW_S - 900, NOW_S - 300 * (name == "ulan"), away=False) for name in house.registry]
    with house.ledger.writing() as connection:
        incidents.advance(connection, World(NOW_S, seen), Rules())
    return house


@pytest.fixture
def house(tokens: dict[str, Path]) -> Iterator[House]:
    with served(with_incident(House()), tokens=tokens) as house:
        yield house


def post(house: House, path: str, body: object = None, *, token: str | None = TOKEN, method: str = "POST") -> tuple[int, dict[str, Any]]:
    """Status and what is said."""
    status, _, said = post_raw(house, path, b"" if body is None else json.dumps(body).encode(), token=token, method=method)
    return status, said


def post_raw(
    house: House, path: str, body: bytes, *, token: str | None = TOKEN, method: str = "POST"
) -> tuple[int, dict[str, str], dict[str, Any]]:
    connection = http.client.HTTPConnection(HOST, house.port, timeout=10)
    try:
        connection.request(method, path, body, {"Authorization": f"Bearer {token}"} if token else {})
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, json.loads(answer.read())
    finally:
        connection.close()


def raw(house: House, request: str) -> str:
    with socket.create_connection((HOST, house.port), timeout=10) as caller:
        caller.sendall(f"{request}\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        return b"".join(iter(lambda: caller.recv(4096), b"")).decode().replace("www-authenticate", "WWW-Authenticate")


def audit(house: House) -> list[tuple[str, str]]:
    with house.ledger.transaction() as connection:
        return [(row.who, row.action) for row in connection.execute(sa.select(verdict_tables.audit))]


def test_each_action_is_done_in_the_name_of_the_tokens_owner(house: House) -> None:
    """And answers with the incident as the list has it."""
    actions: list[tuple[str, dict[str, Any]]] = [
        ("ack", {}),
        ("snooze", {"until": "2h"}),
        ("resolve", {"reason": "power"}),
        ("resolve", {"reason": "lan", "again": True}),
    ]
    done: dict[str, Any] = {}
    for name, body in actions:
        status, done = post(house, f"/api/v1/incidents/1/{name}", body)
        assert (status, done["done"], done["who"]) == (200, name, "Айгүл Серікова")
        assert done["incident"] == json.loads(get(house, "/api/v1/incidents")[2])["incidents"][0]
    assert done["incident"]["reason"] == "lan"
    assert done["incident"]["acknowledged_by"] == "Айгүл Серікова"
    assert done["incident"]["snoozed_until_s"] == pytest.approx(time.time() + 7200, abs=60)
    work = {"scope": "provider", "name": "Sputnik", "from": 4_102_444_800, "to": "2100-01-02T00:00Z", "why": "new dish"}
    status, done = post(house, "/api/v1/maintenance", work, token=OTHER)
    assert status == 200
    assert done["maintenance"] == {
        "scope": "provider",
        "name": "Sputnik",
        "start_s": 4_102_444_800,
        "end_s": 4_102_531_200,
        "who": "desk",
        "why": "new dish",
    }
    assert audit(house) == [("Айгүл Серікова", name) for name, _ in actions] + [("desk", "maintain")]


def test_an_empty_body_acknowledges(house: House) -> None:
    assert post(house, ACK)[0] == 200


MAINTENANCE: Final = {"scope": "center", "name": "ulan", "to": "2100-01-01"}


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        (ACK, b"{", 400, "the body is no JSON: "),
        (ACK, b"\xff\xfe", 400, "the body is no JSON: "),
        (ACK, b"[" * 16_000, 400, "the body is no JSON: "),
        (ACK, b'{"a": ' + b"9" * 5000 + b"}", 400, "the body is no JSON: "),
        (ACK, b"[]", 400, "wanted an object with nothing in it"),
        (ACK, b"null", 400, "wanted an object"),
        (ACK, b'{"who": "somebody else"}', 400, "who: not a known key"),
        (ACK, b" " * (MAX_BODY_BYTES + 1), 413, f"longer than {MAX_BODY_BYTES} bytes"),
        ("/api/v1/incidents/1/snooze", b"{}", 400, "until: is missing; wanted a time such as"),
        ("/api/v1/incidents/1/snooze", b'{"untill": "2h"}', 400, 'untill: not a known key; did you mean "until"?'),
        ("/api/v1/incidents/1/snooze", b'{"until": true}', 400, "until: wanted a whole number, got true"),
        (
            "/api/v1/incidents/1/snooze",
            b'{"until": "tomorrow"}',
            400,
            "until: wanted a time such as 2026-11-01, 2026-11-01T10:00+05:00 or 2h",
        ),
        ("/api/v1/incidents/1/snooze", b'{"until": "999999999w"}', 400, "until: wanted a time from 1970 on"),
        ("/api/v1/incidents/1/snooze", b'{"until": -1}', 400, "until: wanted a time from 1970 on"),
        ("/api/v1/incidents/1/snooze", b'{"until": 1.5}', 400, "until: wanted a whole number"),
        ("/api/v1/incidents/1/resolve", b'{"reason": "powr"}', 400, 'did you mean "power"?'),
        ("/api/v1/incidents/1/resolve", b'{"reason": "power", "again": 1}', 400, "again: wanted true or false, got 1"),
        ("/api/v1/incidents/7/ack", b"", 404, "there is no incident 7; GET /api/v1/incidents lists them"),
        (f"/api/v1/incidents/{'9' * 40}/ack", b"", 404, "there is no incident 9999"),
        ("/api/v1/incidents/one/ack", b"", 404, "there is no such path"),
        ("/api/v1/maintenance", {"scope": "center", "name": "ulann", "to": "2100-01-01"}, 400, 'did you mean "ulan"?'),
        ("/api/v1/maintenance", MAINTENANCE | {"to": "2000-01-01"}, 400, "to: must be after from"),
        ("/api/v1/maintenance", MAINTENANCE | {"why": "a\u0000"}, 400, "why: wanted printable characters"),
        ("/api/v1/maintenance", MAINTENANCE | {"why": "\ud800"}, 400, "why: wanted a string of whole characters"),
        ("/api/v1/maintenance", MAINTENANCE | {"why": "a" * 501}, 400, "why: wanted at most 500 characters"),
        ("/api/v1/maintenance", MAINTENANCE | {"scope": "region"}, 400, "scope: wanted"),
    ],
)
def test_what_cannot_be_meant_so_is_refused_with_place_and_cure(house: House, path: str, body: object, status: int, words: str) -> None:
    """And changes nothing."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    found, headers, said = post_raw(house, path, content)
    assert (found, headers["content-type"]) == (status, "application/json")
    assert words in said["error"]
    assert audit(house) == []


def test_what_is_resolved_is_resolved(house: House) -> None:
    assert post(house, "/api/v1/incidents/1/resolve", {"reason": "power"})[0] == 200
    status, said = post(house, "/api/v1/incidents/1/resolve", {"reason": "lan"})
    assert (status, said["error"]) == (409, 'incident 1 is resolved already, as "power"; correct that with "again": true')


@pytest.mark.parametrize(("path", "method", "allowed"), [(ACK, "GET", "POST"), (ACK, "DELETE", "POST"), ("/api/v1/centers", "POST", "GET")])
def test_another_method_is_told_the_right_one(house: House, path: str, method: str, allowed: str) -> None:
    status, headers, said = post_raw(house, path, b"", method=method)
    assert (status, allowed in headers["allow"].split(", ")) == (405, True)
    assert allowed in said["error"]


def test_without_a_right_token_nothing_is_written(house: House) -> None:
    status, headers, said = post_raw(house, ACK, b"", token=None)
    assert (status, headers["www-authenticate"]) == (401, 'Bearer realm="Kerege"')
    assert "Authorization: Bearer TOKEN" in said["error"]
    status, headers, said = post_raw(house, ACK, b"", token="c" * 40)
    assert (status, headers["www-authenticate"]) == (401, 'Bearer realm="Kerege", error="invalid_token"')
    assert audit(house) == []


def test_a_password_that_a_browser_sends_by_itself_writes_nothing(house: House) -> None:
    """Else a page elsewhere could have it sent. Nor does any answer let another site read or write."""
    connection = http.client.HTTPConnection(HOST, house.port, timeout=10)
    basic = base64.b64encode(f"x:{TOKEN}".encode()).decode()
    connection.request(
        "POST", ACK, headers={"Authorization": f"Basic {basic}", "Cookie": f"token={TOKEN}", "Origin": "http://evil.example"}
    )
    answer = connection.getresponse()
    assert (answer.status, answer.headers["access-control-allow-origin"]) == (401, None)
    connection.close()
    assert audit(house) == []


def test_wrong_tokens_beyond_some_a_minute_are_told_to_wait_and_a_right_one_still_counts(house: House) -> None:
    found = [post_raw(house, ACK, b"", token="c" * 40)[:2] for _ in range(WRONG_EACH_MINUTE + 2)]
    assert [status for status, _ in found] == [401] * WRONG_EACH_MINUTE + [429] * 2
    assert found[-1][1]["retry-after"] == "60"
    assert post(house, ACK)[0] == 200


def test_where_nobody_has_a_token_nobody_writes() -> None:
    with served(with_incident(House())) as house:
        status, said = post(house, ACK)
        assert (status, "[http.tokens]" in said["error"]) == (403, True)
        assert audit(house) == []


def test_a_body_that_does_not_come_is_not_waited_for(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kerege_collector.web_actions.BODY_S", 0.3)
    with socket.create_connection((HOST, house.port), timeout=10) as caller:
        caller.sendall(f"POST {ACK} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: 9\r\n\r\n{{".encode())
        assert caller.recv(4096).startswith(b"HTTP/1.1 408")
    assert audit(house) == []


def test_a_ledger_that_cannot_be_written_now_is_said(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise RetryLater("disk-full", "ledger.db")

    with monkeypatch.context() as patch:
        patch.setattr(house.ledger, "writing", full)
        status, said = post(house, ACK)
    assert (status, "try again" in said["error"]) == (503, True)


def test_a_mistake_of_ours_shows_no_traceback(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise KeyError("oops")

    with monkeypatch.context() as patch:
        patch.setattr(incidents, "acknowledge", broken)
        status, said = post(house, ACK)
    assert (status, "oops" in said["error"]) == (500, False)


# --- reading with a token only ------------------------------------------------------------------------------------------


def test_reads_can_be_closed_to_those_without_a_token(tokens: dict[str, Path]) -> None:
    """The agents' check stays open, and whether all is well, without why."""
    basic = base64.b64encode(f"Айгүл:{TOKEN}".encode()).decode()
    with served(with_incident(House()), tokens=tokens, reads="token") as house:
        house.troubles = ["no connection to the broker"]
        for path in (
            "/",
            "/api/v1/centers",
            "/api/v1/incidents",
            "/api/v1/timeline/ulan",
            "/api/v1/explain/ulan?time=1",
            "/metrics",
            "/no",
        ):
            status, headers, body = get(house, path)
            assert (status, headers["www-authenticate"], "error" in json.loads(body)) == (401, 'Bearer realm="Kerege"', True)
            assert get(house, path, Authorization=f"Basic {basic}")[0] == get(house, path, Authorization=f"Bearer {OTHER}")[0] != 401
        assert 'WWW-Authenticate: Basic realm="Kerege"' in raw(house, "GET / HTTP/1.1")  # so that a browser asks for a password
        assert get(house, "/", Authorization="Basic !")[0] == get(house, "/", method="HEAD")[0] == 401
        assert get(house, "/generate_204")[0] == 204
        status, _, body = get(house, "/healthz")
        assert (status, json.loads(body)) == (503, {"status": "unwell"})
        assert "trouble" in json.loads(get(house, "/healthz", Authorization=f"Bearer {TOKEN}")[2])
        assert post(house, ACK)[0] == 200


# --- files of tokens ----------------------------------------------------------------------------------------------------


def test_a_token_that_is_changed_counts_from_the_reload_on_and_a_bad_file_changes_nothing(
    house: House, tokens: dict[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    assert house.server is not None
    tokens["desk"].write_text("d" * 40)
    house.server.reload()
    assert (post(house, ACK, token=OTHER)[0], post(house, ACK, token="d" * 40)[0]) == (401, 200)
    tokens["desk"].write_text("short")
    house.server.reload()
    assert post(house, ACK, token="d" * 40)[0] == 200
    assert "tokens.not_reloaded" in caplog.text


def test_files_that_are_no_good_tokens_are_said_with_the_cure(tmp_path: Path) -> None:
    files = {
        "good": token_file(tmp_path, "good", TOKEN),
        "same": token_file(tmp_path, "same", TOKEN),
        "short": token_file(tmp_path, "short", "hunter2"),
        "seen": token_file(tmp_path, "seen", OTHER, 0o640),
        "away": tmp_path / "away",
    }
    found = list(token_mistakes(files))
    assert found == [
        f'tokens.same: {files["same"]} holds the token of "good" too; each has one of their own, or nobody knows who acted',
        f"tokens.short: {files['short']}: wanted a token of at least 32 letters and digits in its first line; {CURE}",
        f"tokens.seen: {files['seen']}: others than its owner may use it: chmod 600 {files['seen']}",
        f"tokens.away: {files['away']}: there is no such file",
    ]
    assert not any(secret in line for line in found for secret in (TOKEN, OTHER, "hunter2"))
    with pytest.raises(SettingsError, match=r"http\.tokens\.away"):
        Tokens(files)
