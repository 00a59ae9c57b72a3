"""`kerege-wire`: payloads for people. Whatever it is given, it says what is wrong in one line, and never shows a traceback."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kerege_wire import Ack, CollectorState, Presence, Record, Report, Tick, encode_ack, encode_presence, encode_report, encode_state
from kerege_wire.cli import MAX_INPUT_BYTES, main
from kerege_wire.codec import expand
from kerege_wire.dictionary import DICTIONARY_1
from kerege_wire.schema import MESSAGES, kinds_markdown, message_schema

COMMAND = str(Path(sys.executable).parent / "kerege-wire")
TICK = Tick("online", rungs="++.+==+", rtt_ms=612.0)
REPORT = Report("Zk3q9w2a", sent=5, records=(Record(7, 1_795_465_800, TICK), Record(9, 1_795_465_860, TICK)))
PAYLOADS = {
    "report": encode_report(REPORT),
    "ack": encode_ack(Ack("Zk3q9w2a", sent=5, stored=((1, 7),), refused=((8, "bad-field"),))),
    "presence": encode_presence(Presence("lost", "Zk3q9w2a", 3)),
    "state": encode_state(CollectorState("away")),
}


def run(*arguments: str, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """The installed command, as a person starts it."""
    return subprocess.run([COMMAND, *arguments], input=given, capture_output=True, check=False, timeout=30)


def called(capfd: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """The same in this process: exit status, standard output, standard error."""
    try:
        status = main(arguments)
    except SystemExit as ended:
        status = int(ended.code or 0)
    out, err = capfd.readouterr()
    assert "Traceback" not in err
    return status, out, err


@pytest.fixture
def file(tmp_path: Path) -> Any:
    """Writes bytes into a file and gives its name."""

    def write(content: bytes) -> str:
        path = tmp_path / "input"
        path.write_bytes(content)
        return str(path)

    return write


def test_decode_prints_each_record_with_its_own_number_and_time(file: Any, capfd: pytest.CaptureFixture[str]) -> None:
    """Nobody should have to add up steps."""
    status, out, err = called(capfd, "decode", file(PAYLOADS["report"]))
    tick = {"kind": "tick", "result": "online", "rungs": "++.+==+", "rtt_ms": 612}
    assert (status, err) == (0, "")
    assert json.loads(out) == {
        "message": "report",
        "epoch": "Zk3q9w2a",
        "sent": 5,
        "records": [
            {"seq": 7, "time": 1795465800, "utc": "2026-11-23T20:30:00Z"} | tick,
            {"seq": 9, "time": 1795465860, "utc": "2026-11-23T20:31:00Z"} | tick,
        ],
    }


@pytest.mark.parametrize("name", MESSAGES)
def test_decode_finds_out_which_message_it_is(name: str, file: Any, capfd: pytest.CaptureFixture[str]) -> None:
    """By the members that only one message has; `--as` says it."""
    guessed = called(capfd, "decode", file(PAYLOADS[name]))
    assert guessed[0] == 0
    assert json.loads(guessed[1])["message"] == name
    assert called(capfd, "decode", "--as", name, file(PAYLOADS[name])) == guessed


@pytest.mark.parametrize(
    ("members", "name"),
    [
        ({"epoch": "Zk3q9w2a", "sent": 5}, "report"),
        ({"epoch": "Zk3q9w2a", "sent": 5, "received": 1, "replied": 2}, "ack"),
        ({"hold": "unknown center"}, "ack"),
        ({"unreadable": "0123abcd", "reason": "empty"}, "ack"),
        ({"state": "online", "epoch": "Zk3q9w2a", "birth": 1}, "presence"),
        ({"state": "ready"}, "state"),
    ],
)
def test_a_message_is_known_by_its_members(members: dict[str, Any], name: str, file: Any, capfd: pytest.CaptureFixture[str]) -> None:
    """An empty report and an ack share most of theirs."""
    status, out, _ = called(capfd, "decode", file(json.dumps(members).encode()))
    assert (status, json.loads(out)["message"]) == (0, name)


def test_raw_prints_the_text_as_it_travelled(file: Any, capfd: pytest.CaptureFixture[str]) -> None:
    """Rows stay rows."""
    assert called(capfd, "decode", "--raw", file(PAYLOADS["report"])) == (0, expand(PAYLOADS["report"]).decode() + "\n", "")


def test_hex_may_be_spaced_and_broken_into_lines(file: Any, capfd: pytest.CaptureFixture[str]) -> None:
    """As it stands in docs/wire.md, or as `mosquitto_sub -F %x` prints it."""
    for text in (PAYLOADS["ack"].hex(), PAYLOADS["ack"].hex(" ").upper(), PAYLOADS["ack"].hex("\n", 8) + "\n"):
        status, out, _ = called(capfd, "decode", "--hex", file(text.encode()))
        assert (status, json.loads(out)["stored"]) == (0, [[1, 7]])


@pytest.mark.parametrize(
    ("payload", "says"),
    [
        (b"", "empty"),
        (b"\x02x", "unknown-codec"),
        (PAYLOADS["ack"][:-3], "not-deflate"),
        (b"{", "not-json"),
        (b'{"x":1}', "bad-message: has no member by which it could be one of report, ack, presence, state; say which with --as"),
        (b'{"epoch":"short"}', "bad-field: epoch"),
        (b"{" + b" " * 70_000 + b"}", "too-large"),
    ],
)
def test_bytes_that_are_no_message_end_with_1_and_the_reason(
    payload: bytes, says: str, file: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    """In one line on standard error."""
    status, out, err = called(capfd, "decode", file(payload))
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert err.startswith(f"kerege-wire decode: {says}")


def test_a_line_end_that_mosquitto_sub_added_is_explained(file: Any, capfd: pytest.CaptureFixture[str]) -> None:
    """It is what everybody meets first."""
    status, _, err = called(capfd, "decode", file(PAYLOADS["ack"] + b"\n"))
    assert (status, "-N" in err) == (1, True)


def test_a_report_with_refused_records_is_shown_and_ends_with_1(file: Any, capfd: pytest.CaptureFixture[str]) -> None:
    """Each of them named with its reason; what is kept is safe for a terminal."""
    text = '{"epoch":"Zk3q9w2a","seq":1,"time":5,"records":[[0,"tick",0],[1,"tick",0,"\x9b\x7f"],[9999999999999,"\\ud800",0]]}'
    status, out, err = called(capfd, "decode", file(text.replace("9999999999999", "999999999999").encode()))
    shown = json.loads(out)
    assert status == 1
    assert [(item["seq"], item["reason"], item["utc"]) for item in shown["refused"]] == [
        (2, "bad-field", "1970-01-01T00:00:06Z"),
        (3, "unknown-kind", None),
    ]
    assert (shown["refused"][0]["item"][3], shown["refused"][1]["item"][1]) == ("\x9b\x7f", "\ud800")
    assert out.isascii()
    assert err.count("\n") == 2


@pytest.mark.parametrize("codec", ["deflate", "json"])
@pytest.mark.parametrize("name", MESSAGES)
def test_encode_writes_what_decode_reads(name: str, codec: str) -> None:
    """Through real pipes, binary and in hex."""
    text = expand(PAYLOADS[name])
    written = run("encode", "--as", name, "--codec", codec, given=text)
    assert (written.returncode, written.stderr) == (0, b"")
    assert run("decode", given=written.stdout).stdout == run("decode", given=PAYLOADS[name]).stdout
    assert bytes.fromhex(run("encode", "--codec", codec, "--hex", "-", given=text).stdout.decode()) == written.stdout


def test_encode_takes_records_in_either_form(file: Any, capfd: pytest.CaptureFixture[str]) -> None:
    """And writes rows when it deflates."""
    text = json.dumps({"epoch": "Zk3q9w2a", "seq": 7, "time": 5, "records": [{"kind": "tick", "result": "online"}, [1, "tick", 0]]})
    status, out, _ = called(capfd, "encode", "--hex", file(text.encode()))
    assert status == 0
    assert json.loads(expand(bytes.fromhex(out)))["records"] == [[0, "tick", 0, "online"], [1, "tick", 0]]


@pytest.mark.parametrize(
    ("members", "says"),
    [
        ({"records": [{"kind": "tick", "rtt": 5}]}, "record 1, tick: 'rtt' is not known; is rtt_ms meant?"),
        ({"records": [[0, "tick", 0, *[None] * 9, "x"]]}, "record 1, tick: value 12 of the row is not known"),
        ({"record": []}, "report: 'record' is not known; is records meant?"),
        ({"records": [[0, "tick", 0], [0, "tik", 0]]}, "record 8 would be refused: unknown-kind"),
        ({"records": [[0, "tick", 0, "maybe"]]}, "record 7 would be refused: bad-field: result"),
        ({"clock": "wrong"}, "bad-field: clock"),
        ({"records": [{"kind": "tick", "target": "\ud800"}]}, "not a JSON object"),
    ],
)
def test_encode_refuses_what_would_be_refused_or_ignored(
    members: dict[str, Any], says: str, file: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    """A slip of the pen is found here and not in the collector's quarantine."""
    status, out, err = called(capfd, "encode", file(json.dumps({"epoch": "Zk3q9w2a", "seq": 7, "time": 5} | members).encode()))
    assert (status, out) == (1, "")
    assert says in err


@pytest.mark.parametrize("command", ["decode", "encode"])
def test_a_file_that_cannot_be_used_ends_with_2(command: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Its name, and why."""
    for path, why in ((tmp_path / "none", "No such file"), (tmp_path, "Is a directory")):
        status, _, err = called(capfd, command, str(path))
        assert (status, why in err, str(path) in err) == (2, True, True)


def test_input_that_is_no_hex_or_endless_ends_with_2(file: Any, capfd: pytest.CaptureFixture[str]) -> None:
    """Nobody waits for the end of /dev/zero."""
    assert "not hex digits" in called(capfd, "decode", "--hex", file(b"01 4g"))[2]
    assert "not hex digits" in called(capfd, "decode", "--hex", file("０１".encode()))[2]
    assert called(capfd, "decode", "/dev/zero")[0] == 2
    assert f"more than {MAX_INPUT_BYTES} bytes" in called(capfd, "decode", file(b"x" * (MAX_INPUT_BYTES + 1)))[2]


@pytest.mark.parametrize(
    "arguments",
    [[], ["recode"], ["decode", "--as", "tick"], ["encode", "--codec", "zstd"], ["schema", "tick"], ["schema", "ack", "--markdown"]],
)
def test_wrong_usage_ends_with_2(arguments: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    """With argparse's own words."""
    status, out, err = called(capfd, *arguments)
    assert (status, out, "usage: kerege-wire" in err) == (2, "", True)


def test_schema_prints_one_message_or_all(capfd: pytest.CaptureFixture[str]) -> None:
    """As one JSON object."""
    assert json.loads(called(capfd, "schema")[1]) == {name: message_schema(name) for name in MESSAGES}
    for name in MESSAGES:
        assert json.loads(called(capfd, "schema", name)[1]) == message_schema(name)
    assert called(capfd, "schema", "--markdown")[1] == kinds_markdown()
    assert run("schema", "--dictionary").stdout == DICTIONARY_1


def test_a_reader_that_goes_away_early_is_nobodys_fault() -> None:
    """Quiet, and no traceback."""
    with subprocess.Popen([COMMAND, "schema"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as started:
        assert started.stdout is not None
        assert started.stderr is not None
        started.stdout.close()
        assert started.stderr.read() == b""
        assert started.wait(30) == 0


def test_a_full_disk_and_a_closed_input_end_with_2() -> None:
    """Said in words."""
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run([COMMAND, "schema"], stdout=full, stderr=subprocess.PIPE, check=False, timeout=30)
    assert (done.returncode, done.stderr) == (2, b"kerege-wire schema: standard output: No space left on device\n")
    closed = subprocess.run(["/bin/sh", "-c", f"exec {COMMAND} decode <&-"], capture_output=True, check=False, timeout=30)
    assert (closed.returncode, closed.stderr) == (2, b"kerege-wire decode: standard input: Bad file descriptor\n")
