"""The ``state`` point: one a minute for every registered center, silent ones too: rules of Grafana need a series that goes on. Pure.

A live point tells what is known at that minute. When the verdict on the minute is made or revised, its state and cause are written
again over it; how long nothing had come, whether the library was open and had an incident stay as they were said.
"""

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from kerege_collector.timeline import Interval

MEASUREMENT: Final = "state"
MINUTE_S: Final = 60

STATE_NUMBERS: Final = {"unknown": 0, "up": 1, "degraded": 2, "down": 3, "off": 4}
CAUSE_NUMBERS: Final = {
    None: 0,
    "lan": 1,
    "terminal": 2,
    "provider": 3,
    "dns": 4,
    "portal": 5,
    "shutdown": 6,
    "power": 7,
    "agent": 8,
    "not-connected": 9,
    "rtt": 10,
    "loss": 11,
}
OTHER_CAUSE: Final = 99
"""A cause that is none of these, such as an agent's own reason for a goodbye."""


class StatePoint(NamedTuple):
    """silence_s: since the last report came; open: is the library open; incident: has it one that lasts.

    None: not said by this point, what was said before stays.
    """

    center: str
    time_s: int
    state: str
    cause: str | None
    silence_s: int | None = None
    open: bool | None = None
    incident: bool | None = None

    @property
    def cause_number(self) -> int:
        return CAUSE_NUMBERS.get(self.cause, OTHER_CAUSE)


def of_intervals(center: str, found: Sequence[Interval]) -> Iterator[StatePoint]:
    """A point at each full minute of these intervals."""
    for each in found:
        first = -(-each.start_s // MINUTE_S) * MINUTE_S
        for time_s in range(first, each.end_s, MINUTE_S):
            yield StatePoint(center, time_s, each.state, each.cause)


def line(point: StatePoint, tags: str) -> str:
    """Line protocol (see `points`)."""
    cause = (point.cause or "").replace("\\", "/").replace('"', "'")
    parts = [f'state={STATE_NUMBERS[point.state]}i,state_text="{point.state}",cause={point.cause_number}i,cause_text="{cause}"']
    if point.silence_s is not None:
        parts.append(f"silence_s={point.silence_s}i")
    if point.open is not None:
        parts.append(f"open={'true' if point.open else 'false'}")
    if point.incident is not None:
        parts.append(f"incident={'true' if point.incident else 'false'}")
    return f"{MEASUREMENT}{tags} {','.join(parts)} {point.time_s}"
