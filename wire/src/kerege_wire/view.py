"""Messages as people read and write them: which message an object is, what it says in absolute numbers, what in it is not known."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from difflib import get_close_matches
from typing import Any, Final

from kerege_wire.fields import checks_of, write_fields
from kerege_wire.messages import Ack, CollectorState, Message, Presence, Report
from kerege_wire.records import KINDS, kind_of

DECLARED: Final[dict[str, type]] = {"report": Report, "ack": Ack, "presence": Presence, "state": CollectorState}
"""Name of a message → its dataclass."""

_BESIDES: Final = {"report": {"seq", "time", "records"}, "ack": {"stored", "refused"}}
_ENVELOPE: Final = {"kind", "after", "skip"}
_MARKS: Final = (
    ("presence", {"birth"}),
    ("state", {"state", "ack_within_s"}),
    ("ack", {"stored", "refused", "received", "replied", "hold", "unreadable"}),
    ("report", {"epoch"}),
)
"""Members that only one message has, tried in this order; what is left and has an epoch is a report."""

_LAST_TIME: Final = 253_402_300_799
"""9999-12-31, where the calendar of `datetime` ends."""


def guess(members: dict[str, Any]) -> str | None:
    """Which message this JSON object is, None where it is none."""
    return next((name for name, marks in _MARKS if not marks.isdisjoint(members)), None)


def view(message: Message) -> dict[str, Any]:
    """A message as a JSON object for people: each record with its own number and time, and what was refused beside it."""
    name = next(name for name, declared in DECLARED.items() if isinstance(message, declared))
    seen: dict[str, Any] = {"message": name} | write_fields(message)
    if isinstance(message, Ack):
        seen |= {name: pairs for name, pairs in (("stored", message.stored), ("refused", message.refused)) if pairs}
    if isinstance(message, Report):
        seen["records"] = [
            {**_when(record.seq, record.time), "kind": kind_of(record.body), **write_fields(record.body)} for record in message.records
        ]
        if message.refused:
            seen["refused"] = [
                {**_when(item.seq, item.time), "reason": item.reason, "detail": item.detail, "item": item.item} for item in message.refused
            ]
    return seen


def _when(seq: int, time: int) -> dict[str, Any]:
    utc = datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if time <= _LAST_TIME else None
    return {"seq": seq, "time": time, "utc": utc}


@dataclass(frozen=True, slots=True)
class Unknown:
    """A member or value that readers of this version ignore, where it stands, and the known name that is nearest to it."""

    where: str
    name: str
    nearest: str | None

    def __str__(self) -> str:
        return f"{self.where}: {self.name} is not known" + (f"; is {self.nearest} meant?" if self.nearest else "")


def unknown(name: str, members: dict[str, Any]) -> Iterator[Unknown]:
    """What a reader would ignore in a valid message of this name: most often a slip of the pen."""
    known = set(checks_of(DECLARED[name])) | _BESIDES.get(name, set())
    yield from _unknown_names(name, members, known)
    for place, item in enumerate(members.get("records") or () if name == "report" else (), start=1):
        kind = item["kind"] if isinstance(item, dict) else item[1]
        columns = checks_of(KINDS[kind])
        if isinstance(item, dict):
            yield from _unknown_names(f"record {place}, {kind}", item, columns.keys() | _ENVELOPE)
        elif len(item) > 3 + len(columns):
            yield Unknown(f"record {place}, {kind}", f"value {3 + len(columns)} of the row", None)


def _unknown_names(where: str, members: dict[str, Any], known: set[str]) -> Iterator[Unknown]:
    for member in members.keys() - known:
        yield Unknown(where, ascii(member), next(iter(get_close_matches(member, known, 1)), None))
