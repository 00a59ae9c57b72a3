"""Report ⇄ bytes.

    {"epoch":"Zk3q9w2a","sent":86400123,"seq":1234,"time":1795465800,"records":[[0,"tick",0,"online",...],[60,"tick",0,...]]}

``seq`` and ``time`` are those of the first record. A record is a row, ``[after, kind, skip, value, value, ...]`` with the
kind's fields in the order of `records` (null or missing at the end: absent), or an object with the same names. It is
``after`` seconds later than the record before it (may be negative) and its sequence number is one more, plus ``skip``.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, Final

from kerege_wire.codec import pack, unpack
from kerege_wire.errors import BAD_FIELD, BAD_MESSAGE, UNKNOWN_KIND, MisuseError, WireError
from kerege_wire.fields import MAX_WHOLE, Whole, checks_of, read_fields, required_of, write_fields
from kerege_wire.messages import MAX_RECORDS, Record, Refused, Report
from kerege_wire.records import KINDS, Body, kind_of

MAX_FIELDS: Final = 64
"""Most values in one record."""

MAX_TIME: Final = 2**40
"""Largest time that is read at all; whether a time is plausible is for the reader with a clock to judge."""

_REPORT_LISTS: Final = frozenset({"seq", "time", "records"})
_ENVELOPE: Final = frozenset({"after", "kind", "skip"})
_SEQ: Final = Whole(1)
_TIME: Final = Whole(0, MAX_TIME)
_AFTER: Final = Whole(-MAX_TIME, MAX_TIME)
_SKIP: Final = Whole()

Item = list[Any] | dict[str, Any]


def encode_report(report: Report, codec: str = "deflate") -> bytes:
    """The report as payload bytes: rows when deflated, named objects in plain JSON.

    Raises MisuseError where the records are not in rising order, too many, or larger than a reader accepts.
    """
    return pack(report_members(report, rows=codec != "json"), codec)


def report_members(report: Report, *, rows: bool) -> dict[str, Any]:
    """The report as a JSON object, its records as rows or as named objects."""
    header = write_fields(report)
    if not report.records:
        return header
    if len(report.records) > MAX_RECORDS:
        raise MisuseError(f"{len(report.records)} records in one report; at most {MAX_RECORDS}")
    write = _row if rows else _object
    first = report.records[0]
    seq, time = first.seq - 1, first.time
    items = []
    for record in report.records:
        if record.seq <= seq:
            raise MisuseError(f"sequence number {record.seq} after {seq}: records go in rising order")
        items.append(write(record.body, record.time - time, record.seq - seq - 1))
        seq, time = record.seq, record.time
    return header | {"seq": first.seq, "time": first.time, "records": items}


def _row(body: Body, after: int, skip: int) -> Item:
    members = write_fields(body)
    row = [after, kind_of(body), skip, *(members.get(name) for name in checks_of(type(body)))]
    while row[-1] is None:
        row.pop()
    return row


def _object(body: Body, after: int, skip: int) -> Item:
    steps = {name: value for name, value in (("after", after), ("skip", skip)) if value}
    return {"kind": kind_of(body)} | write_fields(body) | steps


def decode_report(payload: bytes) -> Report:
    """The report in a payload. Raises WireError, and nothing else, where it cannot be read.

    A record that can be named (its sequence number is known) but not understood does not spoil the others: it is in
    ``refused``. Where a record's very number cannot be known the whole report is bad.
    """
    members = unpack(payload)
    header = read_fields(Report, members, "report", _REPORT_LISTS)
    listed = members.get("records") or []
    if type(listed) is not list or len(listed) > MAX_RECORDS:
        raise WireError(BAD_MESSAGE, f"records: wanted an array of at most {MAX_RECORDS}")
    if not listed:
        return Report(**header)
    seq = _SEQ.check(members.get("seq"), "seq") - 1
    time = _TIME.check(members.get("time"), "time")
    records: list[Record] = []
    refused: list[Refused] = []
    for item in listed:
        after, skip = _steps(item, seq)
        seq += skip + 1
        time += after
        if seq > MAX_WHOLE or not 0 <= time <= MAX_TIME:
            raise WireError(BAD_MESSAGE, f"record {seq} has an impossible number or time")
        try:
            records.append(Record(seq, time, read_body(item)))
        except WireError as error:
            refused.append(Refused(seq, time, error.reason, error.detail, item))
    return Report(**header, records=tuple(records), refused=tuple(refused))


def _steps(item: object, seq: int) -> tuple[int, int]:
    if type(item) is list and len(item) >= 3:
        return _AFTER.check(item[0], "after"), _SKIP.check(item[2], "skip")
    if type(item) is dict:
        return _AFTER.check(item.get("after", 0), "after"), _SKIP.check(item.get("skip", 0), "skip")
    raise WireError(BAD_MESSAGE, f"the record after {seq} is neither a row [after, kind, skip, ...] nor an object")


def read_body(item: Item) -> Body:
    """The body of one record's row or object. Raises WireError (unknown kind, bad or missing field)."""
    if len(item) > MAX_FIELDS:
        raise WireError(BAD_MESSAGE, f"{len(item)} values in one record; at most {MAX_FIELDS}")
    kind = item[1] if type(item) is list else item.get("kind")  # type: ignore[union-attr]
    declared = KINDS.get(kind) if type(kind) is str else None
    if declared is None:
        raise WireError(UNKNOWN_KIND, f"kind {str(kind)[:40]!r}; known are {', '.join(KINDS)}")
    if type(item) is list:
        return _read_row(declared, kind, item)
    return declared(**read_fields(declared, item, kind, _ENVELOPE))  # type: ignore[arg-type]


@cache
def _columns(declared: type[Body]) -> tuple[tuple[str, Callable[[object, str], Any]], ...]:
    return tuple(checks_of(declared).items())


def _read_row(declared: type[Body], kind: str, item: list[Any]) -> Body:
    values = [None if value is None else check(value, name) for (name, check), value in zip(_columns(declared), item[3:], strict=False)]
    for index, name in enumerate(required_of(declared)):  # required fields stand first in every kind
        if index >= len(values) or values[index] is None:
            raise WireError(BAD_FIELD, f"{kind}: {name} is missing")
    return declared(*values)
