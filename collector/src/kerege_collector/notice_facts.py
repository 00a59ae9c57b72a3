"""From an incident to what a notice tells of it, and to JSON in the ledger and back."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from kerege_collector.centers import Region
from kerege_collector.incident import NOBODY, OWN, SCOPES, Incident
from kerege_collector.notice_text import Facts, Library


def facts_of(region: Region, incident: Incident, kind: str, now_s: int) -> Facts:
    """What a notice tells of an incident."""
    own = incident.scope[0] == OWN
    known = [region.centers[center] for center in incident.centers if center in region.centers]
    libraries = tuple(Library(each.id, each.name, each.district, str(region.calendar(each.id).zone)) for each in known)
    return Facts(
        kind={"opened": "own", "closed": "own-over"}.get(kind, "own") if own else kind,
        incident=incident.number,
        libraries=libraries,
        state=incident.kind,
        cause=None if incident.cause == NOBODY else incident.cause,  # all parts of ours seem well: there are sentences for that
        scope=incident.scope if incident.scope[0] in SCOPES else None,
        since_s=incident.since_s,
        until_s=incident.closed_s,
        now_s=now_s,
        page_url=region.notices.page_url,
    )


def to_text(facts: Facts, *, notices: Sequence[int] = ()) -> str:
    """notices: of a digest, the numbers of those that it is made of."""
    return json.dumps(asdict(facts) | ({"notices": list(notices)} if notices else {}), ensure_ascii=False)


def from_text(text: str) -> Facts:
    """The reverse of `to_text`."""
    return _facts(json.loads(text))


def notices_in(text: str) -> list[int]:
    """The numbers of the notices that a digest is made of."""
    return list(json.loads(text).get("notices", ()))


def _facts(members: Mapping[str, Any]) -> Facts:
    known = {name: value for name, value in members.items() if name in Facts.__dataclass_fields__}
    libraries = tuple(Library(**library) for library in members["libraries"])
    parts = tuple(_facts(part) for part in members.get("parts", ()))
    scope = tuple(members["scope"]) if members["scope"] else None
    return Facts(**known | {"libraries": libraries, "scope": scope, "parts": parts})
