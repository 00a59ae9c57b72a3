"""How long to wait before the next connection. Pure.

Full jitter: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
"""

import random
from dataclasses import dataclass, field
from typing import Final

REFUSED_FACTOR: Final = 4
"""A broker that refuses while the Internet works is no matter of the link: wait up to this many times the usual longest delay."""

FORBIDDEN_FACTOR: Final = 20
"""Wrong credentials do not heal by themselves; people must act."""

LEAST_S: Final = 0.05
_LARGEST_POWER: Final = 16

UNREACHABLE: Final = "unreachable"
REFUSED: Final = "refused"
FORBIDDEN: Final = "forbidden"
"""Why a connection failed: nobody answered, somebody said not now, somebody said not you."""


@dataclass(slots=True)
class Backoff:
    """Delays for one uplink. ``min_s`` is the first upper limit, ``max_s`` the usual largest."""

    min_s: float
    max_s: float
    chance: random.Random = field(default_factory=random.Random)
    attempts: int = 0

    def succeeded(self) -> None:
        """A connection that lasted: the next failure is a first one."""
        self.attempts = 0

    def delay_s(self, reason: str, *, online: bool | None) -> float:
        """Seconds until the next attempt. ``online``: does the Internet work as far as the last tick knows?

        While the link is down the limit stays small, so that records flow within seconds of its return.
        """
        limit_s = self.max_s
        if reason == FORBIDDEN:
            limit_s *= FORBIDDEN_FACTOR
        elif online and reason == REFUSED:
            limit_s *= REFUSED_FACTOR
        power = min(self.attempts, _LARGEST_POWER)
        self.attempts += 1
        return max(LEAST_S, self.chance.uniform(0, min(limit_s, self.min_s * 2**power)))
