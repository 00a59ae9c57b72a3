"""What the lab writes as TOML is what a TOML reader reads."""

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerege_lab.toml import toml_text

NAMES = st.text("abcdefghijklmnopqrstuvwxyz_", min_size=1, max_size=8)
TEXTS = st.text(st.characters(blacklist_categories=["Cs"]), max_size=20)
PLAIN = st.one_of(st.booleans(), st.integers(-(2**53), 2**53), st.floats(allow_nan=False, allow_infinity=False), TEXTS)
VALUES = st.one_of(PLAIN, st.lists(TEXTS, max_size=3))
TABLES = st.dictionaries(NAMES, st.one_of(VALUES, st.dictionaries(NAMES, VALUES, max_size=3)), max_size=5)


@given(TABLES)
def test_a_table_is_read_as_it_was(table: dict[str, object]) -> None:
    assert tomllib.loads(toml_text(table)) == table


def test_lists_of_tables_keep_their_inner_tables_and_none_is_left_out() -> None:
    table = {"center": [{"id": "a", "link": {"kind": "geo"}}, {"id": "b", "name": None}], "path": Path("x/y")}
    assert tomllib.loads(toml_text(table)) == {"center": [{"id": "a", "link": {"kind": "geo"}}, {"id": "b"}], "path": "x/y"}


def test_what_toml_does_not_have_is_an_error() -> None:
    with pytest.raises(TypeError, match="no TOML"):
        toml_text({"when": object()})
