"""What the interface towards the Internet carried since the last record, its peaks, and the plan's use."""

import time
from typing import Final

import psutil

from kerege_agent.clock import counts_since_boot
from kerege_agent.probes.account import Account
from kerege_agent.probes.context import Context
from kerege_agent.probes.meter import Counters, Meter
from kerege_agent.probes.plan import period_of
from kerege_agent.probes.rounding import significant
from kerege_agent.probes.routes import default_routes
from kerege_wire import Traffic

FIRST_INTERVAL_S: Final = 1.0
"""How long a probe that was run by hand, with no look at the counters before, waits for the second one."""

SHORTEST_STEP: Final = 0.5
"""A step shorter than this share of ``sample_s`` makes no peak: a burst within it would look like a rate."""

PLAN: Final = "plan"


def sample(context: Context) -> None:
    """One look at the counters between two records."""
    counters = read_counters(context)
    if isinstance(counters, str):
        return  # the record will say so
    meter: Meter | None = context.memory.get("meter")
    if meter is None:
        context.memory.setdefault("first", counters)
        context.memory["meter"] = Meter(counters, counters.mono_ms)
    else:
        context.memory["meter"] = meter.after(counters, shortest_step_s=SHORTEST_STEP * context.settings.traffic.sample_s)


def measure(context: Context) -> list[Traffic]:
    """One record about the interval since the last one, or since the agent's start."""
    counters = read_counters(context)
    if isinstance(counters, str):
        return [Traffic(interface=context.settings.traffic.interface, error=counters)]
    sample(context)
    if context.memory["meter"].interval_s <= 0:
        time.sleep(FIRST_INTERVAL_S)
        sample(context)
    meter: Meter = context.memory["meter"]
    context.memory["meter"] = meter.emptied()
    return [
        Traffic(
            interface=meter.last.interface,
            interval_s=significant(meter.interval_s),
            received_bytes=meter.received_bytes,
            sent_bytes=meter.sent_bytes,
            received_peak_kbps=None if meter.received_peak_kbps is None else significant(meter.received_peak_kbps),
            sent_peak_kbps=None if meter.sent_peak_kbps is None else significant(meter.sent_peak_kbps),
            plan_used_mb=_plan_used_mb(context, meter),
        )
    ]


def read_counters(context: Context) -> Counters | str:
    """The counters of the interface of the settings, or of the default route; else why there are none."""
    name = context.settings.traffic.interface
    if name is None:
        routes = default_routes(context.settings.targets[0].address)
        name = next((route.interface for route in routes if route.interface), None)
        if name is None:
            return "no default route, so no interface to count"
    found = psutil.net_io_counters(pernic=True, nowrap=False).get(name)
    if found is None:
        return f"no interface {name}"
    return Counters(name, context.read().mono_ms, found.bytes_recv, found.bytes_sent)


def _plan_used_mb(context: Context, meter: Meter) -> float | None:
    if context.spool is None:
        return None
    account = Account.restored(context.spool.account(PLAN))
    boot_id, offset_ms, plan = context.read().boot_id, context.clock_offset_ms(), context.settings.plan
    passed_bytes = meter.received_bytes + meter.sent_bytes
    first: Counters | None = context.memory.pop("first", None)
    if first is not None and counts_since_boot():
        passed_bytes += account.missed_bytes(first, boot_id)
    period = None
    if offset_ms is not None:
        period = period_of((meter.last.mono_ms + offset_ms) / 1000, timezone=plan.timezone, reset_day=plan.reset_day)
    account = account.entered(passed_bytes, period=period, counters=meter.last, boot_id=boot_id)
    context.spool.set_account(PLAN, account.kept())
    return round(account.used_bytes / 1e6, 1) if account.whole else None
