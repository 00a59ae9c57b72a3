"""What to send next, and when: the window, the acknowledgements, resending, the backlog. No I/O but the spool's; the clock is passed in.

One connection goes through these phases:

greeting   an empty report asks for the time and for what the collector holds; nothing else is sent until it answers
open       newest first at once, then the backlog at a limited rate; later one report a tick with all that waits
held       the collector said `hold`: asked again every few minutes with an empty report
away       the collector announced that it is away: silence, but for an empty report every quarter of an hour

An acknowledgement that does not come in time leads back to the greeting, so that a collector that is gone costs 40 bytes a try and not
the backlog.
"""

import logging
import random
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from kerege_agent.rows import Row
from kerege_agent.window import UnderWay, Window
from kerege_wire import Ack, CollectorState, MisuseError, Record, Report, WireError, encode_report
from kerege_wire.ranges import Range

GREETING_TIMEOUT_MS: Final = 20_000
MAX_GREETING_TIMEOUT_MS: Final = 120_000
"""How long an answer to an empty report is waited for: doubled from the first to the second. A geostationary round trip is below 2 s."""

PROMPT_TIMEOUT_MS: Final = 60_000
MAX_PROMPT_TIMEOUT_MS: Final = 480_000
"""How long the ack of a report that wanted it at once is waited for: doubled while records stay unacknowledged."""

COALESCED_GRACE_MS: Final = 60_000
"""How much longer than ``ack_within_s`` a coalesced ack is waited for."""

HOLD_ASK_MS: Final = 300_000
"""While the collector holds this center: time between two empty reports."""

AWAY_ASK_MS: Final = 900_000
"""While the collector is announced away: time between two empty reports, in case nobody took the announcement back."""

LIVE_WAIT_MS: Final = 90_000
"""Records wait for the next tick to travel with it, but no longer than this (ticks may be switched off)."""

MAX_REPORT_BYTES: Final = 8_192
"""Largest payload that is built: a message lost on a bad link should cost little."""

_JITTER: Final = 0.2
_REMEMBERED_SENDS: Final = 64
_log = logging.getLogger(__name__)


class Queue(Protocol):
    """What delivery needs of the spool."""

    produced: int
    latest_tick: int

    @property
    def epoch(self) -> str: ...
    @property
    def depth(self) -> int: ...
    def newest(self, limit: int, without: "set[int]") -> list[int]: ...
    def load(self, keys: Sequence[int]) -> list[Row]: ...
    def settle(self, epoch: str, stored: Sequence[Range], refused: Sequence[tuple[int, str]]) -> int: ...
    def give_up(self, key: int, reason: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast: reports under way, records a report, backlog reports a second, longest random delay before a backlog."""

    window: int = 4
    batch_records: int = 100
    backlog_reports_per_s: float = 2.0
    backlog_start_delay_s: float = 10.0


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A report to publish; ``sent`` (ms) names it from now on."""

    sent: int
    payload: bytes
    records: int


class Delivery:
    """Of one run of the agent, over all its connections. Used by the uplink's thread only."""

    def __init__(self, queue: Queue, *, center: str, pace: Pace, chance: random.Random | None = None) -> None:
        self.phase = "greeting"
        self.ack_within_s = CollectorState("ready").ack_within_s
        self._queue = queue
        self._center = center
        self._pace = pace
        self._random = chance or random.Random()
        self._window = Window()
        self._sent_boots: dict[int, str] = {}
        self._last_sent = 0
        self._introduced = False
        self._away_after = 0
        self._greeting_timeout_ms = GREETING_TIMEOUT_MS
        self._prompt_timeout_ms = PROMPT_TIMEOUT_MS
        self._ask_at_ms = 0
        self._mark: int | None = None
        self._live_seen = 0
        self._live_since_ms: int | None = None
        self._draining = False
        self._drain_at_ms = 0
        self._alone: list[int] = []
        self._unknown: set[int] = set()

    # --- events ---

    def connected(self, now_ms: int) -> None:
        """A new connection: everything that is not acknowledged may be sent again, once the collector has answered."""
        self._window.clear()
        self._sent_boots.clear()
        self._introduced = False
        self._greet(now_ms)
        self._greeting_timeout_ms = GREETING_TIMEOUT_MS

    def published(self, sent: int) -> None:
        """The broker has a report: it leaves the window unless its ack is wanted at once."""
        self._window.published(sent)

    def sent_in(self, ack: Ack, boot_id: str) -> int | None:
        """``sent`` of the report that an ack answers, where it was sent on this connection and in this boot: fit to learn the time from."""
        return ack.sent if ack.sent is not None and self._sent_boots.get(ack.sent) == boot_id else None

    def acknowledged(self, ack: Ack, now_ms: int) -> None:
        """An ack has come."""
        if ack.epoch is not None and (ack.stored or ack.refused):
            if self._queue.settle(ack.epoch, ack.stored, ack.refused):
                self._prompt_timeout_ms = PROMPT_TIMEOUT_MS
            self._window.acknowledge(ack)
        if ack.unreadable is not None:
            self._unreadable(ack.unreadable, ack.reason or "", now_ms)
        if ack.hold is not None:
            self._hold(ack.hold, now_ms)
        elif ack.unreadable is None and (
            self.phase in {"greeting", "held"} or (self.phase == "away" and (ack.sent or 0) > self._away_after)
        ):
            self._open()

    def announced(self, state: CollectorState, now_ms: int, *, fresh: bool = True) -> None:
        """The collector has said whether it is there. ``fresh``: just now, and not some time ago with the broker keeping it for us."""
        self.ack_within_s = state.ack_within_s
        if state.state == "away" and self.phase != "away":
            _log.info("uplink.collector_away")
            self.phase = "away"
            self._away_after = self._last_sent
            self._window.clear()
            self._ask_at_ms = now_ms + self._jittered(AWAY_ASK_MS)
        elif state.state == "ready" and self.phase == "away":
            _log.info("uplink.collector_ready")
            self._greet(now_ms + self._delay_ms())
        elif state.state == "ready" and self.phase == "greeting" and fresh:  # it did not hear what was asked before
            self._ask_at_ms = min(self._ask_at_ms, now_ms + self._delay_ms())

    def _unreadable(self, crc: str, reason: str, now_ms: int) -> None:
        for keys in self._window.unreadable(crc):
            _log.error("uplink.payload_unreadable", extra={"fields": {"records": len(keys), "reason": reason}})
            if len(keys) == 1:
                self._queue.give_up(keys[0], f"unreadable: {reason}")
            else:
                self._alone += keys
                self._draining = True
                self._drain_at_ms = max(self._drain_at_ms, now_ms)

    def _hold(self, reason: str, now_ms: int) -> None:
        if self.phase != "held":
            _log.warning("uplink.held", extra={"fields": {"reason": reason}})
        self.phase = "held"
        self._window.clear()
        self._ask_at_ms = now_ms + self._jittered(HOLD_ASK_MS)

    def _jittered(self, span_ms: int) -> int:
        return int(span_ms * self._random.uniform(1 - _JITTER, 1 + _JITTER))

    def _greet(self, at_ms: int) -> None:
        self.phase = "greeting"
        self._ask_at_ms = at_ms

    def _open(self) -> None:
        self.phase = "open"
        self._greeting_timeout_ms = GREETING_TIMEOUT_MS
        self._mark = None
        self._draining = False

    def _delay_ms(self) -> int:
        return int(self._random.uniform(0, self._pace.backlog_start_delay_s) * 1000)

    # --- what next ---

    def wait_ms(self, now_ms: int) -> int:
        """How long there will be nothing new to send unless something happens; for the caller's select."""
        if self.phase == "open":
            due_ms = self._drain_at_ms if self._draining and not self._window_full else now_ms + LIVE_WAIT_MS
        else:
            due_ms = self._ask_at_ms
        return max(0, due_ms - now_ms)

    def next(self, now_ms: int, boot_id: str) -> Outgoing | None:
        """The report to send now, None where there is nothing to send yet."""
        self._expire(now_ms)
        if self.phase == "open":
            outgoing = self._records(now_ms)
        elif now_ms >= self._ask_at_ms:
            outgoing = self._question(now_ms)
        else:
            return None
        if outgoing is not None:
            self._sent_boots[outgoing.sent] = boot_id
            if len(self._sent_boots) > _REMEMBERED_SENDS:
                del self._sent_boots[next(iter(self._sent_boots))]
        return outgoing

    def _expire(self, now_ms: int) -> None:
        late = self._window.expire(now_ms)
        if not late:
            return
        _log.info("uplink.ack_late", extra={"fields": {"reports": late}})
        self._prompt_timeout_ms = min(2 * self._prompt_timeout_ms, MAX_PROMPT_TIMEOUT_MS)
        if self.phase == "open":
            self._greet(now_ms)

    def _question(self, now_ms: int) -> Outgoing:
        report = Report(
            epoch=self._queue.epoch,
            sent=self._stamp(now_ms),
            center=None if self._introduced else self._center,
            waiting=self._queue.depth,
            ack="now",
        )
        self._introduced = True
        if self.phase == "held":
            self._ask_at_ms = now_ms + self._jittered(HOLD_ASK_MS)
        elif self.phase == "away":
            self._ask_at_ms = now_ms + self._jittered(AWAY_ASK_MS)
        else:
            self._ask_at_ms = now_ms + self._greeting_timeout_ms
            self._greeting_timeout_ms = min(2 * self._greeting_timeout_ms, MAX_GREETING_TIMEOUT_MS)
        return Outgoing(self._last_sent, encode_report(report), 0)

    def _stamp(self, now_ms: int) -> int:
        """``sent`` of the next report: now, or a millisecond on where that is taken."""
        self._last_sent = max(now_ms, self._last_sent + 1)
        return self._last_sent

    @property
    def _window_full(self) -> bool:
        return self._window.filled >= (self._pace.window if self._prompt_timeout_ms == PROMPT_TIMEOUT_MS else 1)

    def _records(self, now_ms: int) -> Outgoing | None:
        if self._window_full:
            return None
        if self._mark is None:
            return self._first(now_ms)
        if self._live_due(now_ms):
            return self._live(now_ms)
        if self._draining and now_ms >= self._drain_at_ms:
            return self._backlog(now_ms)
        return None

    def _first(self, now_ms: int) -> Outgoing | None:
        """Right after the collector's answer: the newest records at once, whatever they are; the rest is backlog."""
        keys = self._unsent(self._pace.batch_records + 1)
        self._mark = max(keys, default=0)
        self._live_seen = self._queue.produced
        self._live_since_ms = None
        self._draining = len(keys) > self._pace.batch_records or bool(self._alone)
        self._drain_at_ms = now_ms + self._delay_ms()
        outgoing, left = self._build(keys[: self._pace.batch_records], now_ms)
        self._draining = self._draining or left
        return outgoing

    def _live_due(self, now_ms: int) -> bool:
        if self._mark is not None and self._queue.latest_tick > self._mark:
            return True
        if self._queue.produced != self._live_seen and self._live_since_ms is None:
            self._live_since_ms = now_ms
        return self._live_since_ms is not None and now_ms - self._live_since_ms >= LIVE_WAIT_MS

    def _live(self, now_ms: int) -> Outgoing | None:
        """The tick, and all that has waited for it."""
        self._live_since_ms = None
        self._live_seen = self._queue.produced
        assert self._mark is not None
        unsent = self._unsent(self._pace.batch_records + 1)
        keys = [key for key in unsent if key > self._mark]
        if len(keys) < len(unsent) and not self._draining:  # a full disk held them back when the backlog went: their times were not durable
            self._draining, self._drain_at_ms = True, now_ms
        if not keys:
            return None
        self._mark = max(keys)
        outgoing, left = self._build(keys[: self._pace.batch_records], now_ms)
        if left or len(keys) > self._pace.batch_records:
            self._draining = True
        return outgoing

    def _backlog(self, now_ms: int) -> Outgoing | None:
        self._drain_at_ms = now_ms + int(1000 / self._pace.backlog_reports_per_s)
        if self._alone:
            outgoing, _ = self._build([self._alone.pop()], now_ms)
            return outgoing
        assert self._mark is not None
        keys = [key for key in self._unsent(self._pace.batch_records) if key <= self._mark]
        if not keys:
            self._draining = False
            return None
        outgoing, _ = self._build(keys, now_ms)
        return outgoing

    def _unsent(self, limit: int) -> list[int]:
        return self._queue.newest(limit, self._window.keys.union(self._alone, self._unknown))

    def _build(self, keys: Sequence[int], now_ms: int) -> tuple[Outgoing | None, bool]:
        """A report of the newest of ``keys`` (newest first) that may travel together; were any left out?"""
        rows, records = self._readable(keys)
        if not rows:
            return None, bool(keys)
        payload, taken = b"", len(rows)
        while True:
            report = self._report(rows[:taken], records[:taken], now_ms)
            try:
                payload = encode_report(report)
            except MisuseError as error:
                if taken == 1:
                    self._queue.give_up(rows[0].key, str(error)[:60])
                    return None, len(rows) > 1
            if taken == 1 or 0 < len(payload) <= MAX_REPORT_BYTES:
                break
            taken //= 2
        self._depart(report, rows[:taken], payload, now_ms)
        return Outgoing(self._last_sent, payload, taken), taken < len(keys)

    def _readable(self, keys: Sequence[int]) -> tuple[list[Row], list[Record]]:
        """The newest rows of one epoch and one quality of time, and what they say."""
        rows: list[Row] = []
        records: list[Record] = []
        for row in sorted(self._queue.load(keys), key=lambda row: row.key, reverse=True):
            if rows and (row.epoch, row.clock, row.within_s) != (rows[0].epoch, rows[0].clock, rows[0].within_s):
                break
            try:
                records.append(row.record())
            except (WireError, ValueError, TypeError) as error:
                # of a newer version, before a downgrade: kept in the spool for the next upgrade
                _log.error("uplink.record_unknown", extra={"fields": {"epoch": row.epoch, "seq": row.seq, "error": str(error)}})
                self._unknown.add(row.key)
                continue
            rows.append(row)
        return rows, records

    def _report(self, rows: Sequence[Row], records: Sequence[Record], now_ms: int) -> Report:
        waiting = self._queue.depth - len(rows) - len(self._unknown) - len(self._window.keys)
        return Report(
            epoch=rows[0].epoch,
            sent=max(now_ms, self._last_sent + 1),
            waiting=max(0, waiting),
            ack="now" if self._draining or waiting > 0 else None,
            clock=rows[0].clock,
            within_s=rows[0].within_s,
            records=tuple(reversed(records)),
        )

    def _depart(self, report: Report, rows: Sequence[Row], payload: bytes, now_ms: int) -> None:
        sent = self._stamp(now_ms)
        patience_ms = self._prompt_timeout_ms if report.prompt else self.ack_within_s * 1000 + COALESCED_GRACE_MS
        under_way = UnderWay(
            epoch=report.epoch,
            keys={row.seq: row.key for row in rows},
            crc=f"{zlib.crc32(payload):08x}",
            prompt=report.prompt,
            deadline_ms=now_ms + patience_ms,
        )
        self._window.add(sent, under_way)
