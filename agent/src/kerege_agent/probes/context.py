"""What a probe is given: the settings, the clocks, what the rest of the agent knows, and its own memory between runs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from kerege_agent.clock import Reading
from kerege_agent.settings import Settings
from kerege_wire import Body


class SpoolView(Protocol):
    """What probes may see of the spool; ``account`` is a small durable store."""

    @property
    def depth(self) -> int: ...
    @property
    def size_bytes(self) -> int: ...
    @property
    def state(self) -> str: ...
    def account(self, name: str) -> Mapping[str, Any]: ...
    def set_account(self, name: str, value: dict[str, Any]) -> None: ...


class SessionView(Protocol):
    """What probes may see of the uplink's MQTT session: two proofs of life on the monotonic clock of `Reading`.

    error: why there is no connection; None while the first one is being made.
    """

    @property
    def connected(self) -> bool: ...
    @property
    def error(self) -> str | None: ...
    @property
    def last_ack_mono_ms(self) -> int | None: ...
    @property
    def last_puback_mono_ms(self) -> int | None: ...


class PreviousRunView(Protocol):
    """What the spool found out about the run before this one."""

    @property
    def epoch(self) -> str | None: ...
    @property
    def last_seq(self) -> int | None: ...
    @property
    def stop(self) -> str | None: ...
    @property
    def why(self) -> str | None: ...
    @property
    def last_alive_s(self) -> int | None: ...
    @property
    def same_boot(self) -> bool | None: ...
    @property
    def spool(self) -> str: ...
    @property
    def salvaged(self) -> int: ...


def _nothing() -> None:
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """One probe's view of the world. What is None is not there, as when a single probe is run by hand.

    read: the clocks now.
    clock_offset_ms: UTC minus ``Reading.mono_ms`` as the collector's clock gives it, None while that is not known.
    session: the MQTT session now.
    memory: what the probe wants to know again at its next run; its own, and empty at the start of the agent.
    """

    settings: Settings
    read: Callable[[], Reading]
    spool: SpoolView | None = None
    session: Callable[[], SessionView | None] = _nothing
    clock_offset_ms: Callable[[], int | None] = _nothing
    previous: PreviousRunView | None = None
    memory: dict[str, Any] = field(default_factory=dict)


Probe = Callable[[Context], Sequence[Body]]
"""Measures once and returns its records: one, one for each target, or none where there is nothing to say yet.

It never stores, and need not catch anything: the caller owns the timeout and turns an exception into a record with ``error``.
"""

Sampler = Callable[[Context], None]
"""A look at a counter between a probe's runs; must return at once."""
