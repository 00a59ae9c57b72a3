"""The run before this one, as the spool remembers it: the proof of power cuts, and of lost tails."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from kerege_agent.rows import Span, is_lost
from kerege_agent.spool_file import SpoolFile

DAMAGE_NOTE: Final = "damage"
"""Name of the note about a file that broke while a run was at work: the next one tells of it."""


@dataclass(frozen=True, slots=True)
class PreviousRun:
    """What the spool knows about the run before this one, for the `boot` record.

    last_seq: the last number that it is known to have given out.
    stop: `clean`, `unclean`, `first` (there was none), or None where the spool could not be read, or not what it said of that run.
    last_alive_s: UTC of its last record where that is known.
    same_boot: the machine has not started since; None where that is not known.
    spool: `kept`, `new` or `damaged`; salvaged: records read out of the damaged one.
    """

    epoch: str | None = None
    last_seq: int | None = None
    stop: str | None = None
    why: str | None = None
    last_alive_s: int | None = None
    same_boot: bool | None = False
    spool: str = "new"
    salvaged: int = 0


def look_back(file: SpoolFile, spans: Mapping[int, Span], *, boot_id: str, spool: str, salvaged: int) -> PreviousRun:
    """Read it from a file that was just opened and holds nothing of this run yet."""
    if not spans:
        return PreviousRun(stop="first" if spool == "new" else None, spool=spool, salvaged=salvaged)
    last = spans[max(spans)]
    own = [span for span in spans.values() if span.epoch == last.epoch]
    in_file = [file.last_of(span.span) for span in own]
    times = [time_s for time_s in (*(time_s for _, time_s in in_file), *(span.last_s for span in own)) if time_s is not None]
    if spool == "kept":
        spool, salvaged = _earlier_damage(file, last.epoch) or (spool, salvaged)
    return PreviousRun(
        epoch=last.epoch,
        last_seq=max(*(seq for seq, _ in in_file), *(span.last_seq for span in own)) or None,
        stop=None if is_lost(last) else "unclean" if last.why is None else "clean",
        why=last.why,
        last_alive_s=max(times, default=None),
        same_boot=None if is_lost(last) else last.boot_id == boot_id,
        spool=spool,
        salvaged=salvaged,
    )


def last_known_s(latest_s: int | None, spans: Iterable[Span], *more: int | None) -> int | None:
    """The latest of these times, and of those that spans remember; None where none is known."""
    times = [latest_s, *more, *(time_s for span in spans for time_s in (span.last_s, span.after_s))]
    return max((time_s for time_s in times if time_s is not None), default=None)


def damage_note(epoch: str, salvaged: int) -> str:
    """The note to leave when a file broke during this run."""
    return json.dumps({"epoch": epoch, "salvaged": salvaged})


def _earlier_damage(file: SpoolFile, epoch: str) -> tuple[str, int] | None:
    try:
        note = json.loads(file.note(DAMAGE_NOTE) or "{}")
        return ("damaged", int(note["salvaged"])) if note.get("epoch") == epoch else None
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
