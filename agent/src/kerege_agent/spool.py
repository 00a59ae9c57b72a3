"""The agent's durable queue: a record is on the medium before `put` returns, and leaves when the collector's ack names it.

Identity: epoch (random, drawn at every start) and a sequence number from 1. A record's UTC time is fixed once: in `put` where the
collector's clock is known in this boot, else by `fix_times` before the first send, and it is durable before it is sent. Series (kind,
target) have at most one record a second (`seconds`). Bounded by size: beyond it the cheapest detail goes first (`thinning`). Trouble with
the disk never reaches the caller (`shelf`).
"""

import base64
import json
import logging
import os
import threading
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from kerege_agent import remembered, thinning
from kerege_agent.clock import ClockModel, Reading, Sample, counts_since_boot
from kerege_agent.placing import place_spans
from kerege_agent.previous import DAMAGE_NOTE, PreviousRun, damage_note, last_known_s, look_back
from kerege_agent.rows import Found, Row, Span, key_of, lost_span, seq_of, span_of, text_of
from kerege_agent.seconds import Seconds
from kerege_agent.shelf import Shelf
from kerege_agent.spool_file import SpoolFile
from kerege_wire import Body, Drop, kind_of, series_of
from kerege_wire.ranges import Range

FIX_ROWS: Final = 500
"""Records that get their time in one transaction."""

MAX_PASSES: Final = 5
"""Thinning passes at one `put`, so that none takes long."""

_ACCOUNT: Final = "account:"
_log = logging.getLogger(__name__)

Journal = Callable[[dict[str, Any]], None]


class Spool:
    """Thread-safe. Make one with `open`."""

    def __init__(
        self, directory: Path, *, clock: ClockModel, reading: Reading, max_bytes: int, flush_s: float, memory_records: int
    ) -> None:
        self._epoch = base64.urlsafe_b64encode(os.urandom(6)).decode()
        self.previous = PreviousRun(stop=None)
        self.produced = 0
        self.latest_tick = 0
        self.journal: Journal | None = None
        self._clock = clock
        self._max_bytes = max_bytes
        self._memory_records = memory_records
        self._lock = threading.RLock()
        self._reading = reading
        self._seq = 0
        self._spans: dict[int, Span] = {}
        self._span = self._new_span(1)
        self._registered = False
        self._seconds = Seconds()
        self._fixing = Seconds()
        self._fixed_to = 0
        self._former: Sample | None = None
        self._noted: Sample | None = None
        self._shelf = Shelf(directory, flush_ms=int(flush_s * 1000), attached=self._attach)

    @classmethod
    def open(
        cls,
        directory: Path,
        *,
        clock: ClockModel,
        reading: Reading,
        max_bytes: int = 64 << 20,
        flush_s: float = 0,
        memory_records: int = 5000,
    ) -> "Spool":
        """Open the spool of a directory, or begin one. Never fails for the disk's sake: then it works in memory."""
        spool = cls(directory, clock=clock, reading=reading, max_bytes=max_bytes, flush_s=flush_s, memory_records=memory_records)
        with spool._lock:
            spool._now(reading)
            spool._shelf.open()
            spool._shelf.write(durable=True, force=spool._shelf.trouble is None)
        return spool

    @property
    def epoch(self) -> str:
        return self._epoch

    def _now(self, reading: Reading) -> None:
        self._reading = reading
        self._shelf.now_ms = reading.mono_ms

    # --- producing ---

    def put(self, body: Body, reading: Reading) -> int:
        """Take a record in; durable when this returns, unless the disk refuses or may be spared. Returns its sequence number."""
        with self._lock:
            self._now(reading)
            row = self._row(body)
            self._keep(row)
            if self._shelf.write(durable=True, force=len(self._shelf.held) > self._memory_records and self._shelf.trouble is None):
                self._tell({"epoch": row.epoch, "seq": row.seq, "kept": True})
            self._bound()
            return row.seq

    def _row(self, body: Body) -> Row:
        reading = self._reading
        if reading.boot_id != self._span.boot_id:  # the clock stood still in between: another timeline
            self._span = self._new_span(self._span.span + 1)
        self._seq += 1
        time_s = None if self._shelf.unfixed else self._clock.utc_s(reading)
        best = self._clock.best
        if time_s is not None:
            time_s = self._seconds.take(series_of(body), time_s)
        return Row(
            key=key_of(self._span.span, self._seq),
            epoch=self.epoch,
            kind=kind_of(body),
            mono_ms=reading.mono_ms,
            wall_ms=reading.wall_ms,
            time_s=time_s,
            clock=best.quality if best and time_s is not None else "synced",
            within_s=None,
            body=text_of(body),
        )

    def _keep(self, row: Row) -> None:
        line = {"epoch": row.epoch, "seq": row.seq, "kind": row.kind, "time": row.time_s, "mono_ms": row.mono_ms}
        self._tell(line | ({"body": row.body} if row.kind == "drop" else {}))
        self._shelf.add(row)
        self.produced += 1
        if row.kind == "tick":
            self.latest_tick = row.key

    def _tell(self, line: dict[str, Any]) -> None:
        if self.journal is not None:
            self.journal(line)

    # --- bounds ---

    def _bound(self) -> None:
        for _ in range(MAX_PASSES):
            found = self._excess()
            if not found:
                return
            self._thin(found, reason="spool full" if self._shelf.trouble is None else "no disk, memory full")

    def _excess(self) -> list[Found]:
        """The records to go next, of one kind; [] while everything has its room."""
        shelf = self._shelf
        if len(shelf.held) > self._memory_records:
            # memory has a hard limit: when all detail is gone even ticks must go
            candidates = (shelf.oldest_held(kind, thinning.PASS_ROWS) for kind in (*thinning.ORDER, "tick"))
        elif shelf.trouble is None and shelf.used_bytes() > self._max_bytes:
            wanted = (kind for kind in thinning.ORDER if shelf.kinds[kind] >= thinning.LEAST_ROWS)
            candidates = (shelf.oldest_of(kind, thinning.PASS_ROWS) for kind in wanted)
        else:
            return []
        return next((found for found in candidates if len(found) >= thinning.LEAST_ROWS), [])

    def _thin(self, found: Sequence[Found], reason: str) -> None:
        span = self._spans.get(span_of(found[0][0]))
        epoch = self.epoch if span is None else span.epoch
        same = [item for item in found if span_of(item[0]) == span_of(found[0][0])]
        drop, count = thinning.drop_of([seq_of(key) for key, _, _ in same], epoch=epoch, kind=same[0][1], reason=reason)
        _log.warning("spool.thinned", extra={"fields": {"kind": drop.dropped_kind, "count": count, "why": reason}})
        self._replace(same[:count], drop)

    def _replace(self, leaving: Sequence[Found], drop: Drop) -> None:
        """Delete records, and in the same transaction say so."""
        self._keep(self._row(drop))
        self._leave(leaving)
        self._shelf.write(durable=True)

    def give_up(self, key: int, reason: str) -> None:
        """Delete a record that no collector can ever read, and say so in a `drop` record."""
        with self._lock:
            for row in self.load([key]):
                drop, _ = thinning.drop_of([row.seq], epoch=row.epoch, kind=row.kind, reason=reason)
                self._replace([(row.key, row.kind, row.time_s)], drop)

    def _lose(self, damaged: Sequence[Found]) -> None:
        """Rows whose checksum is wrong: nothing true can be said from them any more, except that they were."""
        for key, kind, time_s in damaged:
            span = self._spans.get(span_of(key))
            _log.error("spool.row_damaged", extra={"fields": {"span": span_of(key), "seq": seq_of(key), "kind": kind}})
            if span is None:
                self._leave([(key, kind, time_s)])
                continue
            drop, _ = thinning.drop_of([seq_of(key)], epoch=span.epoch, kind=kind, reason="damaged on disk")
            self._replace([(key, kind, time_s)], drop)
        if damaged:
            self._shelf.recount()

    # --- delivering ---

    def newest(self, limit: int, without: Collection[int] = ()) -> list[int]:
        """Keys of up to ``limit`` records that may be sent (their time is fixed) and are not in ``without``, newest first."""
        with self._lock:
            return self._shelf.newest(limit, without)

    def load(self, keys: Iterable[int]) -> list[Row]:
        """The rows of these keys, as far as they are still there."""
        with self._lock:
            rows, damaged = self._shelf.load(keys)
            self._lose(damaged)
            return rows

    def settle(self, epoch: str, stored: Iterable[Range], refused: Iterable[tuple[int, str]] = ()) -> int:
        """The collector has these: delete them. Returns how many records left the spool."""
        with self._lock:
            ranges = list(stored)
            for seq, reason in refused:
                _log.warning("spool.record_refused", extra={"fields": {"epoch": epoch, "seq": seq, "reason": reason}})
                ranges.append((seq, seq))
            leaving = [
                found for span in list(self._spans.values()) if span.epoch == epoch for found in self._shelf.within(span.span, ranges)
            ]
            if leaving:
                self._leave(leaving)
                self._shelf.write(durable=False)
            return len(leaving)

    def _leave(self, leaving: Sequence[Found]) -> None:
        for key, _, time_s in leaving:
            span = self._spans.get(span_of(key))
            if span is not None:
                span.last_seq = max(span.last_seq, seq_of(key))
                if time_s is not None:
                    span.last_s = time_s if span.last_s is None else max(span.last_s, time_s)
                self._shelf.spans[span.span] = span
        self._shelf.remove(leaving)

    # --- time ---

    @property
    def waits_for_time(self) -> bool:
        """Are there records whose time is not fixed yet?"""
        return self._shelf.unfixed > 0

    def fix_times(self) -> bool:
        """Give some of the records that wait for it their time, oldest first. Is there more that can be done at once?"""
        with self._lock:
            shelf, best = self._shelf, self._clock.best
            if not shelf.unfixed or best is None or len(shelf.shadows) > self._memory_records // 2:
                return False
            rows, damaged = shelf.unfixed_rows(FIX_ROWS, after=self._fixed_to)
            self._lose(damaged)
            if not rows:
                shelf.recount()
                self._fixed_to = 0
                return bool(damaged) and shelf.unfixed > 0
            if any(self._spans[row.span].offset_ms is None for row in rows):
                self._place(best)
            self._fix(rows)
            return shelf.write(durable=True, force=True) and shelf.unfixed > 0

    def _place(self, best: Sample) -> None:
        """Decide, once, how monotonic time becomes UTC in each span that has records without a time."""
        for span in place_spans(list(self._spans.values()), self._shelf.unfixed_by_span(), best=best, former=self._former):
            self._spans[span.span] = self._shelf.spans[span.span] = span
            if span.span == self._span.span:
                self._span = span

    def _fix(self, rows: Sequence[Row]) -> None:
        for row in rows:
            span = self._spans[row.span]
            if span.offset_ms is None:
                continue
            taken_s = last_known_s(span.after_s, (), self._seconds.floor_s)  # when it began, or by a run that had fixed a part of it
            time_s = self._fixing.take(row.series, (row.mono_ms + span.offset_ms) // 1000, taken_s)
            self._shelf.fix(replace(row, time_s=time_s, clock=span.clock, within_s=span.within_s))
            self._tell({"epoch": row.epoch, "seq": row.seq, "time": time_s})
            if row.epoch == self.epoch:
                self._seconds.used(row.series, time_s)
        self._fixed_to = rows[-1].key
        if not self._shelf.unfixed:
            self._fixing.clear()
            self._fixed_to = 0

    def _note_clock(self) -> None:
        """Keep what was learned for a run that follows in the same boot."""
        best = self._clock.best
        if best is not None and remembered.is_news(best, self._noted):
            self._noted = best
            self._shelf.notes[remembered.CLOCK_NOTE] = remembered.written(best)

    def _recall_clock(self, note: str | None) -> None:
        self._former = sample = remembered.read(note)
        if sample is not None and sample.boot_id == self._reading.boot_id and self._clock.best is None:
            self._clock.restore(sample)
            self._noted = sample

    # --- opening and closing ---

    def _new_span(self, number: int) -> Span:
        begin_ms = 0 if counts_since_boot() else self._reading.mono_ms
        span = Span(number, self.epoch, self._reading.boot_id, begin_ms, after_s=None)
        self._spans[number] = span
        if number > 1:
            span.after_s = self._spans[number - 1].after_s
            self._shelf.spans[number] = span
        return span

    def _attach(self, file: SpoolFile, spool: str, salvaged: int) -> None:
        """A file has come in: at the start, after the disk refused it for a while, or a new one in place of a damaged one."""
        census = file.census()
        found = {number: lost_span(number, epoch) for number, epoch in census.epochs.items()} | {span.span: span for span in file.spans()}
        if not self._registered:
            self._register(file, spool, salvaged, found, census.latest_s)
        elif spool == "damaged":
            self._shelf.notes[DAMAGE_NOTE] = damage_note(self.epoch, salvaged)
        own = {number: span for number, span in self._spans.items() if span.epoch == self.epoch}
        self._spans = found | own
        self._shelf.spans.update(own)
        self._shelf.recount()
        self._fixed_to = 0

    def _register(self, file: SpoolFile, spool: str, salvaged: int, found: dict[int, Span], latest_s: int | None) -> None:
        """The first file of this run: learn from it what came before, and take numbers behind all that is in it."""
        self._registered = True
        file.forget_spans(before=max(found, default=0))
        self._seconds.floor_s = last_known_s(latest_s, found.values())
        self._recall_clock(file.note(remembered.CLOCK_NOTE))
        self.previous = look_back(file, found, boot_id=self._reading.boot_id, spool=spool, salvaged=salvaged)
        self._move_behind(max(found, default=0))

    def _move_behind(self, shift: int) -> None:
        """Renumber this run's spans and what it has produced so far, so that they come after all that is in the file."""
        shelf = self._shelf
        moved = [replace(row, key=key_of(row.span + shift, row.seq)) for row in shelf.held.values()]
        shelf.held = {row.key: row for row in moved}
        shelf.spans.clear()
        own = [replace(span, span=span.span + shift, after_s=self._seconds.floor_s) for span in self._spans.values()]
        self._spans = {span.span: span for span in own}
        self._span = own[-1]
        self.latest_tick = max((row.key for row in moved if row.kind == "tick"), default=0)

    def close(self, why: str) -> None:
        """A clean stop: everything that waits is written, and the reason with it."""
        with self._lock:
            self._span.why = why[:64]
            self._shelf.spans[self._span.span] = self._span
            self._note_clock()
            if not self._shelf.write(durable=True, force=True):
                _log.error("spool.lost_at_stop", extra={"fields": {"records": len(self._shelf.held), "error": self._shelf.trouble}})
            self._shelf.close()

    # --- state ---

    @property
    def depth(self) -> int:
        """Records waiting."""
        with self._lock:
            return self._shelf.kinds.total()

    @property
    def kinds(self) -> dict[str, int]:
        """Records waiting, by kind."""
        with self._lock:
            return {kind: count for kind, count in sorted(self._shelf.kinds.items()) if count}

    @property
    def size_bytes(self) -> int:
        """Size of the file's pages in use; 0 while there is no file."""
        with self._lock:
            return self._shelf.used_bytes()

    @property
    def state(self) -> str:
        """`disk`, or `memory` while the disk refuses."""
        return "disk" if self._shelf.trouble is None else "memory"

    @property
    def trouble(self) -> str | None:
        """What the disk said when it refused."""
        return self._shelf.trouble

    def tend(self, reading: Reading) -> None:
        """To be called every second or so: writes what has waited long enough, and tries a disk that refused."""
        with self._lock:
            self._now(reading)
            self._note_clock()
            self._shelf.write(durable=True)

    def account(self, name: str) -> dict[str, Any]:
        """What was kept under a name, {} where there is nothing (any more)."""
        with self._lock:
            try:
                found = json.loads(self._shelf.note(_ACCOUNT + name) or "{}")
            except ValueError:
                return {}
            return found if isinstance(found, dict) else {}

    def set_account(self, name: str, value: dict[str, Any]) -> None:
        """Keep a small JSON object; it reaches the medium within seconds, usually together with a record."""
        with self._lock:
            self._shelf.notes[_ACCOUNT + name] = json.dumps(value)
