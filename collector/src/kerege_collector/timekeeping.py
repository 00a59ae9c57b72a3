"""Is this machine's own clock, which is everybody's time, synchronised? Asked of the kernel (adjtimex(2)), and said loudly."""

import ctypes
import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from kerege_collector.alarm import Alarm

log = logging.getLogger(__name__)

CHECK_EVERY_S: Final = 60.0
SAY_AGAIN_S: Final = 3600.0

TIME_ERROR: Final = 5
"""What adjtimex returns while the clock is not synchronised."""

STA_UNSYNC: Final = 0x0040
MICROSECONDS_PER_MS: Final = 1000
NTP_PHASE_LIMIT_US: Final = 16_000_000
"""The kernel's largest estimate of its error (include/linux/timex.h): nobody has disciplined this clock for long."""

Trust = Literal["kernel", "always"]

CURE: Final = "run chrony or systemd-timesyncd; where something else keeps this clock right, set clock.trust to always"


class _Timex(ctypes.Structure):
    """struct timex of include/uapi/linux/timex.h, as glibc's adjtimex fills it."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("constant", ctypes.c_long),
        ("precision", ctypes.c_long),
        ("tolerance", ctypes.c_long),
        ("time", ctypes.c_long * 2),
        ("tick", ctypes.c_long),
        ("ppsfreq", ctypes.c_long),
        ("jitter", ctypes.c_long),
        ("shift", ctypes.c_int),
        ("stabil", ctypes.c_long),
        ("counts", ctypes.c_long * 4),
        ("tai", ctypes.c_int),
        ("padding", ctypes.c_int * 11),
    )


@dataclass(frozen=True, slots=True)
class ClockState:
    """synchronised: None where nobody can tell. max_error_ms, estimated_error_ms: the kernel's own words; detail: in ours."""

    synchronised: bool | None
    detail: str
    max_error_ms: float | None = None
    estimated_error_ms: float | None = None


def ask_kernel() -> ClockState:
    """What the kernel says of its clock. Reading needs no privilege, but a container or a sandbox may forbid it."""
    if sys.platform != "linux":
        return ClockState(None, f"the kernel of {sys.platform} cannot be asked")
    timex = _Timex()
    try:
        adjtimex = ctypes.CDLL(None, use_errno=True).adjtimex
    except (OSError, AttributeError) as error:
        return ClockState(None, f"the kernel cannot be asked: {error}")
    state = adjtimex(ctypes.byref(timex))
    if state < 0:
        return ClockState(None, f"the kernel does not answer (adjtimex: {os.strerror(ctypes.get_errno())})")
    return judge(state, timex.status, timex.maxerror, timex.esterror)


def judge(state: int, status: int, max_error_us: int, estimated_error_us: int) -> ClockState:
    """What adjtimex's answer means."""
    synchronised = state != TIME_ERROR and not status & STA_UNSYNC and max_error_us < NTP_PHASE_LIMIT_US
    detail = "synchronised" if synchronised else "not synchronised, says the kernel"
    return ClockState(synchronised, detail, max_error_us / MICROSECONDS_PER_MS, estimated_error_us / MICROSECONDS_PER_MS)


def look(trust: Trust, ask: Callable[[], ClockState] = ask_kernel) -> ClockState:
    """What is to be held of the clock now, by the settings' word."""
    state = ask()
    if trust == "always" and not state.synchronised:
        return ClockState(True, f"trusted by the settings ({state.detail})", state.max_error_ms, state.estimated_error_ms)
    return state


class Timekeeper:
    """Asks each minute, whoever wants to know. What cannot be told counts as not synchronised: nobody may rely on it.

    trust: ``kernel``, or ``always`` where the clock is kept right by what the kernel does not know of (PTP, the hypervisor).
    """

    def __init__(
        self,
        trust: Trust,
        *,
        ask: Callable[[], ClockState] = ask_kernel,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._trust = trust
        self._ask = ask
        self._now_s = now_s
        self._lock = threading.Lock()
        self._alarm = Alarm(again_s=SAY_AGAIN_S)
        self._due_s = 0.0
        self._state: ClockState | None = None

    def state(self) -> ClockState:
        """The latest answer, at most a minute old."""
        with self._lock:
            now = self._now_s()
            if self._state is None or now >= self._due_s:
                self._state, self._due_s = look(self._trust, self._ask), now + CHECK_EVERY_S
                self._say(self._state, now)
            return self._state

    def quality(self) -> str:
        """``synced`` or ``unsynced``, for the acks."""
        return "synced" if self.state().synchronised else "unsynced"

    def _say(self, state: ClockState, now_s: float) -> None:
        if state.synchronised:
            if self._alarm.over("clock"):
                log.warning("clock.synchronised_again")
        elif self._alarm.due("clock", now_s):
            meaning = "this clock is everybody's time: all records are marked unsynced"
            log.error("clock.not_synchronised", extra={"fields": {"detail": state.detail, "meaning": meaning, "cure": CURE}})
