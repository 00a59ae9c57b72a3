"""Whatever a message may hold comes back as it went, in either codec; whatever else comes, only WireError escapes."""

import json
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerege_lab import fuzz
from kerege_wire import (
    Record,
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
    kind_of,
)
from kerege_wire.codec import CODECS, expand, parse
from kerege_wire.dictionary import DICTIONARY_1
from kerege_wire.reports import report_members
from tests.wire.strategies import ACKS, ANY_BODY, BAD_ITEMS, BODIES, PRESENCES, REPORTS, STATES

CODEC = st.sampled_from(CODECS)
READERS: list[Callable[[bytes], Any]] = [decode_report, decode_ack, decode_presence, decode_state]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=8), children, max_size=4),
    max_leaves=10,
)


@given(REPORTS, CODEC)
def test_any_report_comes_back_as_it_went(report: Report, codec: str) -> None:
    """Header, numbers, times, kinds and values, in rows and in named objects."""
    assert decode_report(encode_report(report, codec)) == report


@pytest.mark.parametrize("kind", BODIES)
@given(st.data(), CODEC)
def test_any_record_of_each_kind_comes_back_as_it_went(kind: str, data: st.DataObject, codec: str) -> None:
    """Every field of every kind, at any value that it may have."""
    report = Report("Zk3q9w2a", records=(Record(1, 5, data.draw(BODIES[kind])),))
    again = decode_report(encode_report(report, codec))
    assert again == report
    assert kind_of(again.records[0].body) == kind


@given(REPORTS)
def test_rows_and_named_objects_say_the_same(report: Report) -> None:
    """Both forms of a record may travel in both codecs."""
    for rows in (True, False):
        assert decode_report(json.dumps(report_members(report, rows=rows)).encode()) == report


@given(ACKS, CODEC)
def test_any_ack_comes_back_as_it_went(ack: Any, codec: str) -> None:
    """Ranges, refusals, the four timestamps less one."""
    assert decode_ack(encode_ack(ack, codec)) == ack


@given(PRESENCES, CODEC)
def test_any_presence_comes_back_as_it_went(presence: Any, codec: str) -> None:
    """Births, goodbyes and wills."""
    assert decode_presence(encode_presence(presence, codec)) == presence


@given(STATES, CODEC)
def test_any_collector_state_comes_back_as_it_went(state: Any, codec: str) -> None:
    """Ready and away."""
    assert decode_state(encode_state(state, codec)) == state


@given(REPORTS)
def test_another_language_reads_it_with_zlib_and_json_alone(report: Report) -> None:
    """The recipe of docs/wire.md, with a window as large as any inflater has."""
    payload = encode_report(report)
    assert payload[0] == 1
    plain = json.loads(zlib.decompressobj(-15, DICTIONARY_1).decompress(payload[1:]))
    assert plain == json.loads(expand(payload))
    assert plain["epoch"] == report.epoch
    assert len(plain.get("records", [])) == len(report.records)


@given(REPORTS, st.integers(1, 9), st.integers(9, 15))
def test_another_language_writes_it_with_zlib_and_json_alone(report: Report, level: int, window_bits: int) -> None:
    """Any level, any window: the dictionary is all that must be shared."""
    deflater = zlib.compressobj(level, zlib.DEFLATED, -window_bits, zdict=DICTIONARY_1)
    text = json.dumps(report_members(report, rows=False)).encode()
    assert decode_report(b"\x01" + deflater.compress(text) + deflater.flush()) == report


@pytest.mark.parametrize("read", READERS)
@given(st.binary(max_size=300))
def test_arbitrary_bytes_raise_nothing_but_wire_error(read: Callable[[bytes], Any], payload: bytes) -> None:
    """Of any first byte."""
    only_wire_error(read, payload)


@pytest.mark.parametrize("read", READERS)
@given(st.sampled_from((b"\x01", b"{")), st.binary(max_size=300))
def test_arbitrary_bytes_of_a_known_codec_raise_nothing_but_wire_error(read: Callable[[bytes], Any], first: bytes, rest: bytes) -> None:
    """They get past the first byte."""
    only_wire_error(read, first + rest)


@pytest.mark.parametrize("read", READERS)
@given(st.dictionaries(st.sampled_from(("epoch", "seq", "time", "records", "stored", "refused", "state", "birth")) | st.text(), JSON))
def test_arbitrary_json_objects_raise_nothing_but_wire_error(read: Callable[[bytes], Any], members: dict[str, Any]) -> None:
    """With members that look like ours."""
    only_wire_error(read, json.dumps(members).encode())


@given(st.integers(0, 10**9), st.integers(0, 10**9))
def test_damaged_messages_raise_nothing_but_wire_error(seed: int, number: int) -> None:
    """The cases of `kerege-lab fuzz`; what is read can be shown, and written and read again."""
    payload = fuzz.case(seed, number, CORPUS)
    for target in fuzz.TARGETS:
        only_wire_error(target.call, payload)


CORPUS = list(fuzz.valid_payloads(1))


@given(st.lists(ANY_BODY, max_size=4), st.lists(ANY_BODY, max_size=4), BAD_ITEMS)
def test_one_bad_record_spoils_no_other(before: list[Any], after: list[Any], bad: Any) -> None:
    """Its number and its time are known, so it alone is refused, and kept as it came; the others keep their numbers and times."""
    rows = [[json.dumps([1, *_row(body)[1:]]) for body in part] for part in (before, after)]
    spoilt = json.dumps(_one_second_on(bad)).replace("Infinity", "1e999")
    text = f'{{"epoch":"Zk3q9w2a","seq":11,"time":100,"records":[{",".join([*rows[0], spoilt, *rows[1]])}]}}'
    report = decode_report(text.encode())
    number = 11 + len(before)
    assert [(item.seq, item.time) for item in report.refused] == [(number, number + 90)]
    assert report.refused[0].reason in {"unknown-kind", "bad-field", "bad-message"}
    assert [record.body for record in report.records] == [*before, *after]
    assert [record.seq for record in report.records] == [*range(11, number), *range(number + 1, number + 1 + len(after))]
    assert all(record.time == record.seq + 90 for record in report.records)
    json.dumps(report.refused[0].item, allow_nan=False)


def _row(body: Any) -> list[Any]:
    row: list[Any] = report_members(Report("Zk3q9w2a", records=(Record(1, 5, body),)), rows=True)["records"][0]
    return row


def _one_second_on(item: Any) -> Any:
    return item | {"after": 1} if isinstance(item, dict) else [1, *item[1:]]


def only_wire_error(read: Callable[[bytes], Any], payload: bytes) -> None:
    """Read; a WireError has a reason and a printable text."""
    error = None
    try:
        read(payload)
    except WireError as found:
        error = found
    assert error is None or (error.reason and str(error).isprintable())


def test_parse_is_the_whole_of_a_text() -> None:
    """Spaces around the object are no harm, anything else is."""
    assert parse(b' \r\n\t{"a":1} \n') == {"a": 1}
    with pytest.raises(WireError, match="not-json"):
        parse(b'{"a":1}{}')
