"""What was learned of the time, kept in the spool for a run that follows in the same boot."""

import json
from dataclasses import asdict
from typing import Final

from kerege_agent.clock import Sample

CLOCK_NOTE: Final = "clock"
"""Name of the note in the spool."""

CHANGE_MS: Final = 500
"""It is written down again when it has changed by this much."""


def is_news(best: Sample | None, noted: Sample | None) -> bool:
    """Is what is known now worth writing down?"""
    if best is None or noted is None:
        return best is not None
    return (noted.boot_id, noted.quality) != (best.boot_id, best.quality) or abs(noted.offset_ms - best.offset_ms) >= CHANGE_MS


def written(sample: Sample) -> str:
    """The text of the note."""
    return json.dumps(asdict(sample))


def read(note: str | None) -> Sample | None:
    """What a note says, None where there is none that can be understood."""
    try:
        return Sample(**json.loads(note or "null"))
    except (ValueError, TypeError):
        return None
