"""Incidents and notices against the truth: false ones, missed ones, how late, and whether what was one thing was told as one. Pure.

Outage      a time in opening hours when a library was out (see `truth`) and somebody should be told
Stay        a time that a library spent in one incident
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from kerege_collector.incident import CLOSED, MERGED
from kerege_lab.simulate.accuracy import SEEMS_UP
from kerege_lab.simulate.truth import Fact, outs
from kerege_lab.simulate.world import Common, Span, World

RECENT_S: Final = 90
"""An incident is right where its library was out at some time so shortly before."""

NOTABLE_S: Final = 180
"""An outage so long must be told; a shorter one may pass between two heartbeats."""

GRACE_S: Final = 180
"""Once the broker or the collector is back, the centers have so long to be heard again."""

ABSENT_S: Final = 3600
"""Where nobody was heard since opening, it is told after so long that nobody came."""

EARLY_S: Final = 900
"""A PC that is switched on so long before opening belongs to it."""

OVER: Final = frozenset({CLOSED, MERGED})
"""What ends an incident, as far as its libraries are concerned."""


class Stay(NamedTuple):
    """end_s: None where it lasts."""

    center: str
    incident: int
    start_s: int
    end_s: int | None


class Outage(NamedTuple):
    """In opening hours. heard: since about their beginning the library was. fresh: this is when it began. sleep: for no other reason."""

    center: str
    start_s: int
    end_s: int
    heard: bool
    fresh: bool
    sleep: bool


class Event(NamedTuple):
    """Something happened to an incident, and these were its centers then."""

    incident: int
    time_s: int
    what: str
    centers: frozenset[str]


@dataclass(frozen=True, slots=True)
class Told:
    """How an outage that many had in common was told: in how many incidents and notices, and how many of its libraries in one incident."""

    scope: str
    name: str
    centers: int
    together: int
    incidents: int
    first_notices: int

    @property
    def as_one(self) -> bool:
        return self.incidents == 1 and self.together == self.centers


@dataclass(frozen=True, slots=True)
class Alarms:
    """false_offline: incidents that a library got without being out; missed_offline: outages without an incident."""

    outages: int
    false_offline: Sequence[Stay]
    missed_offline: Sequence[Outage]
    cut_to_notice_s: Sequence[int]
    untold: Sequence[Stay]


def stays(events: Iterable[Event]) -> list[Stay]:
    """What the events of all incidents, in order of time, say of each library; an incident that closes ends them all."""
    since: dict[tuple[int, str], int] = {}
    found = []
    for event in events:
        now = frozenset[str]() if event.what in OVER else event.centers
        for incident, center in [key for key in since if key[0] == event.incident and key[1] not in now]:
            found.append(Stay(center, incident, since.pop((incident, center)), event.time_s))
        for center in now:
            since.setdefault((event.incident, center), event.time_s)
    found += [Stay(center, incident, start_s, None) for (incident, center), start_s in since.items()]
    return sorted(found, key=lambda stay: (stay.start_s, stay.center))


def outages(world: World, center: str, facts: Sequence[Fact]) -> Iterator[Outage]:
    """Of one library, what should be told: outside of planned work, while we could hear of it, and for long enough."""
    calendar = world.calendars[center]
    deaf = [Span(span.start_s, span.end_s + GRACE_S, span.what) for span in (world.broker_away, world.collector_away)]
    quiet = [*deaf, *([world.maintenance] if world.maintenance.what == center else [])]
    for out in outs(facts):
        for open_s, close_s in calendar.open_spans(out.start_s, out.end_s):
            heard = any(fact.state in SEEMS_UP and fact.end_s > open_s - EARLY_S for fact in facts if fact.start_s < out.start_s)
            for start_s, end_s in _without((open_s, close_s), quiet):
                if end_s - start_s >= (NOTABLE_S if heard else ABSENT_S + NOTABLE_S):
                    yield Outage(center, start_s, end_s, heard=heard, fresh=start_s == out.start_s, sleep=out.asleep)


def alarms(
    world: World, facts: Mapping[str, Sequence[Fact]], found: Sequence[Stay], sent: Mapping[int, Sequence[tuple[int, int]]]
) -> Alarms:
    """Of a whole world. facts: of each center; sent: incident → (made_s, sent_s) of its notices."""
    found = [stay for stay in found if stay.start_s < world.end_s]  # later nobody knows what is so
    due = [outage for center in facts for outage in outages(world, center, facts[center])]
    mine = {center: [stay for stay in found if stay.center == center] for center in facts}
    delays, untold = [], []
    for outage in due:
        if outage.sleep or not (outage.heard and outage.fresh) or any(_holds(stay, outage.start_s) for stay in mine[outage.center]):
            continue
        stay = next((stay for stay in mine[outage.center] if outage.start_s < stay.start_s < outage.end_s + GRACE_S), None)
        if stay is None:
            continue
        told_s = min((sent_s for made_s, sent_s in sent.get(stay.incident, ()) if made_s >= stay.start_s), default=None)
        if told_s is None:
            untold.append(stay)
        else:
            delays.append(told_s - outage.start_s)
    return Alarms(
        outages=sum(not outage.sleep for outage in due),
        false_offline=[stay for stay in found if not _is_right(world, facts[stay.center], stay)],
        missed_offline=[each for each in due if not each.sleep and not any(_meet(stay, each) for stay in mine[each.center])],
        cut_to_notice_s=sorted(delays),
        untold=untold,
    )


def told(
    common: Common, facts: Mapping[str, Sequence[Fact]], world: World, events: Sequence[Event], notices: Iterable[tuple[int, int]]
) -> Told:
    """How something that hit many was told. notices: (incident, made_s) of those that say that an incident has begun.

    An incident that was merged with a later one is a part of that, though its notice has gone out.
    """
    window = range(common.start_s, common.end_s + GRACE_S)
    hit = {center for center in common.centers if _was_hit(world, center, facts[center], common)}
    here = [event for event in events if event.time_s in window and event.centers & hit and event.what not in OVER]
    opened = {event.incident for event in events if event.time_s in window and event.what in {"opened", "unstable"} and event.centers & hit}
    merged = {event.incident for event in events if event.what == MERGED}
    together = max((len(event.centers & hit) for event in here), default=0)
    first = sum(incident in opened and made_s in window for incident, made_s in notices)
    return Told(common.scope, common.name, len(hit), together, len(opened - merged), first)


def _was_hit(world: World, center: str, facts: Sequence[Fact], common: Common) -> bool:
    """It worked and was open when that began, and was out for long enough."""
    before = facts[bisect_left(facts, common.start_s, key=lambda fact: fact.end_s)]
    return before.state in SEEMS_UP and any(
        common.start_s - 1 <= outage.start_s <= common.start_s + RECENT_S and outage.end_s - outage.start_s >= NOTABLE_S
        for outage in outages(world, center, facts)
    )


def _is_right(world: World, facts: Sequence[Fact], stay: Stay) -> bool:
    """It was open, not under planned work, and lately out; or nobody had come since it opened."""
    calendar, at_s = world.calendars[stay.center], stay.start_s
    if not calendar.is_open(at_s) or (world.maintenance.what == stay.center and world.maintenance.holds(at_s)):
        return False
    if any(out.start_s <= at_s and out.end_s > at_s - RECENT_S for out in outs(facts)):
        return True
    now = next(fact for fact in facts if fact.start_s <= at_s < fact.end_s)
    return now.state == "off" and at_s - max(now.start_s, calendar.open_since(at_s) or 0) >= ABSENT_S


def _without(span: tuple[int, int], holes: Sequence[Span]) -> Iterator[tuple[int, int]]:
    """What is left of a span."""
    at_s, end_s = span
    for hole in sorted(holes):
        if hole.start_s < end_s and hole.end_s > at_s:
            if hole.start_s > at_s:
                yield at_s, hole.start_s
            at_s = hole.end_s
    if at_s < end_s:
        yield at_s, end_s


def _holds(stay: Stay, time_s: int) -> bool:
    return stay.start_s <= time_s and (stay.end_s is None or time_s < stay.end_s)


def _meet(stay: Stay, outage: Outage) -> bool:
    """One that is told up to a while after its end counts."""
    return stay.start_s < outage.end_s + GRACE_S and (stay.end_s is None or stay.end_s > outage.start_s)
