"""What one field of a message may hold: its type, its range, its unit, its meaning.

The dataclasses of `records` and `messages` declare their fields with the functions at the end of this module; the
decoder, the JSON Schema and ``docs/metrics.md`` all read the same declaration, so they cannot disagree.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from functools import cache
from typing import Any, Final

from kerege_wire.errors import BAD_FIELD, BAD_MESSAGE, WireError

MAX_TEXT: Final = 256
"""Longest string in a message, in characters: as long as the longest DNS name (253, RFC 1035 section 2.3.4), and a little."""

MAX_WHOLE: Final = 2**53 - 1
"""Largest integer: what every JSON reader carries without loss (RFC 8259 section 6)."""

MAX_UNKNOWN_DEPTH: Final = 8
"""How deeply what this version does not know may nest: it is ignored, or kept for people, and both must be safe to do."""

MAX_SHOWN: Final = 60
"""Characters of a bad value that are quoted in an error's detail."""

_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")

Checker = Callable[[object, str], Any]
"""Takes a JSON value and the name of its place; gives the value as Python holds it, or raises WireError."""


def shown(value: object) -> str:
    """A JSON value in the words of an error: never long, never deep, in ASCII."""
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "an array"
    if isinstance(value, str) and len(value) > MAX_SHOWN:
        return json.dumps(value[:MAX_SHOWN]) + "..."
    return json.dumps(value)[:MAX_SHOWN]


def _allowed(text: str) -> bool:
    """Can this be carried, though `str.isprintable` (quick, but stricter) refuses it? No-break spaces and the like can."""
    return _CONTROL.search(text) is None


def _bad(where: str, wanted: str, value: object) -> WireError:
    return WireError(BAD_FIELD, f"{where}: wanted {wanted}, got {shown(value)}")


@dataclass(frozen=True, slots=True)
class Text:
    """A string without control characters (Unicode's Cc) or lone surrogates; ``pattern`` must match all of it."""

    max_length: int = MAX_TEXT
    pattern: str | None = None

    def checker(self) -> Checker:
        max_length, pattern = self.max_length, self.pattern
        matches = re.compile(pattern).fullmatch if pattern else None

        def check(value: object, where: str) -> str:
            if type(value) is not str or len(value) > max_length or not (value.isprintable() or _allowed(value)):
                raise _bad(where, f"a string of at most {max_length} characters, none a control character", value)
            if matches is not None and matches(value) is None:
                raise _bad(where, f"a string like {pattern}", value)
            return value

        return check

    def schema(self) -> dict[str, Any]:
        pattern = f"^({self.pattern})$" if self.pattern else r"^[^\u0000-\u001f\u007f-\u009f]*$"
        return {"type": "string", "maxLength": self.max_length, "pattern": pattern}


@dataclass(frozen=True, slots=True)
class Choice:
    """One of a fixed set of strings."""

    values: tuple[str, ...]

    def checker(self) -> Checker:
        values, wanted = frozenset(self.values), f"one of {', '.join(self.values)}"

        def check(value: object, where: str) -> str:
            if type(value) is not str or value not in values:
                raise _bad(where, wanted, value)
            return value

        return check

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "enum": list(self.values)}


@dataclass(frozen=True, slots=True)
class Whole:
    """An integer from ``low`` to ``high``, both included, written without fraction or exponent."""

    low: int = 0
    high: int = MAX_WHOLE

    def checker(self) -> Checker:
        low, high = self.low, self.high

        def check(value: object, where: str) -> int:
            if type(value) is not int or not low <= value <= high:  # a bool is an int, but not by this test
                raise _bad(where, f"an integer from {low} to {high}", value)
            return value

        return check

    def schema(self) -> dict[str, Any]:
        return {"type": "integer", "minimum": self.low, "maximum": self.high}


@dataclass(frozen=True, slots=True)
class Real:
    """A finite number from ``low`` to ``high``; an integer on the wire is read as a float, and -0.0 as 0.0."""

    low: float = 0.0
    high: float = float(MAX_WHOLE)

    def checker(self) -> Checker:
        low, high = self.low, self.high

        def check(value: object, where: str) -> float:
            if (type(value) is float or type(value) is int) and low <= value <= high:
                return value + 0.0
            raise _bad(where, f"a number from {low:.16g} to {high:.16g}", value)

        return check

    def schema(self) -> dict[str, Any]:
        return {"type": "number", "minimum": self.low, "maximum": self.high}


@dataclass(frozen=True, slots=True)
class Flag:
    """True or false."""

    def checker(self) -> Checker:
        def check(value: object, where: str) -> bool:
            if type(value) is not bool:
                raise _bad(where, "true or false", value)
            return value

        return check

    def schema(self) -> dict[str, Any]:
        return {"type": "boolean"}


Check = Text | Choice | Whole | Real | Flag


def _declare(check: Check, doc: str, unit: str, default: object) -> Any:
    return field(default=default, metadata={"check": check, "doc": doc, "unit": unit})


def text(doc: str, *, pattern: str | None = None, max_length: int = MAX_TEXT, default: str | None = None, required: bool = False) -> Any:
    """Declare a string field."""
    return _declare(Text(max_length, pattern), doc, "", MISSING if required else default)


def choice(doc: str, values: tuple[str, ...], *, default: str | None = None, required: bool = False) -> Any:
    """Declare a field that holds one of ``values``."""
    return _declare(Choice(values), doc, "", MISSING if required else default)


def whole(doc: str, unit: str, *, low: int = 0, high: int = MAX_WHOLE, default: int | None = None, required: bool = False) -> Any:
    """Declare an integer field in ``unit``."""
    return _declare(Whole(low, high), doc, unit, MISSING if required else default)


def real(doc: str, unit: str, *, low: float = 0.0, high: float = float(MAX_WHOLE), required: bool = False) -> Any:
    """Declare a float field in ``unit``."""
    return _declare(Real(low, high), doc, unit, MISSING if required else None)


def flag(doc: str, *, default: bool | None = None) -> Any:
    """Declare a field that is true or false."""
    return _declare(Flag(), doc, "", default)


def declared_fields(declared: type) -> "tuple[Field[Any], ...]":
    """The fields that were declared with the functions above; others are not members of the JSON object as they stand."""
    return tuple(item for item in fields(declared) if "check" in item.metadata)


def _checks_of(declared: type) -> dict[str, Checker]:
    return {item.name: item.metadata["check"].checker() for item in declared_fields(declared)}


def _required_of(declared: type) -> tuple[str, ...]:
    return tuple(item.name for item in fields(declared) if item.default is MISSING)


def _defaults_of(declared: type) -> tuple[tuple[str, object], ...]:
    return tuple((item.name, item.default) for item in declared_fields(declared))


checks_of: Final[Callable[[type], dict[str, Checker]]] = cache(_checks_of)
"""Field name → check, in declared order, for a dataclass whose fields were declared with the functions above."""

required_of: Final[Callable[[type], tuple[str, ...]]] = cache(_required_of)
"""The names of the fields that must be present."""

_with_defaults: Final[Callable[[type], tuple[tuple[str, object], ...]]] = cache(_defaults_of)


def schema_of(item: "Field[Any]") -> dict[str, Any]:
    """The JSON Schema (2020-12) of one declared field; one that may be absent may also be null."""
    described: dict[str, Any] = item.metadata["check"].schema()
    if item.default is not MISSING:
        described["type"] = [described["type"], "null"]
        if "enum" in described:
            described["enum"] = [*described["enum"], None]
        if item.default is not None:
            described["default"] = item.default
    unit = item.metadata["unit"]
    return described | {"description": item.metadata["doc"] + (f" [{unit}]" if unit else "")}


def read_fields(declared: type, members: Mapping[str, Any], where: str, skip: frozenset[str] = frozenset()) -> dict[str, Any]:
    """The checked members of a JSON object that ``declared`` knows, ready as keyword arguments.

    Members that it does not know are ignored, so that a newer agent can talk to an older collector; so are nulls,
    which mean "absent". ``skip``: members that the caller reads itself. Raises WireError at the first member that is out
    of type or range, or absent though required.
    """
    checks = checks_of(declared)
    found: dict[str, Any] = {}
    for name, value in members.items():
        check = checks.get(name)
        if check is None:
            if name not in skip:
                check_depth((value,), where)
        elif value is not None:
            found[name] = check(value, name)
    for name in required_of(declared):
        if name not in found:
            raise WireError(BAD_FIELD, f"{where}: {name} is missing")
    return found


def check_depth(values: Iterable[object], where: str) -> None:
    """Raise WireError where one of the unknown values nests deeper than is safe to keep and to write again."""
    level = [value for value in values if isinstance(value, dict | list)]
    for _ in range(MAX_UNKNOWN_DEPTH):
        children = (item.values() if isinstance(item, dict) else item for item in level)
        level = [child for some in children for child in some if isinstance(child, dict | list)]
    if level:
        raise WireError(BAD_MESSAGE, f"{where}: nested deeper than {MAX_UNKNOWN_DEPTH}")


def write_fields(message: Any) -> dict[str, Any]:
    """The members of a declared dataclass that differ from their defaults, in declared order, as JSON values."""
    members: dict[str, Any] = {}
    for name, default in _with_defaults(type(message)):
        value = getattr(message, name)
        if value is not None and value != default:
            members[name] = int(value) if type(value) is float and value.is_integer() else value
    return members


def write_values(message: Any) -> list[Any]:
    """The same as a row: every declared field's value in declared order, None where it is absent."""
    members = write_fields(message)
    return [members.get(name) for name in checks_of(type(message))]
