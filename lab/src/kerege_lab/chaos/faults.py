"""What each fault does to the town: it breaks something, and returns what to do when it is over."""

import sqlite3
from collections.abc import Callable
from typing import Final

from kerege_lab.chaos.plan import CLOCK_OFFSETS_S, KINDS, Fault
from kerege_lab.chaos.recover import link_of
from kerege_lab.chaos.town import ChaosAgent, Town
from kerege_lab.proxy import Cut, Link
from kerege_lab.servers import Server

Cure = Callable[[], None]

GATEWAY_PAGE: Final = "<html><body><h1>400 Bad Request</h1><p>openresty</p></body></html>"
LOCK_TIMEOUT_S: Final = 5.0


def parts(town: Town, fault: Fault) -> list[str]:
    """The names of the parts that a fault would be done to: each has one fault at a time."""
    on = KINDS[fault.kind].on
    if on in ("agent", "full-agent", "any-agent", "link"):
        agent = _agent(town, fault)
        return [link_of(agent.center) if on == "link" else agent.center]
    if on == "links":
        return [link_of(agent.center) for agent in town.agents]
    if on == "centre":
        return ["broker", "collector", "database", "ledger"]
    if on == "collector-disk":
        return ["collector", "database"]  # a process that is paused within a transaction would hold the file
    return [on]


def begin(town: Town, fault: Fault) -> Cure:
    """Break what the fault says. Returns its cure."""
    return _DEEDS[fault.kind](town, fault)


def _agent(town: Town, fault: Fault) -> ChaosAgent:
    on = KINDS[fault.kind].on
    return fault.choose({"agent": town.killable(), "full-agent": town.full()}.get(on, town.agents))


# --- processes ---


def _kill(town: Town, server: Server) -> Cure:
    town.down.add(server)
    server.kill()
    return lambda: _start(town, server)


def _stop(town: Town, server: Server) -> Cure:
    town.down.add(server)
    server.stop()
    return lambda: _start(town, server)


def _start(town: Town, server: Server) -> None:
    server.start()
    town.down.discard(server)


def _pause(server: Server) -> Cure:
    server.pause()
    return server.resume


def _cut_power(town: Town, _: Fault) -> Cure:
    """The regional centre's, after its collector has hung for a while."""
    town.collector.pause()

    def cut_and_return() -> None:
        starts = [_kill(town, server) for server in (town.collector, town.broker, *town.databases)]
        for start in reversed(starts):
            start()

    return cut_and_return


def _database(town: Town) -> Server:
    if town.database is None:
        raise RuntimeError("no database in this town: the plan asked for what there is not")
    return town.database


def _ledger(town: Town) -> Server:
    if town.ledger is None:
        raise RuntimeError("no database for the ledger in this town: the plan asked for what there is not")
    return town.ledger


# --- links ---


def _cut(links: list[Link], how: Cut) -> Cure:
    for link in links:
        link.cut(how)

    def restore() -> None:
        for link in links:
            link.restore()

    return restore


# --- disks and databases ---


def _fill_agent(town: Town, fault: Fault) -> Cure:
    disk = _agent(town, fault).disk
    if disk is None:
        raise RuntimeError("an agent without a disk of its own: the plan asked for what there is not")
    disk.fill()
    return disk.free


def _fill_collector(town: Town, _: Fault) -> Cure:
    disk = town.collector_disk
    if disk is None:
        raise RuntimeError("a collector without a disk of its own: the plan asked for what there is not")
    disk.fill()
    return disk.free


def _lock(town: Town, _: Fault) -> Cure:
    """Somebody else writes to the store's file and takes his time, as a backup or a person with a database browser would."""
    intruder = sqlite3.connect(town.records_file, timeout=LOCK_TIMEOUT_S, isolation_level=None)
    intruder.execute("BEGIN IMMEDIATE")
    return intruder.close


def _answer(status: int, body: str, **headers: str) -> Callable[[Town, Fault], Cure]:
    def deed(town: Town, _: Fault) -> Cure:
        if town.faulty is None:
            raise RuntimeError("no database in this town: the plan asked for what there is not")
        town.faulty.answer(status, body, {name.replace("_", "-"): value for name, value in headers.items()})
        return town.faulty.pass_on

    return deed


def _misbehave(town: Town, *, forget: bool) -> Cure:
    if town.faulty is None:
        raise RuntimeError("no database in this town: the plan asked for what there is not")
    if forget:
        town.faulty.forget()
    else:
        town.faulty.hang()
    return town.faulty.pass_on


def _set_clock(town: Town, fault: Fault) -> Cure:
    offset_s = CLOCK_OFFSETS_S[fault.number % len(CLOCK_OFFSETS_S)]
    _agent(town, fault).clock.set(offset_s)
    return lambda: None


_DEEDS: Final[dict[str, Callable[[Town, Fault], Cure]]] = {
    "agent-killed": lambda town, fault: _kill(town, _agent(town, fault)),
    "agent-restarted": lambda town, fault: _stop(town, _agent(town, fault)),
    "agent-paused": lambda town, fault: _pause(_agent(town, fault)),
    "agent-clock-jump": _set_clock,
    "agent-disk-full": _fill_agent,
    "link-reset": lambda town, fault: _cut([_agent(town, fault).link], "reset"),
    "link-swallows": lambda town, fault: _cut([_agent(town, fault).link], "blackhole"),
    "link-swallows-long": lambda town, fault: _cut([_agent(town, fault).link], "blackhole"),
    "all-links-reset": lambda town, _: _cut([agent.link for agent in town.agents], "reset"),
    "broker-killed": lambda town, _: _kill(town, town.broker),
    "broker-restarted": lambda town, _: _stop(town, town.broker),
    "broker-paused": lambda town, _: _pause(town.broker),
    "centre-power-cut": _cut_power,
    "collector-killed": lambda town, _: _kill(town, town.collector),
    "collector-restarted": lambda town, _: _stop(town, town.collector),
    "collector-paused": lambda town, _: _pause(town.collector),
    "collector-disk-full": _fill_collector,
    "collector-link-reset": lambda town, _: _cut([town.collector_link], "reset"),
    "collector-link-swallows": lambda town, _: _cut([town.collector_link], "blackhole"),
    "database-locked": _lock,
    "database-killed": lambda town, _: _kill(town, _database(town)),
    "database-paused": lambda town, _: _pause(_database(town)),
    "database-answers-400": _answer(400, GATEWAY_PAGE, Content_Type="text/html"),
    "database-answers-429": _answer(
        429, '{"code":"too many requests","message":"slow down"}', Content_Type="application/json", Retry_After="1"
    ),
    "database-answers-500": _answer(500, '{"error":"timeout"}', Content_Type="application/json"),
    "database-answers-503": _answer(503, "no leader", Content_Type="text/plain"),
    "database-hangs": lambda town, _: _misbehave(town, forget=False),
    "database-forgets-to-answer": lambda town, _: _misbehave(town, forget=True),
    "ledger-killed": lambda town, _: _kill(town, _ledger(town)),
    "ledger-restarted": lambda town, _: _stop(town, _ledger(town)),
    "ledger-paused": lambda town, _: _pause(_ledger(town)),
}
"""Every kind of the plan, and what is done for it."""
