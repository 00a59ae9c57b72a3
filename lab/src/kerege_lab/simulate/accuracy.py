"""Verdicts against the truth, second by second. Pure."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Final, NamedTuple

from kerege_collector.timeline import Interval
from kerege_lab.simulate.truth import Fact

SEEMS_UP: Final = ("up", "degraded")


class Both(NamedTuple):
    """In [start_s, end_s) the truth was one thing, and the verdict is one thing; None where there is none."""

    start_s: int
    end_s: int
    fact: Fact
    said: Interval | None

    @property
    def seconds(self) -> int:
        return self.end_s - self.start_s

    @property
    def right_state(self) -> bool:
        return self.said is not None and self.said.state == self.fact.state

    @property
    def right(self) -> bool:
        return self.said is not None and (self.said.state, self.said.cause) == (self.fact.state, self.fact.cause)

    @property
    def false_up(self) -> bool:
        """We say that it worked, and it did not."""
        return self.said is not None and self.said.state in SEEMS_UP and self.fact.state in {"down", "off"}


@dataclass(frozen=True, slots=True)
class Accuracy:
    """In seconds of all centers together; longest_false_up_s: without a break, of one center."""

    seconds: int
    right_state_s: int
    right_s: int
    gaps_s: int
    overlaps_s: int
    longest_false_up_s: int

    def __add__(self, other: "Accuracy") -> "Accuracy":
        longest_s = max(self.longest_false_up_s, other.longest_false_up_s)
        sums = (self.seconds + other.seconds, self.right_state_s + other.right_state_s, self.right_s + other.right_s)
        return Accuracy(*sums, self.gaps_s + other.gaps_s, self.overlaps_s + other.overlaps_s, longest_s)


NONE: Final = Accuracy(0, 0, 0, 0, 0, 0)


def accuracy(facts: Sequence[Fact], said: Sequence[Interval]) -> Accuracy:
    """Of one center. facts: gapless and in order; said: as the ledger has it, which must be so too."""
    together = list(compared(facts, said))
    false_ups = [list(run) for is_false, run in groupby(together, key=lambda each: each.false_up) if is_false]
    ordered = sorted(said, key=lambda interval: interval.start_s)
    return Accuracy(
        seconds=sum(each.seconds for each in together),
        right_state_s=sum(each.seconds for each in together if each.right_state),
        right_s=sum(each.seconds for each in together if each.right),
        gaps_s=sum(each.seconds for each in together if each.said is None),
        overlaps_s=sum(max(before.end_s - after.start_s, 0) for before, after in pairwise(ordered)),
        longest_false_up_s=max((run[-1].end_s - run[0].start_s for run in false_ups), default=0),
    )


def compared(facts: Sequence[Fact], said: Iterable[Interval]) -> Iterator[Both]:
    """Fact and verdict side by side, cut wherever either changes."""
    ordered = sorted(said, key=lambda interval: interval.start_s)
    place = 0
    for fact in facts:
        at_s = fact.start_s
        while at_s < fact.end_s:
            while place < len(ordered) and ordered[place].end_s <= at_s:
                place += 1
            found = ordered[place] if place < len(ordered) else None
            if found is None or found.start_s >= fact.end_s:
                end_s, here = fact.end_s, None
            elif found.start_s > at_s:
                end_s, here = found.start_s, None
            else:
                end_s, here = min(found.end_s, fact.end_s), found
            yield Both(at_s, end_s, fact, here)
            at_s = end_s
