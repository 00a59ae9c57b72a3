"""When was a boot that never met the collector? Pure: only what is known before it, after it and within it.

A boot began after the last time known before it, and its last record lies before the start of the next known boot; several unknown
boots in a row push each other. The wall clock of a boot is believed where it fits in between in the right order; else the middle is
taken, or, where nothing at all is known before it, the latest possible time.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

EARLIEST_MS: Final = 1_577_836_800_000
"""2020-01-01 UTC: nothing was measured before, and no collector takes it."""


@dataclass(frozen=True, slots=True)
class Boot:
    """What a boot itself tells; all in milliseconds.

    begin_ms: its monotonic clock was never below this (0 where the clock counts from the boot).
    last_ms: its monotonic clock at its last record.
    wall_offset_ms: wall clock minus monotonic clock at its last record.
    """

    begin_ms: int
    last_ms: int
    wall_offset_ms: int


@dataclass(frozen=True, slots=True)
class Placement:
    """UTC minus monotonic of a boot, and the largest error that the facts allow."""

    offset_ms: int
    within_ms: int


def estimate(boots: Sequence[Boot], *, lower_ms: int | None, upper_ms: int) -> list[Placement]:
    """Place boots that follow each other, first to last, between two moments of UTC (ms since 1970).

    lower_ms: the last time known before the first of them, None where there is none.
    upper_ms: the start of the boot after the last of them.
    """
    latest = _latest(boots, upper_ms)
    first_ms = EARLIEST_MS if lower_ms is None else lower_ms
    earliest = _earliest(boots, first_ms)
    if lower_ms is not None and _contradict(earliest, latest):  # the lower bound was told by a clock that was wrong
        lower_ms, earliest = None, _earliest(boots, EARLIEST_MS)
    if _contradict(earliest, latest):
        earliest = latest
    chosen = _choose(boots, earliest, latest, bounded=lower_ms is not None)
    return [
        Placement(offset_ms, max(offset_ms - low, high - offset_ms)) for offset_ms, low, high in zip(chosen, earliest, latest, strict=True)
    ]


def _earliest(boots: Sequence[Boot], lower_ms: int) -> list[int]:
    offsets = []
    for boot in boots:
        offsets.append(lower_ms - boot.begin_ms)
        lower_ms = offsets[-1] + boot.last_ms
    return offsets


def _latest(boots: Sequence[Boot], upper_ms: int) -> list[int]:
    offsets: list[int] = []
    for boot in reversed(boots):
        offsets.append(upper_ms - boot.last_ms)
        upper_ms = offsets[-1] + boot.begin_ms
    return offsets[::-1]


def _contradict(earliest: Sequence[int], latest: Sequence[int]) -> bool:
    return any(low > high for low, high in zip(earliest, latest, strict=True))


def _choose(boots: Sequence[Boot], earliest: Sequence[int], latest: Sequence[int], *, bounded: bool) -> list[int]:
    believed = _believed(boots, earliest, latest)
    low, high = list(earliest), list(latest)
    anchored = [bounded] * len(boots)  # is there anything known before this boot?
    for index, boot in enumerate(boots):
        if index:
            low[index] = max(low[index], low[index - 1] + boots[index - 1].last_ms - boot.begin_ms)
            anchored[index] = anchored[index - 1]
        if believed[index]:
            low[index] = boot.wall_offset_ms
            anchored[index] = True
    for index in range(len(boots) - 1, -1, -1):
        if index + 1 < len(boots):
            high[index] = min(high[index], high[index + 1] + boots[index + 1].begin_ms - boots[index].last_ms)
        if believed[index]:
            high[index] = boots[index].wall_offset_ms
    return [(low[index] + high[index]) // 2 if anchored[index] else high[index] for index in range(len(boots))]


def _believed(boots: Sequence[Boot], earliest: Sequence[int], latest: Sequence[int]) -> list[bool]:
    believed = []
    floor_ms = None
    for boot, low, high in zip(boots, earliest, latest, strict=True):
        least = low if floor_ms is None else max(low, floor_ms - boot.begin_ms)
        believed.append(least <= boot.wall_offset_ms <= high)
        floor_ms = (boot.wall_offset_ms if believed[-1] else least) + boot.last_ms
    return believed
