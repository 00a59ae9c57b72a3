"""What was decided and why, for the commands and for the API: one JSON value each, made in the transaction of the caller.

timeline   intervals of a span, seconds by state and cause, the figures of the mandate, how good the link was on its dates
explain    the verdict on one second, every piece of evidence that may speak for it, and what we said of it before
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any, Final

import sqlalchemy as sa

from kerege_collector import evidence, verdicts
from kerege_collector.centers import Region
from kerege_collector.hours import Calendar
from kerege_collector.quality import Quality
from kerege_collector.rollup import account, figures
from kerege_collector.timeline import Evidence, Interval, Run, Start, judged
from kerege_collector.witness import HEARTBEAT_S

NEAR: Final = 5
"""Most pieces of evidence of one kind that are told on either side of a moment."""

RULES: Final = {
    "tick": "ticks around it said so",
    "boot-agent": "the agent started later, and only the agent had stopped",
    "boot-clean": "the machine started later, and the run before had ended well",
    "boot-unclean": "the machine started later, and the run before had not ended: its power was cut",
    "boot-without-cause": "the agent started later after an unclean end, and cannot tell whether the machine had stopped too",
    "boot-without-memory": "the agent started later and knows nothing of the run before",
    "asleep": "no record is missing between two that lie far apart: the machine slept",
    "goodbye": "the agent had said goodbye",
    "standing": "the library is registered and has no link",
    "missing": "records of this time have not come",
    "silence": "there is no evidence",
    "quality": "online, and the link was worse than it should be",
    "corrected": "a person corrected it",
}
"""Rule (docs/verdicts.md) → what it means, in words."""


def timeline(connection: sa.Connection, region: Region, center: str, start_s: int, end_s: int) -> dict[str, Any]:
    """The verdicts on [start_s, end_s), as far as there are any."""
    found = verdicts.read(connection, center, start_s, end_s)
    calendar = region.calendar(center)
    spans = calendar.open_spans(found[0].start_s, found[-1].end_s) if found else []
    seconds = account(found, spans)
    shares = figures(seconds.inside)
    entry = region.centers.get(center)
    return {
        "center": center,
        "name": entry.name if entry else None,
        "from_s": start_s,
        "to_s": end_s,
        "intervals": [each._asdict() for each in found],
        "seconds_open": [{"state": state, "cause": cause, "seconds": count} for (state, cause), count in sorted(_keys(seconds.inside))],
        "seconds_closed": [{"state": state, "cause": cause, "seconds": count} for (state, cause), count in sorted(_keys(seconds.outside))],
        "figures": asdict(shares) | {"enough": shares.enough},
        "quality_open": _quality(connection, center, calendar, found, is_open=True).figures(),
        "quality_closed": _quality(connection, center, calendar, found, is_open=False).figures(),
        "revisions": len(verdicts.revisions(connection, center, start_s, end_s)),
    }


def explain(connection: sa.Connection, region: Region, center: str, time_s: int) -> dict[str, Any]:
    """The verdict on one second, and why; ``verdict`` is None where there is none (yet)."""
    entry = region.centers.get(center)
    heartbeat_s = entry.heartbeat_s if entry else HEARTBEAT_S
    known = evidence.load(connection, center, time_s, time_s + 1, heartbeat_s=heartbeat_s, standing=())
    whole = next(iter(verdicts.around(connection, center, time_s)), None)
    said = verdicts.revisions(connection, center, time_s, time_s + 1)
    return {
        "center": center,
        "name": entry.name if entry else None,
        "time_s": time_s,
        "open": region.calendar(center).is_open(time_s),
        "verdict": None if whole is None else whole._asdict() | {"why": RULES.get(whole.rule, whole.rule)},
        "evidence": sorted(_pieces(known, time_s), key=lambda piece: piece["from_s"]),
        "said_before": [
            {"until_s": each.said_s, "changed_by": each.why, "said": [part._asdict() for part in each.before if _has(part, time_s)]}
            for each in said
        ],
    }


def _quality(connection: sa.Connection, center: str, calendar: Calendar, found: Sequence[Interval], *, is_open: bool) -> Quality:
    """How good the link was on the dates of these verdicts."""
    if not found:
        return Quality()
    first, last = calendar.day_of(found[0].start_s), calendar.day_of(found[-1].end_s - 1)
    return evidence.quality(connection, center, first, last, is_open=is_open)


def _keys(seconds: dict[tuple[str, str | None], int]) -> Iterator[tuple[tuple[str, str], int]]:
    return (((state, cause or ""), count) for (state, cause), count in seconds.items())


def _has(part: Interval, time_s: int) -> bool:
    return part.start_s <= time_s < part.end_s


def _pieces(known: Evidence, time_s: int) -> Iterator[dict[str, Any]]:
    runs = sorted(known.runs, key=lambda run: run.first_s)
    before = [run for run in runs if run.first_s <= time_s][-NEAR:]
    after = [run for run in runs if run.first_s > time_s][:NEAR]
    for run in (*before, *after):
        yield {"kind": "ticks" if run.state else "records", "from_s": run.first_s, "to_s": run.alive_s, "words": _of_run(run)}
    for start in sorted(known.starts, key=lambda start: abs(start.time_s - time_s))[:NEAR]:
        yield {"kind": "boot", "from_s": start.time_s, "to_s": start.time_s, "words": _of_start(start)}
    for goodbye in known.goodbyes:
        words = f"run {goodbye.epoch} said goodbye ({goodbye.why or 'no reason given'})"
        yield {"kind": "goodbye", "from_s": goodbye.time_s, "to_s": goodbye.time_s, "words": words}
    for sign in known.bad:
        words = f"a ping: {sign.why} beyond the threshold{'' if sign.strong else ' (weak: counts only with another near it)'}"
        yield {"kind": "ping", "from_s": sign.time_s, "to_s": sign.time_s, "words": words}
    for each in known.corrections:
        words = f"a person said: {each.state}{f' ({each.cause})' if each.cause else ''}"
        yield {"kind": "correction", "from_s": each.start_s, "to_s": each.end_s, "words": words}


def _of_run(run: Run) -> str:
    said = {None: "no tick", "unknown": "ticks that could not tell"}.get(run.state, f"ticks said {run.state}")
    cause = f" ({run.cause})" if run.cause else ""
    clock = {"synced": "", "unsynced": ", the collector's clock was in doubt"}.get(run.clock, f", times estimated within {run.within_s} s")
    return f"{said}{cause}; run {run.epoch}, records {run.first_seq} to {run.last_seq}{clock}"


def _of_start(start: Start) -> str:
    state, cause, _ = judged(start)
    what = {"host": "the machine started", "agent": "only the agent started"}.get(start.cause or "", "the agent started")
    why = f" ({start.why})" if start.why else ""
    means = f"{state} ({cause})" if cause else state
    return f"{what}; the run before ended: {start.stop or 'not known'}{why}; so the silence before it was {means}"
