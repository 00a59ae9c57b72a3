"""Sets of sequence numbers, kept as sorted, disjoint, non-touching inclusive ranges.

Both sides speak in ranges: an acknowledgement names what is stored, a collector remembers what it has accepted, a drop
record says what will never come.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator

Range = tuple[int, int]


def ranges_of(numbers: Iterable[int]) -> list[Range]:
    """The numbers as ranges; order and repeats do not matter."""
    found: list[Range] = []
    for number in sorted(set(numbers)):
        if found and found[-1][1] == number - 1:
            found[-1] = (found[-1][0], number)
        else:
            found.append((number, number))
    return found


class RangeSet:
    """A growing set of integers; adding and asking cost O(log n) plus the ranges that melt together."""

    __slots__ = ("_firsts", "_lasts")

    def __init__(self, ranges: Iterable[Range] = ()) -> None:
        self._firsts: list[int] = []
        self._lasts: list[int] = []
        for first, last in ranges:
            self.add(first, last)

    def add(self, first: int, last: int | None = None) -> None:
        """Add the numbers from ``first`` to ``last``, both included. Raises ValueError where first > last."""
        last = first if last is None else last
        if first > last:
            raise ValueError(f"range {first}-{last} runs backwards")
        if self._lasts and self._lasts[-1] == first - 1:  # the ordinary case: records arrive in order
            self._lasts[-1] = last
            return
        low = bisect_left(self._lasts, first - 1)
        high = bisect_right(self._firsts, last + 1)
        if low < high:
            first, last = min(first, self._firsts[low]), max(last, self._lasts[high - 1])
        self._firsts[low:high] = [first]
        self._lasts[low:high] = [last]

    def __contains__(self, number: int) -> bool:
        index = bisect_right(self._firsts, number) - 1
        return index >= 0 and number <= self._lasts[index]

    def __iter__(self) -> Iterator[Range]:
        return iter(zip(self._firsts, self._lasts, strict=True))

    def __len__(self) -> int:
        """How many ranges, not how many numbers."""
        return len(self._firsts)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RangeSet) and list(self) == list(other)

    def __repr__(self) -> str:
        return f"RangeSet({list(self)!r})"

    __hash__ = None  # type: ignore[assignment]  # it grows

    @property
    def count(self) -> int:
        """How many numbers."""
        return sum(last - first + 1 for first, last in self)

    @property
    def highest(self) -> int | None:
        """The largest number, None when empty."""
        return self._lasts[-1] if self._lasts else None

    def gaps(self, first: int, last: int) -> list[Range]:
        """The ranges between ``first`` and ``last``, both included, that are not in the set."""
        missing: list[Range] = []
        expected = first
        for low, high in self:
            if low > last:
                break
            if high < expected:
                continue
            if low > expected:
                missing.append((expected, low - 1))
            expected = high + 1
        if expected <= last:
            missing.append((expected, last))
        return missing

    def around(self, numbers: Iterable[int]) -> list[Range]:
        """The whole ranges of this set that hold any of ``numbers``, in order."""
        indexes = {bisect_right(self._firsts, number) - 1 for number in numbers if number in self}
        return [(self._firsts[index], self._lasts[index]) for index in sorted(indexes)]


def ranges_text(ranges: Iterable[Range]) -> str:
    """Ranges as a person and a drop record write them: ``3-7,12``."""
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in ranges)


def ranges_from_text(text: str) -> list[Range]:
    """The reverse of `ranges_text`. Raises ValueError where the text is no list of ranges or one runs backwards."""
    found = []
    for part in text.split(","):
        first, dash, last = part.partition("-")
        pair = (int(first), int(last if dash else first))
        if pair[0] > pair[1]:
            raise ValueError(f"range {part} runs backwards")
        found.append(pair)
    return found
