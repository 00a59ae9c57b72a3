"""Report ⇄ bytes.

    {"epoch":"Zk3q9w2a","sent":86400123,"seq":1234,"time":1795465800,"records":[[0,"tick",0,"online",...],[60,"tick",0,...]]}

``seq`` and ``time`` are those of the first record. A record is a row, ``[after, kind, skip, value, value, ...]`` with the
kind's fields in the order of `records` (null or missing at the end: absent), or an object with the same names. It is
``after`` seconds later than the record before it (may be negative) and its sequence number is one more, plus ``skip``.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from kerege_wire.codec import pack, unpack
from kerege_wire.errors import BAD_FIELD, BAD_MESSAGE, UNKNOWN_KIND, MisuseError, WireError
from kerege_wire.fields import (
    MAX_WHOLE,
    Checker,
    Whole,
    check_depth,
    checks_of,
    read_fields,
    required_of,
    shown,
    write_fields,
    write_values,
)
from kerege_wire.messages import MAX_RECORDS, Record, Refused, Report
from kerege_wire.records import KINDS, Body, kind_of

MAX_FIELDS: Final = 64
"""Most values in one record."""

MAX_TIME: Final = 2**40
"""Largest time that is read at all; whether a time is plausible is for the reader with a clock to judge."""

_REPORT_LISTS: Final = frozenset({"seq", "time", "records"})
_ENVELOPE: Final = frozenset({"after", "kind", "skip"})
_check_seq = Whole(1).checker()
_check_time = Whole(0, MAX_TIME).checker()
_check_after = Whole(-MAX_TIME, MAX_TIME).checker()
_check_skip = Whole().checker()

Item = list[Any] | dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Row:
    """How one kind's row of values is read; ``required`` of its columns, which stand first, must be present."""

    kind: str
    declared: type[Body]
    columns: tuple[tuple[str, Checker], ...]
    required: int

    def read(self, values: list[Any]) -> Body:
        checked = [None if value is None else check(value, name) for (name, check), value in zip(self.columns, values, strict=False)]
        for index in range(self.required):
            if index >= len(checked) or checked[index] is None:
                raise WireError(BAD_FIELD, f"{self.kind}: {self.columns[index][0]} is missing")
        if len(values) > len(self.columns):
            check_depth(values[len(self.columns) :], self.kind)
        make: Callable[..., Body] = self.declared
        return make(*checked)


_ROWS: Final = {
    kind: _Row(kind, declared, tuple(checks_of(declared).items()), len(required_of(declared))) for kind, declared in KINDS.items()
}


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
    seq, time = max(first.seq - 1, 0), first.time
    items = []
    for record in report.records:
        if record.seq <= seq:
            raise MisuseError(f"sequence number {record.seq} after {seq}: records go in rising order")
        items.append(write(record.body, record.time - time, record.seq - seq - 1))
        seq, time = record.seq, record.time
    return header | {"seq": first.seq, "time": first.time, "records": items}


def _row(body: Body, after: int, skip: int) -> Item:
    row = [after, kind_of(body), skip, *write_values(body)]
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
    listed = members.get("records")
    if listed is None or listed == []:
        return Report(**header)
    if type(listed) is not list or len(listed) > MAX_RECORDS:
        raise WireError(BAD_MESSAGE, f"records: wanted an array of at most {MAX_RECORDS}, got {shown(listed)}")
    seq = _check_seq(members.get("seq"), "seq") - 1
    time = _check_time(members.get("time"), "time")
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
            check_depth(item.values() if type(item) is dict else item, f"record {seq}")
            refused.append(Refused(seq, time, error.reason, error.detail, item))
    return Report(**header, records=tuple(records), refused=tuple(refused))


def _steps(item: object, seq: int) -> tuple[int, int]:
    if type(item) is list and len(item) >= 3:
        return _check_after(item[0], "after"), _check_skip(item[2], "skip")
    if type(item) is dict:
        after, skip = item.get("after"), item.get("skip")
        return 0 if after is None else _check_after(after, "after"), 0 if skip is None else _check_skip(skip, "skip")
    raise WireError(BAD_MESSAGE, f"the record after {seq} is neither a row [after, kind, skip, ...] nor an object")


def read_body(item: Item) -> Body:
    """The body of one record's row or object. Raises WireError (unknown kind, bad or missing field)."""
    if len(item) > MAX_FIELDS:
        raise WireError(BAD_MESSAGE, f"{len(item)} values in one record; at most {MAX_FIELDS}")
    kind = item[1] if isinstance(item, list) else item.get("kind")
    row = _ROWS.get(kind) if type(kind) is str else None
    if row is None:
        raise WireError(UNKNOWN_KIND, f"kind: wanted one of {', '.join(KINDS)}, got {shown(kind)}")
    if isinstance(item, list):
        return row.read(item[3:])
    return row.declared(**read_fields(row.declared, item, row.kind, _ENVELOPE))
