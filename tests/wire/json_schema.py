"""A validator for as much of JSON Schema 2020-12 as the house's schemas use; any other keyword is an error, so that none is overlooked."""

import re
from collections.abc import Callable
from typing import Any

TYPES: dict[str, Callable[[Any], bool]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "integer": lambda value: (isinstance(value, int) and not isinstance(value, bool)) or (isinstance(value, float) and value.is_integer()),
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
}
NOTES = {"$schema", "$defs", "title", "description", "default", "then"}


def valid(schema: dict[str, Any], value: Any, root: dict[str, Any] | None = None) -> bool:
    """Does the value satisfy the schema?"""
    root = schema if root is None else root
    return all(_holds(keyword, argument, value, schema, root) for keyword, argument in schema.items() if keyword not in NOTES)


def _holds(keyword: str, argument: Any, value: Any, schema: dict[str, Any], root: dict[str, Any]) -> bool:
    if keyword in COMBINING:
        return COMBINING[keyword](argument, value, schema, root)
    if isinstance(value, dict):
        return _holds_object(keyword, argument, value, root)
    if isinstance(value, list):
        return _holds_array(keyword, argument, value, root)
    return _holds_scalar(keyword, argument, value)


COMBINING: dict[str, Callable[[Any, Any, dict[str, Any], dict[str, Any]], bool]] = {
    "$ref": lambda argument, value, _, root: valid(root["$defs"][argument.removeprefix("#/$defs/")], value, root),
    "type": lambda argument, value, *_: any(TYPES[name](value) for name in ([argument] if isinstance(argument, str) else argument)),
    "const": lambda argument, value, *_: _same(value, argument),
    "enum": lambda argument, value, *_: any(_same(value, item) for item in argument),
    "anyOf": lambda argument, value, _, root: any(valid(option, value, root) for option in argument),
    "allOf": lambda argument, value, _, root: all(valid(option, value, root) for option in argument),
    "if": lambda argument, value, schema, root: not valid(argument, value, root) or valid(schema["then"], value, root),
}
"""Keywords that hold for values of any type."""


def _same(left: Any, right: Any) -> bool:
    return type(left) is type(right) and bool(left == right)


def _holds_object(keyword: str, argument: Any, value: dict[str, Any], root: dict[str, Any]) -> bool:
    match keyword:
        case "properties":
            return all(valid(argument[name], member, root) for name, member in value.items() if name in argument)
        case "required":
            return all(name in value for name in argument)
        case "maxProperties":
            return bool(len(value) <= argument)
    return _known(keyword)


def _holds_array(keyword: str, argument: Any, value: list[Any], root: dict[str, Any]) -> bool:
    match keyword:
        case "prefixItems":
            return all(valid(option, item, root) for option, item in zip(argument, value, strict=False))
        case "items":
            return all(valid(argument, item, root) for item in value)
        case "minItems":
            return bool(len(value) >= argument)
        case "maxItems":
            return bool(len(value) <= argument)
    return _known(keyword)


def _holds_scalar(keyword: str, argument: Any, value: Any) -> bool:
    if isinstance(value, str) and keyword in {"pattern", "maxLength"}:
        return len(value) <= argument if keyword == "maxLength" else re.search(argument.removesuffix("$") + r"\Z", value) is not None
    if TYPES["number"](value) and keyword in {"minimum", "maximum"}:
        return bool(value >= argument if keyword == "minimum" else value <= argument)
    return _known(keyword)


def _known(keyword: str) -> bool:
    """A keyword that says nothing about values of this type, if it is one that we know at all."""
    others = {"properties", "required", "maxProperties", "prefixItems", "items", "minItems", "maxItems"}
    if keyword not in others | {"pattern", "maxLength", "minimum", "maximum"}:
        raise ValueError(f"keyword {keyword} is not known to this validator")
    return True
