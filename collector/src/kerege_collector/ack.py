"""Acknowledgements: what is durable, what was refused, and the time; late and few, or at once where an agent asks (decision 6).

Each ack names the whole held ranges around what was just committed, so it makes good for all that were lost before it; the answer to
an empty report names all that is held of the epoch. Used by the worker alone, after the ledger has committed.
"""

import heapq
import itertools
import random
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from kerege_collector.admit import HELD, UNREADABLE, Admitted
from kerege_collector.books import Book, Key
from kerege_collector.seldom import Seldom
from kerege_wire import Ack, encode_ack
from kerege_wire.messages import MAX_RANGES
from kerege_wire.ranges import Range, RangeSet
from kerege_wire.topics import topic

EARLIEST: Final = 0.5
"""Acks are held back for a random time from this part of the longest to the whole of it, so that they do not all go at once."""

HOLD_EVERY_S: Final = 15.0
HOLD_BURST: Final = 8
"""A center that is held is answered at most this often in the long run, and so many times at once: whatever it sends, it would be a storm
for an agent that does not know what a hold is. One that does asks every five minutes, and at each new connection."""

UNREADABLE_EVERY_S: Final = 1.0
"""A center is told at most this often that something could not be read: an answer to every payload could become a storm."""

UNREADABLE_BURST: Final = 20
"""... but so many at once are answered."""

MAX_WAITING: Final = 20_000
"""Most acks held back at a time (some 1 kB each); beyond, the next is sent at once."""

Publish = Callable[[str, bytes], bool]


@dataclass(slots=True)
class _Waiting:
    """An ack that is being held back, for one epoch of one center. asked: by an empty report, which wants to know all that is held."""

    center: str
    epoch: str
    due_s: float
    book: Book | None = None
    touched: RangeSet = field(default_factory=RangeSet)
    asked: bool = False
    refused: dict[int, str] = field(default_factory=dict)
    sent: int | None = None
    received_ms: int = 0


class Acks:
    """The acks that are to be sent.

    publish: topic and payload to the broker, False where it is not connected. clock: ``synced`` or ``unsynced``.
    now_ms: UTC for the acks themselves; the times of `add` and `flush` are monotonic.
    """

    def __init__(self, publish: Publish, *, within_s: float, clock: Callable[[], str], now_ms: Callable[[], int]) -> None:
        self._publish = publish
        self._within_s = within_s
        self._clock = clock
        self._now_ms = now_ms
        self._waiting: dict[Key, _Waiting] = {}
        self._due: list[tuple[float, int, _Waiting]] = []
        self._order = itertools.count()
        self._held = Seldom(HOLD_EVERY_S, burst=HOLD_BURST)
        self._unread = Seldom(UNREADABLE_EVERY_S, burst=UNREADABLE_BURST)

    def __len__(self) -> int:
        """How many are held back."""
        return len(self._waiting)

    def add(self, admitted: Admitted, now_s: float) -> None:
        """This message is committed: acknowledge it now, or soon together with others."""
        if admitted.center is None:
            return
        if admitted.outcome == UNREADABLE:
            self._say_unreadable(admitted, now_s)
        elif admitted.outcome == HELD:
            self._say_held(admitted, now_s)
        elif admitted.report is not None:
            self._hold_back(admitted, now_s)

    def flush(self, now_s: float) -> None:
        """Send what is due."""
        while self._due and self._due[0][0] <= now_s:
            waiting = self._due[0][2]
            if self._is_current(waiting) and not self._send(waiting):
                return
            heapq.heappop(self._due)

    def flush_all(self) -> None:
        """Send all that is held back, as far as there is a connection: before a clean stop."""
        for waiting in list(self._waiting.values()):
            self._send(waiting)
        self._due = [item for item in self._due if self._is_current(item[2])]
        heapq.heapify(self._due)

    def next_due_s(self) -> float | None:
        """When `flush` has something to do next; None while nothing is held back."""
        return self._due[0][0] if self._due else None

    def _is_current(self, waiting: _Waiting) -> bool:
        return self._waiting.get((waiting.center, waiting.epoch)) is waiting

    def _hold_back(self, admitted: Admitted, now_s: float) -> None:
        report = admitted.report
        assert report is not None
        assert admitted.center is not None
        key = (admitted.center, report.epoch)
        waiting = self._waiting.get(key)
        if waiting is None:
            due_s = now_s + self._within_s * random.uniform(EARLIEST, 1.0)
            waiting = self._waiting[key] = _Waiting(*key, due_s)
            heapq.heappush(self._due, (due_s, next(self._order), waiting))
        waiting.book = admitted.book or waiting.book
        for row in admitted.rows:
            waiting.touched.add(row.seq)
        for seq in admitted.repeats:
            waiting.touched.add(seq)
        waiting.asked = waiting.asked or not (report.records or report.refused)
        waiting.refused.update(admitted.refused)
        if report.sent is not None:
            waiting.sent, waiting.received_ms = report.sent, admitted.received_ms
        if report.prompt or len(waiting.refused) >= MAX_RANGES or len(self._waiting) > MAX_WAITING:
            self._send(waiting)

    def _send(self, waiting: _Waiting) -> bool:
        for ack in self._acks(waiting):
            if not self._publish(topic(waiting.center, "ack"), encode_ack(ack)):
                return False
        del self._waiting[(waiting.center, waiting.epoch)]
        return True

    def _acks(self, waiting: _Waiting) -> Iterator[Ack]:
        """Usually one; more where there are more ranges or refusals than one may carry."""
        stored = _named(waiting)
        refused = sorted(waiting.refused.items())
        for start in range(0, max(len(stored), len(refused), 1), MAX_RANGES):
            part = slice(start, start + MAX_RANGES)
            yield Ack(
                waiting.epoch,
                *self._times(waiting.sent, waiting.received_ms),
                clock=self._clock(),
                stored=tuple(stored[part]),
                refused=tuple(refused[part]),
            )

    def _times(self, sent: int | None, received_ms: int) -> tuple[int | None, int | None, int | None]:
        """``sent``, ``received``, ``replied``; all absent where the agent did not say when it sent."""
        return (None, None, None) if sent is None else (sent, received_ms, self._now_ms())

    def _say_unreadable(self, admitted: Admitted, now_s: float) -> None:
        assert admitted.center is not None
        if admitted.quarantined and self._unread.allows(admitted.center, now_s):
            checksum = f"{zlib.crc32(admitted.quarantined[0].payload):08x}"
            ack = Ack(clock=self._clock(), unreadable=checksum, reason=admitted.reason)
            self._publish(topic(admitted.center, "ack"), encode_ack(ack))

    def _say_held(self, admitted: Admitted, now_s: float) -> None:
        assert admitted.center is not None
        if not self._held.allows(admitted.center, now_s):
            return
        report = admitted.report
        times = self._times(report.sent if report else None, admitted.received_ms)
        ack = Ack(report.epoch if report else None, *times, clock=self._clock(), hold=admitted.reason)
        self._publish(topic(admitted.center, "ack"), encode_ack(ack))


def _named(waiting: _Waiting) -> list[Range]:
    if waiting.book is None:
        return []
    if waiting.asked:
        return list(waiting.book.accepted)
    return waiting.book.accepted.around(first for first, _ in waiting.touched)
