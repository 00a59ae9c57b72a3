"""Mistakes in a settings file, said so that the one who wrote it can mend it: which key, what was wanted, what stood there."""

import difflib
import json
import types
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin, get_type_hints

from kerege_agent.settings import Settings

MAX_SHOWN: Final = 60
"""Characters of a wrong value that are repeated."""

_NAMES: Final[dict[Any, str]] = {int: "an integer", float: "a number", bool: "true or false", str: "a string", Path: "a path, as a string"}
_UNKNOWN: Final = frozenset({"unexpected_keyword_argument", "extra_forbidden"})
_MISSING: Final = frozenset({"missing", "missing_argument", "missing_keyword_only_argument"})


def said(mistake: Mapping[str, Any]) -> tuple[str, str]:
    """(key, text) for one of pydantic's errors about `Settings`; list entries are counted from 1, as in ``targets[#2].address``."""
    location: Sequence[str | int] = mistake["loc"]
    key = key_of(location)
    if mistake["type"] in _UNKNOWN:
        return key, _unknown(str(location[-1]), _type_at(location[:-1]))
    if mistake["type"] in _MISSING:
        return key, f"missing; wanted {wanted(_type_at(location))}"
    return key, f"wanted {wanted(_type_at(location))}, got {_shown(mistake['input'])}"


def key_of(location: Sequence[str | int]) -> str:
    """``mqtt.port``; list entries by their number."""
    text = "".join(f"[#{part + 1}]" if isinstance(part, int) else f".{part}" for part in location)
    return text.removeprefix(".") or "the file"


def _unknown(name: str, section: Any) -> str:
    known = [item.name for item in fields(section)]
    near = difflib.get_close_matches(name, known, n=1)
    return f'unknown key; did you mean "{near[0]}"?' if near else f"unknown key; known here: {', '.join(known)}"


def _type_at(location: Sequence[str | int]) -> Any:
    declared: Any = Settings
    for part in location:
        declared = _bare(declared)
        declared = get_args(declared)[0] if isinstance(part, int) else get_type_hints(declared, include_extras=True)[part]
    return _bare(declared) if is_dataclass(_bare(declared)) else declared


def _bare(declared: Any) -> Any:
    """A type without its metadata and without None."""
    if get_origin(declared) is Annotated:
        return _bare(get_args(declared)[0])
    if get_origin(declared) in {Union, types.UnionType}:
        return _bare(next(argument for argument in get_args(declared) if argument is not type(None)))
    return declared


def wanted(declared: Any) -> str:
    """What a declared type accepts, in words."""
    if get_origin(declared) in {Union, types.UnionType}:
        return wanted(next(argument for argument in get_args(declared) if argument is not type(None)))
    words = "".join(item.words for item in declared.__metadata__) if get_origin(declared) is Annotated else ""
    return words if _bare(declared) is str and words else _kind(_bare(declared)) + words


def _kind(bare: Any) -> str:
    if get_origin(bare) is Literal:
        return "one of " + ", ".join(f'"{value}"' for value in get_args(bare))
    if get_origin(bare) is tuple:
        inner = get_args(bare)[0]
        return "a list of sections" if is_dataclass(_bare(inner)) else f"a list, each {wanted(inner)}"
    if is_dataclass(bare):
        return "a section with " + ", ".join(item.name for item in fields(bare))
    return _NAMES[bare]


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 3] + "..."
