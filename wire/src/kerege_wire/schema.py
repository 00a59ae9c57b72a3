"""The messages as JSON Schema (2020-12) and the kinds as Markdown tables, both made from the declarations of the fields.

A schema says what a writer may send. What it cannot say is in its descriptions and in ``docs/wire.md``: that a range runs forward, that the
numbers and times of records add up to possible ones, that an integer is written without fraction or exponent.
"""

from collections.abc import Callable
from typing import Any, Final

from kerege_wire.fields import MAX_TEXT, MAX_WHOLE, Choice, Flag, Real, Text, Whole, declared_fields, required_of, schema_of
from kerege_wire.messages import MAX_RANGES, MAX_RECORDS, Ack, CollectorState, Presence, Report
from kerege_wire.records import KINDS
from kerege_wire.reports import MAX_FIELDS, MAX_TIME

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"

Schema = dict[str, Any]

_SEQ: Final[Schema] = Whole(1).schema()
_AFTER: Final[Schema] = Whole(-MAX_TIME, MAX_TIME).schema() | {"description": "seconds from the record before this one, or from `time`"}
_SKIP: Final[Schema] = Whole().schema() | {"description": "sequence numbers that are left out before this record"}


def message_schema(name: str) -> Schema:
    """The schema of one message: report, ack, presence or state. Raises KeyError for any other name."""
    return {"$schema": DIALECT, "title": f"Kerege {name}, version 1"} | _MESSAGES[name]()


def _object(declared: type, description: str) -> Schema:
    properties = {item.name: schema_of(item) for item in declared_fields(declared)}
    wanted: Schema = {"required": list(required_of(declared))} if required_of(declared) else {}
    return {"description": description, "type": "object", "properties": properties} | wanted


def _report() -> Schema:
    schema = _object(Report, "A batch of records of one epoch, and the heartbeat.")
    schema["properties"] |= {
        "seq": _or_null(_SEQ) | {"description": "sequence number of the first record, less its `skip`"},
        "time": _or_null(Whole(0, MAX_TIME).schema()) | {"description": "time of the first record, less its `after` [s since 1970 UTC]"},
        "records": {"type": ["array", "null"], "maxItems": MAX_RECORDS, "items": {"$ref": "#/$defs/record"}},
    }
    schema |= _where_filled("records", {"required": ["seq", "time"], "properties": {"seq": _SEQ, "time": {"type": "integer"}}})
    forms = {f"{kind}{form}": make(kind) for kind in KINDS for form, make in (("-object", _record_object), ("-row", _record_row))}
    return schema | {"$defs": {"record": {"anyOf": [{"$ref": f"#/$defs/{name}"} for name in forms]}} | forms}


def _record_object(kind: str) -> Schema:
    declared = KINDS[kind]
    schema = _object(declared, str(declared.__doc__))
    envelope = {"kind": {"const": kind}, "after": _or_null(_AFTER), "skip": _or_null(_SKIP)}
    schema["properties"] = envelope | schema["properties"]
    schema["required"] = ["kind", *schema.get("required", [])]
    return schema | {"maxProperties": MAX_FIELDS}


def _record_row(kind: str) -> Schema:
    declared = KINDS[kind]
    values = [schema_of(item) | {"title": item.name} for item in declared_fields(declared)]
    columns = [_AFTER, {"const": kind}, _SKIP, *values]
    least = 3 + len(required_of(declared))
    return {"description": str(declared.__doc__), "type": "array", "prefixItems": columns, "minItems": least, "maxItems": MAX_FIELDS}


def _ack() -> Schema:
    schema = _object(Ack, "What the collector has made durable, and the time.")
    pairs = {"stored": (_SEQ, "a range, [first, last], both included"), "refused": (Text().schema(), "[sequence number, reason]")}
    for name, (second, description) in pairs.items():
        pair = {"description": description, "type": "array", "prefixItems": [_SEQ, second], "minItems": 2, "maxItems": 2}
        schema["properties"][name] = {"type": ["array", "null"], "maxItems": MAX_RANGES, "items": pair}
    epoch: Schema = {"required": ["epoch"], "properties": {"epoch": {"type": "string"}}}
    return schema | {"allOf": [_where_filled("stored", epoch), _where_filled("refused", epoch)]}


def _or_null(schema: Schema) -> Schema:
    return schema | {"type": [schema["type"], "null"]}


def _where_filled(name: str, then: Schema) -> Schema:
    return {"if": {"required": [name], "properties": {name: {"type": "array", "minItems": 1}}}, "then": then}


_MESSAGES: Final[dict[str, Callable[[], Schema]]] = {
    "report": _report,
    "ack": _ack,
    "presence": lambda: _object(Presence, "Who is connected."),
    "state": lambda: _object(CollectorState, "Is anybody there to acknowledge."),
}

MESSAGES: Final = tuple(_MESSAGES)
"""The names of the messages."""


def kinds_markdown() -> str:
    """One table a kind, its fields in the order of the row: the part of ``docs/wire.md`` between its comments."""
    return "\n".join(_kind_markdown(kind, declared) for kind, declared in KINDS.items())


def _kind_markdown(kind: str, declared: type) -> str:
    lines = [f"### {kind}", "", str(declared.__doc__), "", "| place | field | type | unit | meaning |", "|---|---|---|---|---|"]
    for place, item in enumerate(declared_fields(declared), start=3):
        required = " *required*" if item.name in required_of(declared) else ""
        kind, unit, meaning = _type_text(item.metadata["check"]), item.metadata["unit"], item.metadata["doc"]
        lines.append(f"| {place} | `{item.name}`{required} | {kind} | {unit} | {meaning} |")
    return "\n".join([*lines, ""])


def _type_text(check: Text | Choice | Whole | Real | Flag) -> str:
    match check:
        case Text(max_length, pattern):
            return "string" + (f" `{pattern}`" if pattern else "") + (f", at most {max_length}" if max_length < MAX_TEXT else "")
        case Choice(values):
            return ", ".join(f"`{value}`" for value in values)
        case Whole(low, high):
            return f"integer, {_limit(low)} to {_limit(high)}"
        case Real(low, high):
            return f"number, {_limit(low)} to {_limit(high)}"
        case Flag():
            return "true or false"


def _limit(value: float) -> str:
    return "2^53−1" if value == MAX_WHOLE else f"{value:,.15g}".replace("-", "−")
