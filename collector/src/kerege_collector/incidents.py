"""Incidents in the ledger: the changes that `incident` finds, and what people do with them, each action with who did it.

All functions work in the transaction of their caller.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import count
from typing import Any, Final

import sqlalchemy as sa

from kerege_collector import evidence
from kerege_collector import verdict_tables as tables
from kerege_collector.centers import Center, Region, did_you_mean
from kerege_collector.incident import CENTER, OPENED, SCOPES, UNSTABLE, Change, Incident, Rules, World, step
from kerege_collector.schema import put

REASONS: Final[Mapping[str, tuple[str, str | None]]] = {
    "lan": ("down", "lan"),
    "terminal": ("down", "terminal"),
    "provider": ("down", "provider"),
    "dns": ("down", "dns"),
    "portal": ("down", "portal"),
    "power": ("off", "power"),
    "shutdown": ("off", "shutdown"),
    "agent": ("off", "agent"),
    "unknown": ("unknown", None),
}
"""What a person may find to be the cause of an incident → state and cause that the timeline gets where nothing proves that it was up."""

MAINTAINABLE: Final = (CENTER, *SCOPES)

MAX_NUMBER: Final = (1 << 63) - 1
"""Beyond this a database knows no numbers."""

_NOW_S: Final[sa.BindParameter[int]] = sa.bindparam("now_s")
# asked every few seconds: built once
_LASTING: Final = sa.select(tables.incident).where(tables.incident.c.closed_s.is_(None)).order_by(tables.incident.c.id)
_UNDER_WAY: Final = sa.select(tables.maintenance).where(tables.maintenance.c.start_s <= _NOW_S, tables.maintenance.c.end_s > _NOW_S)
_OPENINGS: Final = (
    sa.select(tables.incident.c.name, tables.incident_event.c.time_s)
    .join_from(tables.incident_event, tables.incident, tables.incident_event.c.incident == tables.incident.c.id)
    .where(tables.incident.c.scope == CENTER, tables.incident_event.c.what.in_([OPENED, UNSTABLE]))
    .where(tables.incident_event.c.time_s >= sa.bindparam("since_s"))
)

Done = dict[str, Any]
"""What a person has done, as JSON: done, who, time_s, and the incident as it is now (as `listing` has it), or the maintenance."""


class NoSuchIncidentError(Exception):
    """There is none of this number."""


class AlreadyResolvedError(Exception):
    """Somebody has said before what the cause of this incident was. The text is for people."""


def advance(connection: sa.Connection, world: World, rules: Rules) -> list[Change]:
    """One step of the state machine over the incidents of the ledger; what changes is written."""
    last = connection.execute(sa.select(sa.func.max(tables.incident.c.id))).scalar_one() or 0
    changes = step(world, current(connection), rules, count(last + 1))
    for change in changes:
        put(connection, tables.incident, [_values(change.incident)])
        event = {
            "incident": change.incident.number,
            "time_s": world.now_s,
            "what": change.what,
            "centers": json.dumps(change.incident.centers),
        }
        connection.execute(sa.insert(tables.incident_event).values(**event))
    return changes


def current(connection: sa.Connection) -> list[Incident]:
    """The incidents that last."""
    return [incident_of(row) for row in connection.execute(_LASTING)]


def openings(connection: sa.Connection, since_s: int) -> dict[str, list[int]]:
    """Center → when it got an incident of its own since then."""
    found: dict[str, list[int]] = {}
    for row in connection.execute(_OPENINGS, {"since_s": since_s}):
        found.setdefault(row.name, []).append(row.time_s)
    return found


def quiet(connection: sa.Connection, centers: Iterable[Center], now_s: int) -> frozenset[str]:
    """The centers under maintenance now."""
    planned = {(row.scope, row.name) for row in connection.execute(_UNDER_WAY, {"now_s": now_s})}
    if not planned:
        return frozenset()
    return frozenset(center.id for center in centers if planned & {(CENTER, center.id), *scopes_of(center).items()})


def scopes_of(center: Center) -> dict[str, str]:
    """The satellite, provider and district of a center, where they are known."""
    named = {"satellite": center.satellite, "provider": center.provider, "district": center.district}
    return {kind: name for kind, name in named.items() if name is not None}


def listing(connection: sa.Connection, *, everything: bool, limit: int = 1000) -> list[dict[str, Any]]:
    """Incidents that last, or also those that are over, newest first, as JSON values."""
    wanted = sa.select(tables.incident).order_by(tables.incident.c.id.desc()).limit(limit)
    if not everything:
        wanted = wanted.where(tables.incident.c.closed_s.is_(None))
    return [_shown(row) for row in connection.execute(wanted)]


def show(connection: sa.Connection, number: int) -> dict[str, Any]:
    """One incident as `listing` has it. Raises NoSuchIncidentError."""
    return _shown(_row(connection, number))


def acknowledge(connection: sa.Connection, number: int, who: str, now_s: int) -> Done:
    """Somebody looks after it. Raises NoSuchIncidentError."""
    _update(connection, number, acknowledged_by=who)
    _audit(connection, "ack", {"incident": number}, who, now_s)
    return _done(connection, "ack", number, who, now_s)


def snooze(connection: sa.Connection, number: int, until_s: int, who: str, now_s: int) -> Done:
    """No reminders until then. Raises NoSuchIncidentError."""
    _update(connection, number, snoozed_until_s=until_s)
    _audit(connection, "snooze", {"incident": number, "until_s": until_s}, who, now_s)
    return _done(connection, "snooze", number, who, now_s)


def resolve(connection: sa.Connection, number: int, reason: str, *, who: str, now_s: int, again: bool = False) -> Done:
    """A person knows the cause (`REASONS`): the timelines of its centers are corrected. again: what was said before was wrong.

    Raises NoSuchIncidentError and AlreadyResolvedError.
    """
    row = _row(connection, number)
    if row.reason is not None and not again:
        raise AlreadyResolvedError(f'incident {number} is resolved already, as "{row.reason}"; correct that with "again"')
    _update(connection, number, reason=reason)
    state, cause = REASONS[reason]
    end_s = row.closed_s or now_s
    spans = _members(connection, row)
    for center, since_s in spans.items():
        values = {"center": center, "start_s": since_s, "end_s": end_s, "state": state, "cause": cause, "who": who, "said_s": now_s}
        connection.execute(sa.insert(tables.correction).values(**values))
    evidence.touch(connection, {center: (since_s, end_s, "correction") for center, since_s in spans.items()})
    _audit(connection, "resolve", {"incident": number, "reason": reason}, who, now_s)
    return _done(connection, "resolve", number, who, now_s)


def not_in_registry(region: Region, scope: str, name: str) -> str | None:
    """Why planned work at this name would concern nobody; None where it does."""
    named = [{CENTER: center.id, **scopes_of(center)}.get(scope) for center in region.centers.values()]
    known = sorted({each for each in named if each is not None})
    if name in known:
        return None
    return f'no {scope} "{name[:60]}" is in centers.toml{did_you_mean(name, known)}'


def maintain(connection: sa.Connection, scope: tuple[str, str], span: tuple[int, int], *, why: str, who: str, now_s: int) -> Done:
    """Planned work (`MAINTAINABLE`, a name) in a span of time: nobody is told of what it breaks."""
    values = {"scope": scope[0], "name": scope[1], "start_s": span[0], "end_s": span[1], "who": who, "why": why}
    connection.execute(sa.insert(tables.maintenance).values(**values))
    _audit(connection, "maintain", values, who, now_s)
    return {"done": "maintain", "who": who, "time_s": now_s, "maintenance": values}


def _members(connection: sa.Connection, row: sa.Row[Any]) -> dict[str, int]:
    """Every center that the incident ever had → out since when, as it was first said."""
    event = tables.incident_event
    found: dict[str, int] = {}
    for text in connection.execute(sa.select(event.c.centers).where(event.c.incident == row.id).order_by(event.c.id)).scalars():
        found = json.loads(text) | found
    return dict(json.loads(row.centers)) | found


def _row(connection: sa.Connection, number: int) -> sa.Row[Any]:
    row = None
    if 0 < number <= MAX_NUMBER:
        row = connection.execute(sa.select(tables.incident).where(tables.incident.c.id == number)).one_or_none()
    if row is None:
        raise NoSuchIncidentError(f"there is no incident {number}")
    return row


def _shown(row: sa.Row[Any]) -> dict[str, Any]:
    members = dict(row._mapping)  # noqa: SLF001 - its public name for a row as a mapping
    return members | {"centers": json.loads(row.centers)}


def _done(connection: sa.Connection, action: str, number: int, who: str, now_s: int) -> Done:
    return {"done": action, "who": who, "time_s": now_s, "incident": show(connection, number)}


def _update(connection: sa.Connection, number: int, **values: object) -> None:
    _row(connection, number)
    connection.execute(sa.update(tables.incident).where(tables.incident.c.id == number).values(**values))


def _audit(connection: sa.Connection, action: str, what: Mapping[str, object], who: str, now_s: int) -> None:
    connection.execute(sa.insert(tables.audit).values(time_s=now_s, who=who, action=action, what=json.dumps(what, ensure_ascii=False)))


def _values(incident: Incident) -> dict[str, Any]:
    return {
        "id": incident.number,
        "scope": incident.scope[0],
        "name": incident.scope[1],
        "kind": incident.kind,
        "cause": incident.cause,
        "centers": json.dumps(incident.centers),
        "since_s": incident.since_s,
        "opened_s": incident.opened_s,
        "calm_s": incident.calm_s,
        "unstable": incident.unstable,
        "closed_s": incident.closed_s,
    }


def incident_of(row: sa.Row[Any]) -> Incident:
    """A row of the table as the state machine knows it."""
    return Incident(
        number=row.id,
        scope=(row.scope, row.name),
        kind=row.kind,
        cause=row.cause,
        centers=json.loads(row.centers),
        since_s=row.since_s,
        opened_s=row.opened_s,
        calm_s=row.calm_s,
        unstable=row.unstable,
        closed_s=row.closed_s,
    )


def centers_of(incidents: Sequence[Incident]) -> frozenset[str]:
    """All centers that have an incident."""
    return frozenset(center for incident in incidents for center in incident.centers)
