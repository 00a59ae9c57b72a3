"""The heartbeat: is the Internet usable from here, and if not, which rung of the ladder is broken.

What is near is asked at each tick, because it costs nothing. Of the Internet one target is asked, the one that answered last; only if it is
silent are all of them, and where no ping is answered, by TCP. What was proven a moment ago is not asked again, until something fails.

What proves which rung is in decision 9: a connect that is answered is no proof of the Internet by itself.
"""

import logging
import socket
import time
from dataclasses import dataclass, replace
from typing import Final

from kerege_agent.clock import Reading
from kerege_agent.probes import portal
from kerege_agent.probes.context import Context
from kerege_agent.probes.echo import LOSS_TIMEOUT_S, Aim, ask
from kerege_agent.probes.ladder import FAILED, NOT_HERE, UNKNOWN, WORKED, WORKS, Near, Seen, judge
from kerege_agent.probes.limited import within
from kerege_agent.probes.rounding import FEW_DIGITS, significant_ms
from kerege_agent.probes.routes import Route, default_routes, neighbour_answers
from kerege_wire import Tick

NEAR_TIMEOUT_S: Final = 1.0
"""For hosts in the house, which answer within milliseconds."""

ROUNDS: Final = 4
"""Of at most three seconds each there are three; where the tick has less time than that they are shortened, and leave some to the names."""

NEAR_TCP_PORT: Final = 80
"""Asked where ICMP cannot be sent: a router has its pages there, or refuses, which is an answer."""

DNS_FRESH_S: Final = 300.0
PORTAL_FRESH_S: Final = 900.0
SESSION_FRESH_S: Final = 120.0
"""How old a proof may be to count. A TLS session with the broker whose last answer is younger proves that no portal stands in between."""

CONNECT_FRESH_S: Final = 120.0
"""... and that of the page, where pings are not answered and the page is what proves the Internet."""

ASK_TIMEOUT_S: Final = 8.0
"""For a name or for the portal page: a lost packet is sent again after 5 s by the resolver, after 1, 3 and 7 s by TCP."""

GATEWAY: Final = "gateway"
TERMINAL: Final = "terminal"
TCP: Final = "tcp"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Winner:
    """The Internet target that answered."""

    place: int
    via: str
    rtt_ns: int


def measure(context: Context) -> list[Tick]:
    """One record: the ladder."""
    deadline_s = time.monotonic() + context.settings.probes.tick.timeout_s * 0.9
    routes = default_routes(context.settings.targets[0].address)
    near = _near_addresses(context, routes)
    winner, near_ns = _reach(context, near)
    verdict = judge(_seen(context, near, near_ns, routed=bool(routes), winner=winner, deadline_s=deadline_s))
    if verdict.broken is not None:
        context.memory.pop("dns", None)
        context.memory.pop("page", None)
    ladder = Tick(
        result=verdict.result,
        broken=verdict.broken,
        rungs=verdict.rungs,
        error=verdict.error,
        gateway_rtt_ms=_ms(near_ns.get(GATEWAY)),
        terminal_rtt_ms=_ms(near_ns.get(TERMINAL)),
    )
    if winner is None:
        return [ladder]
    target = context.settings.targets[winner.place].name
    return [replace(ladder, target=target, via=winner.via, rtt_ms=significant_ms(winner.rtt_ns))]


def _seen(
    context: Context, near: dict[str, str], near_ns: dict[str, int], *, routed: bool, winner: Winner | None, deadline_s: float
) -> Seen:
    by_tcp = winner is not None and winner.via == TCP
    dns = UNKNOWN if winner is None else _dns_mark(context, deadline_s)
    fresh_s = CONNECT_FRESH_S if by_tcp else PORTAL_FRESH_S
    page = UNKNOWN if winner is None or dns == FAILED else _portal_mark(context, deadline_s, fresh_s)
    session = context.session()
    return Seen(
        default_route=routed,
        gateway=_near(context, near.get(GATEWAY), near_ns.get(GATEWAY), known=routed, usually_answers=False),
        terminal=_near(context, near.get(TERMINAL), near_ns.get(TERMINAL), known=True, usually_answers=True),
        internet=None if by_tcp else winner is not None,
        dns=dns,
        portal=page,
        collector=None if session is None or not (session.connected or session.error) else session.connected,
    )


def _ms(rtt_ns: int | None) -> float | None:
    return None if rtt_ns is None else significant_ms(rtt_ns, FEW_DIGITS)


def _near_addresses(context: Context, routes: list[Route]) -> dict[str, str]:
    link = context.settings.link
    found = {GATEWAY: link.gateway or next((route.gateway for route in routes if route.gateway), None), TERMINAL: link.terminal}
    return {name: address for name, address in found.items() if address is not None}


def _near(context: Context, address: str | None, rtt_ns: int | None, *, known: bool, usually_answers: bool) -> Near:
    if address is None:
        return Near(configured=False if known else None)
    answering: set[str] = context.memory.setdefault("answering", set())
    if rtt_ns is not None:
        answering.add(address)
        return Near(configured=True, answered=True)
    return Near(configured=True, usually_answers=usually_answers or address in answering, neighbour=neighbour_answers(address))


def _reach(context: Context, near: dict[str, str]) -> tuple[Winner | None, dict[str, int]]:
    """The target that answered, and the round-trip times of the near hosts that did, in nanoseconds.

    A target that answered by TCP only is pinged all the same, and the ping is preferred: proxies of satellite links answer a connect in the
    target's place, dead link or not.
    """
    targets = context.settings.targets
    timeout_s = min(LOSS_TIMEOUT_S, context.settings.probes.tick.timeout_s / ROUNDS)
    pings = [(place, Aim(target.address, target.tcp_port, timeout_s)) for place, target in enumerate(targets)]
    connects = [(place, replace(aim, tcp=True)) for place, aim in pings]
    place, by_tcp = context.memory.get("sticky", (0, False))
    near_ns: dict[str, int] = {}
    winner = _round([pings[place], connects[place]] if by_tcp else [pings[place]], near, near_ns, wait_for_all=True)
    for everybody in (pings, connects):
        if winner is None:
            log.debug("tick.asking_all", extra={"fields": {"tcp": everybody is connects}})
            winner = _round(everybody, near, near_ns, wait_for_all=False)
    if winner is not None:
        context.memory["sticky"] = (winner.place, winner.via == TCP)
    return winner, near_ns


def _round(aims: list[tuple[int, Aim]], near: dict[str, str], near_ns: dict[str, int], *, wait_for_all: bool) -> Winner | None:
    """Ask the near hosts that are still silent, and the aims; the aim that answered, by ping if any did."""
    silent = [name for name in near if name not in near_ns]
    nearby = [Aim(near[name], NEAR_TCP_PORT, min(NEAR_TIMEOUT_S, aims[0][1].timeout_s)) for name in silent]
    answers = ask([*nearby, *(aim for _, aim in aims)], first_of=() if wait_for_all else range(len(nearby), len(nearby) + len(aims)))
    near_ns |= {name: answer.rtts_ns[0] for name, answer in zip(silent, answers, strict=False) if answer.rtts_ns}
    found = [
        Winner(place, answer.via, answer.rtts_ns[0])
        for (place, _), answer in zip(aims, answers[len(nearby) :], strict=True)
        if answer.rtts_ns
    ]
    return min(found, key=lambda winner: (winner.via == TCP, winner.rtt_ns), default=None)


def _dns_mark(context: Context, deadline_s: float) -> str:
    names, now = context.settings.dns.names, context.read()
    if not names:
        return NOT_HERE
    if _fresh(context.memory.get("dns"), now, DNS_FRESH_S):
        return WORKED
    limit_s = min(time.monotonic() + ASK_TIMEOUT_S, deadline_s)
    for name in names:
        try:
            within(limit_s - time.monotonic(), lambda name=name: socket.getaddrinfo(name, None, type=socket.SOCK_STREAM))  # type: ignore[misc]
        except (OSError, ValueError) as error:
            log.debug("tick.unresolved", extra={"fields": {"name": name, "error": repr(error)}})
        else:
            context.memory["dns"] = now
            return WORKS
    return FAILED


def _portal_mark(context: Context, deadline_s: float, fresh_s: float) -> str:
    now = context.read()
    if _session_proves(context, now) or _fresh(context.memory.get("page"), now, fresh_s):
        return WORKED
    fetched, found = portal.ask(context, timeout_s=min(ASK_TIMEOUT_S, deadline_s - time.monotonic()))
    log.debug("tick.portal", extra={"fields": {"status": fetched.status, "portal": found, "error": fetched.error}})
    if found is None:
        return UNKNOWN
    if found:
        return FAILED
    context.memory["page"] = now
    return WORKS


def _fresh(proven: Reading | None, now: Reading, max_age_s: float) -> bool:
    return proven is not None and proven.boot_id == now.boot_id and now.mono_ms - proven.mono_ms < max_age_s * 1000


def _session_proves(context: Context, now: Reading) -> bool:
    session = context.session()
    if session is None or not session.connected or not context.settings.mqtt.tls:
        return False
    proofs = [moment for moment in (session.last_ack_mono_ms, session.last_puback_mono_ms) if moment is not None]
    return bool(proofs) and now.mono_ms - max(proofs) < SESSION_FRESH_S * 1000
