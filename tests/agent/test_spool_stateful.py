"""The spool under any order of puts, acks, crashes, restarts, reboots, answers of the collector and disks that refuse."""

import shutil
import sqlite3
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from kerege_agent.clock import ClockModel, Reading
from kerege_agent.rows import Row
from kerege_agent.spool import Spool
from kerege_agent.spool_file import SpoolFile
from kerege_wire import Body, Host, Ping, Tick
from kerege_wire.ranges import ranges_of

T0_MS = 1_795_465_800_000
Identity = tuple[str, int]


class RefusingFile(SpoolFile):
    """A spool file on a disk that may be full: then nothing is written."""

    full = False

    def apply(self, changes: Any, *, durable: bool) -> None:
        if RefusingFile.full:
            error = sqlite3.OperationalError("database or disk is full")
            error.sqlite_errorcode = sqlite3.SQLITE_FULL
            raise error
        super().apply(changes, durable=durable)


class SpoolMachine(RuleBasedStateMachine):
    """Keeps its own account of what was promised, and compares."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr("kerege_agent.shelf.SpoolFile", RefusingFile)
        self.patch.setattr("kerege_agent.spool.counts_since_boot", lambda: True)
        RefusingFile.full = False
        self.root = Path(tempfile.mkdtemp(prefix="kerege-stateful-"))
        self.turn = 0
        self.boot = 0
        self.boot_utc_ms = T0_MS
        self.mono_ms = 1000
        self.promised: dict[Identity, Body] = {}
        self.in_memory: dict[Identity, Body] = {}
        self.times: dict[Identity, int] = {}
        self.acked: set[Identity] = set()
        self.produced = 0
        self.start(self.directory)

    @property
    def directory(self) -> Path:
        path = self.root / str(self.turn)
        path.mkdir(exist_ok=True)
        return path

    def reading(self) -> Reading:
        return Reading(f"boot-{self.boot}", self.mono_ms, self.mono_ms)

    def start(self, directory: Path) -> None:
        self.clock = ClockModel()
        self.spool = Spool.open(directory, clock=self.clock, reading=self.reading(), memory_records=1000)
        self.produced = 0

    def note_durable(self) -> None:
        if self.spool.state == "disk":
            self.promised.update(self.in_memory)
            self.in_memory.clear()

    @rule(
        body=st.sampled_from([Tick(result="online"), Ping(target="quad9"), Ping(target="google"), Host()]), step_ms=st.integers(0, 60_000)
    )
    def put(self, body: Body, step_ms: int) -> None:
        self.mono_ms += step_ms
        seq = self.spool.put(body, self.reading())
        self.produced += 1
        assert seq == self.produced
        self.in_memory[self.spool.epoch, seq] = body
        self.note_durable()

    @rule()
    def answer(self) -> None:
        self.mono_ms += 700
        middle_ms = self.boot_utc_ms + self.mono_ms - 350
        assert self.clock.learn(sent_ms=self.mono_ms - 700, received_ms=middle_ms, replied_ms=middle_ms, arrived=self.reading())
        while self.spool.fix_times():
            pass
        self.note_durable()

    @rule(data=st.data())
    def ack(self, data: st.DataObject) -> None:
        rows = self.rows()
        if not rows:
            return
        chosen = data.draw(st.lists(st.sampled_from(rows), unique_by=lambda row: row.key))
        for epoch in {row.epoch for row in chosen}:
            seqs = [row.seq for row in chosen if row.epoch == epoch]
            self.spool.settle(epoch, ranges_of(seqs))
            self.acked.update((epoch, seq) for seq in seqs)

    @rule()
    def tend(self) -> None:
        self.mono_ms += 1000
        self.spool.tend(self.reading())
        self.note_durable()

    @precondition(lambda self: not RefusingFile.full)
    @rule()
    def disk_is_full(self) -> None:
        RefusingFile.full = True

    @precondition(lambda self: RefusingFile.full)
    @rule()
    def disk_has_room(self) -> None:
        RefusingFile.full = False

    @precondition(lambda self: not RefusingFile.full)
    @rule(reboot=st.booleans(), off_s=st.integers(1, 100_000))
    def clean_stop(self, reboot: bool, off_s: int) -> None:
        epoch = self.spool.epoch
        self.spool.close("stop")
        self.note_durable()
        self.again(reboot, off_s, self.directory)
        assert (self.spool.previous.epoch, self.spool.previous.stop) == (epoch, "clean")

    @rule(reboot=st.booleans(), off_s=st.integers(1, 100_000))
    def crash(self, reboot: bool, off_s: int) -> None:
        before = self.directory
        self.turn += 1
        for path in before.iterdir():
            shutil.copyfile(path, self.directory / path.name)
        self.spool._shelf.close()
        RefusingFile.full = False
        self.in_memory.clear()
        self.again(reboot, off_s, self.directory)
        assert self.spool.previous.stop == "unclean"

    def again(self, reboot: bool, off_s: int, directory: Path) -> None:
        if reboot:
            self.boot += 1
            self.boot_utc_ms += self.mono_ms + off_s * 1000
            self.mono_ms = 1000
        else:
            self.mono_ms += 1000
        self.start(directory)
        assert self.spool.previous.same_boot is not reboot

    def rows(self) -> list[Row]:
        return self.spool.load(self.spool.newest(100_000))

    @invariant()
    def keeps_its_promises(self) -> None:
        rows = self.rows()
        there = {(row.epoch, row.seq): row for row in rows}
        assert len(there) == len(rows)
        must = {identity for identity in {**self.promised, **self.in_memory} if identity not in self.acked}
        if not self.spool.waits_for_time and self.spool.state == "disk":
            assert must <= there.keys()
        assert self.spool.depth >= len(must)
        for identity, row in there.items():
            body = self.promised.get(identity) or self.in_memory.get(identity)
            assert body is None or row.record().body == body
            assert row.time_s is not None
            assert self.times.setdefault(identity, row.time_s) == row.time_s  # a repeat is the same to the letter

    @invariant()
    def counts_right(self) -> None:
        if not self.spool.waits_for_time and self.spool.state == "disk":
            assert self.spool.depth == len(self.rows())

    @invariant()
    def has_one_record_a_second_and_series(self) -> None:
        seen = [(row.series, row.time_s) for row in self.rows()]
        assert len(set(seen)) == len(seen)

    @invariant()
    def dates_nothing_outside_what_is_known(self) -> None:
        now_s = (self.boot_utc_ms + self.mono_ms) // 1000
        for row in self.rows():
            assert row.time_s is not None
            assert row.time_s <= now_s + 60
            if row.clock == "synced":
                assert row.time_s >= T0_MS // 1000

    def teardown(self) -> None:
        self.spool._shelf.close()
        self.patch.undo()
        shutil.rmtree(self.root)


TestSpoolMachine = SpoolMachine.TestCase
TestSpoolMachine.settings = settings(max_examples=60, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
