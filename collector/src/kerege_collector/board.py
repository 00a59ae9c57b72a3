"""What each center looks like now, from what arrived last. The clock is passed in; times are seconds since 1970 UTC.

The last live tick decides: `up`, or `down` with its cause. A goodbye makes a center `off`; nothing for three heartbeats makes it
`unknown`; a will is only a hint that is shown. Backlog never changes the state of now. Verdicts over time are not made here.
"""

import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from kerege_collector.admit import HELD
from kerege_collector.causes import CAUSES
from kerege_collector.centers import Center
from kerege_collector.sightings import AHEAD_S, COULD_NOT, FRESH_WITHIN_S, LIVE_WITHIN_S, Sighting, restored
from kerege_wire import Host, Ping, Presence, Record, Report, Tick

log = logging.getLogger(__name__)

MEASURED_WITHIN_S: Final = 900
"""Numbers that were measured longer ago are not shown: three pings at their default cadence."""

TROUBLE_SHOWN_S: Final = 3600
"""How long the last trouble with a center's messages is shown."""

MAX_STRANGERS: Final = 1000
"""Most centers that are remembered without being registered: anybody who may write to the broker can invent ids."""

STATES: Final = ("up", "down", "unknown", "off")

_KAZAKH: Final = {letter: chr(0xE000 + place) for place, letter in enumerate("аәбвгғдеёжзийкқлмнңоөпрстуұүфхһцчшщъыіьэюя")}
_IN_ORDER: Final = str.maketrans(_KAZAKH)
"""Code points have the letters that Russian lacks behind all others; people look for Өскемен after О."""


@dataclass(frozen=True, slots=True)
class CenterRow:
    """One center as the page and the API show it. None: not known.

    since_s: when the state began: when it was measured, or for silence when the last report came. last_seen_s: arrival of that report.
    cause: of `down` the part that is broken, of `off` the reason given, of `unknown` why nothing is known.
    spool_records: records that wait at the center. gaps: sequence numbers that never came. rtt_ms, loss_percent: at most 15 minutes old.
    connection: ``lost`` when the broker said so after the last report. two_agents_since_s: two machines use this identity.
    trouble: why the last message of this center was not taken, within the last hour.
    """

    center: str
    name: str
    district: str | None
    provider: str | None
    link: str | None
    registered: bool
    state: str
    cause: str | None
    since_s: int | None
    last_seen_s: int | None
    rtt_ms: float | None
    loss_percent: float | None
    spool_records: int | None
    gaps: int
    connection: str | None
    two_agents_since_s: int | None
    trouble: str | None
    agent: str | None


class Board:
    """All centers. Any thread may call.

    centers: the registry of the moment. gaps: how many sequence numbers of a center never came, as the ledger knows.
    """

    def __init__(self, centers: Callable[[], Mapping[str, Center]], *, gaps: Callable[[str], int] = lambda _: 0) -> None:
        self._centers = centers
        self._gaps = gaps
        self._seen: dict[str, Sighting] = {}
        self._changed: set[str] = set()
        self._lock = threading.Lock()

    # --- what happens -------------------------------------------------------------------------------------------------

    def report(self, center: str, report: Report, received_s: int) -> None:
        """A report has arrived; its records may be of now or of last week."""
        with self._lock:
            seen = self._touch(center, received_s)
            if seen.is_silent(received_s):
                seen.begin_anew(received_s)
            seen.arrived_s = max(received_s, seen.arrived_s or 0)
            seen.spool_records = report.waiting
            if (alive_s := _alive_s(report, received_s)) is not None:
                self._say_conflict(center, seen, seen.alive(report.epoch, alive_s, received_s))
            if seen.connection == "lost":
                seen.connection = "online"
            if seen.trouble is not None and seen.trouble.startswith(f"{HELD}: "):
                seen.trouble = seen.trouble_s = None  # this one was taken
            if report.clock != "estimated":
                for record in report.records:
                    if received_s - LIVE_WITHIN_S <= record.time <= received_s + AHEAD_S:
                        _take(seen, record)

    def presence(self, center: str, presence: Presence, received_s: int) -> None:
        """A birth, a goodbye or a will: perhaps an old one that the broker had kept, so it never proves that a center lives now."""
        with self._lock:
            seen = self._touch(center, received_s)
            if presence.state == "online":
                self._say_conflict(center, seen, seen.born(presence.epoch, presence.birth, received_s))
                if seen.epoch == presence.epoch:
                    seen.agent = presence.agent or seen.agent
            elif presence.state == "goodbye":
                seen.goodbye(presence.epoch, presence.birth, presence.why, received_s)
            else:
                seen.lost(presence.epoch, presence.birth, received_s)

    def trouble(self, center: str, what: str, received_s: int) -> None:
        """A message of this center could not be taken: ``held: unknown center``, ``unreadable: not-json``..."""
        with self._lock:
            seen = self._touch(center, received_s)
            seen.trouble, seen.trouble_s = what, received_s

    def two_agents(self, center: str, now_s: int) -> bool:
        """Is there evidence, not older than an hour, of two agents with this identity?"""
        seen = self._seen.get(center)
        return seen is not None and seen.two_agents(now_s)

    def _touch(self, center: str, now_s: int) -> Sighting:
        self._changed.add(center)
        seen = self._seen.get(center)
        if seen is None:
            seen = self._seen[center] = Sighting()
            self._forget_strangers()
        seen.forget_future(now_s)
        return seen

    def _forget_strangers(self) -> None:
        registered = self._centers()
        if len(self._seen) <= len(registered) + MAX_STRANGERS:
            return
        for center in [center for center in self._seen if center not in registered][:-MAX_STRANGERS]:
            del self._seen[center]
            self._changed.discard(center)

    def _say_conflict(self, center: str, seen: Sighting, conflicting: str | None) -> None:
        if conflicting is not None:
            fields = {
                "center": center,
                "epochs": f"{conflicting},{seen.epoch}",
                "cure": "give the second machine a certificate and id of its own",
            }
            log.error("board.two_agents", extra={"fields": fields})

    # --- what is shown ------------------------------------------------------------------------------------------------

    def rows(self, now_s: int) -> list[CenterRow]:
        """Every registered center, silent ones too, and every other one that was seen; by name."""
        centers = self._centers()
        with self._lock:
            names = dict.fromkeys([*centers, *self._seen])
            rows = [self._row(name, centers.get(name), now_s) for name in names]
        return sorted(rows, key=lambda row: (sort_key(row.name), row.center))

    def _row(self, name: str, center: Center | None, now_s: int) -> CenterRow:
        seen = self._seen.get(name) or Sighting()
        seen.forget_future(now_s)
        state, cause, since_s = seen.state(now_s)
        # what was measured before a center went down says nothing of it now
        fresh_s = max(now_s - MEASURED_WITHIN_S, since_s or 0 if state == "down" else 0) if state in {"up", "down"} else now_s + 1
        return CenterRow(
            center=name,
            name=center.name if center else name,
            district=center.district if center else None,
            provider=center.provider if center else None,
            link=center.link_kind if center else None,
            registered=center is not None,
            state=state,
            cause=cause,
            since_s=since_s,
            last_seen_s=seen.arrived_s,
            rtt_ms=seen.rtt_ms if (seen.rtt_s or 0) >= fresh_s else None,
            loss_percent=seen.loss_percent(fresh_s),
            spool_records=None if seen.is_silent(now_s) else seen.spool_records,
            gaps=self._gaps(name),
            connection=seen.connection,
            two_agents_since_s=seen.conflict_since_s if seen.two_agents(now_s) else None,
            trouble=seen.trouble if now_s - (seen.trouble_s or 0) <= TROUBLE_SHOWN_S else None,
            agent=seen.agent,
        )

    # --- what outlives a restart --------------------------------------------------------------------------------------

    def snapshots(self) -> dict[str, Any]:
        """Center → JSON value, of the centers that changed since the last call."""
        with self._lock:
            changed = {name: self._seen[name].snapshot() for name in self._changed}
            self._changed.clear()
        return changed

    def restore(self, snapshots: Mapping[str, Any]) -> None:
        """Take up snapshots that were written before; what is not understood in them is left out."""
        with self._lock:
            for name, snapshot in snapshots.items():
                if (seen := restored(snapshot)) is not None:
                    self._seen[name] = seen


def counts(rows: Iterable[CenterRow]) -> dict[str, int]:
    """How many centers are in which state."""
    found = dict.fromkeys(STATES, 0)
    for row in rows:
        found[row.state] += 1
    return found


def sort_key(name: str) -> str:
    """Names in the order of the Kazakh alphabet."""
    return name.casefold().translate(_IN_ORDER)


def _alive_s(report: Report, received_s: int) -> int | None:
    """When the run that made this report was surely alive; None for backlog, which says nothing of now."""
    if not (report.records or report.refused):
        return received_s  # a question for the time, asked by whoever runs now
    if report.records and report.clock != "estimated":
        newest_s = report.records[-1].time
        return newest_s if received_s - FRESH_WITHIN_S <= newest_s <= received_s + AHEAD_S else None
    return None


def _take(seen: Sighting, record: Record) -> None:
    """What a live record says of now."""
    body = record.body
    if type(body) is Tick:
        _take_tick(seen, record.time, body)
    elif type(body) is Ping:
        _take_ping(seen, record.time, body)
    elif type(body) is Host:
        seen.spool_records = max(seen.spool_records or 0, body.spool_records or 0)


def _take_tick(seen: Sighting, time_s: int, tick: Tick) -> None:
    if seen.tick_s is not None and time_s <= seen.tick_s:
        return
    if tick.result == "online":
        seen.say("up", None, time_s)
    elif tick.result == "offline":
        seen.say("down", CAUSES.get(tick.broken or ""), time_s)
    else:
        seen.say("unknown", COULD_NOT, time_s)
    if (tick.rtt_ms is not None and tick.result == "online") or tick.result == "offline":
        seen.rtt_ms, seen.rtt_s = tick.rtt_ms, time_s


def _take_ping(seen: Sighting, time_s: int, ping: Ping) -> None:
    if ping.rtt_p50_ms is not None and time_s > (seen.rtt_s or 0):
        seen.rtt_ms, seen.rtt_s = ping.rtt_p50_ms, time_s
    if ping.sent and ping.received is not None:
        seen.note_loss(ping.target, time_s, 100.0 * max(ping.sent - ping.received, 0) / ping.sent)
