"""Where accepted records go: one protocol, two stores (`influx`, `sqlite`), and the two ways in which writing can fail.

A store takes rows in batches. Each row ends written (again, at worst: a repeat overwrites itself) or rejected for good;
whatever may be better later is `RetryLater`, and then nothing of the batch counts as written.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from kerege_collector.state_points import StatePoint
from kerege_wire import Body


class Row(NamedTuple):
    """One accepted record on its way to the store. A tuple, because one is made for every record on the hot path.

    time, received_s: seconds since 1970 UTC. clock: how ``time`` was known; within_s: its largest error where estimated.
    """

    center: str
    epoch: str
    seq: int
    time: int
    kind: str
    clock: str
    within_s: int | None
    body: Body
    received_s: int


STORE_REFUSED: Final = "store-refused"
INTERNAL: Final = "internal"
"""Why a row is rejected: the store says so, or our own code stumbles over it."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """A row that this store can never take, in the store's own words."""

    row: Row
    detail: str
    reason: str = STORE_REFUSED


class RetryLater(Exception):  # noqa: N818 - an answer rather than an error: "not now"
    """The store (or the ledger) cannot take the batch now; nothing of it is written as far as anybody may rely on.

    reason: a class that is counted and shown: ``unreachable``, ``disk-full``, ``unauthorized``...
    detail: in words. retry_after_s: the server's own wish, where it has one.
    """

    def __init__(self, reason: str, detail: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail
        self.retry_after_s = retry_after_s


class Store(Protocol):
    """What the pipeline needs of a store."""

    def write(self, rows: Sequence[Row]) -> list[Rejected]:
        """Make the rows durable; return those that can never be. Raises RetryLater."""

    def tidy(self, now_s: int) -> None:
        """A small step of housekeeping between batches. Raises RetryLater."""

    def close(self) -> None:
        """Let go of files and connections."""


class StateStore(Protocol):
    """What the clerk needs of a store."""

    def write_states(self, points: Sequence[StatePoint]) -> None:
        """Make ``state`` points durable, over those that are there for the same minute. Raises RetryLater."""

    def close(self) -> None:
        """Let go of files and connections."""
