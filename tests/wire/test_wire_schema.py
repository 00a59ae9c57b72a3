"""The JSON Schemas and the readers agree: what one takes, the other takes, and what one refuses, the other refuses."""

import json
from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerege_wire import (
    KINDS,
    Ack,
    CollectorState,
    Presence,
    Report,
    WireError,
    decode_ack,
    decode_presence,
    decode_report,
    decode_state,
    encode_ack,
    encode_presence,
    encode_report,
    encode_state,
)
from kerege_wire.codec import expand
from kerege_wire.fields import declared_fields, required_of
from kerege_wire.reports import report_members
from kerege_wire.schema import MESSAGES, kinds_markdown, message_schema
from tests.wire.json_schema import valid
from tests.wire.strategies import ACKS, PRESENCES, REPORTS, STATES

SCHEMAS = {name: message_schema(name) for name in MESSAGES}
READERS: dict[str, Callable[[bytes], Any]] = {
    "report": decode_report,
    "ack": decode_ack,
    "presence": decode_presence,
    "state": decode_state,
}
WRITERS: dict[str, Callable[..., bytes]] = {
    "report": encode_report,
    "ack": encode_ack,
    "presence": encode_presence,
    "state": encode_state,
}
MESSAGES_OF: dict[str, st.SearchStrategy[Any]] = {"report": REPORTS, "ack": ACKS, "presence": PRESENCES, "state": STATES}
DECLARED: dict[str, type] = {"report": Report, "ack": Ack, "presence": Presence, "state": CollectorState}

ODD: tuple[Any, ...] = (
    *(
        None,
        True,
        False,
        0,
        -1,
        1,
        3,
        4,
        6,
        7,
        0.5,
        99,
        100,
        100.5,
        999,
        1000,
        10_001,
        86_401,
        600_001,
        -101,
        10**9 + 1,
        2**53 - 1,
        2**53,
        1e300,
    ),
    *("", "x", "now", "online", "synced", "ready", "udp", "raw", "++.+==+", "Zk3q9w2a", "0123abcd", "3-7,12", "3-", "٣", "a\n", "\x85"),
    *("y" * 16, "y" * 17, "y" * 32, "y" * 33, "y" * 64, "y" * 65, "y" * 256, "y" * 257, [], {}, [1], {"a": 1}),
)


def taken(name: str, members: Any) -> bool:
    """Does the reader take this JSON whole?"""
    try:
        message = READERS[name](json.dumps(members).encode())
    except WireError:
        return False
    return not (isinstance(message, Report) and message.refused)


@pytest.mark.parametrize("name", MESSAGES)
@given(st.data())
def test_whatever_is_written_satisfies_its_schema(name: str, data: st.DataObject) -> None:
    """Rows as they are deflated, named objects as they are in plain JSON."""
    message = data.draw(MESSAGES_OF[name])
    for codec in ("deflate", "json"):
        assert valid(SCHEMAS[name], json.loads(expand(WRITERS[name](message, codec))))


@pytest.mark.parametrize("name", MESSAGES)
def test_schema_and_reader_agree_on_every_member(name: str) -> None:
    """Every declared member at every odd value."""
    whole: dict[str, dict[str, Any]] = {
        "presence": {"state": "online", "epoch": "Zk3q9w2a", "birth": 1},
        "state": {"state": "ready"},
        "ack": {},
    }
    base = whole.get(name, {"epoch": "Zk3q9w2a"})
    for item, value in product(declared_fields(DECLARED[name]), ODD):
        members = base | {item.name: value}
        assert valid(SCHEMAS[name], members) == taken(name, members), (item.name, value)


@pytest.mark.parametrize("kind", KINDS)
def test_schema_and_reader_agree_on_every_field_of_a_record(kind: str) -> None:
    """In both forms, at every odd value."""
    fields = declared_fields(KINDS[kind])
    base: dict[str, Any] = {"dropped_epoch": "Zk3q9w2a", "dropped_seqs": "1"} if kind == "drop" else {"target": "x"}
    base = {name: value for name, value in base.items() if name in required_of(KINDS[kind])}
    for item, value in product(fields, ODD):
        values = base | {item.name: value}
        for record in ({"kind": kind} | values, [0, kind, 0, *(values.get(field.name) for field in fields)]):
            members = {"epoch": "Zk3q9w2a", "seq": 1, "time": 5, "records": [record]}
            assert valid(SCHEMAS["report"], members) == taken("report", members), record


@pytest.mark.parametrize("records", [None, [], [[0, "tick", 0]], 0, {}, [[0, "tick", 0]] * 1001, [5], [[]], [{}]])
@pytest.mark.parametrize("header", [{"seq": 1, "time": 5}, {"seq": None, "time": 5}, {"seq": 1}, {}, {"seq": 0, "time": 5}])
def test_schema_and_reader_agree_on_what_records_need(records: Any, header: dict[str, Any]) -> None:
    """A first number and a first time, where there is a record."""
    members = {"epoch": "Zk3q9w2a", "records": records} | header
    if records or header != {"seq": 0, "time": 5}:  # a reader does not look at them where there is no record
        assert valid(SCHEMAS["report"], members) == taken("report", members)


STEPS: tuple[Any, ...] = (None, True, 0, 1, -1, -5, 0.5, "", "1", [], {}, 2**41, 2**53)


@pytest.mark.parametrize("after", STEPS)
@pytest.mark.parametrize("skip", STEPS)
def test_schema_and_reader_agree_on_steps(after: Any, skip: Any) -> None:
    """Integers in a row; in an object they may be left out."""
    for record in ([after, "tick", skip], {"kind": "tick", "after": after, "skip": skip}):
        members = {"epoch": "Zk3q9w2a", "seq": 1, "time": 5, "records": [record]}
        assert valid(SCHEMAS["report"], members) == taken("report", members), record


@pytest.mark.parametrize(
    "record", [[0, "tick"], {"kind": "x"}, [0, "x", 0], [0, "ping", 0], [0, "tick", 0, *[None] * 61], [0, "tick", 0, *[None] * 62]]
)
def test_schema_and_reader_agree_on_the_shape_of_a_record(record: Any) -> None:
    """Kind, required fields, and how many values."""
    members = {"epoch": "Zk3q9w2a", "seq": 1, "time": 5, "records": [record]}
    assert valid(SCHEMAS["report"], members) == taken("report", members)


@pytest.mark.parametrize("epoch", ["Zk3q9w2a", None])
@pytest.mark.parametrize("member", ["stored", "refused"])
@pytest.mark.parametrize("pairs", [None, [], [[1, 2]], [[1, "x"]], [[1]], [[1, 2, 3]], [[0, 1]], [[1, "\n"]], [1, 2], {}, [[1, 1]] * 257])
def test_schema_and_reader_agree_on_the_pairs_of_an_ack(epoch: str | None, member: str, pairs: Any) -> None:
    """And on the epoch that they need."""
    members = {"epoch": epoch, member: pairs}
    assert valid(SCHEMAS["ack"], members) == taken("ack", members)


@pytest.mark.parametrize(("name", "members"), [("presence", {"state": "lost", "epoch": "Zk3q9w2a"}), ("state", {}), ("report", {})])
def test_schema_and_reader_agree_on_what_is_required(name: str, members: dict[str, Any]) -> None:
    """A member that is missing."""
    assert not valid(SCHEMAS[name], members)
    assert not taken(name, members)


def test_a_kinds_table_has_every_field_in_the_order_of_the_row() -> None:
    """With its place, unit and range."""
    lines = kinds_markdown().splitlines()
    for kind, declared in KINDS.items():
        start = lines.index(f"### {kind}")
        rows = lines[start + 6 : start + 6 + len(declared_fields(declared))]
        for place, (row, item) in enumerate(zip(rows, declared_fields(declared), strict=True), start=3):
            cells = [cell.strip() for cell in row.strip("|").split(" | ")]
            assert cells[0] == str(place)
            assert f"`{item.name}`" in cells[1]
            assert ("*required*" in cells[1]) == (item.name in required_of(declared))
            assert (cells[3], cells[4]) == (item.metadata["unit"], item.metadata["doc"])


def test_there_is_no_schema_of_anything_else() -> None:
    """Its name is the caller's mistake."""
    with pytest.raises(KeyError):
        message_schema("tick")


def test_rows_and_objects_of_one_report_both_satisfy_the_schema() -> None:
    """The two forms may be mixed."""
    rows = {"epoch": "Zk3q9w2a", "seq": 1, "time": 5, "records": [[0, "tick", 0], {"kind": "ping", "target": "x"}]}
    assert valid(SCHEMAS["report"], rows)
    assert report_members(decode_report(json.dumps(rows).encode()), rows=False)["records"][1] == {"kind": "ping", "target": "x"}
