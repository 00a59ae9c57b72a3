"""What one field of a message may hold: its type, its range, its unit, its meaning.

The dataclasses of `records` and `messages` declare their fields with the functions at the end of this module; the
decoder, the JSON Schema and ``docs/metrics.md`` all read the same declaration, so they cannot disagree.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from functools import cache
from typing import Any, Final

from kerege_wire.errors import BAD_FIELD, WireError

MAX_TEXT: Final = 256
"""Longest string in a message, in characters: as long as the longest DNS name (253, RFC 1035 section 2.3.4), and a little."""

MAX_WHOLE: Final = 2**53 - 1
"""Largest integer: what every JSON reader carries without loss (RFC 8259 section 6)."""

MAX_UNKNOWN_DEPTH: Final = 8
"""How deeply a field that this version does not know may nest before the message is refused."""

_CONTROL: Final = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")


def _bad(where: str, wanted: str, value: object) -> WireError:
    return WireError(BAD_FIELD, f"{where}: wanted {wanted}, got {str(value)[:60]!r}")


@dataclass(frozen=True, slots=True)
class Text:
    """A string without control characters or lone surrogates; ``pattern`` must match all of it."""

    max_length: int = MAX_TEXT
    pattern: str | None = None

    def check(self, value: object, where: str) -> str:
        if not isinstance(value, str) or len(value) > self.max_length or _CONTROL.search(value):
            raise _bad(where, f"a string of at most {self.max_length} printable characters", value)
        if self.pattern is not None and not re.fullmatch(self.pattern, value):
            raise _bad(where, f"a string like {self.pattern}", value)
        return value

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "maxLength": self.max_length} | ({"pattern": f"^{self.pattern}$"} if self.pattern else {})


@dataclass(frozen=True, slots=True)
class Choice:
    """One of a fixed set of strings."""

    values: tuple[str, ...]

    def check(self, value: object, where: str) -> str:
        if value not in self.values:
            raise _bad(where, f"one of {', '.join(self.values)}", value)
        return str(value)

    def schema(self) -> dict[str, Any]:
        return {"enum": list(self.values)}


@dataclass(frozen=True, slots=True)
class Whole:
    """An integer from ``low`` to ``high``, both included."""

    low: int = 0
    high: int = MAX_WHOLE

    def check(self, value: object, where: str) -> int:
        if type(value) is not int or not self.low <= value <= self.high:
            raise _bad(where, f"an integer from {self.low} to {self.high}", value)
        return value

    def schema(self) -> dict[str, Any]:
        return {"type": "integer", "minimum": self.low, "maximum": self.high}


@dataclass(frozen=True, slots=True)
class Real:
    """A finite number from ``low`` to ``high``; an integer on the wire is read as a float."""

    low: float = 0.0
    high: float = float(MAX_WHOLE)

    def check(self, value: object, where: str) -> float:
        if type(value) is int or type(value) is float:
            if self.low <= value <= self.high:  # NaN fails every comparison
                return float(value)
        raise _bad(where, f"a number from {self.low:g} to {self.high:g}", value)

    def schema(self) -> dict[str, Any]:
        return {"type": "number", "minimum": self.low, "maximum": self.high}


@dataclass(frozen=True, slots=True)
class Flag:
    """True or false."""

    def check(self, value: object, where: str) -> bool:
        if type(value) is not bool:
            raise _bad(where, "true or false", value)
        return value

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


@cache
def checks_of(declared: type) -> dict[str, Callable[[object, str], object]]:
    """Field name → check, for a dataclass whose fields were declared with the functions above."""
    return {item.name: item.metadata["check"].check for item in fields(declared) if "check" in item.metadata}


@cache
def defaults_of(declared: type) -> dict[str, object]:
    """Field name → default, for the fields that have one."""
    return {item.name: item.default for item in fields(declared) if item.default is not MISSING}


@cache
def required_of(declared: type) -> tuple[str, ...]:
    """The names of the fields that must be present."""
    return tuple(item.name for item in fields(declared) if item.default is MISSING)


def schema_of(item: "Field[Any]") -> dict[str, Any]:
    """The JSON Schema (2020-12) of one declared field."""
    unit = item.metadata["unit"]
    described: dict[str, Any] = item.metadata["check"].schema()
    return described | {"description": item.metadata["doc"] + (f" [{unit}]" if unit else "")}


def read_fields(declared: type, members: Mapping[str, Any], where: str, skip: frozenset[str] = frozenset()) -> dict[str, Any]:
    """The checked members of a JSON object that ``declared`` knows, ready as keyword arguments.

    Members that it does not know are ignored, so that a newer agent can talk to an older collector; so are nulls,
    which mean "absent". Raises WireError at the first member that is out of type or range, or absent though required.
    """
    checks = checks_of(declared)
    found: dict[str, Any] = {}
    for name, value in members.items():
        check = checks.get(name)
        if check is None:
            if name not in skip and isinstance(value, dict | list):
                _check_depth(value, where)
        elif value is not None:
            found[name] = check(value, name)
    for name in required_of(declared):
        if name not in found:
            raise WireError(BAD_FIELD, f"{where}: {name} is missing")
    return found


def _check_depth(value: object, where: str) -> None:
    level = [value]
    for _ in range(MAX_UNKNOWN_DEPTH):
        level = [child for item in level if isinstance(item, dict | list) for child in (item.values() if isinstance(item, dict) else item)]
        if not level:
            return
    raise WireError(BAD_FIELD, f"{where}: nested deeper than {MAX_UNKNOWN_DEPTH}")


def write_fields(message: Any) -> dict[str, Any]:
    """The members of a declared dataclass that differ from their defaults, in declared order, as JSON values.

    A float without a fraction is written as an integer (two bytes less each); the reader turns it back.
    """
    members: dict[str, Any] = {}
    defaults = defaults_of(type(message))
    for name in checks_of(type(message)):
        value = getattr(message, name)
        if value is None or (name in defaults and value == defaults[name]):
            continue
        members[name] = int(value) if isinstance(value, float) and math.isfinite(value) and value == int(value) else value
    return members
