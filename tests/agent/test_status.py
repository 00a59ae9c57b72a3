"""What `kerege-agent status` and `kerege-agent spool` show."""

import io
import json
from pathlib import Path
from typing import Any

import pytest

from kerege_agent import spool_command, status
from kerege_agent.clock import ClockModel, Reading
from kerege_agent.lock import DirectoryLock
from kerege_agent.settings import Mqtt, Settings
from kerege_agent.spool import Spool
from kerege_wire import Ping, Tick

T0_MS = 1_795_465_800_000


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setattr(status, "SYSTEM_RUNTIME", tmp_path / "none")
    for variable in ("RUNTIME_DIRECTORY", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(variable, raising=False)
    return Settings(center="demo", mqtt=Mqtt(host="127.0.0.1", port=1883, tls=False), state_directory=tmp_path)


def status_of(settings: Settings) -> tuple[int, str]:
    out = io.StringIO()
    return status.show(settings, as_json=False, out=out), out.getvalue()


def told(settings: Settings, **more: Any) -> dict[str, Any]:
    return {
        "written": 1_795_465_800.0,
        "state_directory": str(settings.state_directory),
        "version": "0.1.0",
        "pid": 42,
        "epoch": "Zk3q9w2a",
        "internet": "online",
        "session": {"connected": True, "broker": "broker:8883", "protocol": 5, "phase": "open"},
        "spool": {"records": 3, "bytes": 12_288, "state": "disk", "trouble": None},
        "clock": {"offset_ms": T0_MS, "error_ms": 310, "quality": "synced", "wall_error_s": -7.25},
    } | more


def test_without_an_agent_it_says_so(settings: Settings) -> None:
    code, text = status_of(settings)
    assert code == 1
    assert f"is not running on {settings.state_directory}" in text


def test_a_well_agent_is_well(settings: Settings) -> None:
    """Running, connected, spool on disk: 0, and the words that people need."""
    lock = DirectoryLock(settings.state_directory)
    code, text = status_of(settings)
    assert (code, "has not said anything yet" in text) == (1, True)
    status.StatusFile(settings.state_directory).write(told(settings), now_s=0)
    code, text = status_of(settings)
    assert code == 0
    for words in ("process 42", "online", "broker:8883, connected (MQTT 5), open", "3 records", "on disk", "within 0.31 s", "7.2 s slow"):
        assert words in text
    out = io.StringIO()
    assert status.show(settings, as_json=True, out=out) == 0
    assert json.loads(out.getvalue())["well"] is True
    lock.release()


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"session": {"connected": False, "broker": "broker:8883", "error": "TimeoutError: timed out"}}, "not connected: TimeoutError"),
        ({"spool": {"records": 9, "bytes": 1, "state": "memory", "trouble": "database or disk is full"}}, "the disk refuses: database or"),
        ({"clock": {"offset_ms": None}, "session": {}}, "no answer from the collector in this boot yet"),
    ],
)
def test_what_is_wrong_is_said(settings: Settings, wrong: dict[str, Any], words: str) -> None:
    lock = DirectoryLock(settings.state_directory)
    status.StatusFile(settings.state_directory).write(told(settings, **wrong), now_s=0)
    code, text = status_of(settings)
    assert (code, words in text) == (1, True)
    lock.release()


def test_the_status_of_another_directory_is_not_shown(settings: Settings) -> None:
    status.StatusFile(settings.state_directory).write(told(settings) | {"state_directory": "/elsewhere"}, now_s=0)
    assert status.latest(settings.state_directory) is None


# --- the spool ---


def filled(directory: Path) -> Spool:
    """A spool at work, with three ticks and a ping whose times are known, one tick whose is not."""
    clock = ClockModel()
    reading = Reading("a", 1000, 0)
    spool = Spool.open(directory, clock=clock, reading=reading)
    clock.learn(sent_ms=900, received_ms=T0_MS, replied_ms=T0_MS, arrived=reading)
    for second in (60, 120, 180):
        spool.put(Tick(result="online", target="cloudflare"), Reading("a", second * 1000, 0))
    spool.put(Ping(target="quad9", sent=10, received=10), Reading("a", 200_000, 0))
    spool.put(Tick(), Reading("b", 5, 0))
    return spool


def spool_of(settings: Settings, *, as_json: bool, listing: bool) -> tuple[int, str]:
    out = io.StringIO()
    return spool_command.show(settings, as_json=as_json, listing=listing, out=out), out.getvalue()


def test_the_spool_of_a_running_agent_can_be_read(settings: Settings) -> None:
    """The agent holds its file exclusively: a copy is read, and the agent goes on."""
    spool = filled(settings.state_directory)
    code, text = spool_of(settings, as_json=True, listing=False)
    summary = json.loads(text)
    assert code == 0
    assert (summary["records"], summary["kinds"], summary["epochs"]) == (5, {"tick": 4, "ping": 1}, {spool.epoch: 5})
    assert (summary["newest"] - summary["oldest"], summary["without_time"]) == (140, 1)
    _, text = spool_of(settings, as_json=False, listing=False)
    assert "5 records wait" in text
    assert "1 wait for their time" in text
    assert spool.put(Tick(), Reading("b", 60_000, 0)) == 6
    spool.close("stop")


def test_the_spool_can_be_listed_with_identities(settings: Settings) -> None:
    """One line a record: epoch, number, kind, time, fields; for people and for programs."""
    spool = filled(settings.state_directory)
    _, text = spool_of(settings, as_json=True, listing=True)
    items = [json.loads(line) for line in text.splitlines()]
    assert [(item["epoch"], item["seq"], item["kind"]) for item in items] == [
        (spool.epoch, seq, kind) for seq, kind in enumerate(["tick", "tick", "tick", "ping", "tick"], start=1)
    ]
    assert items[0]["fields"] == {"result": "online", "target": "cloudflare"}
    assert (items[4]["time"], items[4]["clock"]) == (None, None)
    _, text = spool_of(settings, as_json=False, listing=True)
    assert len(text.splitlines()) == 5
    spool.close("stop")


def test_no_spool_is_said_and_not_made(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    code, text = spool_of(settings, as_json=False, listing=True)
    assert (code, text) == (1, "")
    assert "there is no spool here" in capsys.readouterr().err
    (settings.state_directory / "spool.db").write_bytes(b"garbage" * 1000)
    code, _ = spool_of(settings, as_json=False, listing=False)
    assert code == 1
    assert "cannot be read" in capsys.readouterr().err
    assert (settings.state_directory / "spool.db").read_bytes() == b"garbage" * 1000
