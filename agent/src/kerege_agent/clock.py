"""Time in a village: a monotonic clock that counts suspend, the boot it belongs to, and what the collector's acks say about UTC.

The wall clock is read and kept, but only `estimate` ever believes it.
"""

import os
import sys
import threading
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

BOOT_ID_FILE: Final = Path("/proc/sys/kernel/random/boot_id")
"""Linux draws it anew at every boot."""

SUSPEND_GAP_MS: Final = 5_000
"""Where the monotonic clock may stand still in suspend: a wall clock that runs ahead of it by more than this between two
readings means that the machine slept (or that somebody set the wall clock), and the timeline is taken to be broken."""

MAX_DRIFT_PPM: Final = 100
"""How fast a PC's quartz may go wrong against true time: 0.36 s an hour."""

MAX_SAMPLES: Final = 8
"""Differences that are kept to choose the best from."""

MAX_AGE_MS: Final = 6 * 3600 * 1000
"""A sample older than this (2 s of drift) no longer stands up against a fresh one of a collector whose own clock is in doubt."""

MAX_ROUND_TRIP_MS: Final = 600_000
"""A longer round trip says nothing about the second."""

CLOCK_SLACK_MS: Final = 1_000
"""How far a round trip may come out below zero (the two clocks run at different rates) before it is nonsense."""

_PER_MILLION: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Reading:
    """The clocks at one moment.

    boot_id: which timeline ``mono_ms`` belongs to; readings of different boots cannot be compared.
    mono_ms: monotonic, counts suspend.
    wall_ms: what the host believes, since 1970 UTC; often wrong.
    """

    boot_id: str
    mono_ms: int
    wall_ms: int


class _OwnBoot:
    """A timeline for systems without a boot id: one per process, and a new one after every suspend that was missed."""

    def __init__(self) -> None:
        self.name = os.urandom(6).hex()
        self._turn = 0
        self._difference_ms: int | None = None
        self._lock = threading.Lock()

    def name_for(self, mono_ms: int, wall_ms: int) -> str:
        with self._lock:
            difference_ms = wall_ms - mono_ms
            if self._difference_ms is not None and abs(difference_ms - self._difference_ms) > SUSPEND_GAP_MS:
                self._turn += 1
            self._difference_ms = difference_ms
            return f"{self.name}-{self._turn}"


_own_boot = _OwnBoot()


@cache
def _system_boot_id() -> str | None:
    try:
        return BOOT_ID_FILE.read_text(encoding="ascii").strip() or None
    except (OSError, UnicodeDecodeError):
        return None


def counts_since_boot() -> bool:
    """Does ``mono_ms`` count from the start of the machine, suspend included, for all processes alike?"""
    return sys.platform == "linux" and _system_boot_id() is not None


def read() -> Reading:
    """The clocks now."""
    wall_ms = time.time_ns() // 1_000_000
    if sys.platform == "linux":
        mono_ms = time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000
        return Reading(_system_boot_id() or _own_boot.name, mono_ms, wall_ms)
    mono_ms = time.monotonic_ns() // 1_000_000
    return Reading(_own_boot.name_for(mono_ms, wall_ms), mono_ms, wall_ms)


@dataclass(frozen=True, slots=True)
class Sample:
    """One answer of the collector: UTC minus monotonic, wrong by at most ``error_ms`` when it was taken at ``mono_ms``."""

    boot_id: str
    offset_ms: int
    error_ms: int
    mono_ms: int
    quality: str

    def error_at(self, mono_ms: int) -> int:
        """The largest error by now: the quartz has drifted since."""
        return self.error_ms + abs(mono_ms - self.mono_ms) * MAX_DRIFT_PPM // _PER_MILLION


class ClockModel:
    """UTC as the collector's clock gives it, for the boot that this process runs in. Safe to read from any thread."""

    def __init__(self) -> None:
        self._samples: tuple[Sample, ...] = ()
        self._best: Sample | None = None

    @property
    def best(self) -> Sample | None:
        """The sample that times are taken from; None before the first answer in this boot."""
        return self._best

    @property
    def offset_ms(self) -> int | None:
        """UTC minus monotonic; None before the first answer in this boot."""
        best = self._best
        return None if best is None else best.offset_ms

    def utc_ms(self, reading: Reading) -> int | None:
        """UTC of a reading in ms since 1970, None where it is not known."""
        best = self._best
        return None if best is None or best.boot_id != reading.boot_id else reading.mono_ms + best.offset_ms

    def utc_s(self, reading: Reading) -> int | None:
        """UTC of a reading in whole seconds since 1970, None where it is not known."""
        utc_ms = self.utc_ms(reading)
        return None if utc_ms is None else utc_ms // 1000

    def learn(self, *, sent_ms: int, received_ms: int, replied_ms: int, arrived: Reading, quality: str = "synced") -> bool:
        """Take in the four timestamps of an answer (RFC 5905 section 8). Was it used?

        ``sent_ms`` must be of the same boot as ``arrived``; ``quality`` says whether the collector's clock was `synced`.
        """
        held_ms = replied_ms - received_ms
        round_trip_ms = (arrived.mono_ms - sent_ms) - held_ms
        if held_ms < 0 or arrived.mono_ms < sent_ms or not -CLOCK_SLACK_MS <= round_trip_ms <= MAX_ROUND_TRIP_MS:
            return False
        offset_ms = ((received_ms - sent_ms) + (replied_ms - arrived.mono_ms)) // 2
        error_ms = abs(round_trip_ms) // 2 + held_ms * MAX_DRIFT_PPM // _PER_MILLION + 1
        self._take(Sample(arrived.boot_id, offset_ms, error_ms, arrived.mono_ms, quality))
        return True

    def restore(self, sample: Sample) -> None:
        """Go on with what an earlier process learned in this same boot."""
        self._samples = (sample,)
        self._best = sample

    def _take(self, new: Sample) -> None:
        kept = [old for old in self._samples if not _superseded(old, new)]
        if new.quality != "synced" and any(old.quality == "synced" for old in kept):
            return  # the collector doubts its own clock now: what it said before is better
        kept = [old for old in kept if not _contradicted(old, new)]
        self._samples = (*kept, new)[-MAX_SAMPLES:]
        self._best = min(self._samples, key=lambda sample: sample.error_at(new.mono_ms))


def _superseded(old: Sample, new: Sample) -> bool:
    if old.boot_id != new.boot_id:
        return True
    if old.quality != new.quality:
        return new.quality == "synced" or new.mono_ms - old.mono_ms > MAX_AGE_MS
    return False


def _contradicted(old: Sample, new: Sample) -> bool:
    """Two honest samples overlap within their errors; where they do not, a clock stepped in between and the newer one holds."""
    return abs(old.offset_ms - new.offset_ms) > old.error_at(new.mono_ms) + new.error_ms
