"""The four messages of version 1, as frozen dataclasses. How they become bytes: `reports`, `acks`, `retained`, `codec`."""

from dataclasses import dataclass
from typing import Any, Final

from kerege_wire.fields import choice, text, whole
from kerege_wire.ranges import Range
from kerege_wire.records import EPOCH_PATTERN, Body

MAX_RECORDS: Final = 1000
"""Most records in one report. An agent sends far fewer, so that one lost message on a bad link costs little."""

MAX_RANGES: Final = 256
"""Most ranges, and most refusals, in one acknowledgement."""

CLOCKS: Final = ("synced", "estimated", "unsynced")
"""How a record's time was known. ``synced``: against the collector's clock, within the same boot. ``estimated``: made in
an earlier boot that never met the collector, and placed between its neighbours. ``unsynced``: the collector's own
clock was not synchronised."""


@dataclass(frozen=True, slots=True)
class Record:
    """One result with its identity (center and epoch are the report's) and its time.

    seq: sequence number in the epoch, from 1, contiguous.
    time: when it was measured, seconds since 1970 UTC; fixed before the first send.
    """

    seq: int
    time: int
    body: Body


@dataclass(frozen=True, slots=True)
class Refused:
    """A record that could be named but not understood: ``item`` is its JSON array or object as it came."""

    seq: int
    time: int
    reason: str
    detail: str
    item: list[Any] | dict[str, Any]


@dataclass(frozen=True, slots=True)
class Report:
    """A batch of records of one epoch whose times were known in one way, in rising order of sequence number.

    With no record it is a question for the time.

    sent: the agent's monotonic clock at sending, in ms; the ack returns it untouched.
    waiting: records in the agent's spool that are not in this report.
    prompt: the agent wants its ack now, not coalesced.
    center: sent in the first report of a connection; must then agree with the topic.
    clock: how the times of its records were known (`CLOCKS`).
    within_s: for estimated times, the largest possible error either way.
    refused: filled by the reader only.
    """

    epoch: str = text("random name of this run of the agent", pattern=EPOCH_PATTERN, required=True)
    sent: int | None = whole("the agent's monotonic clock at sending", "ms")
    center: str | None = text("the center, to be compared with the topic", max_length=32)
    waiting: int = whole("records in the spool that are not in this report", "records", default=0)
    ack: str | None = choice("`now`: acknowledge at once instead of coalescing", ("now",))
    clock: str = choice("how the times of the records were known", CLOCKS, default="synced")
    within_s: int | None = whole("for estimated times, the largest possible error either way", "s")
    records: tuple[Record, ...] = ()
    refused: tuple[Refused, ...] = ()

    @property
    def prompt(self) -> bool:
        """Does the agent want its acknowledgement at once? An empty report always does: it asks for the time."""
        return self.ack == "now" or not (self.records or self.refused)


@dataclass(frozen=True, slots=True)
class Ack:
    """What the collector has made durable, and the time.

    stored: ranges of sequence numbers of ``epoch`` that need not be sent again.
    refused: (sequence number, reason): kept in quarantine at the collector; need not be sent again either.
    sent, received, replied: the four timestamps less the fourth, which is the agent's own clock when this arrives.
    hold: why nothing of this center is stored at present; the agent keeps everything and asks again later.
    unreadable: CRC-32 of a payload that could not be read at all, eight hex digits.
    """

    epoch: str | None = text("epoch that the sequence numbers belong to", pattern=EPOCH_PATTERN)
    sent: int | None = whole("`sent` of the report that this answers last", "ms")
    received: int | None = whole("when that report arrived", "ms since 1970 UTC")
    replied: int | None = whole("when this ack left", "ms since 1970 UTC")
    clock: str = choice("is the collector's own clock synchronised", ("synced", "unsynced"), default="synced")
    hold: str | None = text("why nothing is accepted from this center now")
    unreadable: str | None = text("CRC-32 of a payload that could not be read", pattern="[0-9a-f]{8}")
    reason: str | None = text("why that payload could not be read")
    stored: tuple[Range, ...] = ()
    refused: tuple[tuple[int, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Presence:
    """Retained: who is connected. ``epoch`` and ``birth`` name one connection; a `lost` (the will) or a `goodbye`
    counts only while that very connection is the latest that was born."""

    state: str = choice("what is being said", ("online", "goodbye", "lost"), required=True)
    epoch: str = text("this run of the agent", pattern=EPOCH_PATTERN, required=True)
    birth: int = whole("number of the connection within the run, from 1", "", low=1, required=True)
    why: str | None = text("reason of a goodbye: shutdown, upgrade, stop", max_length=64)
    agent: str | None = text("version of the agent", max_length=32)
    center: str | None = text("the center, to be compared with the topic", max_length=32)


@dataclass(frozen=True, slots=True)
class CollectorState:
    """Retained: is anybody there to acknowledge. Agents hold their spool while the state is ``away``."""

    state: str = choice("ready to store, or away", ("ready", "away"), required=True)
    ack_within_s: int = whole("longest time that an ack is held back to be coalesced", "s", high=86_400, default=300)
    time: int | None = whole("when this was said", "s since 1970 UTC")


Message = Report | Ack | Presence | CollectorState
