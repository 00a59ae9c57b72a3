"""What the InfluxDB store makes of each answer (`stores.influx`): scripted ones over real HTTP, and those of real servers."""

import gzip
import json
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest

from kerege_collector.points import center_tags
from kerege_collector.stages import Stages
from kerege_collector.stores import RetryLater, Row
from kerege_collector.stores.influx import InfluxAccess, InfluxStore
from kerege_lab.servers import Influxd, InfluxTarget, free_port
from kerege_wire import Tick

NOW_S = 1_795_465_800
Answer = tuple[int, str, dict[str, str]]
WRITTEN: Answer = (204, "", {"X-Influxdb-Build": "OSS", "X-Influxdb-Version": "1.12.4"})
UNMARKED: Answer = (204, "", {})


def row(seq: int, *, error: str | None = None, time: int | None = None, center: str = "demo") -> Row:
    return Row(center, "epoch-01", seq, NOW_S + seq if time is None else time, "tick", "synced", None, Tick("online", error=error), NOW_S)


def said(message: str, **more: object) -> str:
    return json.dumps({"code": "invalid", "message": message} | more)


class Script(BaseHTTPRequestHandler):
    """Answers as the test tells it: a function over the body's lines, or a queue of answers."""

    protocol_version = "HTTP/1.1"
    server: "Scripted"

    def do_GET(self) -> None:
        self.server.pings += 1
        self.send_response(self.server.ping_status)
        if self.server.ping_version:
            self.send_header("X-Influxdb-Version", self.server.ping_version)
        if self.server.ping_status != 204:
            self.send_header("Content-Length", "0")
        self.end_headers()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        self.server.requests.append((self.path, dict(self.headers), body.decode()))
        status, text, headers = self.server.answer(body.decode().split("\n"))
        if status == 0:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        encoded = text.encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(encoded)))
        self.end_headers()
        self.wfile.write(encoded)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its own name for it
        """Nothing on stderr."""


class Scripted(ThreadingHTTPServer):
    """A small real HTTP server in place of an InfluxDB."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Script)
        self.requests: list[tuple[str, dict[str, str], str]] = []
        self.script: deque[Answer] = deque()
        self.ping_version: str | None = None
        self.ping_status = 204
        self.pings = 0
        self.rule: Callable[[list[str]], Answer] | None = None

    def answer(self, lines: list[str]) -> Answer:
        if self.script:
            return self.script.popleft()
        return self.rule(lines) if self.rule else WRITTEN

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


@pytest.fixture
def server() -> Iterator[Scripted]:
    with Scripted() as found:
        thread = threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield found
        found.shutdown()
        thread.join()


def store_at(url: str, *, bucket: str = "kerege", timeout_s: float = 5.0, zipped: bool = False) -> InfluxStore:
    access = InfluxAccess(url, bucket, "library", "user:password", timeout_s, gzip=zipped)
    return InfluxStore(access, center_tags, Stages())


@pytest.fixture
def store(server: Scripted) -> Iterator[InfluxStore]:
    found = store_at(server.url)
    yield found
    found.close()


def test_a_batch_is_one_request(server: Scripted, store: InfluxStore) -> None:
    """One body for the whole batch, with bucket, organisation, token and a precision of seconds."""
    assert store.write([row(1), row(2)]) == []
    ((path, headers, body),) = server.requests
    query = parse_qs(urlsplit(path).query)
    assert urlsplit(path).path == "/api/v2/write"
    assert (query["bucket"], query["org"], query["precision"]) == (["kerege"], ["library"], ["s"])
    assert headers["Authorization"] == "Token user:password"
    assert len(body.split("\n")) == 2


def test_a_long_batch_is_several_requests(server: Scripted, store: InfluxStore) -> None:
    """At most 5,000 lines each."""
    assert store.write([row(seq) for seq in range(1, 12_001)]) == []
    assert [body.count("\n") + 1 for _, _, body in server.requests] == [5000, 5000, 2000]


def test_bodies_may_be_compressed(server: Scripted) -> None:
    """With the setting they are, and say so."""
    store = store_at(server.url, zipped=True)
    store.write([row(1)])
    store.close()
    ((_, headers, body),) = server.requests
    assert headers["Content-Encoding"] == "gzip"
    assert body.startswith("tick,center=demo ")


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ((401, said("unauthorized access"), {}), "unauthorized"),
        ((403, said("no permission"), {}), "forbidden"),
        ((404, said('database not found: "kerege"'), {}), "not-found"),
        ((408, "", {}), "timeout"),
        ((429, said("too many requests"), {"Retry-After": "7"}), "throttled"),
        ((500, said("engine: error"), {}), "server-error"),
        ((503, "<html>Service Unavailable</html>", {"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}), "server-error"),
        (UNMARKED, "unexpected-answer"),
        ((200, "<html>Welcome to the hotel!</html>", {}), "unexpected-answer"),
        ((302, "", {"Location": "http://127.0.0.1:1/login"}), "unexpected-answer"),
        ((418, "", {}), "unexpected-answer"),
        ((0, "", {}), "unreachable"),
        ((400, said('organization name "library" not found'), {}), "bad-request"),
        ((400, "<html>Bad Request</html>", {}), "unexpected-answer"),
    ],
)
def test_what_may_pass_is_tried_again(server: Scripted, store: InfluxStore, answer: Answer, reason: str) -> None:
    """None of these answers counts as written, nor as the record's fault; afterwards the same batch goes through."""
    server.script.append(answer)
    with pytest.raises(RetryLater) as caught:
        store.write([row(1)])
    assert caught.value.reason == reason
    assert caught.value.retry_after_s == (7.0 if answer[2].get("Retry-After") == "7" else None)
    assert store.write([row(1)]) == []


def test_a_204_counts_only_from_an_influxdb(server: Scripted, store: InfluxStore) -> None:
    """InfluxDB 3 marks no answer to a write but that to /ping, which is asked once a minute; what has no mark at all has stored nothing."""
    server.rule = lambda _: UNMARKED
    for _ in range(2):
        with pytest.raises(RetryLater, match="is this an InfluxDB"):
            store.write([row(1)])
    server.ping_status = 503
    with pytest.raises(RetryLater) as caught:
        store.write([row(1)])
    assert caught.value.reason == "server-error"  # it may be one, and cannot say so now
    server.ping_status = 204
    server.ping_version = "3.5.0"
    server.pings = 0
    for _ in range(3):
        assert store.write([row(1)]) == []
    assert server.pings == 1


def test_a_server_that_does_not_answer_is_tried_again(server: Scripted) -> None:
    """After the timeout, not for ever."""
    held = threading.Event()
    server.rule = lambda _: (held.wait(5.0), WRITTEN)[1]
    store = store_at(server.url, timeout_s=0.2)
    with pytest.raises(RetryLater) as caught:
        store.write([row(1)])
    held.set()
    store.close()
    assert caught.value.reason == "timeout"


def test_a_server_that_is_not_there_is_tried_again() -> None:
    """Nobody listens: unreachable; likewise a name that has no address."""
    for url in (f"http://127.0.0.1:{free_port()}", "http://no-such-host.invalid:8086"):
        store = store_at(url)
        with pytest.raises(RetryLater) as caught:
            store.write([row(1)])
        store.close()
        assert caught.value.reason == "unreachable"


def bad_lines(lines: list[str]) -> list[str]:
    return [line for line in lines if "poison" in line]


def test_of_a_refused_batch_the_bad_lines_are_found(server: Scripted, store: InfluxStore) -> None:
    """2.x refuses the whole batch with 400: it is halved until the bad lines stand alone, and all others are written."""
    server.rule = lambda lines: (400, said("failed to parse line protocol"), {}) if bad_lines(lines) else WRITTEN
    rows = [row(seq, error="poison" if seq in {3, 4, 97} else None) for seq in range(1, 101)]
    rejected = store.write(rows)
    assert [item.row.seq for item in rejected] == [3, 4, 97]
    assert rejected[0].detail == "400: failed to parse line protocol"
    written = {line for _, _, body in server.requests if not bad_lines([body]) for line in body.split("\n")}
    assert len(written) == 97
    assert len(server.requests) < 60


def test_of_a_partial_write_the_bad_lines_are_found(server: Scripted, store: InfluxStore) -> None:
    """422 (2.x) keeps the good lines; writing them again while the bad ones are sought overwrites them with themselves."""
    server.rule = lambda lines: (422, said("failure writing points: partial write: dropped 1 points"), {}) if bad_lines(lines) else WRITTEN
    rejected = store.write([row(1), row(2, error="poison"), row(3)])
    assert [(item.row.seq, item.detail[:5]) for item in rejected] == [(2, "422: ")]


def test_version_3_says_it_in_its_own_form(server: Scripted, store: InfluxStore) -> None:
    """400 with the bad lines in ``data``: the server's words come along."""
    refusal = json.dumps(
        {"error": "partial write of line protocol occurred", "data": [{"error_message": "invalid column type", "line_number": 1}]}
    )
    server.rule = lambda lines: (400, refusal, {}) if bad_lines(lines) else WRITTEN
    (rejected,) = store.write([row(1, error="poison"), row(2)])
    assert rejected.detail == "400: partial write of line protocol occurred: invalid column type"


def test_a_refusal_in_unknown_words_is_the_lines_fault_where_others_are_taken(server: Scripted, store: InfluxStore) -> None:
    """A server that has taken lines means this one; a server that has taken none may mean us, and then nothing is given up."""
    server.rule = lambda lines: (400, said("who knows"), {}) if bad_lines(lines) else WRITTEN
    with pytest.raises(RetryLater) as caught:
        store.write([row(1, error="poison")])
    assert caught.value.reason == "bad-request"
    assert [item.row.seq for item in store.write([row(2), row(1, error="poison")])] == [1]
    assert [item.row.seq for item in store.write([row(1, error="poison")])] == [1]


def test_a_batch_that_is_too_large_is_halved(server: Scripted, store: InfluxStore) -> None:
    """413 until the pieces fit; a single line that never fits is rejected."""
    server.rule = lambda lines: (413, "Request Entity Too Large", {}) if len(lines) > 10 or bad_lines(lines) else WRITTEN
    rejected = store.write([row(seq, error="poison" if seq == 50 else None) for seq in range(1, 101)])
    assert [item.row.seq for item in rejected] == [50]


def test_trouble_in_the_middle_of_the_search_keeps_everything(server: Scripted, store: InfluxStore) -> None:
    """The server fails while bad lines are sought: the whole batch is tried again, nothing is rejected half-way."""
    server.script.extend([(400, said("partial write"), {}), WRITTEN, (500, "", {})])
    with pytest.raises(RetryLater):
        store.write([row(1), row(2, error="poison"), row(3), row(4)])


# --- real servers -----------------------------------------------------------------------------------------------------


def real(target: InfluxTarget, *, bucket: str | None = None) -> InfluxStore:
    access = InfluxAccess(target.url, bucket or target.bucket, target.org, target.token)
    return InfluxStore(access, center_tags, Stages())


def test_a_real_server_has_it_once_however_often_it_is_written(any_influx: InfluxTarget) -> None:
    """A batch that is written again overwrites itself."""
    store = real(any_influx)
    batch = [row(seq, center="influx-once") for seq in range(1, 31)]
    assert store.write(batch) == []
    assert store.write(batch) == []
    store.close()
    (found,) = any_influx.query("SELECT count(seq), sum(seq) FROM tick WHERE center = 'influx-once'")
    assert (found["count"], found["sum"]) == (30, sum(range(1, 31)))


def test_a_field_of_another_type_is_found_in_the_batch(influxd: Influxd) -> None:
    """Somebody has written rtt_ms as a string: InfluxDB 1.x refuses the field as a float from then on, and takes all other points."""
    influxd.query("CREATE DATABASE conflict")
    conflict = InfluxTarget(influxd.url, influxd.target.token, "", "conflict")
    conflict.write(f'tick,center=demo rtt_ms="fast" {NOW_S}')
    store = real(conflict)
    good = [row(seq) for seq in range(1, 8)]
    bad = row(9)._replace(body=Tick("online", rtt_ms=612.0))
    (rejected,) = store.write([*good[:4], bad, *good[4:]])
    store.close()
    assert rejected.row == bad
    assert "field type conflict" in rejected.detail
    assert [item["seq"] for item in conflict.query("SELECT seq FROM tick WHERE seq > 0")] == list(range(1, 8))
    influxd.query("DROP DATABASE conflict")


def test_what_lies_beyond_the_retention_is_found_in_the_batch(influxd: Influxd) -> None:
    """A record older than the database keeps is rejected with the server's words, the others are written."""
    influxd.query('CREATE DATABASE short WITH DURATION 1d REPLICATION 1 NAME "day"')
    short = InfluxTarget(influxd.url, influxd.target.token, "", "short")
    store = real(short, bucket="short/day")
    fresh = int(time.time())
    rejected = store.write([row(1, time=fresh), row(2, time=fresh - 400_000), row(3, time=fresh - 1)])
    store.close()
    assert [item.row.seq for item in rejected] == [2]
    assert "retention" in rejected[0].detail
    assert sorted(item["seq"] for item in short.query("SELECT seq FROM tick")) == [1, 3]
    influxd.query("DROP DATABASE short")


def test_an_unknown_database_is_waited_for(influxd: Influxd) -> None:
    """Somebody has yet to make it: until then nothing counts as written."""
    store = real(influxd.target, bucket="not-yet")
    with pytest.raises(RetryLater) as caught:
        store.write([row(1)])
    assert caught.value.reason == "not-found"
    influxd.query('CREATE DATABASE "not-yet"')
    assert store.write([row(1)]) == []
    store.close()
    influxd.query('DROP DATABASE "not-yet"')
