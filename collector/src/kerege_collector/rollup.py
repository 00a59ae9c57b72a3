"""The account of a day or of many: seconds by state and cause, in opening hours and outside, and the three figures of the mandate. Pure.

    link availability      up ÷ (up + down): what the provider answers for
    service availability   up ÷ open time: what the village had
    coverage               observed ÷ open time: what is known at all

They are published together. `degraded` counts as up. Below `ENOUGH` coverage an availability reads None: "insufficient data".
"""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from kerege_collector.hours import Span
from kerege_collector.timeline import DEGRADED, DOWN, NOT_CONNECTED, OFF, UP, Interval

ENOUGH: Final = 0.9
"""A figure of which a tenth is not known may be a tenth wrong; what is asked for (95 %, say) could not be told from it."""

Key = tuple[str, str | None]
"""(state, cause)"""


@dataclass(slots=True)
class Day:
    """Seconds by state and cause. inside: in opening hours; outside: the rest. Together they are the whole span."""

    inside: Counter[Key] = field(default_factory=Counter)
    outside: Counter[Key] = field(default_factory=Counter)

    def merge(self, other: "Day") -> None:
        self.inside.update(other.inside)
        self.outside.update(other.outside)

    @property
    def total(self) -> int:
        """All seconds."""
        return self.inside.total() + self.outside.total()

    def to_json(self) -> str:
        parts = [sorted([state, cause, count] for (state, cause), count in part.items()) for part in (self.inside, self.outside)]
        return json.dumps(parts, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> "Day":
        """The reverse of `to_json`."""
        inside, outside = ({(state, cause): count for state, cause, count in part} for part in json.loads(text))
        return cls(Counter(inside), Counter(outside))


@dataclass(frozen=True, slots=True)
class Figures:
    """Shares from 0 to 1; None where there is nothing to divide by, or too little is known. open_s: the time that counts."""

    link_availability: float | None
    service_availability: float | None
    coverage: float | None
    open_s: int
    not_connected_s: int

    @property
    def enough(self) -> bool:
        """Is so much known that the availabilities mean something?"""
        return self.coverage is not None and self.coverage >= ENOUGH


def account(found: Iterable[Interval], open_spans: Sequence[Span]) -> Day:
    """The seconds of intervals, split by the spans in which the library was open. Both in order and disjoint."""
    day = Day()
    for interval in found:
        whole = interval.end_s - interval.start_s
        inside = sum(max(0, min(interval.end_s, last) - max(interval.start_s, first)) for first, last in open_spans)
        key = interval.state, interval.cause or None
        if inside:
            day.inside[key] += inside
        if whole > inside:
            day.outside[key] += whole - inside
    return day


def figures(seconds: Counter[Key]) -> Figures:
    """The figures of the mandate over a span, from its seconds in opening hours. Time without a link at all counts in none of them."""
    of = Counter[str]()
    for (state, cause), count in seconds.items():
        of["not-connected" if cause == NOT_CONNECTED else state] += count
    up, open_s = of[UP] + of[DEGRADED], seconds.total() - of["not-connected"]
    coverage = (up + of[DOWN] + of[OFF]) / open_s if open_s else None
    enough = coverage is not None and coverage >= ENOUGH
    return Figures(
        link_availability=up / (up + of[DOWN]) if enough and up + of[DOWN] else None,
        service_availability=up / open_s if enough else None,
        coverage=coverage,
        open_s=open_s,
        not_connected_s=of["not-connected"],
    )
