"""What was really so in the simulated world, second by second; the measure of every verdict. Pure.

A library is *out* while nobody could use the Internet there and it had not said goodbye: its link broken, the power gone, its agent dead,
or its machine asleep. Sleep is nobody's fault, and looks like a cut from outside: telling of it is neither demanded nor wrong.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Final, NamedTuple

from kerege_lab.simulate.world import BEGIN_S, Script, Span, World

NOT_CONNECTED: Final = ("unknown", "not-connected")
NOT_THERE: Final = ("unknown", None)
"""Before its first start a library has no agent: nobody can know anything, and the truth is that nothing is known."""


class Fact(NamedTuple):
    """In [start_s, end_s) it was so. asleep: off because the machine slept."""

    start_s: int
    end_s: int
    state: str
    cause: str | None
    asleep: bool = False


def facts(world: World, center: str) -> list[Fact]:
    """All seconds of one library, gapless, in order."""
    if not world.places[center].connected:
        return [Fact(BEGIN_S, world.end_s, *NOT_CONNECTED)]
    script = world.scripts[center]
    spans = [*script.sessions, *script.naps, *script.stops, *script.outages, *script.fades]
    inside = {moment for span in spans for moment in span[:2] if BEGIN_S < moment < world.end_s}
    moments = sorted(inside | {BEGIN_S, world.end_s})
    look = _Look(script)
    return list(_joined(Fact(first, last, *look.at(first)) for first, last in pairwise(moments)))


class _Look:
    """What was so at a moment of one script."""

    def __init__(self, script: Script) -> None:
        self._sessions = Timeline(script.sessions)
        self._naps = Timeline(script.naps)
        self._stops = Timeline(script.stops)
        self._outages = Timeline(script.outages)
        self._fades = Timeline(script.fades)

    def at(self, time_s: int) -> tuple[str, str | None, bool]:
        if self._sessions.at(time_s) is None:
            before = self._sessions.before(time_s)
            return (*NOT_THERE, False) if before is None else ("off", before.what, False)
        if self._naps.at(time_s) is not None:
            return "off", "shutdown", True
        if self._stops.at(time_s) is not None:
            return "off", "agent", False
        if (outage := self._outages.at(time_s)) is not None:
            return "down", outage.what, False
        if (fade := self._fades.at(time_s)) is not None:
            return "degraded", fade.what, False
        return "up", None, False


class Timeline:
    """Disjoint spans, to be looked up by time."""

    def __init__(self, spans: Iterable[Span]) -> None:
        self._spans = sorted(spans)
        self._starts = [span.start_s for span in self._spans]

    def at(self, time_s: float) -> Span | None:
        """The span that holds this moment."""
        before = self.before(time_s)
        return before if before is not None and before.holds(time_s) else None

    def before(self, time_s: float) -> Span | None:
        """The last span that has begun by then."""
        place = bisect_right(self._starts, time_s)
        return self._spans[place - 1] if place else None


def is_out(fact: Fact) -> bool:
    """Could nobody use the Internet, without a goodbye?"""
    return fact.state == "down" or (fact.state == "off" and (fact.cause in {"power", "agent"} or fact.asleep))


def outs(found: Sequence[Fact]) -> Iterator[Fact]:
    """The times when the library was out, whatever the reasons that follow each other; asleep: for no other reason than sleep."""
    current: Fact | None = None
    for fact in found:
        if not is_out(fact):
            if current is not None:
                yield current
            current = None
        elif current is None:
            current = fact
        else:
            current = current._replace(end_s=fact.end_s, asleep=current.asleep and fact.asleep)
    if current is not None:
        yield current


def _joined(found: Iterable[Fact]) -> Iterator[Fact]:
    current: Fact | None = None
    for fact in found:
        if current is not None and current[2:] == fact[2:]:
            current = current._replace(end_s=fact.end_s)
            continue
        if current is not None:
            yield current
        current = fact
    if current is not None:
        yield current
