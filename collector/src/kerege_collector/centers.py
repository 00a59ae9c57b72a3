"""The registry: which libraries there are, from ``centers.toml``. Read at start and again at a reload."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from kerege_collector.mistakes import SettingsError, read_model, read_toml
from kerege_wire.topics import is_center_id

LinkKind = Literal["geo", "leo", "meo", "fiber", "dsl", "cellular", "wireless"]


def _center_id(text: str) -> str:
    if not is_center_id(text):
        raise ValueError(f'wanted 2 to 32 of a-z, 0-9 and -, not first a -, and not "collector"; got "{text[:60]}"')
    return text


def _label(text: str) -> str:
    if not text.strip() or len(text) > 100 or not text.isprintable():
        raise ValueError("wanted 1 to 100 printable characters")
    return text


Label = Annotated[str, AfterValidator(_label)]


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Link(_Entry):
    """A center's way to the Internet."""

    kind: LinkKind | None = None
    provider: Label | None = None


class Center(_Entry):
    """One library. Where the file does not say: the name is the id, the rest is not known."""

    id: Annotated[str, AfterValidator(_center_id)] = Field(description="the center's id, which is also its certificate's common name")
    name: Label = ""
    district: Label | None = None
    link: Link = Link()

    def model_post_init(self, _: Any, /) -> None:
        if not self.name:
            object.__setattr__(self, "name", self.id)

    @property
    def provider(self) -> str | None:
        """Who sells the link."""
        return self.link.provider

    @property
    def link_kind(self) -> str | None:
        """What the link is: ``geo``, ``fiber``..."""
        return self.link.kind


class _File(_Entry):
    center: list[Center] = []


Registry = dict[str, Center]
"""Center id → center, in the order of the file."""


def load(path: Path, *, may_be_absent: bool = False) -> Registry:
    """The registry in ``path``; an empty one where there is no file and there need be none. Raises SettingsError with every mistake."""
    if may_be_absent and not path.exists():
        return {}
    cure = 'make it (an example is collector/centers.example.toml), or set unknown_centers = "admit" in collector.toml'
    tables = read_toml(path, cure=cure)
    mistakes = [f"{path}: {line}" for line in _duplicates(tables)]
    try:
        file = read_model(_File, tables, path)
    except SettingsError as error:
        raise SettingsError(mistakes + error.mistakes) from error
    if mistakes:
        raise SettingsError(mistakes)
    return {center.id: center for center in file.center}


def _duplicates(tables: dict[str, Any]) -> list[str]:
    entries = tables.get("center")
    if not isinstance(entries, list):
        return []
    first: dict[str, int] = {}
    found = []
    for number, entry in enumerate(entries, start=1):
        name = entry.get("id") if isinstance(entry, dict) else None
        if isinstance(name, str) and first.setdefault(name, number) != number:
            found.append(f'center[{number}].id: "{name}" is the id of center[{first[name]}] already; each has its own')
    return found
