"""What the readers make of each member, and what the writers refuse: the rules of docs/wire.md one by one."""

import json
from dataclasses import replace
from typing import Any

import pytest

from kerege_wire import (
    KINDS,
    Ack,
    CollectorState,
    Host,
    MisuseError,
    Ping,
    Presence,
    Record,
    Report,
    Tick,
    WireError,
    decode_ack,
    decode_presence,
    decode_report,
    decode_state,
    encode_ack,
    encode_report,
    series_of,
)
from kerege_wire.fields import MAX_UNKNOWN_DEPTH, declared_fields, required_of
from kerege_wire.messages import MAX_RANGES, MAX_RECORDS
from kerege_wire.reports import MAX_FIELDS, MAX_TIME, read_body

EPOCH = "Zk3q9w2a"
TICK = [0, "tick", 0, "online"]


def read(**members: Any) -> Report:
    """A report of these members, as a reader sees it."""
    return decode_report(json.dumps({"epoch": EPOCH, "seq": 7, "time": 1000} | members).encode())


def refusal(**members: Any) -> WireError:
    """Why a reader does not take a report of these members."""
    with pytest.raises(WireError) as caught:
        read(**members)
    return caught.value


def numbers(report: Report) -> list[tuple[int, int]]:
    return [(record.seq, record.time) for record in report.records]


def test_steps_give_every_record_its_number_and_its_time() -> None:
    """`after` may be negative; `skip` leaves numbers out; both count from the record before, or from the header."""
    rows = [[5, "tick", 2], [-10, "tick", 0], [0, "tick", 3], [60, "tick", 0]]
    assert numbers(read(records=rows)) == [(9, 1005), (10, 995), (14, 995), (15, 1055)]


def test_both_forms_may_stand_in_one_report() -> None:
    """And an object may leave its steps out, or say null."""
    items = [{"kind": "tick"}, [60, "tick", 0], {"kind": "tick", "after": 30, "skip": 1}, {"kind": "tick", "after": None, "skip": None}]
    assert numbers(read(records=items)) == [(7, 1000), (8, 1060), (10, 1090), (11, 1090)]


@pytest.mark.parametrize("records", [None, []])
def test_a_report_without_records_is_a_question_for_the_time(records: Any) -> None:
    """Whether the member is missing, null or empty; number and time may then be missing too."""
    report = decode_report(json.dumps({"epoch": EPOCH, "records": records}).encode())
    assert report == Report(EPOCH)
    assert report.prompt
    assert not read(records=[TICK]).prompt
    assert read(records=[TICK], ack="now").prompt


@pytest.mark.parametrize("records", [0, False, "", {}, "tick", {"kind": "tick"}, 7])
def test_records_that_are_no_array_are_no_empty_report(records: Any) -> None:
    """A question for the time must not swallow what somebody meant to say."""
    assert refusal(records=records).reason == "bad-message"


@pytest.mark.parametrize("item", [[], [0], [0, "tick"], "tick", 5, None, True])
def test_a_record_without_room_for_its_number_spoils_the_report(item: Any) -> None:
    """The numbers of all after it are not known."""
    assert refusal(records=[TICK, item]).reason == "bad-message"


@pytest.mark.parametrize(
    "item",
    [
        *([0, "tick", -1], [0, "tick", None], [0, "tick", 1.0], [0, "tick", "0"], [0, "tick", True], [0, "tick", 2**53]),
        *([None, "tick", 0], [0.5, "tick", 0], [2**40 + 1, "tick", 0], [False, "tick", 0]),
        *({"kind": "tick", "skip": -1}, {"kind": "tick", "after": "1"}, {"kind": "tick", "skip": False}),
    ],
)
def test_steps_that_are_no_integers_spoil_the_report(item: Any) -> None:
    """A sequence that goes backwards among them."""
    assert refusal(records=[TICK, item]).reason == "bad-field"


@pytest.mark.parametrize("item", [[-1001, "tick", 0], [MAX_TIME, "tick", 0], [0, "tick", 2**53 - 2]])
def test_steps_to_impossible_numbers_and_times_spoil_the_report(item: Any) -> None:
    """Before 1970, beyond what is carried, beyond 2^53."""
    assert refusal(records=[TICK, item]).reason == "bad-message"


@pytest.mark.parametrize("missing", ["epoch", "seq", "time"])
def test_what_every_record_needs_is_missed(missing: str) -> None:
    """Missing and null are one."""
    error = refusal(**{"records": [TICK], missing: None})
    assert (error.reason, missing in error.detail) == ("bad-field", True)


@pytest.mark.parametrize(
    ("member", "value"),
    [
        *(("epoch", value) for value in ("", "Zk3q9w2", "Zk3q9w2aa", "Zk3q9w2é", "Zk3q9w2a\n", 5, ["Zk3q9w2a"])),
        *(("sent", value) for value in (-1, 1.5, 2**53, "5", True, 1e3)),
        *(("waiting", value) for value in (-1, 0.0, "0", False)),
        *(("ack", value) for value in ("later", "", 1, ["now"], True)),
        *(("clock", value) for value in ("Synced", "", {"a": 1}, 0)),
        *(("center", value) for value in ("a" * 33, "a\x00", "\ud800", 5)),
        *(("seq", value) for value in (0, -1, 1.0, "1", True, 2**53)),
        *(("time", value) for value in (-1, 1.0, "1", True, MAX_TIME + 1)),
        ("within_s", -1),
    ],
)
def test_a_header_member_out_of_type_or_range_spoils_the_report(member: str, value: Any) -> None:
    """And is named."""
    error = refusal(**{"records": [TICK], member: value})
    assert (error.reason, error.detail.startswith(f"{member}: wanted")) == ("bad-field", True)


def test_what_is_not_known_is_ignored() -> None:
    """Members of the header, of a record, and values at the end of a row: a newer agent may talk to an older collector."""
    items = [[0, "tick", 0, "online", *[None] * 8, "new", {"newer": [1]}], {"kind": "tick", "result": "online", "newest": True}]
    report = read(records=items, future={"a": [1, {"b": None}]})
    assert report.refused == ()
    assert [record.body for record in report.records] == [Tick("online")] * 2


def test_null_is_absent() -> None:
    """Anywhere: in the header, in a row, in an object."""
    report = read(records=[[0, "tick", 0, None, None], {"kind": "tick", "result": None}], sent=None, waiting=None, clock=None)
    assert (report.sent, report.waiting, report.clock) == (None, 0, "synced")
    assert [record.body for record in report.records] == [Tick(), Tick()]


def nested(depth: int) -> Any:
    """Arrays within arrays, or objects within objects, around a number."""
    opening, closing = ("[", "]") if depth % 2 else ('{"x":', "}")
    return json.loads(opening * depth + "1" + closing * depth)


@pytest.mark.parametrize(
    "place",
    [
        lambda value: {"future": value},
        lambda value: {"records": [[*TICK, *[None] * 8, value]]},
        lambda value: {"records": [{"kind": "tick", "future": value}]},
        lambda value: {"records": [[0, "no such kind", 0, value]]},
        lambda value: {"records": [{"kind": "no such kind", "x": value}]},
        lambda value: {"records": [[0, value, 0]]},
        lambda value: {"records": [[*TICK[:3], value]]},
    ],
)
def test_what_is_not_known_may_nest_so_deeply_and_no_deeper(place: Any) -> None:
    """Everywhere alike: what is kept for people must be safe to write again."""
    read(**place(nested(MAX_UNKNOWN_DEPTH)))
    for depth in (MAX_UNKNOWN_DEPTH + 1, 500):
        assert refusal(**place(nested(depth))).reason == "bad-message"


@pytest.mark.parametrize("depth", range(1, 1100, 7))
def test_no_depth_of_nesting_brings_another_error(depth: int) -> None:
    """Neither where Python's reader gives up, nor shortly before."""
    deep = "[" * depth + "]" * depth
    for text in (f'{{"epoch":{deep}}}', f'{{"epoch":"{EPOCH}","seq":1,"time":5,"records":[[0,{deep},0]]}}', f'{{"x":{deep}}}'):
        for decode in (decode_report, decode_ack, decode_presence, decode_state):
            try:
                decode(text.encode())
            except WireError as error:
                reason = error.reason
            else:
                reason = "taken"
            assert reason in {"taken", "bad-field", "bad-message"}


def test_a_report_has_at_most_a_thousand_records() -> None:
    """To read and to write."""
    assert len(read(records=[TICK] * MAX_RECORDS).records) == MAX_RECORDS
    assert refusal(records=[TICK] * (MAX_RECORDS + 1)).reason == "bad-message"
    records = tuple(Record(number, 5, Tick()) for number in range(1, MAX_RECORDS + 2))
    assert decode_report(encode_report(Report(EPOCH, records=records[:-1]))).records == records[:-1]
    with pytest.raises(MisuseError, match="1001 records"):
        encode_report(Report(EPOCH, records=records))


def test_a_record_has_at_most_64_values() -> None:
    """Its kind and steps counted; the others in the report stand."""
    report = read(records=[[0, "tick", 0, *[None] * (MAX_FIELDS - 3)], [0, "tick", 0, *[None] * (MAX_FIELDS - 2)], TICK])
    assert [record.seq for record in report.records] == [7, 9]
    assert [(item.seq, item.reason) for item in report.refused] == [(8, "bad-message")]


def test_a_refused_record_is_kept_as_it_came() -> None:
    """With its number, its time, the reason and a detail for people."""
    item = [5, "tick", 1, "maybe", {"x": 1}]
    [refused] = read(records=[item]).refused
    assert (refused.seq, refused.time, refused.reason, refused.item) == (8, 1005, "bad-field", item)
    assert refused.detail == 'result: wanted one of online, offline, got "maybe"'


def test_each_number_is_read_as_its_field_declares() -> None:
    """An integer where a float is declared becomes one, minus zero becomes zero; a bool is no number."""
    tick = read_body([0, "tick", 0, None, None, None, None, None, 612, -0.0])
    assert isinstance(tick, Tick)
    assert (tick.rtt_ms, type(tick.rtt_ms), str(tick.gateway_rtt_ms)) == (612.0, float, "0.0")
    for value in (True, "612", 1e308, 10**400, -1):
        with pytest.raises(WireError, match="rtt_ms: wanted a number from 0 to 600000"):
            read_body({"kind": "tick", "rtt_ms": value})


@pytest.mark.parametrize("value", ["no\u00a0break", "ұлан", "日本", "\u2028", "x" * 64, ""])
def test_texts_may_hold_every_character_but_controls(value: str) -> None:
    """Of any language."""
    assert read_body({"kind": "traffic", "interface": value}) == KINDS["traffic"](interface=value)  # type: ignore[call-arg]


@pytest.mark.parametrize("value", ["\x00", "\n", "\x1b[0m", "\x7f", "\x85", "\x9f", "\ud800", "x" * 65])
def test_texts_without_bounds_or_with_controls_are_refused(value: str) -> None:
    """Among them those of Unicode's second block, and halves of surrogate pairs."""
    with pytest.raises(WireError, match="interface: wanted a string"):
        read_body({"kind": "traffic", "interface": value})


def test_required_fields_stand_first_and_everything_else_may_be_absent() -> None:
    """As rows are cut short at the end, and as a probe that failed has nothing to say."""
    for kind, declared in KINDS.items():
        names = [item.name for item in declared_fields(declared)]
        required = required_of(declared)
        assert names[: len(required)] == list(required), kind
        assert names[-1] == "error"
        assert len(names) + 3 <= MAX_FIELDS
        assert all(item.default is None for item in declared_fields(declared) if item.name not in required)


def test_a_series_is_a_kind_and_its_target() -> None:
    """One record a second at most; kinds without targets are one series."""
    assert series_of(Ping("google")) == ("ping", "google")
    assert series_of(Host()) == ("host", "")


@pytest.mark.parametrize(
    "records",
    [
        (Record(2, 5, Tick()), Record(2, 6, Tick())),
        (Record(2, 5, Tick()), Record(1, 6, Tick())),
        (Record(0, 5, Tick()),),
        (Record(-3, 5, Tick()),),
    ],
)
def test_records_that_do_not_rise_from_1_are_not_written(records: tuple[Record, ...]) -> None:
    """A reader could not tell their numbers."""
    with pytest.raises(MisuseError, match="rising order"):
        encode_report(Report(EPOCH, records=records))


def test_defaults_are_not_written_and_whole_floats_are_integers() -> None:
    """Every byte counts."""
    report = Report(EPOCH, waiting=0, clock="synced", records=(Record(1, 5, Tick("online", rtt_ms=612.0)),))
    assert encode_report(report, "json") == (
        b'{"epoch":"Zk3q9w2a","seq":1,"time":5,"records":[{"kind":"tick","result":"online","rtt_ms":612}]}'
    )


def ack(**members: Any) -> Ack:
    return decode_ack(json.dumps({"epoch": EPOCH} | members).encode())


def test_an_ack_may_leave_everything_out() -> None:
    """Missing, null and empty lists are one."""
    assert ack(stored=None, refused=[], hold=None) == Ack(EPOCH)
    assert decode_ack(b"{}") == Ack()


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({"stored": [[2, 1]]}, "bad-message"),
        ({"stored": [[1]]}, "bad-message"),
        ({"stored": [[1, 2, 3]]}, "bad-message"),
        ({"stored": [1, 2]}, "bad-message"),
        ({"stored": {"1": 2}}, "bad-message"),
        ({"stored": 0}, "bad-message"),
        ({"stored": [[0, 2]]}, "bad-field"),
        ({"stored": [[1, 2.0]]}, "bad-field"),
        ({"stored": [[1, True]]}, "bad-field"),
        ({"refused": [[1, 2]]}, "bad-field"),
        ({"refused": [[1, None]]}, "bad-field"),
        ({"refused": [["1", "x"]]}, "bad-field"),
        ({"stored": [[1, 1]] * (MAX_RANGES + 1)}, "bad-message"),
        ({"stored": [[1, 1]], "epoch": None}, "bad-message"),
        ({"refused": [[1, "x"]], "epoch": None}, "bad-message"),
        ({"unreadable": "0123ABCD"}, "bad-field"),
    ],
)
def test_an_ack_that_cannot_be_meant_is_refused(members: dict[str, Any], reason: str) -> None:
    """An agent must never delete a record by mistake."""
    with pytest.raises(WireError) as caught:
        ack(**members)
    assert caught.value.reason == reason


def test_an_ack_that_cannot_be_read_is_not_written() -> None:
    """Numbers need an epoch; long lists go in several acks."""
    for bad in (Ack(stored=((1, 2),)), Ack(refused=((1, "x"),)), Ack(EPOCH, stored=((1, 2),) * 257), Ack(EPOCH, refused=((1, "x"),) * 257)):
        with pytest.raises(MisuseError):
            encode_ack(bad)
    full = Ack(EPOCH, stored=tuple((3 * number, 3 * number + 1) for number in range(1, 257)))
    assert decode_ack(encode_ack(full)) == full


@pytest.mark.parametrize("missing", ["state", "epoch", "birth"])
def test_a_presence_names_its_connection(missing: str) -> None:
    """Without that a late will could not be told from a new one."""
    members = {"state": "lost", "epoch": EPOCH, "birth": 1}
    assert decode_presence(json.dumps(members).encode()) == Presence("lost", EPOCH, 1)
    with pytest.raises(WireError, match=f"{missing} is missing"):
        decode_presence(json.dumps(members | {missing: None}).encode())


def test_a_collector_is_ready_or_away() -> None:
    """And holds acks back for at most a day."""
    assert decode_state(b'{"state":"ready"}') == CollectorState("ready", ack_within_s=300)
    assert replace(CollectorState("away"), time=5) == decode_state(b'{"state":"away","time":5,"new":{}}')
    for text in (b"{}", b'{"state":"busy"}', b'{"state":"ready","ack_within_s":86401}'):
        with pytest.raises(WireError, match="bad-field"):
            decode_state(text)
