"""`kerege-lab up`, as a person at a terminal meets it: started, looked at, stopped, started again."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import psutil
import pytest

from kerege_lab.servers import HOST, Influxd, free_port
from tests.end_to_end.houses import wait_until

MACHINE = "this-machine"
ROOT = Path(__file__).parents[2]


class Up:
    """One `kerege-lab up`, and what it prints."""

    def __init__(self, directory: Path, port: int, *, program: Sequence[str] = ("-m", "kerege_lab"), **environment: str) -> None:
        self.port = port
        self.output = directory.parent / f"{directory.name}-{time.monotonic_ns()}.txt"
        command = [sys.executable, *program, "up", "--directory", str(directory), "--port", str(port)]
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                command, stdout=output, stderr=subprocess.STDOUT, env=os.environ | environment, start_new_session=True
            )

    def text(self) -> str:
        return self.output.read_text(errors="replace")

    def mine(self) -> dict[str, Any] | None:
        """This machine as the API shows it; None while it does not."""
        try:
            with urlopen(f"http://{HOST}:{self.port}/api/v1/centers", timeout=5) as answer:
                rows = {row["center"]: row for row in json.load(answer)["centers"]}
        except (URLError, ConnectionError):
            return None
        return rows.get(MACHINE)

    def await_up(self) -> dict[str, Any]:
        def row() -> dict[str, Any] | None:
            assert self.process.poll() is None, self.text()
            mine = self.mine()
            return mine if mine and mine["state"] == "up" else None

        found: dict[str, Any] = wait_until(row, f"this machine is up; it said:\n{self.text()}", deadline_s=90)
        return found

    def family(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "kerege"


@contextlib.contextmanager
def up(directory: Path, port: int, **options: Any) -> Iterator[Up]:
    started = Up(directory, port, **options)
    try:
        yield started
    finally:
        if started.process.poll() is None:
            started.process.kill()
        started.process.wait()


def gone(family: list[psutil.Process]) -> bool:
    return not [process for process in family if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]


def test_it_shows_this_machine_ends_without_a_trace_and_goes_on_where_it_was(directory: Path) -> None:
    port = free_port()
    with up(directory, port) as first:
        row = first.await_up()
        assert socket.gethostname() in row["name"]
        with urlopen(f"http://{HOST}:{port}/", timeout=5) as page:
            assert socket.gethostname() in page.read().decode()
        wait_until(lambda: f"{MACHINE}    tick" in first.text(), "a tick on the terminal")
        assert f"http://{HOST}:{port}/" in first.text()
        family = first.family()
        assert len(family) >= 3
        first.process.send_signal(signal.SIGINT)
        assert first.process.wait(30) == 0, first.text()
        assert gone(family)
    with up(directory, port) as second:
        second.await_up()
        wait_until(lambda: "the run before: clean" in second.text(), "the boot record tells of the run before")
        family = second.family()
        second.process.send_signal(signal.SIGTERM)
        assert second.process.wait(30) == 0, second.text()
        assert gone(family)


def test_the_hand_made_report_of_the_documentation_is_stored_and_the_agent_stays_connected(directory: Path) -> None:
    """With the second identity that is there for it; typed in at the directory in which `make up` was started."""
    snippets = re.findall(r"```sh\n(.*?)```", (ROOT / "docs" / "wire.md").read_text(), re.DOTALL)
    (script,) = [snippet for snippet in snippets if "mosquitto_rr" in snippet]
    with up(directory, free_port()) as started:
        started.await_up()
        port = re.search(r"mosquitto on port (\d+)", started.text())
        assert port is not None
        typed = script.replace("PORT", port[1]).replace(".kerege/", f"{directory}/").replace("=.kerege", f"={directory}")
        bin_directory = Path(sys.executable).parent
        typed = typed.replace(".venv/bin", str(bin_directory))
        done = subprocess.run(["sh", "-c", typed], capture_output=True, text=True, timeout=30, check=False)
        assert json.loads(done.stdout)["stored"] == [[1, 1]], done
        command = [sys.executable, "-m", "kerege_collector", "records", "--center", "by-hand", "--json"]
        settings = ["--settings", str(directory / "collector" / "collector.toml")]
        stored = subprocess.run([*command, *settings], capture_output=True, text=True, timeout=30, check=True)
        (record,) = map(json.loads, stored.stdout.splitlines())
        assert (record["epoch"], record["seq"], record["fields"]["rtt_ms"]) == ("handmade", 1, 612)
        mine = started.mine()
        assert mine is not None
        assert (mine["state"], mine["two_agents_since_s"]) == ("up", None)


def test_when_it_is_killed_itself_no_process_stays_behind(directory: Path) -> None:
    with up(directory, free_port()) as started:
        started.await_up()
        family = started.family()
        started.process.kill()
        wait_until(lambda: gone(family), "all of them have ended", deadline_s=60)


def test_a_part_that_dies_is_shown_and_started_again(directory: Path) -> None:
    with up(directory, free_port()) as started:
        started.await_up()
        collector = next(process for process in started.family() if "kerege_collector" in process.cmdline() and "run" in process.cmdline())
        collector.kill()
        wait_until(lambda: "collector has ended by itself" in started.text(), "its death is told")
        wait_until(started.mine, "it is there again")
        started.process.send_signal(signal.SIGINT)
        assert started.process.wait(30) == 0


NO_MOSQUITTO = """
import sys
from pathlib import Path
from kerege_lab import cli, servers, up_settings
def missing() -> Path:
    raise servers.ServerMissingError("no mosquitto")
up_settings.find_mosquitto = missing
sys.exit(cli.main(sys.argv[1:]))
"""


def test_on_a_machine_without_mosquitto_the_embedded_broker_serves(directory: Path) -> None:
    with up(directory, free_port(), program=("-c", NO_MOSQUITTO)) as started:
        started.await_up()
        assert "broker: embedded" in started.text()
        family = started.family()
        started.process.send_signal(signal.SIGINT)
        assert started.process.wait(30) == 0, started.text()
        assert gone(family)


def test_a_busy_port_gets_a_clear_word(directory: Path) -> None:
    with socket.create_server((HOST, 0)) as listener:
        port = listener.getsockname()[1]
        with up(directory, port) as started:
            assert started.process.wait(30) == 2
    assert f"port {port} on {HOST} is busy" in started.text()
    assert "--port" in started.text()


def test_a_second_one_on_the_same_directory_gets_a_clear_word(directory: Path) -> None:
    with up(directory, free_port()) as first:
        wait_until((directory / "broker" / "mosquitto.conf").exists, "the first one is at work")
        with up(directory, free_port()) as second:
            assert second.process.wait(30) == 2
        assert "another `kerege-lab up` is at work" in second.text()
        first.process.send_signal(signal.SIGINT)
        assert first.process.wait(30) == 0


def test_with_an_influxdb_its_ticks_are_there_for_an_influxql_query(directory: Path, influxd: Influxd) -> None:
    influxd.query("DROP DATABASE up_test")
    with up(directory, free_port(), INFLUX_URL=influxd.url, INFLUX_BUCKET="up_test") as started:
        started.await_up()
        found = wait_until(lambda: influxd.query(f"SELECT result FROM up_test..tick WHERE center = '{MACHINE}'"), "a tick in InfluxDB")
        assert {row["result"] for row in found} == {"online"}
        wait_until(lambda: f"{MACHINE}    tick" in started.text(), "a tick on the terminal")
        started.process.send_signal(signal.SIGINT)
        assert started.process.wait(30) == 0
    influxd.query("DROP DATABASE up_test")
