"""Topics: one level of them is a center's id, and only a valid one."""

import pytest

from kerege_wire.topics import COLLECTOR_STATE, LEAVES, center_of, is_center_id, topic


@pytest.mark.parametrize("leaf", LEAVES)
def test_a_centers_topic_names_it(leaf: str) -> None:
    """There and back."""
    assert topic("ulan-2", leaf) == f"kerege/v1/ulan-2/{leaf}"
    assert center_of(f"kerege/v1/ulan-2/{leaf}", leaf) == "ulan-2"


@pytest.mark.parametrize("center", ["ab", "a-", "0a", "a" * 32, "ulan-bozanbay"])
def test_these_are_centers(center: str) -> None:
    """2 to 32 of a-z, 0-9 and -, not first a -."""
    assert is_center_id(center)


@pytest.mark.parametrize("center", ["", "a", "-a", "a" * 33, "Ulan", "a_b", "a/b", "a b", "ab\n", "ұлан", "٣٣", "+", "#", "collector"])
def test_these_are_not(center: str) -> None:
    """Neither for writing nor for reading a topic."""
    assert not is_center_id(center)
    assert center_of(f"kerege/v1/{center}/report", "report") is None
    if center != "+":
        with pytest.raises(ValueError, match="no topic"):
            topic(center, "report")


def test_a_plus_subscribes_to_all() -> None:
    """It is no center, though."""
    assert topic("+", "report") == "kerege/v1/+/report"


@pytest.mark.parametrize(
    "name",
    [COLLECTOR_STATE, "kerege/v1/demo/ack", "kerege/v2/demo/report", "kerege/v1/demo/report/x", "x/kerege/v1/demo/report", "report", ""],
)
def test_other_topics_belong_to_no_center(name: str) -> None:
    """The collector's own state among them."""
    assert center_of(name, "report") is None


def test_a_leaf_that_there_is_not_is_refused() -> None:
    """A slip in our own code."""
    with pytest.raises(ValueError, match="no topic"):
        topic("demo", "state")
