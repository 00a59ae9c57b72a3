"""How soon records flow again after a link's return. Pure: only what was noted during the run."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from kerege_lab.audit import Identity
from kerege_wire.ranges import Range


@dataclass(frozen=True, slots=True)
class Seen:
    """One acknowledgement: when it passed the broker, and what it named."""

    at_s: float
    center: str
    epoch: str
    stored: tuple[Range, ...]


@dataclass(frozen=True, slots=True)
class Past:
    """A fault that is over: what it was done to, and when, by the clock of the journals."""

    kind: str
    parts: tuple[str, ...]
    began_s: float
    ended_s: float


@dataclass(frozen=True, slots=True)
class Recoveries:
    """seconds: of the returns after which nothing broke again too soon; disturbed: how many others there were."""

    seconds: tuple[float, ...]
    disturbed: int


def link_of(center: str) -> str:
    """The name of a center's link as a part that can break."""
    return f"link of {center}"


def recoveries(past: Sequence[Past], seen: Sequence[Seen], made: Mapping[Identity, float], centers: Iterable[str]) -> Recoveries:
    """For each link that was cut: from the moment when its whole way (agent, link, broker, collector, database) is well again to the
    first acknowledgement that names a record made after it.

    made: identity → when it was made.
    """
    seconds: list[float] = []
    disturbed = 0
    for center in centers:
        way = _way(center, past)
        for cut in (fault for fault in way if link_of(center) in fault.parts):
            well_s = _well_s(cut.ended_s, way)
            took_s = _recovery_s(center, well_s, seen, made)
            if took_s is None or any(well_s < fault.began_s <= well_s + took_s for fault in way):
                disturbed += 1
            else:
                seconds.append(took_s)
    return Recoveries(tuple(seconds), disturbed)


def _way(center: str, past: Sequence[Past]) -> list[Past]:
    """The faults on the way of a center's records, in the order in which they began."""
    parts = {center, link_of(center), "broker", "collector", "collector-link", "database"}
    return sorted((fault for fault in past if parts.intersection(fault.parts)), key=lambda fault: fault.began_s)


def _well_s(since_s: float, way: Sequence[Past]) -> float:
    """The first moment, not before ``since_s``, at which nothing on the way is broken."""
    for fault in way:
        if fault.began_s <= since_s < fault.ended_s:
            since_s = fault.ended_s
    return since_s


def _recovery_s(center: str, well_s: float, seen: Sequence[Seen], made: Mapping[Identity, float]) -> float | None:
    for ack in seen:
        if ack.center == center and ack.at_s >= well_s:
            if any(made.get((center, ack.epoch, last), 0.0) >= well_s for _, last in ack.stored):
                return ack.at_s - well_s
    return None
