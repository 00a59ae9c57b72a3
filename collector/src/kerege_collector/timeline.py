"""Evidence in, gapless intervals out: in what state a center was at each second, and why. Pure; docs/verdicts.md has the rules.

Everything that is known makes *claims* on spans of time. Each claim has a rank, its place in the table of precedence; at each second the
highest rank decides, and where there is no claim nothing is known. Of equal ranks the better state counts: if one witness reached the
Internet, the link worked. So neither the order in which evidence arrives nor how it is cut into runs can change the outcome.
"""

import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Final, NamedTuple

UP: Final = "up"
DEGRADED: Final = "degraded"
DOWN: Final = "down"
OFF: Final = "off"
UNKNOWN: Final = "unknown"
STATES: Final = (UP, DEGRADED, DOWN, OFF, UNKNOWN)

SHUTDOWN: Final = "shutdown"
POWER: Final = "power"
AGENT: Final = "agent"
NOT_CONNECTED: Final = "not-connected"

HELD_HEARTBEATS: Final = 2.5
"""A tick speaks for the time until the next one, if that comes within so many heartbeats: two may be late or lost, no more."""

ALONE_HEARTBEATS: Final = 0.5
"""Where no neighbour follows, a tick speaks for so much on either side: on average as long as what ended the run took to come."""

PING_S: Final = 300
"""How often a link's quality is measured: one measurement speaks for half of this on either side."""

PAIR_S: Final = 450
"""Two weak signs of a bad link that are no further apart count as one strong."""

# ranks: the table of precedence in docs/verdicts.md, the strongest first
SYNCED_TICK: Final = 90
UNSYNCED_TICK: Final = 80
ESTIMATED_TICK: Final = 70
BOOT: Final = 60
ASLEEP: Final = 50
GOODBYE: Final = 40
STANDING: Final = 20
MISSING: Final = 10

TICK_RANKS: Final = {"synced": SYNCED_TICK, "unsynced": UNSYNCED_TICK, "estimated": ESTIMATED_TICK}


class Run(NamedTuple):
    """Records of one epoch that follow each other without a missing number, between two changes of what the ticks say.

    first_s, last_s: of its ticks; for a run without a tick (``state`` None) of its records. alive_s: of its last record of any kind.
    """

    epoch: str
    first_seq: int
    last_seq: int
    first_s: int
    last_s: int
    alive_s: int
    state: str | None
    cause: str | None
    clock: str
    within_s: int | None


class Start(NamedTuple):
    """A boot record: the agent started at ``time_s``; what it found out about the run before (see `kerege_wire.Boot`)."""

    epoch: str
    time_s: int
    cause: str | None
    stop: str | None
    why: str | None
    last_alive_s: int | None
    previous_epoch: str | None
    uptime_s: int | None


class Goodbye(NamedTuple):
    """An agent said that it stops; time_s: when that arrived."""

    epoch: str
    time_s: int
    why: str | None


class Bad(NamedTuple):
    """A measurement of the link that was worse than it should be. strong: it needs no second one."""

    time_s: int
    why: str
    strong: bool


class Correction(NamedTuple):
    """A person knows better what it was in this span, where nothing proves that the Internet was there."""

    start_s: int
    end_s: int
    state: str
    cause: str | None


class Standing(NamedTuple):
    """A span in which the library is registered and has no link."""

    start_s: int
    end_s: int


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that is known of one center around a window. heartbeat_s: how often its agent ticks."""

    runs: Sequence[Run] = ()
    starts: Sequence[Start] = ()
    goodbyes: Sequence[Goodbye] = ()
    bad: Sequence[Bad] = ()
    corrections: Sequence[Correction] = ()
    standing: Sequence[Standing] = ()
    heartbeat_s: int = 60


class Interval(NamedTuple):
    """In [start_s, end_s) the center was in this state. rule: which kind of evidence decided, by its name in docs/verdicts.md."""

    start_s: int
    end_s: int
    state: str
    cause: str | None
    rule: str


class _Claim(NamedTuple):
    start_s: int
    end_s: int
    rank: int
    state: str
    cause: str | None
    rule: str


def intervals(evidence: Evidence, start_s: int, end_s: int) -> list[Interval]:
    """The state of each second in [start_s, end_s): gapless, disjoint, in order, neighbours different.

    What lies outside the window counts as far as it speaks for a second inside: runs next to it, the boot that ends a silence.
    """
    found = _decide(_claims(evidence, end_s), start_s, end_s)
    found = _degrade(found, _bad_spans(evidence.bad))
    found = _correct(found, evidence.corrections)
    return _joined(found)


def seconds(found: Iterable[Interval]) -> dict[tuple[str, str | None], int]:
    """How many seconds of each state and cause."""
    total: dict[tuple[str, str | None], int] = {}
    for interval in found:
        key = interval.state, interval.cause
        total[key] = total.get(key, 0) + interval.end_s - interval.start_s
    return total


# --- claims -------------------------------------------------------------------------------------------------------------


def _claims(evidence: Evidence, end_s: int) -> list[_Claim]:
    ordered = sorted(evidence.runs, key=lambda run: (run.epoch, run.first_seq, run.first_s))
    epochs = {epoch: list(runs) for epoch, runs in groupby(ordered, key=lambda run: run.epoch)}
    started = {start.epoch: start for start in sorted(evidence.starts, key=repr)}
    claims: list[_Claim] = []
    for epoch, runs in epochs.items():
        claims += _epoch_claims(runs, started.get(epoch), evidence.heartbeat_s)
    claims += _start_claims(evidence, epochs)
    claims += _goodbye_claims(evidence, epochs, end_s)
    claims += [_Claim(each.start_s, each.end_s, STANDING, UNKNOWN, NOT_CONNECTED, "standing") for each in evidence.standing]
    return claims


def _epoch_claims(runs: Sequence[Run], start: Start | None, heartbeat_s: int) -> Iterator[_Claim]:
    """What the records of one epoch say of their time."""
    ticked = [run for run in runs if run.state is not None]
    alone_s, held_s = int(heartbeat_s * ALONE_HEARTBEATS), int(heartbeat_s * HELD_HEARTBEATS)
    if ticked:
        begun_s = _host_start(start) if start is not None else ticked[0].first_s - alone_s
        yield _said(ticked[0], max(begun_s, ticked[0].first_s - heartbeat_s), ticked[0].first_s)
        yield _said(ticked[-1], ticked[-1].first_s, ticked[-1].last_s + alone_s)
    for before, after in pairwise(ticked):
        yield _said(before, before.first_s, before.last_s)
        gap_s = after.first_s - before.last_s
        if gap_s > held_s:
            yield _said(before, before.last_s, before.last_s + alone_s)
            yield _said(after, after.first_s - alone_s, after.first_s)
        elif (before.state, before.cause) == (after.state, after.cause):
            yield _said(before, before.last_s, after.first_s)
        else:  # a change that nobody saw lies at most a heartbeat after the last that said otherwise
            change_s = min(after.first_s, before.last_s + heartbeat_s)
            yield _said(before, before.last_s, change_s)
            yield _said(after, change_s, after.first_s)
    for before, after in pairwise(runs):
        yield from _silence(before, after, held_s)


def _said(run: Run, start_s: int, end_s: int) -> _Claim:
    return _Claim(start_s, end_s, TICK_RANKS.get(run.clock, ESTIMATED_TICK), run.state or UNKNOWN, run.cause, "tick")


def _silence(before: Run, after: Run, held_s: int) -> Iterator[_Claim]:
    """Between two records of one epoch. Without a missing number nothing was measured: the machine slept."""
    if after.first_seq > before.last_seq + 1:
        yield _Claim(before.alive_s, after.first_s, MISSING, UNKNOWN, None, "missing")
    elif after.first_s - before.alive_s > held_s:
        yield _Claim(before.alive_s, after.first_s, ASLEEP, OFF, SHUTDOWN, "asleep")


def _start_claims(evidence: Evidence, epochs: dict[str, list[Run]]) -> Iterator[_Claim]:
    """What a boot says of the silence before it."""
    alone_s = int(evidence.heartbeat_s * ALONE_HEARTBEATS)
    goodbyes = {goodbye.epoch: goodbye for goodbye in sorted(evidence.goodbyes, key=repr)}
    for start in evidence.starts:
        known = epochs.get(start.previous_epoch or "", ())
        alive_s = max([run.alive_s for run in known if run.alive_s <= start.time_s] + [start.last_alive_s or 0])
        if not alive_s:
            continue
        begin_s = alive_s + alone_s
        goodbye = goodbyes.get(start.previous_epoch or "")
        if goodbye is not None and alive_s <= goodbye.time_s <= start.time_s:
            begin_s = goodbye.time_s
        end_s = _host_start(start) if start.cause == "host" else start.time_s
        state, cause, rule = judged(start)
        yield _Claim(begin_s, end_s, BOOT, state, cause, rule)


def judged(start: Start) -> tuple[str, str | None, str]:
    """State, cause and rule of the silence that a boot record ends."""
    if start.stop == "first" or start.stop is None:
        return UNKNOWN, None, "boot-without-memory"
    if start.cause == "agent":
        return OFF, AGENT, "boot-agent"
    if start.stop == "clean":
        return OFF, SHUTDOWN, "boot-clean"
    if start.cause == "host":
        return OFF, POWER, "boot-unclean"
    return UNKNOWN, None, "boot-without-cause"


def _host_start(start: Start) -> int:
    """When the machine came on, as the boot record tells; for a mere restart of the agent when that came."""
    return start.time_s - (start.uptime_s or 0) if start.cause == "host" else start.time_s


def _goodbye_claims(evidence: Evidence, epochs: dict[str, list[Run]], end_s: int) -> Iterator[_Claim]:
    """Off from the goodbye until anything is heard of again."""
    heard = sorted([run.first_s for runs in epochs.values() for run in runs] + [_host_start(start) for start in evidence.starts])
    for goodbye in evidence.goodbyes:
        until_s = next((time_s for time_s in heard if time_s > goodbye.time_s), end_s)
        cause = SHUTDOWN if goodbye.why in {None, "shutdown"} else AGENT
        yield _Claim(goodbye.time_s, until_s, GOODBYE, OFF, cause, "goodbye")


# --- decisions ----------------------------------------------------------------------------------------------------------


def _decide(claims: Iterable[_Claim], start_s: int, end_s: int) -> list[Interval]:
    """The strongest claim of each second: a sweep over the moments at which one begins or ends."""
    clipped = [each._replace(start_s=max(each.start_s, start_s), end_s=min(each.end_s, end_s)) for each in claims]
    waiting = sorted(each for each in clipped if each.start_s < each.end_s)
    moments = sorted({start_s, end_s, *(each.start_s for each in waiting), *(each.end_s for each in waiting)})
    active: list[tuple[tuple[int, int], tuple[str, str], int, _Claim]] = []  # a heap, the strongest first
    found: list[Interval] = []
    place = 0
    for first, last in pairwise(moments):
        while place < len(waiting) and waiting[place].start_s <= first:
            claim = waiting[place]
            heapq.heappush(active, ((-claim.rank, STATES.index(claim.state)), (claim.cause or "", claim.rule), place, claim))
            place += 1
        while active and active[0][3].end_s <= first:
            heapq.heappop(active)
        best = active[0][3] if active else None
        found.append(Interval(first, last, best.state, best.cause, best.rule) if best else Interval(first, last, UNKNOWN, None, "silence"))
    return found


def _bad_spans(bad: Sequence[Bad]) -> list[tuple[int, int, str]]:
    """When the link was bad: around each strong sign, and each weak one that has another near. (start, end, why), by start."""
    ordered = sorted(bad)
    kept = []
    for place, sign in enumerate(ordered):
        near = [ordered[other].time_s for other in (place - 1, place + 1) if 0 <= other < len(ordered)]
        if sign.strong or any(abs(time_s - sign.time_s) <= PAIR_S for time_s in near):
            kept.append((sign.time_s - PING_S // 2, sign.time_s + PING_S // 2, sign.why))
    return kept


def _degrade(found: Sequence[Interval], spans: Sequence[tuple[int, int, str]]) -> list[Interval]:
    """What was up is degraded where the link was bad; the first of the spans that overlap gives its reason."""
    if not spans:
        return list(found)
    result: list[Interval] = []
    for interval in found:
        if interval.state != UP:
            result.append(interval)
            continue
        at_s = interval.start_s
        for first, last, why in spans:
            first, last = max(first, at_s), min(last, interval.end_s)  # noqa: PLW2901 - clipped
            if first < last:
                if at_s < first:
                    result.append(interval._replace(start_s=at_s, end_s=first))
                result.append(Interval(first, last, DEGRADED, why, "quality"))
                at_s = last
        if at_s < interval.end_s:
            result.append(interval._replace(start_s=at_s))
    return result


def _correct(found: Sequence[Interval], corrections: Sequence[Correction]) -> list[Interval]:
    """The later of two corrections counts; what a tick has proved to be up stays so."""
    result = list(found)
    for correction in corrections:
        corrected: list[Interval] = []
        for interval in result:
            first, last = max(interval.start_s, correction.start_s), min(interval.end_s, correction.end_s)
            if interval.state in {UP, DEGRADED} or first >= last:
                corrected.append(interval)
                continue
            if interval.start_s < first:
                corrected.append(interval._replace(end_s=first))
            corrected.append(Interval(first, last, correction.state, correction.cause, "corrected"))
            if last < interval.end_s:
                corrected.append(interval._replace(start_s=last))
        result = corrected
    return result


def _joined(found: Sequence[Interval]) -> list[Interval]:
    joined: list[Interval] = []
    for interval in found:
        if joined and joined[-1][2:] == interval[2:]:
            joined[-1] = joined[-1]._replace(end_s=interval.end_s)
        else:
            joined.append(interval)
    return joined
