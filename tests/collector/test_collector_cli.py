"""``kerege-collector``: what each command says, and its exit status: 0 well, 1 not well, 2 wrong usage or settings."""

import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, Final

import pytest

from kerege_collector.cli import main
from kerege_collector.ledger import Ledger, Quarantined
from kerege_collector.stores import Row
from kerege_collector.stores.sqlite import SqliteStore
from kerege_lab.house import Access, Center, Collector, collector_settings
from kerege_lab.proxy import FaultyHttp
from kerege_lab.servers import HOST, Influxd, Mosquitto, free_port
from kerege_lab.toml import toml_text
from kerege_wire import Presence, Record, Report, Tick, encode_presence, encode_report
from kerege_wire.topics import topic
from tests.places import Place

T: Final = 1_795_435_200
DEADLINE_S: Final = 30.0


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    """The command sets up the log of its process, which here is everybody's."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    """Settings of a collector that does not run."""
    return write(tmp_path)


def write(directory: Path, **changes: Any) -> Path:
    table = {"state_directory": directory, "mqtt": {"host": HOST, "port": free_port(), "tls": False}, "http": {"port": free_port()}}
    (directory / "centers.toml").write_text(toml_text({"center": [{"id": "ulan", "name": "Ұлан"}, {"id": "zaisan"}]}))
    path = directory / "collector.toml"
    path.write_text(toml_text(table | changes))
    return path


def run(settings: Path, *arguments: str) -> int:
    return main([*arguments, "--settings", str(settings)])


def out(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().out


# --- wrong usage --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nothing"],
        ["records", "--kind", "nothing"],
        ["records", "--since", "yesterday"],
        ["records", "--center", "Ұлан'; DROP"],
        ["quarantine"],
        ["quarantine", "show"],
        ["quarantine", "show", "first"],
        ["export", "--to", "nowhere"],
    ],
)
def test_wrong_usage_is_status_2_with_a_word(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "kerege-collector" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["quarantine", "readmit"], "name items by their ids"),
        (["quarantine", "drop", "1", "--reason", "unknown-kind"], "or all of one --reason"),
        (["export"], "where to?"),
        (["export", "--url", "nonsense"], "the command line: url: wanted a URL"),
    ],
)
def test_usage_that_only_the_settings_can_judge_is_status_2_too(
    settings: Path, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(settings, *arguments) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("command", ["run", "check", "status", "centers", "records", "export"])
def test_bad_settings_are_status_2_with_every_mistake_and_no_traceback(command: str, tmp_path: Path) -> None:
    path = tmp_path / "collector.toml"
    path.write_text('[mqtt]\nhots = "b"\n[htpp]\n')
    module = [sys.executable, "-m", "kerege_collector", command, "--settings", str(path)]
    done = subprocess.run(module, capture_output=True, text=True, check=False, timeout=DEADLINE_S)
    assert (done.returncode, done.stdout) == (2, "")
    assert [line.partition(": ")[0] for line in done.stderr.splitlines()] == [str(path)] * 3
    assert 'did you mean "http"?' in done.stderr


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert (ended.value.code, out(capsys)) == (0, "kerege-collector 0.1.0\n")


def test_options_may_stand_before_or_after_the_command(settings: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--settings", str(settings), "--json", "status"]) == 1
    assert json.loads(out(capsys))["running"] is False


# --- without a running collector ----------------------------------------------------------------------------------------


def test_status_without_a_collector_is_1(settings: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(settings, "status") == 1
    assert "no collector answers" in out(capsys)


def test_centers_without_a_collector_are_those_of_the_registry_and_1(settings: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(settings, "centers") == 1
    said = capsys.readouterr()
    assert "Ұлан" in said.out
    assert "not known" in said.err
    assert run(settings, "centers", "--json") == 1
    assert [json.loads(line)["state"] for line in out(capsys).splitlines()] == [None, None]


@pytest.mark.parametrize("answer", [b"HTTP/1.0 200 OK\r\n\r\n<html>", b"nonsense", b"HTTP/1.0 404 Not Found\r\n\r\n[]"])
def test_something_else_on_the_port_is_no_collector(tmp_path: Path, answer: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    class Other(BaseHTTPRequestHandler):
        def handle(self) -> None:
            self.request.recv(4096)
            self.request.sendall(answer)

    with HTTPServer((HOST, 0), Other) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        assert run(write(tmp_path, http={"port": server.server_port}), "status") == 1
        server.shutdown()
        thread.join()
    assert "collector" in out(capsys)


def test_records_without_a_store_are_said_and_none_is_made(settings: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(settings, "records") == 1
    assert "no records yet" in capsys.readouterr().err
    assert not (settings.parent / "records.db").exists()


def test_a_reader_that_goes_away_is_no_error(settings: Path) -> None:
    """``records | head``"""
    store = SqliteStore(settings.parent / "records.db", retention_days=400)
    store.write([Row("ulan", "epochAAA", seq, T + seq, "tick", "synced", None, Tick("online"), T) for seq in range(1, 20_001)])
    store.close()
    module = [sys.executable, "-m", "kerege_collector", "records", "--json", "--settings", str(settings)]
    with subprocess.Popen(module, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert json.loads(process.stdout.readline())["seq"] == 1
        process.stdout.close()
        errors = process.stderr.read()
    assert (process.returncode, errors) == (0, b"")


def test_a_terminal_that_does_not_know_the_letters_gets_them_escaped(settings: Path) -> None:
    module = [sys.executable, "-m", "kerege_collector", "centers", "--settings", str(settings)]
    environment = os.environ | {"PYTHONIOENCODING": "latin-1"}
    done = subprocess.run(module, capture_output=True, check=False, env=environment, timeout=DEADLINE_S)
    assert done.returncode == 1
    assert rb"\u04b0\u043b\u0430\u043d" in done.stdout


# --- quarantine ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def quarantine(place: Place) -> Path:
    """A record of a kind of the future, one that was refused by a clock that was wrong, and bytes that nobody can read."""
    tick = encode_report(Report("epochAAA", records=(Record(5, T, Tick("online", rtt_ms=612.0)),)), "json")
    unknown = tick.replace(b'"tick"', b'"seismic"')
    items = [
        Quarantined("ulan", "epochAAA", 4, T, T + 1, "unknown-kind", "kind 'seismic'", unknown),
        Quarantined("ulan", "epochAAA", 5, T, T + 1, "time-future", "900 s ahead of the collector's clock", tick),
        Quarantined("zaisan", "", 0, None, T + 2, "unknown-codec", "first byte 0x02", b"\x02\xff\x00"),
    ]
    ledger = Ledger(place.open())
    ledger.commit([], items, {}, T)
    ledger.close()
    return write(place.directory, **place.settings())


def listed(settings: Path, capsys: pytest.CaptureFixture[str], *options: str) -> dict[int, dict[str, Any]]:
    assert run(settings, "quarantine", "list", "--json", *options) == 0
    lines = [json.loads(line) for line in out(capsys).splitlines()]
    return {line["id"]: line for line in lines}


def test_quarantine_is_listed_with_identity_and_reason(quarantine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = listed(quarantine, capsys)
    assert {number: (line["center"], line["epoch"], line["seq"], line["reason"]) for number, line in found.items()} == {
        1: ("ulan", "epochAAA", 4, "unknown-kind"),
        2: ("ulan", "epochAAA", 5, "time-future"),
        3: ("zaisan", None, None, "unknown-codec"),
    }
    assert run(quarantine, "quarantine", "list") == 0
    assert "900 s ahead" in out(capsys)


def test_an_item_is_shown_with_what_it_holds(quarantine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(quarantine, "quarantine", "show", "1") == 0
    assert '"seismic"' in out(capsys)
    assert run(quarantine, "quarantine", "show", "3", "--json") == 0
    assert json.loads(out(capsys)) | {"id": 0} == {
        "id": 0,
        "center": "zaisan",
        "epoch": None,
        "seq": None,
        "time": None,
        "received": T + 2,
        "reason": "unknown-codec",
        "detail": "first byte 0x02",
        "bytes": 3,
        "resolved": None,
        "content": None,
        "hex": "02 ff 00",
    }
    assert run(quarantine, "quarantine", "show", "99") == 1


def test_an_item_whose_reason_is_gone_is_readmitted_and_stored(quarantine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(quarantine, "quarantine", "readmit", "2", "--json") == 0
    assert json.loads(out(capsys)) == {"id": 2, "resolved": "readmitted", "stored": 1, "repeats": 0, "refused": []}
    assert run(quarantine, "records", "--json") == 0
    assert [json.loads(line)["seq"] for line in out(capsys).splitlines()] == [5]
    assert list(listed(quarantine, capsys)) == [1, 3]
    assert listed(quarantine, capsys, "--all")[2]["resolved"] == "readmitted"


def test_an_item_that_is_still_refused_stays_and_is_status_1(quarantine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(quarantine, "quarantine", "readmit", "--reason", "unknown-kind") == 1
    assert "refused again: unknown-kind" in out(capsys)
    assert 1 in listed(quarantine, capsys)


def test_items_are_dropped_one_by_one_or_by_reason(quarantine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(quarantine, "quarantine", "drop", "1") == 0
    assert out(capsys) == "1: dropped\n"
    assert run(quarantine, "quarantine", "drop", "--reason", "unknown-codec", "--json") == 0
    assert json.loads(out(capsys)) == {"id": 3, "resolved": "dropped"}
    assert run(quarantine, "quarantine", "drop", "1", "99") == 1
    assert out(capsys).splitlines() == ["1: item 1 was dropped before", "99: there is no such item"]
    assert list(listed(quarantine, capsys)) == [2]


@pytest.mark.parametrize("action", [["list"], ["show", "1"], ["drop", "1"], ["readmit", "1"]])
def test_no_ledger_is_said_and_none_is_made(settings: Path, action: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(settings, "quarantine", *action) == 1
    assert "there is no such file" in capsys.readouterr().err
    assert not (settings.parent / "ledger.db").exists()


# --- check --------------------------------------------------------------------------------------------------------------


def checked(settings: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, dict[str, Any]]:
    status = run(settings, "check", "--json")
    found = {line["check"]: line for line in map(json.loads, out(capsys).splitlines())}
    assert status == (0 if all(line["ok"] for line in found.values()) else 1)
    assert all(line["ok"] or line["cure"] for line in found.values())
    return found


def test_check_says_of_each_part_how_it_is(tmp_path: Path, mosquitto: Mosquitto, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path, mqtt={"host": HOST, "port": mosquitto.port, "tls": False}, clock={"trust": "always"})
    found = checked(path, capsys)
    assert list(found) == ["settings", "centers", "state directory", "ledger", "store", "broker", "page", "clock"]
    assert all(line["ok"] for line in found.values())
    assert "MQTT 5" in found["broker"]["why"]
    assert run(path, "check") == 0
    assert all(line.startswith("ok ") for line in out(capsys).splitlines())


def test_check_names_the_cure_of_each_part_that_is_not_well(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = {"kind": "influx", "url": f"http://{HOST}:{free_port()}", "bucket": "kerege"}
    path = write(tmp_path, store=store, state_directory="/proc/nowhere", http={"host": "192.0.2.1"})
    (tmp_path / "centers.toml").write_text("")
    found = checked(path, capsys)
    assert [name for name, line in found.items() if not line["ok"] and name != "clock"] == [
        "centers",
        "state directory",
        "store",
        "broker",
        "page",
    ]
    assert run(path, "check") == 1
    assert "cure: is InfluxDB running" in out(capsys)


def test_check_knows_a_bucket_that_is_there_from_one_that_is_not(
    tmp_path: Path, influxd: Influxd, capsys: pytest.CaptureFixture[str]
) -> None:
    store = {"kind": "influx", "url": influxd.url, "bucket": influxd.target.bucket}
    assert checked(write(tmp_path, store=store), capsys)["store"]["ok"]
    found = checked(write(tmp_path, store=store | {"bucket": "nowhere"}), capsys)["store"]
    assert not found["ok"]
    assert "CREATE DATABASE" in found["cure"]


def test_check_does_not_take_everything_that_answers_204_for_an_influxdb(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A portal page may do that."""
    with FaultyHttp(free_port()) as page:
        page.answer(204)
        found = checked(write(tmp_path, store={"kind": "influx", "url": page.url, "bucket": "kerege"}), capsys)["store"]
    assert not found["ok"]
    assert "does not say that it is an InfluxDB" in found["why"]


@pytest.mark.parametrize(("tls", "words"), [(True, "that port speaks no TLS"), (False, "is mqtt.port right?")])
def test_check_says_what_answers_in_the_brokers_place(tmp_path: Path, influxd: Influxd, tls: bool, words: str) -> None:
    path = write(tmp_path, mqtt={"host": HOST, "port": influxd.port, "tls": tls, "connect_timeout_s": 0.5})
    module = [sys.executable, "-m", "kerege_collector", "check", "--json", "--settings", str(path)]
    done = subprocess.run(module, capture_output=True, text=True, check=False, timeout=DEADLINE_S)
    (found,) = [line for line in map(json.loads, done.stdout.splitlines()) if line["check"] == "broker"]
    assert (done.returncode, found["ok"]) == (1, False)
    assert words in found["cure"]


# --- with a running collector -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def collector(mosquitto: Mosquitto, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    directory = tmp_path_factory.mktemp("collector")
    table = collector_settings(Access(mosquitto.port), directory, port=free_port()) | {"clock": {"trust": "always"}}
    with Collector(directory, table, [Center("ulan", name="Ұлан"), Center("zaisan"), Center("kurshim")]) as running:
        deadline = time.monotonic() + DEADLINE_S
        while running.get("/api/v1/centers")["trouble"] and time.monotonic() < deadline:
            time.sleep(0.05)
        publish(mosquitto, "ulan")
        while running.get("/api/v1/centers")["counts"]["up"] == 0 and time.monotonic() < deadline:
            time.sleep(0.05)
        yield running


def publish(mosquitto: Mosquitto, center: str) -> None:
    """As an agent would, with the broker's own tool."""
    now_s = int(time.time())
    birth = encode_presence(Presence("online", epoch="epochAAA", birth=1, agent="0.1.0"), "json")
    report = encode_report(Report("epochAAA", waiting=7, ack="now", records=(Record(1, now_s, Tick("online", rtt_ms=612.0)),)), "json")
    for leaf, payload, retain in (("presence", birth, True), ("report", report, False)):
        command = ["mosquitto_pub", "-h", HOST, "-p", str(mosquitto.port), "-q", "1", "-t", topic(center, leaf), "-s"]
        subprocess.run([*command, *(["-r"] if retain else [])], input=payload, check=True, timeout=DEADLINE_S)


def test_status_asks_the_running_collector(collector: Collector, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(collector.settings_file, "status") == 0
    assert " 0 down, " in out(capsys)
    assert run(collector.settings_file, "status", "--json") == 0
    said = json.loads(out(capsys))
    assert (said["running"], said["well"], sum(said["counts"].values())) == (True, True, 3)


def test_centers_are_those_of_the_page(collector: Collector, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(collector.settings_file, "centers") == 0
    table = out(capsys)
    assert "Ұлан" in table
    assert "never seen" in table
    assert run(collector.settings_file, "centers", "--json") == 0
    by_id = {line["center"]: line for line in map(json.loads, out(capsys).splitlines())}
    assert (by_id["ulan"]["state"], by_id["ulan"]["rtt_ms"], by_id["ulan"]["spool_records"]) == ("up", 612.0, 7)
    assert by_id["ulan"]["agent"] == "0.1.0"


def test_records_are_those_that_the_collector_stored(collector: Collector, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(collector.settings_file, "records", "--center", "ulan", "--since", "1h", "--json") == 0
    (line,) = map(json.loads, out(capsys).splitlines())
    assert (line["center"], line["epoch"], line["seq"], line["kind"], line["fields"]["rtt_ms"]) == ("ulan", "epochAAA", 1, "tick", 612)


def test_check_finds_the_collector_running(collector: Collector, capsys: pytest.CaptureFixture[str]) -> None:
    assert "a collector runs" in checked(collector.settings_file, capsys)["page"]["why"]


def test_following_shows_what_is_stored_from_now_on(collector: Collector, mosquitto: Mosquitto) -> None:
    with subprocess.Popen(collector.command("records", "--follow", "--json"), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            deadline = time.monotonic() + DEADLINE_S
            publisher = Thread(target=lambda: publish_until(mosquitto, process, deadline))
            publisher.start()
            assert json.loads(process.stdout.readline())["center"] == "kurshim"
        finally:
            process.send_signal(signal.SIGINT)
        publisher.join()
    assert process.returncode == 130


def publish_until(mosquitto: Mosquitto, process: subprocess.Popen[str], deadline: float) -> None:
    """New records again and again: when the other process begins to look is not known here."""
    number = 0
    while process.poll() is None and time.monotonic() < deadline:
        number += 1
        report = Report("epochBBB", records=(Record(number, int(time.time()), Tick("online")),))
        command = ["mosquitto_pub", "-h", HOST, "-p", str(mosquitto.port), "-t", topic("kurshim", "report"), "-s"]
        subprocess.run(command, input=encode_report(report), check=True, timeout=DEADLINE_S)
        time.sleep(0.2)


def test_a_second_collector_on_the_same_port_gets_a_clear_word(collector: Collector, mosquitto: Mosquitto, tmp_path: Path) -> None:
    path = write(tmp_path, mqtt={"host": HOST, "port": mosquitto.port, "tls": False}, http={"port": collector.port})
    module = [sys.executable, "-m", "kerege_collector", "run", "--settings", str(path)]
    done = subprocess.run(module, capture_output=True, text=True, check=False, timeout=DEADLINE_S)
    assert done.returncode == 2
    assert "the port is taken" in done.stderr
    assert "Traceback" not in done.stderr
