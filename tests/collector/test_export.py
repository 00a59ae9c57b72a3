"""Export: the embedded store's records into InfluxDB, whatever happens on the way."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import pytest

from kerege_collector import export
from kerege_collector.export import Bar, Export, ExportError, Progress, ProgressFile
from kerege_collector.records import ReadError, Wanted
from kerege_collector.records_influx import InfluxReader
from kerege_collector.records_sqlite import Position, SqliteReader
from kerege_collector.settings import Influx
from kerege_collector.stores import Rejected, RetryLater, Row
from kerege_collector.stores.sqlite import SqliteStore
from kerege_lab.servers import Influxd, InfluxTarget
from kerege_lab.toml import toml_text
from kerege_wire import Tick

T: Final = 1_795_435_200
DEADLINE_S: Final = 60.0


class Target:
    """A store that remembers, and refuses or fails as it is told."""

    def __init__(self, *, refuse: Callable[[Row], bool] = lambda _: False, fail: Sequence[Exception | None] = ()) -> None:
        self.written: list[Row] = []
        self.refuse = refuse
        self.failures = list(fail)

    def write(self, rows: Sequence[Row]) -> list[Rejected]:
        if self.failures and (failure := self.failures.pop(0)) is not None:
            raise failure
        self.written += [row for row in rows if not self.refuse(row)]
        return [Rejected(row, "field type conflict") for row in rows if self.refuse(row)]

    def tidy(self, now_s: int) -> None:
        """Nothing to forget."""

    def close(self) -> None:
        """Nothing to close."""


def fill(path: Path, numbers: range, *, center: str = "ulan") -> None:
    store = SqliteStore(path, retention_days=400)
    store.write(
        [Row(center, "epochAAA", number, T + number, "tick", "synced", None, Tick("online", rtt_ms=612.0), T) for number in numbers]
    )
    store.close()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "records.db"
    fill(path, range(1, 26))
    return path


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "BATCH", 10)


def run(source: Path, target: Target, *, waits: Callable[[float], None] = lambda _: None) -> Progress:
    exporting = Export(source, target, ProgressFile(source.parent, "target"), show=lambda _: None, waits=waits)
    return exporting.run(exporting.begin())


def numbers(target: Target) -> list[int]:
    return [row.seq for row in target.written]


# --- going on -----------------------------------------------------------------------------------------------------------


def test_all_records_are_written_in_the_order_of_arrival(source: Path) -> None:
    target = Target()
    assert run(source, target) == Progress(Position(25, "ulan", "epochAAA", 25), written=25)
    assert numbers(target) == list(range(1, 26))


def test_a_second_run_writes_only_what_is_new(source: Path) -> None:
    run(source, Target())
    fill(source, range(26, 31))
    target = Target()
    assert run(source, target).written == 30
    assert numbers(target) == list(range(26, 31))


def test_a_run_that_broke_off_goes_on_after_its_last_whole_batch(source: Path) -> None:
    first, second = Target(fail=[None, None, RetryLater("unauthorized", "401")]), Target()
    with pytest.raises(ExportError, match=r"401.*run the command again"):
        run(source, first)
    run(source, second)
    assert numbers(first) + numbers(second) == list(range(1, 26))


def test_a_file_that_took_the_place_of_another_is_exported_from_its_start(source: Path) -> None:
    run(source, Target())
    for path in source.parent.glob("records.db*"):
        path.unlink()
    fill(source, range(1, 31), center="zaisan")
    target = Target()
    assert run(source, target).written == 30
    assert numbers(target) == list(range(1, 31))


def test_each_target_has_its_own_progress(tmp_path: Path) -> None:
    names = ["http://127.0.0.1:8086 kerege", "http://127.0.0.1:8086 other", "http://127.0.0.1:8087 kerege"]
    assert len({ProgressFile(tmp_path, name).path for name in names}) == 3


def test_progress_that_cannot_be_read_is_said_with_its_cure(source: Path) -> None:
    ProgressFile(source.parent, "target").path.write_text('{"last": 7')
    with pytest.raises(ExportError, match="delete it to export everything again"):
        run(source, Target())


def test_no_records_are_said(tmp_path: Path) -> None:
    with pytest.raises(ReadError, match="no records yet"):
        run(tmp_path / "records.db", Target())


# --- trouble ------------------------------------------------------------------------------------------------------------


def test_what_is_refused_is_kept_beside_with_the_servers_words(source: Path) -> None:
    target = Target(refuse=lambda row: row.seq in {3, 17})
    progress = run(source, target)
    assert (progress.written, progress.rejected) == (23, 2)
    kept = [json.loads(line) for line in ProgressFile(source.parent, "target").rejected_path.read_text().splitlines()]
    assert [(line["center"], line["epoch"], line["seq"], line["why"]) for line in kept] == [
        ("ulan", "epochAAA", 3, "field type conflict"),
        ("ulan", "epochAAA", 17, "field type conflict"),
    ]
    assert kept[0]["fields"] == {"result": "online", "rtt_ms": 612}


def test_a_server_that_is_away_for_a_while_is_waited_for(source: Path) -> None:
    target = Target(fail=[RetryLater("unreachable", "refused")] * 5)
    waited: list[float] = []
    assert run(source, target, waits=waited.append).written == 25
    assert len(waited) == 5
    assert max(waited) <= export.MAX_BACKOFF_S


def test_a_server_that_stays_away_is_given_up(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "GIVE_UP_S", -1.0)
    with pytest.raises(ExportError, match="run the command again to go on"):
        run(source, Target(fail=[RetryLater("unreachable", "refused")] * 5))


# --- what a person sees -------------------------------------------------------------------------------------------------


class Terminal(io.StringIO):
    """A place where a person looks."""

    def isatty(self) -> bool:
        return True


def test_progress_is_shown_on_a_terminal_and_nothing_in_a_pipe() -> None:
    for out, shown in ((Terminal(), True), (io.StringIO(), False)):
        bar = Bar(100, out=out)
        bar(Progress(Position(50), written=49, rejected=1))
        bar.end()
        assert ("50 records, 50 %" in out.getvalue()) == shown
        assert bool(out.getvalue()) == shown


def test_the_result_is_told_and_refusals_are_no_success(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    progress_file = ProgressFile(source.parent, "target")
    assert export.show(source, Target(refuse=lambda row: row.seq == 3), progress_file, name="there", as_json=False) == 1
    assert capsys.readouterr().out.startswith("24 records are in there, 24 of them written now; 1 refused")
    fill(source, range(26, 28))
    assert export.show(source, Target(), progress_file, name="there", as_json=True) == 1
    assert json.loads(capsys.readouterr().out) == {"target": "there", "written": 26, "written_now": 2, "rejected": 1}


def test_trouble_is_said_without_a_traceback(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    failing = Target(fail=[RetryLater("not-found", "404: database not found")])
    assert export.show(source, failing, ProgressFile(source.parent, "target"), name="there", as_json=False) == 1
    assert capsys.readouterr().err == "kerege-collector export: not-found: 404: database not found; run the command again to go on\n"


# --- for real -----------------------------------------------------------------------------------------------------------

MANY: Final = 60_000


@pytest.fixture
def database(influxd: Influxd) -> Iterator[InfluxTarget]:
    """A database of our own."""
    influxd.target.query("CREATE DATABASE exported")
    yield InfluxTarget(influxd.url, influxd.target.token, influxd.target.org, "exported")
    influxd.target.query("DROP DATABASE exported")


def command(directory: Path, target: InfluxTarget) -> list[str]:
    settings = directory / "collector.toml"
    settings.write_text(toml_text({"state_directory": directory, "mqtt": {"host": "127.0.0.1", "tls": False}}))
    (directory / "centers.toml").write_text(toml_text({"center": [{"id": "ulan", "district": "Ұлан", "link": {"kind": "geo"}}]}))
    (directory / "token").write_text(target.token)
    where = ["--url", target.url, "--bucket", target.bucket, "--token-file", str(directory / "token")]
    return [sys.executable, "-m", "kerege_collector", "export", "--to", "influx", *where, "--settings", str(settings), "--json"]


def test_killed_on_the_way_and_run_again_it_has_written_each_record_once(tmp_path: Path, database: InfluxTarget) -> None:
    """kill -9 in the middle; the second run goes on, and both stores have the same records."""
    fill(tmp_path / "records.db", range(1, MANY + 1))
    progress_file = ProgressFile(tmp_path, f"{database.url} {database.bucket}")
    with subprocess.Popen(command(tmp_path, database), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as first:
        deadline = time.monotonic() + DEADLINE_S
        while not progress_file.path.exists() and first.poll() is None and time.monotonic() < deadline:
            time.sleep(0.002)
        os.kill(first.pid, signal.SIGKILL)
        first.communicate()
    assert first.returncode == -signal.SIGKILL
    half_way = progress_file.load().written
    assert 0 < half_way < MANY

    second = subprocess.run(command(tmp_path, database), capture_output=True, text=True, check=False, timeout=DEADLINE_S)
    assert (second.returncode, second.stderr) == (0, "")
    result = json.loads(second.stdout)
    assert (result["written"], result["written_now"], result["rejected"]) == (MANY, MANY - half_way, 0)

    assert database.query("SELECT count(seq) FROM tick")[0]["count"] == MANY
    reader = InfluxReader(Influx(url=database.url, bucket=database.bucket, token_file=tmp_path / "token"))
    there = sorted((line["epoch"], line["seq"], line["time"]) for line in reader.read(Wanted("ulan")))
    here = sorted((line["epoch"], line["seq"], line["time"]) for line in SqliteReader(tmp_path / "records.db").read(Wanted()))
    assert there == here
    assert database.query("SHOW TAG VALUES FROM tick WITH KEY = district") == [{"key": "district", "value": "Ұлан"}]


def test_records_that_influxdb_can_never_take_do_not_stop_the_others(tmp_path: Path, database: InfluxTarget) -> None:
    """A field has another type there already."""
    database.write('tick,center=other rtt_ms="text" 1795435200')
    path = tmp_path / "records.db"
    store = SqliteStore(path, retention_days=400)
    bodies = [Tick("online", rtt_ms=612.0 if number == 5 else None) for number in range(1, 11)]
    store.write([Row("ulan", "epochAAA", seq, T + seq, "tick", "synced", None, body, T) for seq, body in enumerate(bodies, start=1)])
    store.close()
    done = subprocess.run(command(tmp_path, database), capture_output=True, text=True, check=False, timeout=DEADLINE_S)
    assert done.returncode == 1
    assert json.loads(done.stdout) | {"target": ""} == {"target": "", "written": 9, "written_now": 9, "rejected": 1}
    kept = ProgressFile(tmp_path, f"{database.url} {database.bucket}").rejected_path.read_text()
    assert json.loads(kept)["seq"] == 5
    assert "conflict" in json.loads(kept)["why"]
