"""When is a library's trouble an incident, and when is it over? Pure: what is seen now, and the incidents so far, in; changes out.

It goes by the arrival of reports: late records rewrite the timeline, never the alarm of now.

    out         open now, and silent for more than a heartbeat and its jitter, or offline by its ticks, or not heard since opening time
    opening     out for long enough (`Rules`), and another was heard meanwhile; not under maintenance, nor while we are in trouble
    common      several of one satellite, provider or district out within minutes, and more of them out than heard since: one incident
    unstable    opened again and again within an hour: it closes only after a long calm
    closing     up for `Rules.close_after_s`, or a goodbye: whoever switches the PC off has no outage
    own         the broker, the store or the ledger is away, or nobody at all is heard: one incident about us, none about them
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

SILENT: Final = "silent"
DOWN: Final = "down"
ABSENT: Final = "absent"
OWN: Final = "own"

CENTER: Final = "center"
SCOPES: Final = ("satellite", "provider", "district")
"""Kinds of a common cause, the most specific first."""

OPENED: Final = "opened"
CLOSED: Final = "closed"
CHANGED: Final = "changed"
UNSTABLE: Final = "unstable"
MERGED: Final = "merged"
NOTED: Final = "noted"
"""What can happen to an incident. changed: other libraries in a common one, or another cause. merged: it was the beginning of a common one,
and goes on in that. noted: to be remembered; neither of the two is told."""

NOBODY: Final = "nobody is heard"
"""The cause of an own incident in which all parts of ours seem well."""


@dataclass(frozen=True, slots=True)
class Rules:
    """Times in seconds; those in heartbeats are of the center's own heartbeat.

    A heartbeat of 60 s comes up to 66 s after the one before, and a tick over a bad link takes some seconds: silence counts after 1.35
    of them, so that a cut is told after 85 s at most. doubt_s: how long that waits for another library to be heard: proof that we hear.
    down_for_s: what it says of itself counts after so long; its agent has looked twice by then.
    """

    silent_heartbeats: float = 1.35
    late_heartbeats: float = 1.12
    doubt_s: int = 66
    down_for_s: int = 25
    absent_after_s: int = 3600
    close_after_s: int = 180
    flap_openings: int = 4
    flap_within_s: int = 3600
    calm_s: int = 1800
    common_centers: int = 3
    common_within_s: int = 180
    grace_s: int = 180
    hearing_s: int = 900


class Seen(NamedTuple):
    """One connected library at this moment.

    scopes: its satellite, provider and district where known. open_since_s: None while it is closed, 0 where
    it never is. state, cause, since_s: the board's.
    arrived_s: of the last report. away: it has said goodbye.
    """

    center: str
    scopes: Mapping[str, str]
    heartbeat_s: int
    open_since_s: int | None
    state: str
    cause: str | None
    since_s: int | None
    arrived_s: int | None
    away: bool


@dataclass(frozen=True, slots=True)
class Incident:
    """number: given by the ledger. scope: (`CENTER`, id), (a kind of `SCOPES`, its name), (`OWN`, ""). centers: id → out since.

    since_s: when it began; opened_s: when it became an incident; calm_s: since when all of its centers are back;
    closed_s: None while it lasts.
    """

    number: int
    scope: tuple[str, str]
    kind: str
    cause: str | None
    centers: Mapping[str, int]
    since_s: int
    opened_s: int
    calm_s: int | None = None
    unstable: bool = False
    closed_s: int | None = None


class Change(NamedTuple):
    """What has happened to an incident; the incident as it is now."""

    what: str
    incident: Incident


@dataclass(frozen=True, slots=True)
class World:
    """What is known from outside.

    own: what is wrong with ourselves, "" where nothing is; well_since_s: since when we are well. quiet: centers under maintenance.
    openings: center → when it got incidents within the last hour.
    """

    now_s: int
    seen: Sequence[Seen]
    own: str = ""
    well_since_s: int = 0
    quiet: frozenset[str] = frozenset()
    openings: Mapping[str, Sequence[int]] = field(default_factory=dict)


class Out(NamedTuple):
    """A library that is out: how, since when; ripe: for so long that it is an incident."""

    kind: str
    cause: str | None
    since_s: int
    ripe: bool


def step(world: World, open_incidents: Sequence[Incident], rules: Rules, numbers: Iterator[int]) -> list[Change]:
    """The changes of this moment. numbers: of new incidents."""
    out = {each.center: found for each in world.seen if (found := look(each, world, rules)) is not None}
    deaf = any(each.kind == OWN and each.cause == NOBODY for each in open_incidents)  # and so until somebody is heard
    own = world.own or (NOBODY if _nobody(world, out, rules, deaf=deaf) else "")
    changes = list(_own(own, world, open_incidents, numbers))
    if own or changes:  # once we hear again, the others need time to be heard: the caller's `World.well_since_s`
        return changes
    by_center = {each.center: each for each in world.seen}
    current = [_follow(each, by_center, out, world, rules) for each in open_incidents if each.scope[0] != OWN]
    changes += [change for _, change in current if change is not None]
    still_open = [incident for incident, _ in current if incident.closed_s is None]
    held = {center for incident in still_open for center in incident.centers}
    fresh = {center: found for center, found in out.items() if center not in held and center not in world.quiet}
    for center in [center for center, found in fresh.items() if _joinable(by_center[center], found, still_open, rules) is not None]:
        found = fresh.pop(center)
        joined = _joinable(by_center[center], found, still_open, rules)
        if joined is not None and found.ripe:
            grown = replace(joined, centers={**joined.centers, center: found.since_s}, calm_s=None)
            still_open = [grown if each is joined else each for each in still_open]
            changes = [change for change in changes if change.incident.number != joined.number] + [Change(CHANGED, grown)]
    if not _we_hear(fresh, world, rules):
        return changes
    early = _early(still_open, world, rules)
    candidates = fresh | {center: out[center] for center in early if center in out and center not in world.quiet}
    commons = list(_common(candidates, by_center, world, rules, numbers))
    grouped = {center for change in commons for center in change.incident.centers}
    merged = [Change(MERGED, replace(early[center], closed_s=world.now_s)) for center in sorted(grouped & early.keys())]
    over = {change.incident.number for change in merged}
    changes = [change for change in changes if change.incident.number not in over] + merged
    single = {center: found for center, found in fresh.items() if found.ripe and center not in grouped}
    changes += commons
    changes += [_open(next(numbers), (CENTER, center), {center: found}, world, rules) for center, found in single.items()]
    return changes


def _early(still_open: Iterable[Incident], world: World, rules: Rules) -> dict[str, Incident]:
    """Center → its own incident, where that may be the beginning of a common one: its heartbeat was due before those of the others."""
    return {
        incident.scope[1]: incident
        for incident in still_open
        if incident.scope[0] == CENTER and not incident.unstable and world.now_s - incident.opened_s <= rules.common_within_s
    }


def _we_hear(fresh: Mapping[str, Out], world: World, rules: Rules) -> bool:
    """Has anybody been heard since those that are silent should have been? Else it may be we who are deaf; but not for ever."""
    silent = [found for found in fresh.values() if found.kind == SILENT and found.ripe]
    if not silent:
        return True
    latest_s = max((each.arrived_s or 0 for each in world.seen), default=0)
    for each in world.seen:
        found = fresh.get(each.center)
        if found is not None and found.kind == SILENT and found.ripe:
            due_s = found.since_s + each.heartbeat_s
            doubted_s = found.since_s + each.heartbeat_s * rules.silent_heartbeats + rules.doubt_s
            if latest_s >= due_s or world.now_s >= doubted_s:
                return True
    return False


def look(seen: Seen, world: World, rules: Rules) -> Out | None:
    """Is this library out? Only while it is open and connected, and by what has come since we ourselves are well.

    One that was never heard has no agent yet: that is no outage, and the page says so.
    """
    heard_s, opened_s = seen.arrived_s, seen.open_since_s
    if opened_s is None or heard_s is None or world.now_s < world.well_since_s + rules.grace_s:
        return None
    if heard_s < opened_s - rules.hearing_s:  # a PC that is switched on early belongs to this opening
        return Out(ABSENT, None, opened_s, ripe=True) if world.now_s - opened_s >= rules.absent_after_s else None
    return None if seen.away else _unheard(seen, heard_s, world, rules)


def _unheard(seen: Seen, heard_s: int, world: World, rules: Rules) -> Out | None:
    """Is it offline by its own word, or silent?"""
    if seen.state == DOWN and seen.since_s is not None and world.now_s - heard_s <= seen.heartbeat_s * rules.silent_heartbeats:
        return Out(DOWN, seen.cause, seen.since_s, ripe=world.now_s - seen.since_s >= rules.down_for_s)
    silence_s = world.now_s - max(heard_s, world.well_since_s)
    if silence_s > seen.heartbeat_s * rules.late_heartbeats:
        return Out(SILENT, None, heard_s, ripe=silence_s >= seen.heartbeat_s * rules.silent_heartbeats)
    return None


def _nobody(world: World, out: Mapping[str, Out], rules: Rules, *, deaf: bool) -> bool:
    """Nobody at all is heard although several of different providers should be: it is we who are deaf, or their common day off.

    Who should be: those that were heard about when the last one was and did not say goodbye, and those that are absent today.
    """
    known = [each for each in world.seen if each.arrived_s is not None]
    if any(_is_heard(each, world, rules) for each in known):
        return False
    if deaf or not any(found.ripe for found in out.values()):
        return deaf
    latest_s = max((each.arrived_s or 0 for each in known), default=0)
    expected = [
        each
        for each in known
        if (not each.away and latest_s - (each.arrived_s or 0) <= rules.hearing_s + rules.grace_s)
        or (each.center in out and out[each.center].kind == ABSENT)
    ]
    return len(expected) >= rules.common_centers and len({each.scopes.get("provider") for each in expected}) > 1


def _is_heard(seen: Seen, world: World, rules: Rules) -> bool:
    return world.now_s - (seen.arrived_s or 0) <= seen.heartbeat_s * rules.late_heartbeats


def _own(own: str, world: World, open_incidents: Iterable[Incident], numbers: Iterator[int]) -> Iterator[Change]:
    ours = next((each for each in open_incidents if each.scope[0] == OWN), None)
    if own and ours is None:
        yield Change(OPENED, Incident(next(numbers), (OWN, ""), OWN, own, {}, world.now_s, world.now_s))
    elif not own and ours is not None:
        yield Change(CLOSED, replace(ours, closed_s=world.now_s))


def _follow(
    incident: Incident, seen: Mapping[str, Seen], out: Mapping[str, Out], world: World, rules: Rules
) -> tuple[Incident, Change | None]:
    """An incident that was open before: its centers come back, and when all have for long enough it closes."""
    back = {center for center in incident.centers if _is_back(incident, seen.get(center), center in out, world, rules)}
    staying = {center: since_s for center, since_s in incident.centers.items() if center not in back}
    if staying and back and incident.scope[0] != CENTER:
        smaller = replace(incident, centers=staying, calm_s=None)
        return smaller, Change(CHANGED, smaller)
    if staying:
        kind = next((out[center] for center in staying if center in out), None)
        turned = kind is not None and incident.scope[0] == CENTER and (kind.kind, kind.cause) != (incident.kind, incident.cause)
        now = replace(incident, calm_s=None)
        if kind is not None and turned:
            now = replace(now, kind=kind.kind, cause=kind.cause)
        return now, Change(CHANGED, now) if turned else Change(NOTED, now) if now != incident else None
    calm = incident if incident.calm_s is not None else replace(incident, calm_s=world.now_s)
    needed_s = rules.calm_s if incident.unstable else 0
    if world.now_s - (calm.calm_s or 0) >= needed_s:
        closed = replace(calm, closed_s=world.now_s)
        return closed, Change(CLOSED, closed)
    return calm, Change(NOTED, calm) if calm != incident else None


def _is_back(incident: Incident, seen: Seen | None, is_out: bool, world: World, rules: Rules) -> bool:  # noqa: FBT001 - as known
    if seen is None:
        return True  # no longer registered
    if incident.kind == ABSENT and (is_out or seen.open_since_s is None):
        return not is_out  # over with the day
    if seen.away:
        return True  # switched off in good order
    if is_out or seen.arrived_s is None or seen.state != "up" or seen.since_s is None:
        return False
    return world.now_s - seen.since_s >= rules.close_after_s and world.now_s - seen.arrived_s <= seen.heartbeat_s * rules.silent_heartbeats


def _common(fresh: Mapping[str, Out], seen: Mapping[str, Seen], world: World, rules: Rules, numbers: Iterator[int]) -> Iterator[Change]:
    left = {center: found for center, found in fresh.items() if found.kind != ABSENT}
    for kind in SCOPES:
        names = sorted({name for center in left if (name := seen[center].scopes.get(kind)) is not None})
        for name in names:
            mine = {center: found for center, found in left.items() if seen[center].scopes.get(kind) == name}
            group = _together(mine, rules)
            if len(group) < rules.common_centers or not any(found.ripe for found in group.values()):
                continue
            from_s = min(found.since_s + int(seen[center].heartbeat_s * rules.late_heartbeats) for center, found in group.items())
            fine = [
                each
                for each in seen.values()
                if each.scopes.get(kind) == name and each.center not in left and not each.away and (each.arrived_s or 0) > from_s
            ]
            if len(group) > len(fine):
                yield _open(next(numbers), (kind, name), group, world, rules)
                left = {center: found for center, found in left.items() if center not in group}


def _together(mine: Mapping[str, Out], rules: Rules) -> dict[str, Out]:
    """Those that went out within minutes of the last that did."""
    last_s = max((found.since_s for found in mine.values()), default=0)
    return {center: found for center, found in mine.items() if last_s - found.since_s <= rules.common_within_s}


def _joinable(seen: Seen, found: Out, open_incidents: Iterable[Incident], rules: Rules) -> Incident | None:
    """The common incident that this library belongs to: it went out with the others."""
    for incident in open_incidents:
        kind, name = incident.scope
        if kind in SCOPES and seen.scopes.get(kind) == name and abs(found.since_s - incident.since_s) <= rules.common_within_s:
            return incident
    return None


def _open(number: int, scope: tuple[str, str], group: Mapping[str, Out], world: World, rules: Rules) -> Change:
    since_s = min(found.since_s for found in group.values())
    first = min(group.values(), key=lambda found: (not found.ripe, found.since_s))
    centers = {center: found.since_s for center, found in group.items()}
    incident = Incident(number, scope, first.kind, first.cause, centers, since_s, world.now_s)
    if scope[0] == CENTER:
        lately = [at_s for at_s in world.openings.get(scope[1], ()) if world.now_s - at_s <= rules.flap_within_s]
        if len(lately) + 1 >= rules.flap_openings:
            return Change(UNSTABLE, replace(incident, unstable=True))
    return Change(OPENED, incident)
