"""What the agent can measure: one function a kind, and what to say of a kind whose function failed."""

from collections.abc import Callable, Iterable
from typing import Any, Final

from kerege_agent.probes import boot, dns, host, http, ping, tick, traffic
from kerege_agent.probes.context import Context, Probe, Sampler
from kerege_wire import KINDS, Body

PROBES: Final[dict[str, Probe]] = {
    "boot": boot.measure,
    "tick": tick.measure,
    "host": host.measure,
    "dns": dns.measure,
    "http": http.measure,
    "ping": ping.measure,
    "traffic": traffic.measure,
}
"""Kind → probe, in the order of their first runs."""

SAMPLERS: Final[dict[str, Sampler]] = {"traffic": traffic.sample}
"""Kind → what it looks at between its runs, every ``traffic.sample_s``."""

TARGETS: Final[dict[str, Callable[[Context], Iterable[str]]]] = {
    "ping": lambda context: [target.name for target in context.settings.targets],
    "dns": lambda context: [dns.target_of(context)],
    "http": lambda context: http.targets_of(context.settings),
}
"""Kind → the targets that each run speaks of, for the kinds that have any."""


def failed(kind: str, context: Context, error: str) -> list[Body]:
    """The records of a run that brought none: one for each target, with ``error`` and no numbers."""
    declared: Callable[..., Any] = KINDS[kind]
    if kind not in TARGETS:
        return [declared(error=error)]
    return [declared(target=target, error=error) for target in TARGETS[kind](context)]


__all__ = ["PROBES", "SAMPLERS", "Context", "Probe", "Sampler", "failed"]
