"""Adding up an interface's counters. Pure: whoever reads the counters says when."""

from dataclasses import dataclass, replace
from typing import Final

BITS: Final = 8


@dataclass(frozen=True, slots=True)
class Counters:
    """An interface's byte counters since it came up, read at ``mono_ms``."""

    interface: str
    mono_ms: int
    received_bytes: int
    sent_bytes: int


@dataclass(frozen=True, slots=True)
class Meter:
    """What passed since ``begin_ms``, and the steepest step in it; `after` gives the next one.

    peaks: kbit/s, None before the first whole step.
    """

    last: Counters
    begin_ms: int
    received_bytes: int = 0
    sent_bytes: int = 0
    received_peak_kbps: float | None = None
    sent_peak_kbps: float | None = None

    @property
    def interval_s(self) -> float:
        """Length of the interval that has been counted."""
        return (self.last.mono_ms - self.begin_ms) / 1000

    def after(self, now: Counters, *, shortest_step_s: float) -> "Meter":
        """The meter with one more look at the counters; a step shorter than ``shortest_step_s`` counts bytes but makes no peak."""
        if now.interface != self.last.interface:  # the default route moved: the other interface's past is not this interval's
            return replace(self, last=now)
        received, sent = grown(self.last.received_bytes, now.received_bytes), grown(self.last.sent_bytes, now.sent_bytes)
        step_ms = now.mono_ms - self.last.mono_ms
        measured = step_ms > 0 and step_ms >= shortest_step_s * 1000
        return replace(
            self,
            last=now,
            received_bytes=self.received_bytes + received,
            sent_bytes=self.sent_bytes + sent,
            received_peak_kbps=_higher(self.received_peak_kbps, received, step_ms) if measured else self.received_peak_kbps,
            sent_peak_kbps=_higher(self.sent_peak_kbps, sent, step_ms) if measured else self.sent_peak_kbps,
        )

    def emptied(self) -> "Meter":
        """The meter for the next interval."""
        return Meter(self.last, self.last.mono_ms)


def grown(before: int, now: int) -> int:
    """How far a counter went; one that stands lower than before was reset in between and has counted ``now`` since."""
    return now - before if now >= before else now


def _higher(peak_kbps: float | None, step_bytes: int, step_ms: int) -> float:
    return max(peak_kbps or 0.0, step_bytes * BITS / step_ms)  # bits in a millisecond are kbit/s
