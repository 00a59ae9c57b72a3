"""From what was seen of each rung to a verdict: is the Internet usable from here, and where is it broken. Pure."""

from dataclasses import dataclass
from typing import Final

from kerege_wire.records import RUNGS

WORKS: Final = "+"
WORKED: Final = "="
FAILED: Final = "-"
UNKNOWN: Final = "?"
NOT_HERE: Final = "."
"""The marks of `kerege_wire.records.RUNG_MARKS`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Near:
    """What was seen of a host between here and the Internet.

    configured: is there such a host at all; None: nobody knows its address.
    answered: did it answer.
    usually_answers: has it ever, since the agent started.
    neighbour: does it answer ARP; None where that cannot be known.
    """

    configured: bool | None = False
    answered: bool = False
    usually_answers: bool = False
    neighbour: bool | None = None

    def mark(self, *, online: bool) -> str:
        """A host that says nothing is broken only where the Internet is gone too, and where it can be known to have answered before."""
        if self.answered:
            return WORKS
        if not self.configured:
            return NOT_HERE if online or self.configured is False else UNKNOWN
        if online or (self.neighbour is True and not self.usually_answers):
            return UNKNOWN  # there, but does not answer pings
        return FAILED if self.usually_answers or self.neighbour is False else UNKNOWN


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What one tick saw.

    internet: does a target answer; None where only TCP connects are answered, which something nearer may do in the target's place.
    dns, portal: a mark. collector: is the session up, None where there is no session to ask about.
    """

    default_route: bool
    gateway: Near
    terminal: Near
    internet: bool | None
    dns: str = UNKNOWN
    portal: str = UNKNOWN
    collector: bool | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """The fields of a tick that say it all. result: None where it cannot be said, and then ``error`` says why."""

    result: str | None
    broken: str | None
    rungs: str
    error: str | None = None


def judge(seen: Seen) -> Verdict:
    """The verdict on what was seen. Rungs beyond a dead Internet are unknown: nobody asked them.

    Where an Internet target answers there is a route, default or not. A connect that is answered proves that little and no more; the page
    that answers 204 proves the Internet with it.
    """
    online = seen.internet is not False
    proven = seen.internet or (online and seen.portal in {WORKS, WORKED})
    marks = (
        WORKS if online or seen.default_route else FAILED,
        seen.gateway.mark(online=online),
        seen.terminal.mark(online=online),
        WORKS if proven else UNKNOWN if online else FAILED,
        seen.dns if online else UNKNOWN,
        seen.portal if online else UNKNOWN,
        _SESSION[seen.collector] if online else UNKNOWN,
    )
    broken = next((rung for rung, mark in zip(RUNGS, marks, strict=True) if mark == FAILED), None)
    if broken == "dns" and not proven:
        return Verdict("offline", None, "".join(marks))  # names fail behind a dead link too: which of the two it is, nobody knows
    rungs = "".join(marks)
    if broken in {None, "collector"}:
        return Verdict("online", broken, rungs) if proven else Verdict(None, broken, rungs, ONLY_CONNECTS)
    return Verdict("offline", broken, rungs)


ONLY_CONNECTS: Final = "only TCP connects are answered: a proxy may do that on a dead link"

_SESSION: Final = {None: UNKNOWN, True: WORKS, False: FAILED}
