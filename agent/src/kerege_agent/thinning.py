"""What goes first when the spool is full: the cheapest detail, oldest first. Pure."""

from collections.abc import Sequence
from typing import Final

from kerege_wire import Drop
from kerege_wire.ranges import ranges_of, ranges_text
from kerege_wire.records import MAX_SEQS_TEXT

ORDER: Final = ("host", "traffic", "dns", "http", "ping")
"""Kinds in the order in which they are thinned. Ticks, boots and drops are the evidence of outages: never thinned on disk."""

PASS_ROWS: Final = 200
"""Most records that one pass removes, so that a pass is short and its `drop` records few."""

LEAST_ROWS: Final = 16
"""Fewer records of a kind are not worth a pass: the `drop` record that tells of them would be as large as they are."""


def drop_of(seqs: Sequence[int], *, epoch: str, kind: str, reason: str) -> tuple[Drop, int]:
    """The record that tells of the first of these numbers, as many as it can name, and how many those are."""
    count = min(len(seqs), PASS_ROWS)
    while len(text := ranges_text(ranges_of(seqs[:count]))) > MAX_SEQS_TEXT:
        count -= max(1, count // 8)
    return Drop(dropped_epoch=epoch, dropped_seqs=text, dropped_kind=kind[:32], count=count, reason=reason[:64]), count
