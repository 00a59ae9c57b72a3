"""Where in UTC the spans lie whose records had to wait for their time. Pure: decides offsets, touches no record."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import groupby

from kerege_agent.clock import Sample
from kerege_agent.estimate import Boot, estimate
from kerege_agent.rows import Span


def place_spans(spans: Sequence[Span], last: Mapping[int, tuple[int, int]], *, best: Sample, former: Sample | None) -> list[Span]:
    """The spans of ``last`` that had no offset yet, with theirs.

    spans: all that are known, oldest first once sorted.
    last: span → (monotonic, wall) in ms of its last record without a time.
    best: what the collector's clock says in this boot; former: what an earlier process last learned, maybe in an earlier boot.
    """
    known = {sample.boot_id: sample for sample in (former, best) if sample is not None}
    ordered = [_known(span, known) for span in sorted(spans, key=lambda span: span.span)]
    boots = [list(group) for _, group in groupby(ordered, key=lambda span: span.boot_id)]
    placed: list[Span] = [span for span in ordered if span.offset_ms is not None]
    run: list[list[Span]] = []
    for boot in boots:
        offsets = [span.offset_ms for span in boot if span.offset_ms is not None]
        if offsets:
            placed += _estimated(run, last, upper_ms=offsets[0] + boot[0].begin_ms)
            run = []
        elif any(span.span in last for span in boot):
            run.append(boot)
    decided = {span.span for span in spans if span.offset_ms is not None}
    return [span for span in placed if span.span in last and span.span not in decided]


def _known(span: Span, known: Mapping[str, Sample]) -> Span:
    sample = known.get(span.boot_id)
    if span.offset_ms is not None or sample is None:
        return span
    return replace(span, offset_ms=sample.offset_ms, clock=sample.quality, within_s=None)


def _estimated(run: Sequence[list[Span]], last: Mapping[int, tuple[int, int]], *, upper_ms: int) -> list[Span]:
    if not run:
        return []
    boots = []
    for boot in run:
        mono_ms, wall_ms = last[max(span.span for span in boot if span.span in last)]
        boots.append(Boot(boot[0].begin_ms, max(mono_ms, boot[0].begin_ms), wall_ms - mono_ms))
    after_s = run[0][0].after_s
    placements = estimate(boots, lower_ms=None if after_s is None else after_s * 1000, upper_ms=upper_ms)
    return [
        replace(span, offset_ms=placed.offset_ms, clock="estimated", within_s=-(-placed.within_ms // 1000) + 1)
        for boot, placed in zip(run, placements, strict=True)
        for span in boot
    ]
