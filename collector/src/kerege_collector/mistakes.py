"""What is wrong with a settings file, in words for the person who wrote it: one line a mistake.

    FILE: key.path: what; wanted what; did you mean "x"?

Values of keys that are not known are never repeated: somebody may have written a password there.
"""

import difflib
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

Model = TypeVar("Model", bound=BaseModel)

MAX_FILE_BYTES: Final = 8 << 20
"""Longest file that is read as settings: some 30,000 centers."""

MAX_SHOWN: Final = 60
"""Longest value that is repeated in a message."""

TYPES: Final = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "string_type": 'a string in quotes ("...")',
    "string_unicode": "a string of whole characters (Unicode)",
    "bool_type": "true or false",
    "path_type": 'a path in quotes ("...")',
    "model_type": "a section",
    "model_attributes_type": "a section",
    "dict_type": "a section",
    "list_type": "a list",
    "tuple_type": "a list",
}
"""pydantic's error type → what was wanted."""

LIMITS: Final = {
    "greater_than_equal": ("at least", "ge"),
    "greater_than": ("more than", "gt"),
    "less_than_equal": ("at most", "le"),
    "less_than": ("less than", "lt"),
}


class SettingsError(Exception):
    """Settings that cannot be used. The text is complete and for the person who wrote them: one mistake a line."""

    def __init__(self, mistakes: Sequence[str]) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = list(mistakes)


def read_toml(path: Path, *, cure: str = "") -> dict[str, Any]:
    """The tables of a TOML file. Raises SettingsError where it is not there, cannot be read, or is no TOML."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
        if len(content) > MAX_FILE_BYTES:
            raise SettingsError([f"{path}: longer than {MAX_FILE_BYTES} bytes: this is no settings file"])
        text = content.decode("utf-8-sig")  # some editors put a byte order mark in front
        return tomllib.loads(text.replace("\r\n", "\n"))
    except FileNotFoundError as error:
        raise SettingsError([f"{path}: there is no such file{cure and '; ' + cure}"]) from error
    except UnicodeDecodeError as error:
        raise SettingsError([f"{path}: not UTF-8 (byte {error.start}); save it in that encoding"]) from error
    except tomllib.TOMLDecodeError as error:
        raise SettingsError([f"{path}: not TOML: {error}"]) from error
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise SettingsError([f"{path}: cannot be read: {reason}"]) from error


def read_model(declared: type[Model], tables: Mapping[str, Any], path: Path) -> Model:
    """The tables as a model; relative paths in them count from the file's directory. Raises SettingsError with every mistake."""
    try:
        return declared.model_validate(tables, context={"directory": path.absolute().parent})
    except ValidationError as error:
        raise SettingsError([f"{path}: {line}" for line in lines(declared, error)]) from error


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a mistake is: the keys on the way as the file has them, what the section may be that the last of them stands in.

    models: what the last of them may be itself, where that is a section.
    """

    steps: list[int | str]
    section: list[type[BaseModel]]
    models: list[type[BaseModel]]


def lines(declared: type[BaseModel], error: ValidationError) -> Iterator[str]:
    """One line for each mistake that pydantic found."""
    for detail in error.errors(include_url=False):
        place = _place(declared, detail["loc"])
        yield f"{_key_path(place.steps)}: {_what(declared, place, detail)}"


def _place(declared: type[BaseModel], location: Sequence[int | str]) -> _Place:
    """pydantic's location, without the names of the members of a union, which it puts in between."""
    steps: list[int | str] = []
    section: list[type[BaseModel]] = []
    models: list[type[BaseModel]] = [declared]
    for step in location:
        if len(models) > 1 and any(step in _tags_of(model) for model in models):
            models = [model for model in models if step in _tags_of(model)]
            continue
        steps.append(step)
        if isinstance(step, str):
            section, models = models, [nested for model in models for nested in _nested(model, step)]
    return _Place(steps, section, models)


def _nested(model: type[BaseModel], name: str) -> list[type[BaseModel]]:
    """The sections that may stand under a key."""
    field = model.model_fields.get(name)
    return [] if field is None else _models_in(field.annotation)


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models_in(part)]


def _tags_of(model: type[BaseModel]) -> tuple[str, ...]:
    kind = model.model_fields.get("kind")
    return get_args(kind.annotation) if kind is not None else ()


def _key_path(steps: Sequence[int | str]) -> str:
    """``mqtt.host``, ``center[2].link``: entries of a list are counted from 1, as people do."""
    text = ""
    for step in steps:
        text += f"[{step + 1}]" if isinstance(step, int) else f".{step}" if text else step
    return text or "the file"


def _what(declared: type[BaseModel], place: _Place, detail: ErrorDetails) -> str:
    kind, context = detail["type"], detail.get("ctx", {})
    if kind == "extra_forbidden":
        return "not a known key" + _near_key(declared, place)
    if kind == "missing":
        return "is missing" + _wanted(place)
    if kind in {"union_tag_not_found", "union_tag_invalid"}:
        return _bad_tag(kind, context, [tag for model in place.models for tag in _tags_of(model)])
    if kind == "value_error":
        return str(context["error"])
    return f"wanted {_type_or_limit(detail)}, got {_shown(detail['input'])}" + _near(detail["input"], _choices(context))


def _type_or_limit(detail: ErrorDetails) -> str:
    kind, context = detail["type"], detail.get("ctx", {})
    if kind == "literal_error":
        return str(context["expected"]).replace("'", '"')
    if kind == "string_too_short":
        return "at least one character"
    if kind == "string_too_long":
        return f"at most {context['max_length']} characters"
    if kind in LIMITS:
        words, limit = LIMITS[kind]
        return f"{words} {context[limit]:g}"
    return TYPES.get(kind, detail["msg"])


def _choices(context: Mapping[str, Any]) -> list[str]:
    return str(context.get("expected", "")).split("'")[1::2]


def _bad_tag(kind: str, context: Mapping[str, Any], tags: Sequence[str]) -> str:
    if kind == "union_tag_not_found":
        wanted = " or ".join([f'"{tag}"' for tag in tags])
        return f"kind is missing; wanted kind = {wanted}"
    choices = str(context["expected_tags"]).replace("'", '"')
    return f"kind: wanted one of {choices}, got {_shown(context['tag'])}" + _near(context["tag"], choices.split('"')[1::2])


def _wanted(place: _Place) -> str:
    """What a missing value would be, in the words of its description."""
    for model in place.section:
        field = model.model_fields.get(str(place.steps[-1]))
        if field is not None and field.description:
            return f"; wanted {field.description}"
    return ""


def _near_key(declared: type[BaseModel], place: _Place) -> str:
    """The nearest right key of the section, or the section to which a right key belongs."""
    wrong = str(place.steps[-1])
    names = [name for model in place.section for name in model.model_fields]
    if near := _near(wrong, names):
        return near
    here = ".".join(step for step in place.steps[:-1] if isinstance(step, str))
    for section, name in _all_keys(declared, ""):
        if name == wrong and section != here:
            return (
                f"; it belongs in the section [{section}]" if section else "; it belongs at the top of the file, before the first section"
            )
    return f"; known here: {', '.join(names)}" if names else ""


def _all_keys(model: type[BaseModel], path: str) -> Iterator[tuple[str, str]]:
    for name in model.model_fields:
        yield path, name
        for nested in _nested(model, name):
            yield from _all_keys(nested, f"{path}.{name}" if path else name)


def _near(wrong: object, right: Sequence[str]) -> str:
    if not isinstance(wrong, str):
        return ""
    found = difflib.get_close_matches(wrong.lower(), right, n=1) or [name for name in right if name.startswith(f"{wrong}_")]
    return f'; did you mean "{found[0]}"?' if found else ""


def _shown(value: object) -> str:
    if isinstance(value, str):
        text = f'"{value}"'
    elif isinstance(value, bool):
        text = str(value).lower()
    elif isinstance(value, Mapping):
        text = "a section"
    elif isinstance(value, list):
        text = "a list"
    else:
        text = str(value)
    return text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 1] + "…"
