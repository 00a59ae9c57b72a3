"""One record as the spool keeps it, and the stretches of time ("spans") that records belong to."""

import json
import zlib
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import Any, Final

from kerege_wire import Body, Record, WireError, kind_of, series_of
from kerege_wire.fields import write_values
from kerege_wire.reports import read_body

SEQ_BITS: Final = 32
"""A key is ``span << 32 | seq``: one integer that sorts by age, and the row's number in the file."""

MAX_SPAN: Final = 1 << 31
_SEQ_MASK: Final = (1 << SEQ_BITS) - 1
_dump = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode


Found = tuple[int, str, int | None]
"""A record as it is asked for to be deleted: (key, kind, time or None)."""


def key_of(span: int, seq: int) -> int:
    """The key of a record."""
    return span << SEQ_BITS | seq


def span_of(key: int) -> int:
    """The span that a key belongs to."""
    return key >> SEQ_BITS


def seq_of(key: int) -> int:
    """The sequence number in a key."""
    return key & _SEQ_MASK


@dataclass(frozen=True, slots=True)
class Row:
    """A record with all that is needed to give it its time later, in another process, after another boot.

    mono_ms, wall_ms: the reading at which it was made; the boot is the span's.
    time_s: UTC, None until it is fixed; from then on it never changes.
    clock, within_s: how the time was known, as on the wire.
    body: the wire's row without its steps, ``["tick","online",...]`` as JSON.
    """

    key: int
    epoch: str
    kind: str
    mono_ms: int
    wall_ms: int
    time_s: int | None
    clock: str
    within_s: int | None
    body: str

    @property
    def seq(self) -> int:
        return seq_of(self.key)

    @property
    def span(self) -> int:
        return span_of(self.key)

    @property
    def columns(self) -> tuple[Any, ...]:
        """The values as they stand in the file, a checksum over all of them last."""
        return (*self._values, self.checksum)

    @property
    def _values(self) -> tuple[Any, ...]:
        return (self.key, self.epoch, self.kind, self.mono_ms, self.wall_ms, self.time_s, self.clock, self.within_s, self.body)

    @property
    def checksum(self) -> int:
        """CRC-32 over all else: SQLite notices a broken page structure, but not a flipped bit in a value."""
        return zlib.crc32(repr(self._values).encode())

    @property
    def series(self) -> tuple[str, str]:
        """(kind, target), as the wire defines it; without the target where this version does not know the record."""
        try:
            return series_of(self.read())
        except (WireError, ValueError, TypeError):
            return self.kind, ""

    def read(self) -> Body:
        """The record's body. Raises WireError where this version does not know it."""
        kind, *values = json.loads(self.body)
        return read_body([0, kind, 0, *values])

    def record(self) -> Record:
        """The record for the wire; its time must be fixed."""
        if self.time_s is None:
            raise ValueError(f"record {self.seq} of {self.epoch} has no time yet")
        return Record(self.seq, self.time_s, self.read())


def row_from(columns: tuple[Any, ...]) -> Row | None:
    """The row in a file's columns, None where the checksum says that they are not what was written."""
    *values, checksum = columns
    try:
        row = Row(*values)
    except TypeError:
        return None
    return row if checksum == row.checksum else None


def text_of(body: Body) -> str:
    """A body as the spool keeps it."""
    values = [kind_of(body), *write_values(body)]
    while values[-1] is None:
        values.pop()
    return _dump(values)


@dataclass(slots=True)
class Span:
    """A stretch within one run of the agent during which one monotonic clock ran on.

    begin_ms: the clock was never below this (0 where it counts from the boot).
    after_s: UTC of the latest record known when the span began; None where there was none.
    offset_ms, clock, within_s: UTC minus monotonic for records that had to wait for it, and how it was known. Decided once.
    last_seq, last_s: highest sequence number, and time, among the records that have left the spool.
    why: reason of a clean stop; None while running, or after a crash.
    """

    span: int
    epoch: str
    boot_id: str
    begin_ms: int
    after_s: int | None = None
    offset_ms: int | None = None
    clock: str = "synced"
    within_s: int | None = None
    last_seq: int = 0
    last_s: int | None = None
    why: str | None = None

    @property
    def columns(self) -> tuple[Any, ...]:
        """The values as they stand in the file, a CRC-32 over all of them last."""
        values = astuple(self)
        return (*values, zlib.crc32(repr(values).encode()))


_LOST: Final = "lost-"
"""Where the boot's id is not known; no boot has such an id."""


def lost_span(span: int, epoch: str) -> Span:
    """A span whose own row is lost, made up from its records: their identity needs no more than the epoch."""
    return Span(span, epoch, f"{_LOST}{span}", 0)


def is_lost(span: Span) -> bool:
    """Is it made up by `lost_span`? How its run ended, and in which boot, is not known then."""
    return span.boot_id.startswith(_LOST)


def span_from(columns: Sequence[Any]) -> Span | None:
    """The span in a file's columns, None where the checksum says that they are not what was written."""
    try:
        span = Span(*columns[:-1])
    except TypeError:
        return None
    return span if columns[-1] == span.columns[-1] else None
