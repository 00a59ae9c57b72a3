"""The machine, and what the agent itself costs it. A figure that this machine does not have is left out, and the others stand."""

import logging
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import psutil

from kerege_agent.clock import Reading, counts_since_boot
from kerege_agent.probes.context import Context
from kerege_agent.probes.rounding import FEW_DIGITS, significant
from kerege_wire import Host

Figure = TypeVar("Figure")

PLAUSIBLE_C: Final = (-50.0, 150.0)
"""Sensors that are not connected report -273, 0.1 or 255 degrees; outside of this nothing is believed."""

log = logging.getLogger(__name__)


def measure(context: Context) -> list[Host]:
    """One record. The CPU figures are about the time since the record before, and absent in the first."""
    reading, spool = context.read(), context.spool
    busy, agent = _cpu_percents(context.memory)
    return [
        Host(
            cpu_percent=busy,
            memory_percent=_figure(lambda: float(round(psutil.virtual_memory().percent))),
            disk_percent=_figure(lambda: round(psutil.disk_usage(str(_existing(context.settings.state_directory))).percent, 1)),
            temperature_c=_figure(_temperature_c),
            uptime_s=_figure(lambda: uptime_s(reading)),
            agent_memory_mb=_figure(lambda: significant(psutil.Process().memory_info().rss / 1e6)),
            agent_cpu_percent=agent,
            spool_records=None if spool is None else spool.depth,
            spool_mb=None if spool is None else significant(spool.size_bytes / 1e6),
            spool_state=None if spool is None else spool.state,
            wall_clock_error_s=_wall_clock_error_s(reading, context.clock_offset_ms()),
        )
    ]


def _figure(read: Callable[[], Figure]) -> Figure | None:
    try:
        return read()
    except (OSError, psutil.Error, AttributeError, NotImplementedError, ValueError) as error:
        log.debug("host.no_figure", extra={"fields": {"error": repr(error)}})
        return None


def _cpu_percents(memory: dict[str, Any]) -> tuple[float | None, float | None]:
    """(all cores together, this process of one core) since the call before; None at the first."""
    now = (psutil.cpu_times(), time.process_time(), time.monotonic())
    before = memory.get("cpu")
    memory["cpu"] = now
    if before is None:
        return None, None
    machine = {name: getattr(now[0], name) - getattr(before[0], name) for name in now[0]._fields}
    # Linux counts guests within user and nice; steal is time that this machine did not have
    whole_s = sum(value for name, value in machine.items() if name not in {"guest", "guest_nice"})
    idle_s = machine["idle"] + machine.get("iowait", 0.0)
    lasted_s = now[2] - before[2]
    if whole_s <= 0 or lasted_s <= 0:
        return None, None
    busy = min(max(1 - idle_s / whole_s, 0.0), 1.0)
    return significant(busy * 100, FEW_DIGITS), significant((now[1] - before[1]) / lasted_s * 100, FEW_DIGITS)


def _existing(path: Path) -> Path:
    return next(candidate for candidate in (path, *path.absolute().parents) if candidate.exists())


def _temperature_c() -> float | None:
    if sys.platform != "linux":
        return None  # psutil has no sensors elsewhere, but for BSD
    low, high = PLAUSIBLE_C
    found = [sensor.current for sensors in psutil.sensors_temperatures().values() for sensor in sensors if low <= sensor.current <= high]
    return round(max(found), 1) if found else None


def uptime_s(reading: Reading) -> int:
    """How long the machine has been running, suspend included where the system counts it."""
    if counts_since_boot():
        return reading.mono_ms // 1000
    return max(int(time.time() - psutil.boot_time()), 0)


def _wall_clock_error_s(reading: Reading, offset_ms: int | None) -> float | None:
    return None if offset_ms is None else significant((reading.wall_ms - reading.mono_ms - offset_ms) / 1000)
