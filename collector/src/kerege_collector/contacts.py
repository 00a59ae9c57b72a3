"""Who is told of an incident, when, and in which language: ``[[contact]]`` and ``[notices]`` of ``centers.toml``.

Contacts stand in levels. Those of level 1 are told at once, those of a higher one when nobody has acknowledged for
`Notices.escalate_after_min` a level.
"""

import re
from collections.abc import Sequence
from datetime import datetime, time, timedelta
from pathlib import Path
from typing import Annotated, Any, Final, Literal
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo

from kerege_collector.hours import MINUTES
from kerege_collector.hours_file import RANGE, Zone

CONTACT_ID: Final = r"[a-z0-9][a-z0-9-]{0,31}"
MINUTE_S: Final = 60
_CLOCK_TIME: Final = re.compile(r"([01]\d|2[0-3]):[0-5]\d")


def _quiet(text: str) -> str:
    if RANGE.fullmatch(text) is None:
        raise ValueError(f'wanted quiet hours such as "22:00-07:00", got "{text[:60]}"')
    return text


def _clock_time(text: str) -> str:
    if _CLOCK_TIME.fullmatch(text) is None:
        raise ValueError(f'wanted a time of day such as "08:30", got "{text[:60]}"')
    return text


def _from_directory(path: Path, info: ValidationInfo) -> Path:
    directory: Path = (info.context or {}).get("directory", Path())
    return directory / path


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Contact(_Entry):
    """Somebody who is told. addresses_file: Apprise URLs, one a line; it is a secret. districts: of these only; None: of all.

    digest: the time of day at which all that can wait is told in one message; None: nothing waits.
    """

    id: Annotated[str, Field(pattern=f"^{CONTACT_ID}$")] = Field(description="a short name of the contact")
    addresses_file: Annotated[Path, Field(strict=False), AfterValidator(_from_directory)] = Field(description="the file with its addresses")
    language: Literal["kk", "ru", "en"] = "kk"
    level: Annotated[int, Field(ge=1, le=9)] = 1
    quiet: Annotated[str, AfterValidator(_quiet)] | None = None
    digest: Annotated[str, AfterValidator(_clock_time)] | None = None
    zone: Zone = "Asia/Almaty"
    districts: list[str] | None = None

    def awake_s(self, now_s: int) -> int:
        """Now, or the end of the quiet hours that hold now."""
        if self.quiet is None:
            return now_s
        first, last = (int(part[:2]) * 60 + int(part[3:]) for part in self.quiet.split("-"))
        local = datetime.fromtimestamp(now_s, ZoneInfo(self.zone))
        minute = local.hour * 60 + local.minute
        is_quiet = first <= minute < last if first <= last else minute >= first or minute < last
        return now_s + ((last - minute) % MINUTES) * MINUTE_S - local.second if is_quiet else now_s

    def digest_s(self, now_s: int) -> int:
        """When what can wait is told next; now where nothing waits for a digest."""
        if self.digest is None:
            return self.awake_s(now_s)
        zone = ZoneInfo(self.zone)
        local = datetime.fromtimestamp(now_s, zone)
        at = time(int(self.digest[:2]), int(self.digest[3:]))
        moments = (int(datetime.combine(local.date() + timedelta(days=days), at, zone).timestamp()) for days in (0, 1, 2))
        return self.awake_s(next(moment for moment in moments if moment > now_s))

    def cares(self, districts: Sequence[str | None]) -> bool:
        """Is this contact told of libraries in these districts? Of what concerns no library everybody is told."""
        return self.districts is None or not districts or any(district in self.districts for district in districts)


class Notices(_Entry):
    """When people are told again. page_url: where they can look."""

    remind_after_min: Annotated[int, Field(ge=5, le=10_080)] = 240
    escalate_after_min: Annotated[int, Field(ge=1, le=10_080)] = 30
    page_url: str | None = None


def unique(contacts: Sequence[Any]) -> list[str]:
    """Ids that are there twice."""
    names = [contact.id for contact in contacts]
    return sorted({name for name in names if names.count(name) > 1})
