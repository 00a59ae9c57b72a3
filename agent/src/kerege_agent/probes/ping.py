"""Round-trip times and loss towards the targets, which take turns; the trains of one run go at the same time."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Final

from kerege_agent.probes.context import Context
from kerege_agent.probes.echo import Aim, Answer, ask
from kerege_agent.probes.rounding import FEW_DIGITS, significant, significant_ms
from kerege_agent.settings import Target
from kerege_wire import Ping

JITTER_GAIN: Final = 16
"""RFC 3550 section 6.4.1: J := J + (|D| - J) / 16."""


def measure(context: Context) -> list[Ping]:
    """One record for each target whose turn it is."""
    wanted = context.settings.probes.ping
    targets = _next(context.settings.targets, wanted.targets_per_run, context.memory)
    aims = [Aim(target.address, target.tcp_port, wanted.loss_timeout_s) for target in targets]
    answers = ask(aims, count=wanted.count, spacing_s=wanted.spacing_s)
    return [_record(target, aim.family, answer) for target, aim, answer in zip(targets, aims, answers, strict=True)]


def _next(targets: Sequence[Target], count: int, memory: dict[str, Any]) -> list[Target]:
    """The next ``count`` targets after those of the run before, none of them twice."""
    first = memory.get("turn", 0) % len(targets)
    taken = min(count, len(targets))
    memory["turn"] = first + taken
    return [targets[(first + step) % len(targets)] for step in range(taken)]


def _record(target: Target, family: int, answer: Answer) -> Ping:
    if answer.sent == 0:
        return Ping(target.name, family=family, via=answer.via, error=answer.error)
    if not answer.rtts_ns:
        return Ping(target.name, family=family, via=answer.via, sent=answer.sent, received=0)
    return Ping(
        target.name,
        family=family,
        via=answer.via,
        sent=answer.sent,
        received=len(answer.rtts_ns),
        rtt_min_ms=significant_ms(min(answer.rtts_ns)),
        rtt_p50_ms=significant_ms(percentile(answer.rtts_ns, 50)),
        rtt_p95_ms=significant_ms(percentile(answer.rtts_ns, 95)),
        rtt_max_ms=significant_ms(max(answer.rtts_ns)),
        jitter_ms=None if len(answer.rtts_ns) < 2 else significant(jitter_ns(answer.rtts_ns) / 1e6, FEW_DIGITS),
    )


def percentile(values: Sequence[int], percent: float) -> int:
    """The nearest-rank percentile: the smallest value that at least ``percent`` % of the values do not exceed. No interpolation."""
    return sorted(values)[math.ceil(percent / 100 * len(values)) - 1]


def jitter_ns(rtts_ns: Sequence[int]) -> float:
    """Interarrival jitter (RFC 3550 section 6.4.1) over round trips in the order of sending, from 0; lost ones are left out."""
    jitter = 0.0
    for before, after in pairwise(rtts_ns):
        jitter += (abs(after - before) - jitter) / JITTER_GAIN
    return jitter
