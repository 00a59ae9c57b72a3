"""The spool: durable before `put` returns, gone only by an ack, the same to the letter when sent again, bounded."""

import contextlib
import json
import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kerege_agent import spool as spool_module
from kerege_agent.carve import carve_page, log_is_damaged
from kerege_agent.clock import ClockModel, Reading
from kerege_agent.rows import Row
from kerege_agent.salvage import KEEP_DAMAGED
from kerege_agent.spool import Spool
from kerege_wire import Boot, Dns, Drop, Host, Ping, Tick, Traffic
from kerege_wire.ranges import ranges_from_text

T0_MS = 1_795_465_800_000
BOOT = "boot-a"


def at(mono_s: float, *, boot: str = BOOT, wall_ms: int | None = None) -> Reading:
    """A reading so many seconds after the boot; the wall clock is ten years slow unless told otherwise."""
    mono_ms = int(mono_s * 1000)
    return Reading(boot, mono_ms, T0_MS - 315_576_000_000 + mono_ms if wall_ms is None else wall_ms)


def learn(clock: ClockModel, reading: Reading, *, utc_of_boot_ms: int = T0_MS, quality: str = "synced") -> None:
    """An answer of the collector with a round trip of 600 ms, at this reading; the boot was at ``utc_of_boot_ms``."""
    sent_ms = reading.mono_ms - 600
    middle_ms = utc_of_boot_ms + sent_ms + 300
    assert clock.learn(sent_ms=sent_ms, received_ms=middle_ms, replied_ms=middle_ms, arrived=reading, quality=quality)


def open_spool(directory: Path, reading: Reading | None = None, clock: ClockModel | None = None, **options: Any) -> Spool:
    return Spool.open(directory, clock=clock or ClockModel(), reading=reading or at(1), **options)


def fix_all(spool: Spool) -> None:
    while spool.fix_times():
        pass


def all_rows(spool: Spool) -> list[Row]:
    return sorted(spool.load(spool.newest(1_000_000)), key=lambda row: row.key)


def kill(directory: Path, name: str) -> Path:
    """What a power cut leaves of a spool at work: its files as they are on disk, beside the directory."""
    to = directory.with_name(f"{directory.name}-{name}")
    to.mkdir()
    for path in directory.iterdir():
        shutil.copyfile(path, to / path.name)
    return to


@pytest.fixture(autouse=True)
def _counts_since_boot(monkeypatch: pytest.MonkeyPatch) -> None:
    """Readings of these tests count from the boot, whatever system the tests run on."""
    monkeypatch.setattr(spool_module, "counts_since_boot", lambda: True)


@pytest.fixture
def spools() -> Iterator[Callable[..., Spool]]:
    """Opens spools, and lets go of their files in the end."""
    opened: list[Spool] = []

    def opener(*arguments: Any, **options: Any) -> Spool:
        opened.append(open_spool(*arguments, **options))
        return opened[-1]

    yield opener
    for spool in opened:
        spool._shelf.close()


Opener = Callable[..., Spool]


def test_numbers_are_contiguous_and_epochs_never_the_same(tmp_path: Path, spools: Opener) -> None:
    """Within a run numbers go 1, 2, 3; every run has an epoch of its own."""
    spool = spools(tmp_path)
    assert [spool.put(Tick(), at(second)) for second in range(5)] == [1, 2, 3, 4, 5]
    spool.close("stop")
    assert spools(tmp_path).epoch != spool.epoch


def test_a_record_survives_a_power_cut(tmp_path: Path, spools: Opener) -> None:
    """A record whose `put` has returned is there after the power went away, with identity and body."""
    spool = spools(tmp_path)
    spool.put(Tick(result="online", rtt_ms=612.0), at(60))
    spool.put(Ping(target="quad9", sent=10, received=9), at(61))
    clock = ClockModel()
    again = spools(kill(tmp_path, "b"), at(90), clock)
    learn(clock, at(91))
    fix_all(again)
    rows = all_rows(again)
    assert [(row.epoch, row.seq, row.record().body) for row in rows] == [
        (spool.epoch, 1, Tick(result="online", rtt_ms=612.0)),
        (spool.epoch, 2, Ping(target="quad9", sent=10, received=9)),
    ]
    assert [row.time_s for row in rows] == [T0_MS // 1000 + 60, T0_MS // 1000 + 61]
    assert again.previous.stop == "unclean"
    assert (again.previous.epoch, again.previous.last_seq, again.previous.same_boot) == (spool.epoch, 2, True)


KILLED = """
import sys
from pathlib import Path
from kerege_agent import clock
from kerege_agent.spool import Spool
from kerege_wire import Tick

spool = Spool.open(Path(sys.argv[1]), clock=clock.ClockModel(), reading=clock.read())
print(spool.epoch, flush=True)
while True:
    print(spool.put(Tick(result="online"), clock.read()), flush=True)
"""


def test_everything_that_put_returned_survives_kill_9(tmp_path: Path, spools: Opener) -> None:
    """A process that puts in a loop is killed at some moment: every number that it had printed is in the spool."""
    for number in range(3):
        directory = tmp_path / str(number)
        directory.mkdir()
        with subprocess.Popen([sys.executable, "-c", KILLED, str(directory)], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            epoch = process.stdout.readline().strip()
            printed = [int(process.stdout.readline()) for _ in range(100 + 37 * number)]
            process.send_signal(signal.SIGKILL)
            printed += [int(line) for line in process.stdout if line.endswith("\n")]
        again = spools(directory)
        assert again.previous.epoch == epoch
        assert again.depth >= len(printed)
        assert (again.previous.last_seq or 0) - printed[-1] in {0, 1}  # the one that was being written may be there too


def test_acked_records_leave_and_others_stay(tmp_path: Path, spools: Opener) -> None:
    """What an ack names is deleted, in this epoch only; what it does not name stays, over a restart too."""
    spool = spools(tmp_path)
    for second in range(10):
        spool.put(Tick(), at(second))
    assert spool.settle("otherone", [(1, 100)]) == 0
    assert spool.settle(spool.epoch, [(1, 3), (7, 10**15)], [(5, "bad-field")]) == 8
    assert spool.depth == 2
    spool.close("stop")
    clock = ClockModel()
    again = spools(tmp_path, at(30), clock)
    learn(clock, at(31))
    fix_all(again)
    assert [(row.epoch, row.seq) for row in all_rows(again)] == [(spool.epoch, 4), (spool.epoch, 6)]
    assert again.previous.last_seq == 10


def test_time_is_fixed_at_once_where_it_is_known(tmp_path: Path, spools: Opener) -> None:
    """With the collector's clock known in this boot a record has its time when `put` returns, whatever the wall clock says."""
    clock = ClockModel()
    spool = spools(tmp_path, at(1), clock)
    learn(clock, at(2))
    spool.put(Tick(), at(60, wall_ms=0))
    spool.put(Tick(), at(120, wall_ms=4_000_000_000_000))
    assert [(row.time_s, row.clock) for row in all_rows(spool)] == [(T0_MS // 1000 + 60, "synced"), (T0_MS // 1000 + 120, "synced")]


def test_a_record_without_a_time_is_not_sent(tmp_path: Path, spools: Opener) -> None:
    """Before the first answer in this boot there is nothing to send; after it everything has its time, also after a restart."""
    clock = ClockModel()
    spool = spools(tmp_path, at(1), clock)
    spool.put(Tick(), at(60))
    assert spool.newest(10) == []
    assert not spool.fix_times()
    learn(clock, at(70))
    fix_all(spool)
    before = all_rows(spool)
    assert [row.time_s for row in before] == [T0_MS // 1000 + 60]
    spool.close("stop")
    other = ClockModel()
    assert all_rows(spools(tmp_path, at(80), other)) == before


def test_an_agent_that_restarts_in_the_same_boot_knows_the_time_at_once(tmp_path: Path, spools: Opener) -> None:
    """What was learned is kept with its boot id: used in the same boot, and never in another."""
    clock = ClockModel()
    spool = spools(tmp_path, at(1), clock)
    learn(clock, at(2))
    spool.tend(at(3))
    same = ClockModel()
    spools(kill(tmp_path, "same"), at(10), same)
    assert same.utc_s(at(10)) == T0_MS // 1000 + 10
    other = ClockModel()
    spools(kill(tmp_path, "other"), at(10, boot="boot-b"), other)
    assert other.utc_s(at(10, boot="boot-b")) is None


def test_a_series_has_one_record_a_second(tmp_path: Path, spools: Opener) -> None:
    """Records of one series made within a second are a second apart, over a restart too; other series are not moved."""
    clock = ClockModel()
    spool = spools(tmp_path, at(1), clock)
    learn(clock, at(2))
    for target in ("quad9", "quad9", "google"):
        spool.put(Ping(target=target), at(60.2))
    spool.put(Tick(), at(60.3))
    second = T0_MS // 1000 + 60
    assert [row.time_s for row in all_rows(spool)] == [second, second + 1, second, second]
    spool.close("stop")
    again = spools(tmp_path, at(60.5), ClockModel())
    again.put(Ping(target="quad9"), at(60.6))
    assert all_rows(again)[-1].time_s == second + 2


def test_a_series_stays_apart_even_when_the_earlier_record_was_acked(tmp_path: Path, spools: Opener) -> None:
    """The last second of a series is remembered in the transaction that deletes its record."""
    clock = ClockModel()
    spool = spools(tmp_path, at(1), clock)
    learn(clock, at(2))
    spool.put(Tick(), at(60))
    spool.settle(spool.epoch, [(1, 1)])
    spool.tend(at(60.1))
    again = spools(kill(tmp_path, "again"), at(60.2), ClockModel())
    again.put(Tick(), at(60.3))
    assert all_rows(again)[0].time_s == T0_MS // 1000 + 61


def test_a_time_far_ahead_is_not_waited_for(tmp_path: Path, spools: Opener) -> None:
    """Records that a wrong collector clock had dated ahead do not push the times of new ones."""
    wrong = ClockModel()
    spool = spools(tmp_path, at(1), wrong)
    learn(wrong, at(2), utc_of_boot_ms=T0_MS + 86_400_000)
    spool.put(Tick(), at(3))
    spool.close("stop")
    clock = ClockModel()
    again = spools(tmp_path, at(10, boot="boot-b"), clock)
    learn(clock, at(11, boot="boot-b"))
    again.put(Tick(), at(12, boot="boot-b"))
    fix_all(again)
    assert all_rows(again)[-1].time_s == T0_MS // 1000 + 12


def test_records_of_a_boot_that_never_met_the_collector_are_estimated(tmp_path: Path, spools: Opener) -> None:
    """They lie after the last known time and before the next known boot, a dead clock battery or not, and say how far they may be off."""
    clock = ClockModel()
    known = spools(tmp_path, at(1), clock)
    learn(clock, at(2))
    known.put(Tick(), at(100))
    known.close("shutdown")
    lost = spools(tmp_path, at(5, boot="boot-b"))
    lost.put(Tick(), at(10, boot="boot-b"))
    lost.put(Tick(), at(70, boot="boot-b"))
    lost.close("shutdown")
    clock = ClockModel()
    now = spools(tmp_path, at(5, boot="boot-c"), clock)
    boot_c_ms = T0_MS + 1_000_000
    learn(clock, at(6, boot="boot-c"), utc_of_boot_ms=boot_c_ms)
    now.put(Tick(), at(8, boot="boot-c"))
    fix_all(now)
    rows = all_rows(now)
    assert [row.clock for row in rows] == ["synced", "estimated", "estimated", "synced"]
    first, second = rows[1].time_s, rows[2].time_s
    assert first is not None
    assert second is not None
    assert second - first == 60
    assert T0_MS // 1000 + 100 < first < second < boot_c_ms // 1000
    assert rows[1].within_s is not None
    assert 400 <= rows[1].within_s <= 420  # between 100 s and 1000 s lie 900 s, of which the boot itself took 70


def test_times_of_an_unsynchronised_collector_say_so(tmp_path: Path, spools: Opener) -> None:
    """A collector that doubts its own clock gives times that are fixed all the same, as `unsynced`."""
    clock = ClockModel()
    spool = spools(tmp_path, at(1), clock)
    spool.put(Tick(), at(2))
    learn(clock, at(3), quality="unsynced")
    fix_all(spool)
    spool.put(Tick(), at(4))
    assert [row.clock for row in all_rows(spool)] == ["unsynced", "unsynced"]


def test_a_timeline_that_broke_in_suspend_is_a_boot_of_its_own(tmp_path: Path, spools: Opener) -> None:
    """Where the monotonic clock stands still in suspend, records after it wait for the next answer, and numbers go on."""
    clock = ClockModel()
    spool = spools(tmp_path, at(1), clock)
    learn(clock, at(2))
    spool.put(Tick(), at(3))
    woken = BOOT + "-1"
    assert spool.put(Tick(), at(4, boot=woken)) == 2
    assert spool.waits_for_time
    learn(clock, at(5, boot=woken), utc_of_boot_ms=T0_MS + 3_600_000)
    fix_all(spool)
    assert [(row.seq, row.time_s) for row in all_rows(spool)] == [(1, T0_MS // 1000 + 3), (2, T0_MS // 1000 + 3604)]
    assert spool.settle(spool.epoch, [(1, 2)]) == 2


def test_a_clean_stop_is_remembered_with_its_reason(tmp_path: Path, spools: Opener) -> None:
    """The next run knows how this one ended, what its last number was and when it was last alive."""
    clock = ClockModel()
    spool = spools(tmp_path, at(1), clock)
    assert spool.previous.stop == "first"
    learn(clock, at(2))
    spool.put(Tick(), at(60))
    spool.settle(spool.epoch, [(1, 1)])
    spool.close("shutdown")
    previous = spools(tmp_path, at(5, boot="boot-b")).previous
    assert (previous.stop, previous.why, previous.epoch, previous.last_seq) == ("clean", "shutdown", spool.epoch, 1)
    assert (previous.last_alive_s, previous.same_boot, previous.spool) == (T0_MS // 1000 + 60, False, "kept")


# --- bounds ---


def put_days(spool: Spool, count: int, *, begin_s: int = 10) -> None:
    """So many rounds of five minutes as an agent has them."""
    for index in range(count):
        second = begin_s + 300 * index
        for minute in range(5):
            spool.put(Tick(result="online", rungs="++.+==+", target="cloudflare", via="datagram", rtt_ms=612.0), at(second + 60 * minute))
        for target in ("cloudflare", "google", "quad9"):
            spool.put(
                Ping(target=target, family=4, via="datagram", sent=10, received=10, rtt_min_ms=600.0, rtt_p50_ms=610.0), at(second + 1)
            )
        spool.put(Host(cpu_percent=3.5, memory_percent=40.1, spool_records=12), at(second + 2))
        spool.put(Traffic(interface="eth0", interval_s=300.0, received_bytes=123456, sent_bytes=4567), at(second + 3))
        spool.put(Dns(target="system", name="www.google.com", resolve_ms=640.0), at(second + 4))


def test_a_full_spool_thins_the_cheapest_detail_first_and_says_what_went(tmp_path: Path, spools: Opener) -> None:
    """Host goes before traffic, that before dns, http, ping; ticks never; drop records name exactly what is missing."""
    clock = ClockModel()
    spool = spools(tmp_path, at(1), clock, max_bytes=1 << 17)
    learn(clock, at(2))
    put_days(spool, 160)
    assert spool.size_bytes <= (1 << 17) + 4096
    rows = all_rows(spool)
    seqs = {row.seq for row in rows}
    kinds = spool.kinds
    assert kinds["tick"] == 800
    assert 0 < kinds["ping"] < 480
    assert kinds["host"] < 20
    dropped = [row.record().body for row in rows if row.kind == "drop"]
    named = [
        seq
        for drop in dropped
        if isinstance(drop, Drop)
        for first, last in ranges_from_text(drop.dropped_seqs)
        for seq in range(first, last + 1)
    ]
    assert len(named) == len(set(named))
    assert set(named) == set(range(1, max(seqs) + 1)) - seqs
    assert all(isinstance(drop, Drop) and drop.dropped_epoch == spool.epoch and drop.reason == "spool full" for drop in dropped)
    assert spool.depth == len(rows)


def test_a_spool_full_of_ticks_makes_no_drop_record_for_each_record(tmp_path: Path, spools: Opener) -> None:
    """Where protected records alone fill the spool, thinning what little detail there is does not cost more than it brings."""
    spool = spools(tmp_path, max_bytes=1 << 15)
    put_days(spool, 100)
    assert spool.kinds["tick"] == 500
    assert spool.kinds["drop"] < 60


def test_ticks_and_boots_may_exceed_the_bound(tmp_path: Path, spools: Opener) -> None:
    """When only protected records are left the file grows on: they are the evidence."""
    spool = spools(tmp_path, max_bytes=1 << 15)
    for second in range(600):
        spool.put(Tick(result="online", target="cloudflare"), at(60 * second))
    spool.put(Boot(cause="host"), at(36_001))
    assert spool.kinds == {"boot": 1, "tick": 600}


# --- trouble with the disk ---


def limit_file_size(limit: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))


@pytest.fixture
def full_disk() -> Iterator[Callable[[bool], None]]:
    """Files cannot grow beyond some kilobytes: every write past that fails, as on a full disk."""
    yield lambda full: limit_file_size(8 * 1024 if full else resource.RLIM_INFINITY)
    limit_file_size(resource.RLIM_INFINITY)


def test_a_full_disk_is_survived_in_memory_and_recovered_from(
    tmp_path: Path, spools: Opener, full_disk: Callable[[bool], None], caplog: pytest.LogCaptureFixture
) -> None:
    """While the disk refuses, records are kept in memory, can be sent and acked from there, and go to disk when it has room again."""
    clock = ClockModel()
    spool = spools(tmp_path, at(1), clock)
    learn(clock, at(2))
    spool.put(Tick(), at(10))
    full_disk(True)
    for second in range(20, 120):
        spool.put(Tick(), at(second))
    assert spool.state == "memory"
    assert spool.trouble
    assert [record.message for record in caplog.records].count("spool.disk_refused") == 1
    assert spool.depth == 101
    assert len(all_rows(spool)) == 101
    assert spool.settle(spool.epoch, [(1, 50)]) == 50
    assert len(all_rows(spool)) == spool.depth == 51
    full_disk(False)
    spool.put(Tick(), at(500))
    assert spool.state == "disk"
    assert "spool.disk_recovered" in [record.message for record in caplog.records]
    again = spools(kill(tmp_path, "after"), at(600))
    assert [row.seq for row in all_rows(again)] == list(range(51, 103))


def test_memory_is_bounded_and_thinned_in_the_same_order(tmp_path: Path, spools: Opener, full_disk: Callable[[bool], None]) -> None:
    """Beyond `memory_records` detail goes first, then the oldest ticks; what went is named by drop records."""
    clock = ClockModel()
    spool = spools(tmp_path, at(1), clock, memory_records=150)
    learn(clock, at(2))
    full_disk(True)
    put_days(spool, 20)
    assert spool.state == "memory"
    assert spool.depth <= 250
    assert spool.kinds["host"] < 32
    assert spool.kinds["tick"] == 100
    put_days(spool, 30, begin_s=40_000)
    rows = all_rows(spool)
    assert len(rows) == spool.depth <= 250
    assert [row.time_s for row in rows if row.kind == "tick"][-1] == T0_MS // 1000 + 40_000 + 300 * 29 + 240  # the newest are there
    named = {
        seq
        for row in rows
        if row.kind == "drop"
        for first, last in ranges_from_text(json.loads(row.body)[2])
        for seq in range(first, last + 1)
    }
    assert named == set(range(1, max(row.seq for row in rows) + 1)) - {row.seq for row in rows}


def test_a_directory_that_cannot_be_used_means_memory(tmp_path: Path, spools: Opener) -> None:
    """A spool whose directory is no directory works in memory, says so, and takes up the file when it can."""
    place = tmp_path / "state"
    place.write_text("in the way")
    clock = ClockModel()
    spool = spools(place, at(1), clock)
    learn(clock, at(2))
    assert spool.previous.stop is None
    spool.put(Tick(), at(10))
    assert spool.state == "memory"
    assert len(all_rows(spool)) == 1
    place.unlink()
    place.mkdir()
    spool.tend(at(100))
    assert spool.state == "disk"
    assert [row.seq for row in all_rows(spools(kill(place, "copy"), at(101)))] == [1]


def test_a_file_that_was_out_of_reach_joins_with_what_was_made_meanwhile(tmp_path: Path, spools: Opener) -> None:
    """Old records come back into the queue behind the new ones; no number of a span is used twice."""
    state, away = tmp_path / "state", tmp_path / "away"
    state.mkdir()
    clock = ClockModel()
    old = spools(state, at(1), clock)
    learn(clock, at(2))
    for second in (10, 20, 30):
        old.put(Tick(), at(second))
    old.close("stop")
    state.rename(away)
    state.write_text("in the way")
    spool = spools(state, at(40), clock)
    spool.put(Tick(), at(50))
    state.unlink()
    away.rename(state)
    spool.put(Tick(), at(200))
    assert spool.state == "disk"
    assert [(row.epoch == old.epoch, row.seq) for row in all_rows(spool)] == [(True, 1), (True, 2), (True, 3), (False, 1), (False, 2)]
    assert spool.settle(old.epoch, [(1, 3)]) == 3
    assert spool.settle(spool.epoch, [(1, 2)]) == 2
    assert spool.depth == 0


# --- damage ---


def filled(directory: Path, count: int = 300) -> str:
    """A spool with so many records that were all made durable, and not closed. Its epoch."""
    directory.mkdir()
    source = directory.with_name(directory.name + "-source")
    source.mkdir()
    clock = ClockModel()
    spool = open_spool(source, at(1), clock)
    learn(clock, at(2))
    for index in range(count):
        spool.put(Tick(result="online", rtt_ms=float(index + 1)), at(10 + 60 * index))
    for path in source.iterdir():
        shutil.copyfile(path, directory / path.name)
    spool._shelf.close()
    return spool.epoch


def fold(directory: Path) -> None:
    """Fold the log into the file."""
    with closing(sqlite3.connect(directory / "spool.db")) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def overwrite(path: Path, at_byte: int, garbage: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at_byte)
        file.write(garbage)


def garbage_header(directory: Path) -> None:
    fold(directory)
    overwrite(directory / "spool.db", 0, os.urandom(100))


def garbage_first_pages(directory: Path) -> None:
    fold(directory)
    overwrite(directory / "spool.db", 0, os.urandom(4096))


def truncated(directory: Path) -> None:
    fold(directory)
    os.truncate(directory / "spool.db", (directory / "spool.db").stat().st_size // 2)


def empty_schema(directory: Path) -> None:
    with closing(sqlite3.connect(directory / "spool.db")) as database, database:
        database.execute("DROP VIEW records")


def flipped_pages(directory: Path) -> None:
    fold(directory)
    size = (directory / "spool.db").stat().st_size
    for page in range(10, size // 1024, 9):
        overwrite(directory / "spool.db", page * 1024, os.urandom(1024))


def garbage_log_header(directory: Path) -> None:
    overwrite(directory / "spool.db-wal", 0, os.urandom(32))


def garbage_in_log(directory: Path) -> None:
    overwrite(directory / "spool.db-wal", 32 + 20 * 1048, os.urandom(1048))


@pytest.mark.parametrize(
    ("damage", "least"),
    [
        (garbage_header, 300),
        (garbage_first_pages, 270),
        (truncated, 60),
        (flipped_pages, 200),
        (empty_schema, 300),
        (garbage_log_header, 300),
        (garbage_in_log, 280),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_damaged_spool_is_set_aside_and_salvaged(tmp_path: Path, spools: Opener, damage: Callable[[Path], None], least: int) -> None:
    """Whatever is readable comes back unchanged under its identity; the damaged file is kept; the run after it says so."""
    epoch = filled(tmp_path / "spool")
    damage(tmp_path / "spool")
    clock = ClockModel()
    spool = spools(tmp_path / "spool", at(20_000, boot="boot-b"), clock)
    learn(clock, at(20_001, boot="boot-b"), utc_of_boot_ms=T0_MS + 86_400_000)
    fix_all(spool)
    rows = all_rows(spool)
    assert len(rows) >= least
    assert all(row.epoch == epoch and row.record().body == Tick(result="online", rtt_ms=float(row.seq)) for row in rows)
    assert all(row.time_s == T0_MS // 1000 + 10 + 60 * (row.seq - 1) for row in rows)
    assert (spool.previous.spool, spool.previous.salvaged) == ("damaged", len(rows))
    assert len([path for path in (tmp_path / "spool").glob("spool.db.damaged-*") if not path.name.endswith("-wal")]) == 1
    spool.put(Tick(), at(20_002, boot="boot-b"))
    spool.close("stop")
    assert spools(tmp_path / "spool", at(20_003, boot="boot-b")).previous.spool == "kept"


def test_damage_at_work_is_survived_and_told_by_the_next_run(tmp_path: Path, spools: Opener, caplog: pytest.LogCaptureFixture) -> None:
    """A file that breaks under the running agent is replaced by what can be salvaged; the record being put is not lost."""
    clock = ClockModel()
    spool = spools(tmp_path, at(1), clock)
    learn(clock, at(2))
    for index in range(400):
        spool.put(Tick(result="online", rtt_ms=float(index + 1)), at(10 + 60 * index))
    garbage_page = os.urandom(1024)
    for page in range(1, (tmp_path / "spool.db").stat().st_size // 1024):
        overwrite(tmp_path / "spool.db", page * 1024, garbage_page)
    overwrite(tmp_path / "spool.db-wal", 32, os.urandom(1048 * 40))
    spool._shelf._file._run("PRAGMA shrink_memory")  # type: ignore[union-attr]
    for index in range(400, 500):
        spool.put(Tick(result="online", rtt_ms=float(index + 1)), at(10 + 60 * index))
    rows = all_rows(spool)
    assert "spool.damaged" in [record.message for record in caplog.records]
    assert spool.state == "disk"
    assert {row.seq for row in rows} >= set(range(401, 501))
    assert all(row.record().body == Tick(result="online", rtt_ms=float(row.seq)) for row in rows)
    spool.close("stop")
    previous = spools(tmp_path, at(60_000)).previous
    assert (previous.spool, previous.stop, previous.epoch) == ("damaged", "clean", spool.epoch)


def test_a_flipped_bit_in_a_value_is_noticed(tmp_path: Path, spools: Opener) -> None:
    """A row whose checksum is wrong is never sent: it is deleted, and a drop record names it."""
    clock = ClockModel()
    spool = spools(tmp_path, at(1), clock)
    learn(clock, at(2))
    for second in (10, 20, 30):
        spool.put(Tick(result="online"), at(second))
    spool.close("stop")
    with closing(sqlite3.connect(tmp_path / "spool.db")) as database, database:
        database.execute("UPDATE kept SET body=replace(body, 'online', 'onlime') WHERE key & 4294967295 = 2")
    again = spools(tmp_path, at(40), ClockModel())
    rows = all_rows(again)
    rows = all_rows(again)
    assert [(row.epoch == spool.epoch, row.seq, row.kind) for row in rows] == [(True, 1, "tick"), (True, 3, "tick"), (False, 1, "drop")]
    drop = rows[2].record().body
    assert isinstance(drop, Drop)
    assert (drop.dropped_epoch, drop.dropped_seqs, drop.reason) == (spool.epoch, "2", "damaged on disk")
    assert again.depth == 3


@pytest.mark.parametrize(
    "flip", ["offset_ms=1795465800000", "begin_ms=begin_ms+4096", "clock='estimated'", "last_seq=last_seq+7", "boot_id='boot-x'"]
)
def test_a_flipped_bit_in_what_gives_records_their_time_is_noticed(tmp_path: Path, spools: Opener, flip: str) -> None:
    """A span whose checksum is wrong is not believed: the file is set aside, and every record of it comes back as it was made."""
    clock = ClockModel()
    spool = spools(tmp_path, at(1), clock)
    for second in (10, 20, 30):
        spool.put(Tick(result="online", rtt_ms=float(second)), at(second))
    learn(clock, at(31))
    spool.close("stop")
    with closing(sqlite3.connect(tmp_path / "spool.db")) as database, database:
        database.execute(f"UPDATE spans SET {flip}")
    again = spools(tmp_path, at(40), ClockModel())
    assert (again.previous.spool, again.previous.salvaged, again.depth) == ("damaged", 3, 3)
    # how that run ended stood there too: what is not known is no proof of a power cut
    assert (again.previous.stop, again.previous.why, again.previous.same_boot) == (None, None, None)
    assert len(list(tmp_path.glob("spool.db.damaged-*"))) == 1


@given(st.binary(max_size=1024), st.integers(0, 100))
def test_carving_garbage_yields_nothing(page: bytes, offset: int) -> None:
    """Whatever the bytes are, nothing is believed and nothing is raised."""
    assert list(carve_page(bytes([0x0D]) + page, 0)) == []
    assert list(carve_page(page, offset)) == []
    log_is_damaged(page, 1024)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_damage_leaves_a_spool_that_works(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Garbage over any part of file or log: what comes out is true, and the spool takes new records."""
    place = tmp_path_factory.mktemp("any") / "spool"
    epoch = filled(place, 40)
    if data.draw(st.booleans()):
        fold(place)
    for _ in range(data.draw(st.integers(1, 3))):
        path = data.draw(st.sampled_from(sorted(path for path in place.iterdir() if path.stat().st_size)))
        size = path.stat().st_size
        at_byte = data.draw(st.integers(0, size - 1))
        overwrite(path, at_byte, data.draw(st.binary(min_size=1, max_size=2000))[: size - at_byte])
    clock = ClockModel()
    spool = open_spool(place, at(20_000, boot="boot-b"), clock)
    learn(clock, at(20_001, boot="boot-b"), utc_of_boot_ms=T0_MS + 86_400_000)
    fix_all(spool)
    spool.put(Host(), at(20_002, boot="boot-b"))
    rows = [*all_rows(spool), *all_rows(spool)]  # a row that turns out to be damaged is dropped at the first look
    assert all(row.epoch == spool.epoch or row.record().body == Tick(result="online", rtt_ms=float(row.seq)) for row in rows)
    assert {row.epoch for row in rows} <= {epoch, spool.epoch}
    assert "host" in {row.kind for row in rows}
    assert spool.state == "disk"
    spool._shelf.close()


@pytest.mark.parametrize("step", [1, 2, 3, 4])
def test_a_salvage_that_is_interrupted_is_done_again_or_finished(
    tmp_path: Path, spools: Opener, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut at any moment of a salvage: the next start has every record that could be read, and reports the damage."""
    place = tmp_path / "spool"
    filled(place)
    garbage_header(place)
    renames = []
    real = Path.rename

    def cut_off(self: Path, target: Path) -> Path:
        renames.append(target)
        if len(renames) == step:
            raise KeyboardInterrupt
        return real(self, target)

    monkeypatch.setattr(Path, "rename", cut_off)
    with contextlib.suppress(KeyboardInterrupt):
        spools(place)
    monkeypatch.undo()
    monkeypatch.setattr(spool_module, "counts_since_boot", lambda: True)
    spool = spools(place)
    assert len(all_rows(spool)) == 300
    assert spool.previous.spool == ("damaged" if len(renames) >= step else "kept")
    assert not list(place.glob("*.salvage*"))
    assert len([path for path in place.glob("spool.db.damaged-*") if not path.name.endswith("-wal")]) == 1


def test_only_some_damaged_files_are_kept(tmp_path: Path, spools: Opener) -> None:
    """Damaged files cannot fill the disk: the newest few stay."""
    for _ in range(KEEP_DAMAGED + 2):
        (tmp_path / "spool.db").write_bytes(b"garbage" * 1000)
        spools(tmp_path)._shelf.close()
    assert len(list(tmp_path.glob("spool.db.damaged-*"))) == KEEP_DAMAGED


# --- sparing flash, and small things ---


def test_flash_is_spared_where_it_is_asked_for(tmp_path: Path, spools: Opener) -> None:
    """With `flush_s` records wait in memory, may be sent and acked without ever touching the disk, and a clean stop writes the rest."""
    clock = ClockModel()
    spool = spools(tmp_path, at(1), clock, flush_s=600)
    learn(clock, at(2))
    for second in range(10, 20):
        spool.put(Tick(), at(second))
    assert all_rows(spools(kill(tmp_path, "early"), at(20))) == []
    spool.settle(spool.epoch, [(1, 8)])
    spool.tend(at(700))
    assert [row.seq for row in all_rows(spools(kill(tmp_path, "later"), at(701)))] == [9, 10]
    spool.put(Tick(), at(710))
    spool.close("stop")
    assert [row.seq for row in all_rows(spools(tmp_path, at(720)))] == [9, 10, 11]


def test_accounts_are_kept(tmp_path: Path, spools: Opener) -> None:
    """The small store remembers over a restart, and answers {} for what it does not know."""
    spool = spools(tmp_path)
    assert spool.account("plan") == {}
    spool.set_account("plan", {"used": 5})
    assert spool.account("plan") == {"used": 5}
    spool.tend(at(9))
    assert spools(kill(tmp_path, "after"), at(10)).account("plan") == {"used": 5}


def test_giving_up_is_said(tmp_path: Path, spools: Opener) -> None:
    """A record that no collector can read leaves the queue, and a drop record names it."""
    clock = ClockModel()
    spool = spools(tmp_path, at(1), clock)
    learn(clock, at(2))
    spool.put(Tick(), at(3))
    spool.give_up(spool.newest(1)[0], "unreadable: not-json")
    rows = all_rows(spool)
    assert [row.kind for row in rows] == ["drop"]
    assert rows[0].record().body == Drop(
        dropped_epoch=spool.epoch, dropped_seqs="1", dropped_kind="tick", count=1, reason="unreadable: not-json"
    )


def test_the_journal_tells_what_was_promised(tmp_path: Path, spools: Opener) -> None:
    """Each record is journalled before the spool has it, again once it is durable, and again when its time is fixed later."""
    clock = ClockModel()
    spool = spools(tmp_path, at(1), clock)
    lines: list[dict[str, Any]] = []
    spool.journal = lines.append
    spool.put(Tick(), at(3))
    learn(clock, at(4))
    fix_all(spool)
    assert lines == [
        {"epoch": spool.epoch, "seq": 1, "kind": "tick", "time": None, "mono_ms": 3000},
        {"epoch": spool.epoch, "seq": 1, "kept": True},
        {"epoch": spool.epoch, "seq": 1, "time": T0_MS // 1000 + 3},
    ]
