"""The registry: which libraries there are, from ``centers.toml``. Read at start and again at a reload."""

import difflib
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Final, Literal
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from kerege_collector.contacts import Contact, Notices, unique
from kerege_collector.hours import Calendar
from kerege_collector.hours_file import Hours, Public, Zone, calendar_of
from kerege_collector.mistakes import SettingsError, read_model, read_toml
from kerege_wire.topics import is_center_id

LinkKind = Literal["geo", "leo", "meo", "fiber", "dsl", "cellular", "wireless"]

ALWAYS: Final = "24h"
"""The name of the hours that need not be declared."""


def _center_id(text: str) -> str:
    if not is_center_id(text):
        raise ValueError(f'wanted 2 to 32 of a-z, 0-9 and -, not first a -, and not "collector"; got "{text[:60]}"')
    return text


def _label(text: str) -> str:
    if not text.strip() or len(text) > 100 or not text.isprintable():
        raise ValueError("wanted 1 to 100 printable characters")
    return text


Label = Annotated[str, AfterValidator(_label)]
Percent = Annotated[float, Field(gt=0, le=100)]
Milliseconds = Annotated[float, Field(gt=0, le=600_000)]


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Thresholds(_Entry):
    """Beyond these a link that is online is `degraded`. None: the next wider word counts (center, mandate, kind of link)."""

    rtt_ms: Milliseconds | None = None
    loss_percent: Percent | None = None


KINDS: Final[dict[str, Thresholds]] = {
    "geo": Thresholds(rtt_ms=1200.0, loss_percent=5.0),
    "meo": Thresholds(rtt_ms=400.0, loss_percent=5.0),
    "leo": Thresholds(rtt_ms=200.0, loss_percent=5.0),
    "cellular": Thresholds(rtt_ms=400.0, loss_percent=5.0),
    "wireless": Thresholds(rtt_ms=250.0, loss_percent=5.0),
    "dsl": Thresholds(rtt_ms=200.0, loss_percent=3.0),
    "fiber": Thresholds(rtt_ms=150.0, loss_percent=2.0),
}
"""What a link of its kind should manage: about twice the usual round trip (560 ms and more for a geostationary orbit)."""

ANY_KIND: Final = Thresholds(rtt_ms=1200.0, loss_percent=5.0)


class Link(_Entry):
    """A center's way to the Internet."""

    kind: LinkKind | None = None
    provider: Label | None = None
    satellite: Label | None = None
    thresholds: Thresholds = Thresholds()


class Center(_Entry):
    """One library. Where the file does not say: the name is the id, the rest is not known, the library never closes.

    registered: the first day that it counts; connected: since when it has a link, or whether; closed: the first day that it is no more.
    """

    id: Annotated[str, AfterValidator(_center_id)] = Field(description="the center's id, which is also its certificate's common name")
    name: Label = ""
    district: Label | None = None
    link: Link | None = None
    zone: Zone | None = None
    hours: str | None = None
    heartbeat_s: Annotated[int, Field(ge=10, le=3600)] = 60
    registered: date | None = None
    connected: bool | date | None = None
    closed: date | None = None

    def model_post_init(self, _: Any, /) -> None:
        if not self.name:
            object.__setattr__(self, "name", self.id)

    @property
    def provider(self) -> str | None:
        """Who sells the link."""
        return self.link.provider if self.link else None

    @property
    def satellite(self) -> str | None:
        """The satellite that the link hangs on."""
        return self.link.satellite if self.link else None

    @property
    def link_kind(self) -> str | None:
        """What the link is: ``geo``, ``fiber``..."""
        return self.link.kind if self.link else None


class _File(_Entry):
    zone: Zone | None = None
    districts: list[Label] | None = None
    hours: dict[str, Hours] = {}
    holidays: Public = Public()
    mandate: Thresholds = Thresholds()
    notices: Notices = Notices()
    contact: list[Contact] = []
    center: list[Center] = []


Registry = dict[str, Center]
"""Center id → center, in the order of the file."""


@dataclass(frozen=True)
class Region:
    """The file as a whole: the centers, when each is open, and what is asked of each link."""

    centers: Registry
    calendars: dict[str, Calendar]
    thresholds: dict[str, Thresholds]
    contacts: tuple[Contact, ...] = ()
    notices: Notices = field(default_factory=Notices)

    def calendar(self, center: str) -> Calendar:
        """Of a center that is not registered nobody knows the hours: it is always open."""
        return self.calendars.get(center) or Calendar(ZoneInfo("UTC"))


def load(path: Path, *, may_be_absent: bool = False) -> Registry:
    """The centers in ``path`` (see `load_region`)."""
    return load_region(path, may_be_absent=may_be_absent).centers


def load_region(path: Path, *, may_be_absent: bool = False) -> Region:
    """The registry in ``path``; an empty one where there is no file and there need be none. Raises SettingsError with every mistake."""
    if may_be_absent and not path.exists():
        return Region({}, {}, {})
    cure = 'make it (an example is collector/centers.example.toml), or set unknown_centers = "admit" in collector.toml'
    tables = read_toml(path, cure=cure)
    mistakes = [f"{path}: {line}" for line in _duplicates(tables)]
    try:
        file = read_model(_File, tables, path)
    except SettingsError as error:
        raise SettingsError(mistakes + error.mistakes) from error
    mistakes += [f"{path}: {line}" for line in _contradictions(file)]
    if mistakes:
        raise SettingsError(mistakes)
    return _region(file)


def _region(file: _File) -> Region:
    centers = {center.id: center for center in file.center}
    calendars = {}
    for center in file.center:
        zone = ZoneInfo(center.zone or file.zone or "UTC")
        name = center.hours or ALWAYS
        calendars[center.id] = Calendar(zone) if name == ALWAYS else calendar_of(file.hours[name], file.holidays, zone)
    thresholds = {center.id: _thresholds(center, file.mandate) for center in file.center}
    return Region(centers, calendars, thresholds, tuple(file.contact), file.notices)


def _thresholds(center: Center, mandate: Thresholds) -> Thresholds:
    kind = KINDS.get(center.link_kind or "", ANY_KIND)
    words = [center.link.thresholds, mandate, kind] if center.link else [mandate, kind]
    found: dict[str, float] = {}
    for name in Thresholds.model_fields:
        value = next((said for said in (getattr(each, name) for each in words) if said is not None), None)
        if value is not None:
            found[name] = value
    return Thresholds(**found)


def _contradictions(file: _File) -> Iterator[str]:
    """What is wrong between the parts, each of which is right in itself."""
    for number, center in enumerate(file.center, start=1):
        place = f"center[{number}]"
        if file.districts is not None and center.district is not None and center.district not in file.districts:
            yield f'{place}.district: "{center.district}" is none of the districts{did_you_mean(center.district, file.districts)}'
        if center.hours is not None and center.hours != ALWAYS:
            if center.hours not in file.hours:
                near = did_you_mean(center.hours, list(file.hours))
                yield f'{place}.hours: no [hours.{center.hours}] is declared, and it is not "{ALWAYS}"{near}'
            if center.zone is None and file.zone is None:
                yield f'{place}.zone: its opening hours need a time zone, here or once for all above: zone = "Asia/Almaty"'
        if center.closed and center.registered and center.closed <= center.registered:
            yield f"{place}.closed: {center.closed} is not after its registration ({center.registered})"
    for name in unique(file.contact):
        yield f'contact: the id "{name}" is there twice; each has its own'
    for name, hours in file.hours.items():
        yield from (f"hours.{name}.{line}" for line in hours.contradictions())
        if name == ALWAYS:
            yield f'hours.{name}: this name means "always open" and cannot be declared'


def did_you_mean(word: str, known: list[str]) -> str:
    """The name that is nearest to a word, as the end of a sentence; empty where none is near."""
    near = difflib.get_close_matches(word, known, n=1)
    return f'; did you mean "{near[0]}"?' if near else ""


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
