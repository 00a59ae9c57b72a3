"""What `kerege-lab up` says, and what it refuses, without starting anything."""

import json
import os
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from kerege_lab import servers, up_settings
from kerege_lab.servers import HOST, EmbeddedBroker, Mosquitto, free_port
from kerege_lab.up_arrivals import line_of, words_of
from kerege_lab.up_settings import CENTER, House, UsageError, plan_house

NOON = 1_795_465_800


@pytest.fixture(autouse=True)
def _no_influx(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("INFLUX_"):
            monkeypatch.delenv(name)


def house(directory: Path, *, port: int | None = None, internet: bool = False) -> House:
    return plan_house(directory, port=port or free_port(), internet=internet)


@pytest.mark.parametrize(
    ("kind", "fields", "words"),
    [
        ("tick", {"result": "online", "rungs": "++.+==+", "rtt_ms": 612.0}, "online  612 ms  [++.+==+]"),
        ("tick", {"result": "offline", "broken": "gateway", "rungs": "+-?????"}, "offline: gateway  [+-?????]"),
        ("tick", {"result": "online", "broken": "collector", "rungs": "+++++.-"}, "online, but collector fails  no time  [+++++.-]"),
        ("ping", {"target": "quad9", "sent": 10, "received": 9, "rtt_p50_ms": 0.05}, "quad9  9 of 10 back, median 0.05 ms"),
        ("ping", {"target": "quad9", "error": "no route"}, "quad9: no route"),
        ("dns", {"target": "system", "name": "gov.kz", "resolve_ms": 31.2}, "gov.kz by system  31.2 ms"),
        (
            "http",
            {"target": "page", "status": 200, "portal": True, "first_byte_ms": 4.0},
            "page  status 200, first byte after 4 ms, a portal stands in between",
        ),
        ("traffic", {"interface": "eth0", "received_bytes": 1_234_000, "interval_s": 300.0}, "eth0  1,234.0 kB in, unknown out, in 300 s"),
        ("host", {"cpu_percent": 7.4, "agent_memory_mb": 27.1, "spool_records": 2}, "cpu 7 %, agent 27.1 MB, 2 in the spool"),
        ("boot", {"agent": "0.1.0", "stop": "first", "spool": "new"}, "agent 0.1.0 started; the run before: first; spool new"),
        ("drop", {"count": 3, "dropped_kind": "host", "reason": "spool full"}, "3 host records given up: spool full"),
        ("yurt", {"felt": 3}, "felt 3"),
    ],
)
def test_a_record_reads_as_a_sentence(kind: str, fields: dict[str, object], words: str) -> None:
    assert words_of(kind, fields) == words


def test_a_line_has_time_center_kind_and_words() -> None:
    line = line_of({"time": NOON, "center": "demo", "kind": "tick", "fields": {"result": "online", "rtt_ms": 1.0, "rungs": "+++++++"}})
    assert line.plain.split(maxsplit=3)[1:] == ["demo", "tick", "online  1 ms  [+++++++]"]


def test_a_busy_port_is_named_with_the_next_free_one(tmp_path: Path) -> None:
    with socket.create_server((HOST, 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(UsageError, match=rf"port {port} on 127.0.0.1 is busy.* --port \d+"):
            house(tmp_path, port=port)


@pytest.mark.parametrize("port", [-1, 0, 65_536])
def test_a_port_that_cannot_be_is_refused(tmp_path: Path, port: int) -> None:
    with pytest.raises(UsageError, match="1 to 65535"):
        plan_house(tmp_path, port=port, internet=False)


def test_with_mosquitto_everything_speaks_tls_with_certificates_that_last(tmp_path: Path) -> None:
    first = house(tmp_path)
    assert isinstance(first.broker, Mosquitto)
    key = Path(first.agent.settings["mqtt"]["key_file"])
    assert first.agent.settings["mqtt"]["tls"]
    assert first.collector.settings["mqtt"]["tls"]
    assert key.stat().st_mode & 0o077 == 0
    before = key.read_bytes()
    assert house(tmp_path).agent.settings["mqtt"]["key_file"].read_bytes() == before
    key.unlink()
    assert house(tmp_path).agent.settings["mqtt"]["key_file"].read_bytes() != before


def test_without_mosquitto_the_embedded_broker_serves_and_says_that_it_is_plain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> Path:
        raise servers.ServerMissingError("no mosquitto")

    monkeypatch.setattr(up_settings, "find_mosquitto", missing)
    planned = house(tmp_path)
    assert isinstance(planned.broker, EmbeddedBroker)
    assert not planned.agent.settings["mqtt"]["tls"]
    assert "plain" in planned.about[0]


def test_only_the_loopback_is_measured_unless_the_internet_is_asked_for(tmp_path: Path) -> None:
    inside = house(tmp_path).agent.settings
    addresses = {target["address"] for target in inside["targets"]} | {inside["link"]["gateway"]}
    assert addresses <= {HOST, "::1"}
    outside = house(tmp_path, internet=True).agent.settings
    assert outside["center"] == CENTER
    assert not {"targets", "link", "dns"} & set(outside)


@pytest.fixture
def asked() -> list[str]:
    return []


@pytest.fixture
def influx(asked: list[str]) -> Iterator[str]:
    """What answers a ping and a query as InfluxDB 1.x does; gives its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(204)
            self.send_header("X-Influxdb-Version", "1.12.4")
            self.end_headers()

        def do_POST(self) -> None:
            asked.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
            body = json.dumps({"results": [{}]}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    server = HTTPServer((HOST, 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield f"http://{HOST}:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_an_influxdb_1_gets_its_database_and_the_token_stays_in_a_file(
    tmp_path: Path, influx: str, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INFLUX_URL", influx + "/")
    monkeypatch.setenv("INFLUX_TOKEN", "kerege:secret")
    planned = house(tmp_path)
    store = planned.collector.settings["store"]
    assert asked == ["q=CREATE+DATABASE+%22kerege%22"]
    assert (store["kind"], store["url"], store["bucket"]) == ("influx", influx, "kerege")
    assert store["token_file"].read_text() == "kerege:secret"
    assert store["token_file"].stat().st_mode & 0o077 == 0
    assert "secret" not in repr(store) + " ".join(planned.about)


@pytest.mark.parametrize("url", ["influx.example", "http://127.0.0.1:1"])
def test_an_influxdb_that_is_not_there_is_named_with_a_cure(tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INFLUX_URL", url)
    with pytest.raises(UsageError, match=f"INFLUX_URL={url}.*"):
        house(tmp_path)
