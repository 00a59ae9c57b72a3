"""What accepted records and presences say for the verdicts: runs of ticks, starts, goodbyes, signs of a bad link.

Fed by the worker after the store has taken a batch; what it found is written with the batch's promises, in one transaction
(`evidence.put_findings`), so that every acknowledged record counts exactly once. Runs are lengthened where they stand and
joined where two meet, so that a year of one center is some thousand rows.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import date
from typing import Final

from kerege_collector.causes import CAUSES
from kerege_collector.centers import ANY_KIND, Region, Thresholds
from kerege_collector.quality import Quality
from kerege_collector.stores import Row
from kerege_collector.timeline import DOWN, HELD_HEARTBEATS, PAIR_S, UNKNOWN, UP, Bad, Goodbye, Run, Start
from kerege_wire import Boot, Ping, Presence, Tick

MAX_EPOCHS: Final = 20_000
"""Most epochs whose runs are in memory, as of `books.Books`."""

HEARTBEAT_S: Final = 60
"""Of centers that are not registered."""

STRONG: Final = 4.0
"""Loss so many times the threshold needs no second sign: with ten packets a ping, one lost packet is no proof."""

Key = tuple[str, str]
"""(center, epoch)"""


@dataclass(slots=True)
class Findings:
    """What is to be written. dirty: center → (from, to, why): the spans that verdicts must look at again."""

    runs: list[tuple[str, Run]] = field(default_factory=list)
    gone: list[tuple[str, str, int]] = field(default_factory=list)
    starts: list[tuple[str, Start]] = field(default_factory=list)
    goodbyes: list[tuple[str, int, Goodbye]] = field(default_factory=list)
    bad: list[tuple[str, str, Bad]] = field(default_factory=list)
    quality: dict[tuple[str, date, bool], Quality] = field(default_factory=dict)
    dirty: dict[str, tuple[int, int, str]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.dirty)

    def touch(self, center: str, start_s: int, end_s: int, why: str) -> None:
        """Evidence has come that may change this span."""
        known = self.dirty.get(center)
        self.dirty[center] = (min(start_s, known[0]), max(end_s, known[1]), known[2]) if known else (start_s, end_s, why)


@dataclass(slots=True)
class _Epoch:
    """The runs of one epoch by their first and by their last number."""

    begins: dict[int, Run] = field(default_factory=dict)
    ends: dict[int, Run] = field(default_factory=dict)
    changed: set[int] = field(default_factory=set)
    written: set[int] = field(default_factory=set)

    def put(self, run: Run) -> None:
        self.begins[run.first_seq] = self.ends[run.last_seq] = run
        self.changed.add(run.first_seq)

    def take(self, run: Run) -> None:
        del self.begins[run.first_seq], self.ends[run.last_seq]


class Witness:
    """Used by the worker alone. load: the runs of an epoch as the ledger has them. region: the registry of the moment."""

    def __init__(self, load: Callable[[str, str], Iterable[Run]], region: Callable[[], Region]) -> None:
        self._load = load
        self._region = region
        self._epochs: OrderedDict[Key, _Epoch] = OrderedDict()
        self._touched: set[Key] = set()
        self._findings = Findings()

    def take(self, rows: Iterable[Row]) -> None:
        """These records are in the store. Raises RetryLater where the ledger is needed and away; then call `forget` and begin anew."""
        region = self._region()
        for row in rows:
            entry = region.centers.get(row.center)
            self._extend(row, int((entry.heartbeat_s if entry else HEARTBEAT_S) * HELD_HEARTBEATS))
            body = row.body
            if type(body) is Boot:
                self._start(row, body)
            elif type(body) is Ping:
                self._ping(row, body, region)

    def goodbye(self, center: str, presence: Presence, received_s: int) -> None:
        """An agent has said that it stops."""
        found = self._findings
        found.goodbyes.append((center, presence.birth, Goodbye(presence.epoch, received_s, presence.why)))
        found.touch(center, received_s, received_s, "goodbye")

    def findings(self) -> Findings:
        """All that was found since the last `committed`."""
        found = self._findings
        found.runs, found.gone = [], []
        for center, epoch in self._touched:
            known = self._epochs[center, epoch]
            held_s = self._held_s(center)
            for first_seq in sorted(known.changed):
                if first_seq in known.begins:
                    _join(known, known.begins[first_seq], held_s)
            for first_seq in known.changed:
                if first_seq in known.begins:
                    found.runs.append((center, known.begins[first_seq]))
                elif first_seq in known.written:
                    found.gone.append((center, epoch, first_seq))
        return found

    def committed(self) -> None:
        """The ledger has them."""
        for key in self._touched:
            known = self._epochs[key]
            known.written = (known.written | known.changed) & known.begins.keys()
            known.changed.clear()
        self._touched.clear()
        self._findings = Findings()
        while len(self._epochs) > MAX_EPOCHS:
            self._epochs.popitem(last=False)

    def forget(self) -> None:
        """What was found is not to be written: the batch has failed, and will come again."""
        for key in self._touched:
            self._epochs.pop(key, None)
        self._touched.clear()
        self._findings = Findings()

    # --- runs ---------------------------------------------------------------------------------------------------------

    def _held_s(self, center: str) -> int:
        entry = self._region().centers.get(center)
        return int((entry.heartbeat_s if entry else HEARTBEAT_S) * HELD_HEARTBEATS)

    def _epoch(self, key: Key) -> _Epoch:
        known = self._epochs.get(key)
        if known is None:
            known = _Epoch()
            for run in self._load(*key):
                known.begins[run.first_seq] = known.ends[run.last_seq] = run
            known.written = set(known.begins)
            self._epochs[key] = known
        else:
            self._epochs.move_to_end(key)
        self._touched.add(key)
        return known

    def _extend(self, row: Row, held_s: int) -> None:
        known = self._epoch((row.center, row.epoch))
        body = row.body
        state, cause = said(body) if type(body) is Tick else (None, None)
        run = Run(row.epoch, row.seq, row.seq, row.time, row.time, row.time, state, cause, row.clock, row.within_s)
        before = known.ends.get(row.seq - 1)
        if before is not None and joinable(before, run, held_s):
            known.take(before)
            run = joined(before, run)
        known.put(run)
        self._findings.touch(row.center, row.time, row.time, row.kind)

    # --- the rest -----------------------------------------------------------------------------------------------------

    def _start(self, row: Row, boot: Boot) -> None:
        start = Start(row.epoch, row.time, boot.cause, boot.stop, boot.why, boot.last_alive, boot.previous_epoch, boot.uptime_s)
        self._findings.starts.append((row.center, start))
        self._findings.touch(row.center, min(row.time, boot.last_alive or row.time), row.time, "boot")

    def _ping(self, row: Row, ping: Ping, region: Region) -> None:
        sign = judge_ping(row.time, ping, region.thresholds.get(row.center, ANY_KIND))
        if sign is not None:
            self._findings.bad.append((row.center, ping.target, sign))
            self._findings.touch(row.center, row.time - PAIR_S, row.time + PAIR_S, "ping")
        calendar = region.calendar(row.center)
        key = row.center, calendar.day_of(row.time), calendar.is_open(row.time)
        self._findings.quality.setdefault(key, Quality()).add(ping)


def said(tick: Tick) -> tuple[str, str | None]:
    """State and cause that a tick tells."""
    if tick.result == "online":
        return UP, None
    if tick.result == "offline":
        return DOWN, CAUSES.get(tick.broken or "")
    return UNKNOWN, None


def joinable(before: Run, after: Run, held_s: int) -> bool:
    """Can these two be one run? Records between which the machine may have slept never are."""
    if after.first_seq != before.last_seq + 1 or (before.clock, before.within_s) != (after.clock, after.within_s):
        return False
    if not 0 <= after.first_s - before.alive_s <= held_s:
        return False
    if after.state is None:
        return True
    return (before.state, before.cause) == (after.state, after.cause) and after.first_s - before.last_s <= held_s


def joined(before: Run, after: Run) -> Run:
    """Two runs as one."""
    last_s = before.last_s if after.state is None and before.state is not None else after.last_s
    return before._replace(last_seq=after.last_seq, last_s=last_s, alive_s=after.alive_s)


def judge_ping(time_s: int, ping: Ping, thresholds: Thresholds) -> Bad | None:
    """Is this a sign of a bad link? A target that answers nothing at all says nothing of the link: ticks do."""
    if not ping.sent or not ping.received:
        return None
    if thresholds.rtt_ms is not None and ping.rtt_p50_ms is not None and ping.rtt_p50_ms > thresholds.rtt_ms:
        return Bad(time_s, "rtt", strong=True)
    loss_percent = 100.0 * (ping.sent - ping.received) / ping.sent
    if thresholds.loss_percent is not None and loss_percent > thresholds.loss_percent:
        return Bad(time_s, "loss", strong=loss_percent >= STRONG * thresholds.loss_percent)
    return None


def _join(known: _Epoch, run: Run, held_s: int) -> None:
    """Join a changed run with those that follow it."""
    while (after := known.begins.get(run.last_seq + 1)) is not None and joinable(run, after, held_s):
        known.take(run)
        known.take(after)
        known.changed.add(after.first_seq)
        run = joined(run, after)
        known.put(run)
