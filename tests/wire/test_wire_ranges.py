"""Ranges of sequence numbers, held against a plain set of integers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerege_wire.ranges import RangeSet, ranges_from_text, ranges_of, ranges_text

NUMBER = st.integers(1, 60)
PAIRS = st.lists(st.tuples(NUMBER, st.integers(0, 8)).map(lambda pair: (pair[0], pair[0] + pair[1])), max_size=20)


def numbers_in(pairs: list[tuple[int, int]]) -> set[int]:
    return {number for first, last in pairs for number in range(first, last + 1)}


@given(PAIRS)
def test_a_range_set_holds_what_was_added(pairs: list[tuple[int, int]]) -> None:
    """Sorted, disjoint and non-touching ranges with the same numbers as a set."""
    ranges, model = RangeSet(pairs), numbers_in(pairs)
    assert list(ranges) == ranges_of(model)
    assert all(last + 1 < first for (_, last), (first, _) in zip(list(ranges), list(ranges)[1:], strict=False))
    assert all((number in ranges) == (number in model) for number in range(80))
    assert (len(ranges), ranges.count, ranges.highest) == (len(ranges_of(model)), len(model), max(model, default=None))


@given(PAIRS, st.permutations(range(5)))
def test_the_order_of_adding_does_not_matter(pairs: list[tuple[int, int]], order: list[int]) -> None:
    """Records come back in any order."""
    shuffled = [pairs[place] for place in order if place < len(pairs)] + pairs[5:]
    assert RangeSet(shuffled) == RangeSet(pairs)


@given(PAIRS, NUMBER, NUMBER)
def test_gaps_are_what_is_not_in_it(pairs: list[tuple[int, int]], first: int, last: int) -> None:
    """Between two numbers, both included."""
    assert RangeSet(pairs).gaps(first, last) == ranges_of(set(range(first, last + 1)) - numbers_in(pairs))


@given(PAIRS, st.sets(NUMBER))
def test_around_names_the_whole_ranges_of_the_numbers(pairs: list[tuple[int, int]], numbers: set[int]) -> None:
    """Numbers that are not in the set name nothing."""
    expected = [pair for pair in ranges_of(numbers_in(pairs)) if any(pair[0] <= number <= pair[1] for number in numbers)]
    assert RangeSet(pairs).around(numbers) == expected


@given(PAIRS)
def test_a_text_of_ranges_is_read_back(pairs: list[tuple[int, int]]) -> None:
    """As drop records carry them."""
    ranges = ranges_of(numbers_in(pairs))
    if ranges:
        assert ranges_from_text(ranges_text(ranges)) == ranges
    assert ranges_text([(3, 7), (12, 12)]) == "3-7,12"


@pytest.mark.parametrize("text", ["", "x", "7-3", "3-", "-3", "3--4", "1,,2", "1,", "3-4-5"])
def test_a_text_that_is_no_list_of_ranges_is_refused(text: str) -> None:
    """With the one exception that its callers expect."""
    with pytest.raises(ValueError, match=r"runs backwards|invalid literal"):
        ranges_from_text(text)


def test_a_range_that_runs_backwards_is_refused() -> None:
    """Rather than taken for an empty one."""
    with pytest.raises(ValueError, match="runs backwards"):
        RangeSet().add(3, 2)


def test_a_range_set_shows_itself_and_compares_with_its_like_only() -> None:
    """It grows, so it has no hash."""
    assert repr(RangeSet([(1, 2)])) == "RangeSet([(1, 2)])"
    assert RangeSet([(1, 2)]) != [(1, 2)]
    with pytest.raises(TypeError):
        hash(RangeSet())
