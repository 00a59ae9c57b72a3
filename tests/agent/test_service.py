"""The whole agent as a process: start, measure, deliver, stop, be killed, start again. Its targets are on the loopback."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from kerege_agent import check, service, status
from kerege_agent.lock import AlreadyRunningError, DirectoryLock, is_held
from kerege_agent.notify import notify, watchdog_s
from kerege_agent.settings import Mqtt, Settings
from kerege_lab.servers import Mosquitto
from kerege_wire import Boot
from tests.agent.collector_double import CollectorDouble, until
from tests.agent.probe_world import loopback_settings

SETTINGS = """
center = "demo"
state_directory = "{state}"
journal_file = "{state}/journal"
targets = [{{ name = "loop", address = "127.0.0.1" }}]
[mqtt]
host = "127.0.0.1"
port = {port}
tls = false
[dns]
names = []
[portal]
url = "http://127.0.0.1:9/generate_204"
[probes.tick]
interval_s = 1
[uplink]
reconnect_min_s = 0.05
reconnect_max_s = 0.2
backlog_start_delay_s = 0
"""


class Running:
    """An agent process."""

    def __init__(self, directory: Path, port: int, **environment: str) -> None:
        directory.mkdir(exist_ok=True)
        self.directory = directory
        self.settings_file = directory / "agent.toml"
        self.settings_file.write_text(SETTINGS.format(state=directory, port=port))
        self.log = directory / "log"
        with self.log.open("ab") as log:
            command = [sys.executable, "-m", "kerege_agent", "run", "--settings", str(self.settings_file)]
            self.process = subprocess.Popen(command, stderr=log, stdout=log, env={**os.environ, **environment})

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run another command of the agent on the same settings."""
        command = [sys.executable, "-m", "kerege_agent", *arguments, "--settings", str(self.settings_file)]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    def journal(self) -> list[dict[str, Any]]:
        path = self.directory / "journal"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def end(self, number: int = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(20)


Run = Callable[..., Running]


@pytest.fixture
def agents(tmp_path: Path) -> Iterator[Run]:
    started: list[Running] = []

    def start(port: int, **environment: str) -> Running:
        started.append(Running(tmp_path / "state", port, **environment))
        return started[-1]

    yield start
    for agent in started:
        with suppress(ProcessLookupError):
            agent.end(signal.SIGKILL)


def has_kept(agent: Running, count: int) -> bool:
    return sum("kept" in line for line in agent.journal()) >= count


def boots(collector: CollectorDouble) -> list[Boot]:
    return [record.body for record in collector.records.values() if isinstance(record.body, Boot)]


def test_an_agent_measures_delivers_and_says_goodbye(agents: Run, mosquitto: Mosquitto) -> None:
    """Boot record and ticks arrive, `status` and `spool` tell the truth, and after SIGTERM the next run knows of a clean stop."""
    with CollectorDouble(mosquitto.port) as collector:
        agent = agents(mosquitto.port)
        until(lambda: any(type(record.body).__name__ == "Tick" for record in collector.records.values()))
        until(lambda: json.loads(agent.command("status", "--json").stdout).get("well"))
        shown = agent.command("status")
        assert shown.returncode == 0
        assert "connected (MQTT 5)" in shown.stdout
        assert agent.command("spool").returncode == 0
        again = agent.command("run")
        assert (again.returncode, "another kerege-agent is at work" in again.stderr) == (2, True)
        assert agent.end() == 0
        until(lambda: collector.presences[-1].state == "goodbye")
        assert agent.command("status").returncode == 1
        first = boots(collector)[0]
        assert (first.stop, first.spool) == ("first", "new")
        second = agents(mosquitto.port)
        until(lambda: len(boots(collector)) == 2)
        assert second.end() == 0
        boot = boots(collector)[1]
        assert (boot.stop, boot.why, boot.cause, boot.spool) == ("clean", "stop", "agent", "kept")
        assert boot.previous_epoch == collector.reports[0].epoch
        made = {(line["epoch"], line["seq"]) for line in second.journal() if line.get("kept")}
        listed = [json.loads(line) for line in second.command("spool", "list", "--json").stdout.splitlines()]
        assert made == set(collector.records) | {(item["epoch"], item["seq"]) for item in listed}
        assert collector.changed == []


def test_a_killed_agent_loses_nothing_that_it_had_promised(agents: Run, mosquitto: Mosquitto) -> None:
    """Killed with -9 three times while the collector is deaf: every record that was journalled as kept arrives in the end."""
    with CollectorDouble(mosquitto.port) as collector:
        collector.deaf = True
        for turn in range(3):
            agent = agents(mosquitto.port)
            until(partial(has_kept, agent, 2 * (turn + 1)))
            agent.end(signal.SIGKILL)
        collector.deaf = False
        agent = agents(mosquitto.port)
        until(lambda: len(boots(collector)) == 4)
        promised = {(line["epoch"], line["seq"]) for line in agent.journal() if line.get("kept")}
        until(lambda: promised <= collector.records.keys())
        assert agent.end() == 0
        assert [boot.stop for boot in boots(collector)].count("unclean") == 3
        assert collector.changed == []


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_dead_uplink_thread_is_started_anew(tmp_path: Path, mosquitto: Mosquitto, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even a thread that dies of the impossible is noticed by the main loop, which starts another."""
    agent = service.Agent(Settings(center="demo", mqtt=Mqtt(host="127.0.0.1", port=mosquitto.port, tls=False), state_directory=tmp_path))
    calls = []

    def dies_once(*_: Any, **__: Any) -> None:
        calls.append(1)
        if len(calls) == 1:
            raise SystemExit

    monkeypatch.setattr(agent.uplink, "_connection", dies_once)
    agent.uplink.start()
    until(lambda: not agent.uplink.alive)
    agent._keep_uplink()
    until(lambda: len(calls) >= 2)
    assert agent.uplink.alive
    agent._stop()


def test_systemd_is_told(agents: Run, mosquitto: Mosquitto, tmp_path: Path) -> None:
    """READY once it works, WATCHDOG while all threads live, STOPPING at the end."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(20)
        agent = agents(mosquitto.port, NOTIFY_SOCKET=str(tmp_path / "notify"), WATCHDOG_USEC="300000")
        heard: list[str] = []
        while heard.count("WATCHDOG=1") < 3:
            heard += listener.recv(4096).decode().split("\n")
        assert heard[:2] == ["READY=1", "STATUS=center demo"]
        assert agent.end() == 0
        while "STOPPING=1" not in heard:
            heard += listener.recv(4096).decode().split("\n")


def test_without_systemd_nothing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    assert not notify("READY=1")
    assert watchdog_s() is None
    monkeypatch.setenv("NOTIFY_SOCKET", "/nowhere/notify")
    assert not notify("READY=1")
    monkeypatch.setenv("WATCHDOG_USEC", "30000000")
    assert watchdog_s() == 30
    monkeypatch.setenv("WATCHDOG_PID", "1")
    assert watchdog_s() is None


@pytest.mark.parametrize(("state", "reason"), [("stopping", "shutdown"), ("running", "stop"), ("degraded", "stop"), (None, "stop")])
def test_a_machine_that_goes_down_is_told_from_a_stopped_service(
    state: str | None, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under systemd its own word decides why we stop; without it, or without an answer, it is a plain stop."""
    if state is not None:
        (tmp_path / "systemctl").write_text(f"#!/bin/sh\necho {state}\nexit 1\n")
        (tmp_path / "systemctl").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert service.reason_to_stop() == "stop"
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/systemd/notify")
    assert service.reason_to_stop() == reason


@contextmanager
def may_not_look(directory: Path) -> Iterator[None]:
    """As a user who may not enter the directory."""
    user = os.geteuid()
    directory.chmod(0)
    if user == 0:
        os.seteuid(65_534)
    try:
        yield
    finally:
        os.seteuid(user)
        directory.chmod(0o700)


@pytest.mark.skipif(sys.platform == "win32", reason="has no such permissions")
@pytest.mark.platform_specific("has no such permissions")
def test_who_may_not_look_does_not_know_whether_an_agent_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Unknown, and neither "it does not run" nor a connection that would end that of a running agent."""
    settings = loopback_settings(state_directory=tmp_path / "state", mqtt=Mqtt(host="127.0.0.1", port=9, tls=False))
    settings.state_directory.mkdir()
    lock = DirectoryLock(settings.state_directory)
    with may_not_look(settings.state_directory):
        assert is_held(settings.state_directory) is None
        assert status.show(settings, as_json=False) == 1
        lines = [line for line in check.lines(settings) if line.check == "broker"]
    lock.release()
    assert "not known: user" in capsys.readouterr().out
    assert [(line.ok, "is not asked" in line.why) for line in lines] == [(False, True)]


def test_a_lock_is_held_by_one_and_ends_with_it(tmp_path: Path) -> None:
    lock = DirectoryLock(tmp_path)
    assert is_held(tmp_path)
    with pytest.raises(AlreadyRunningError, match="another kerege-agent"):
        DirectoryLock(tmp_path)
    lock.release()
    assert not is_held(tmp_path)
    DirectoryLock(tmp_path / "no-such-directory").release()


def test_the_status_file_costs_no_flash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Often in a runtime directory that lies in memory; seldom anywhere else."""
    state, runtime = tmp_path / "state", tmp_path / "runtime"
    state.mkdir()
    runtime.mkdir()
    mounts = tmp_path / "mounts"
    mounts.write_text(f"disk / ext4 rw 0 0\ntmpfs {runtime} tmpfs rw 0 0\n")
    monkeypatch.setattr(status, "MOUNTS", mounts)
    monkeypatch.setattr(status, "SYSTEM_RUNTIME", tmp_path / "none")
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(runtime))
    told = {"state_directory": str(state), "written": 5}
    often = status.StatusFile(state)
    often.write(told, now_s=0)
    often.write(told | {"written": 6}, now_s=status.EVERY_S)
    assert list(state.iterdir()) == []
    assert status.latest(state) == told | {"written": 6}
    monkeypatch.delenv("RUNTIME_DIRECTORY")
    assert status.latest(state) is None
    seldom = status.StatusFile(state)
    seldom.write(told | {"written": 7}, now_s=100)
    seldom.write(told | {"written": 8}, now_s=112)
    changed = told | {"written": 9, "session": {"connected": True}}
    seldom.write(changed, now_s=109)
    assert status.latest(state) == told | {"written": 7}
    seldom.write(changed, now_s=100 + status.CHANGED_ON_FLASH_S)
    assert status.latest(state) == changed
    seldom.write(told | {"written": 10}, now_s=130 + status.EVERY_ON_FLASH_S)
    assert status.latest(state) == told | {"written": 10}
    seldom.remove()
    assert status.latest(state) is None
    mounts.unlink()
    assert not status.is_in_memory(runtime)
