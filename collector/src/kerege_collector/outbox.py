"""Notices in the ledger: written in the transaction of the incident that they tell of, and taken by the sender.

Each is one message to one contact. ``sending`` is durable before an attempt and ``sent`` after it: killed in between, the text says that
it may be a repetition. One that is given up for a contact goes to those of the next level at once.

Notices of one incident reach a contact in order: a later one waits until the one before is sent or given up. Of several that
none of the contact's addresses has taken yet only the last is sent: whoever could not be told of a beginning is told of the whole.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, Final

import sqlalchemy as sa

from kerege_collector import digest
from kerege_collector import verdict_tables as tables
from kerege_collector.centers import Region
from kerege_collector.contacts import Contact
from kerege_collector.digest import FOLDED, GIVEN_UP, QUEUED, SENDING, SENT, UNSETTLED, WAITING
from kerege_collector.incident import CENTER, CHANGED, CLOSED, OPENED, UNSTABLE, Change, Incident
from kerege_collector.incidents import incident_of
from kerege_collector.ledger import Ledger
from kerege_collector.notice_digest import DIGEST
from kerege_collector.notice_facts import facts_of, from_text, to_text
from kerege_collector.notice_text import Facts
from kerege_collector.schema import put
from kerege_collector.sender import Waiting

REMINDER: Final = "reminder"
ESCALATED: Final = "escalated"
AT_ONCE: Final = 200

KINDS: Final = {OPENED: "opened", CLOSED: "closed", CHANGED: "changed", UNSTABLE: "unstable"}

UNSENT: Final = (*UNSETTLED, WAITING)


def _due() -> sa.Select[Any]:
    """Of one incident and contact the first that is not settled, where it is due."""
    column, earlier = tables.notice.c, tables.notice.alias()
    blocked = sa.exists().where(
        earlier.c.state.in_(UNSETTLED),
        earlier.c.incident == column.incident,
        earlier.c.contact == column.contact,
        earlier.c.id < column.id,
    )
    wanted = sa.select(tables.notice).where(column.state.in_(UNSETTLED), column.due_s <= sa.bindparam("now_s"), ~blocked)
    return wanted.order_by(column.id).limit(AT_ONCE)


def _crowded() -> sa.Select[Any]:
    """Incidents and contacts with more than one notice, not all of which wait for the digest."""
    column = tables.notice.c
    unsettled = sa.func.sum(sa.case((column.state == WAITING, 0), else_=1))
    groups = sa.select(column.incident, column.contact).where(column.state.in_(UNSENT), column.kind != DIGEST)
    return groups.group_by(column.incident, column.contact).having(sa.func.count() > 1, unsettled > 0)


# asked every few seconds: built once
_DUE: Final = _due()
_CROWDED: Final = _crowded()
_RIPE: Final = (
    sa.select(tables.notice.c.contact).where(tables.notice.c.state == WAITING, tables.notice.c.due_s <= sa.bindparam("now_s")).distinct()
)
_UNATTENDED: Final = sa.select(tables.incident).where(tables.incident.c.closed_s.is_(None), tables.incident.c.acknowledged_by.is_(None))

_TOLD: Final = (
    sa.select(tables.notice.c.contact, sa.func.max(tables.notice.c.made_s).label("made_s"))
    .where(tables.notice.c.incident == sa.bindparam("incident"))
    .group_by(tables.notice.c.contact)
)


class LedgerOutbox:
    """The sender's outbox over the ledger."""

    def __init__(self, ledger: Ledger, region: Callable[[], Region]) -> None:
        self._ledger = ledger
        self._region = region

    def due(self, now_s: int) -> list[Waiting]:
        """Oldest first, of one incident and contact only the first. Raises RetryLater."""
        self._fold()
        self._gather(now_s)
        with self._ledger.transaction() as connection:
            rows = connection.execute(_DUE, {"now_s": now_s}).all()
            taken = _taken(connection, [row.id for row in rows]) if rows else {}
            return [_waiting(row, now_s, taken.get(row.id, frozenset())) for row in rows]

    def sending(self, id: int, now_s: int) -> None:  # noqa: A002 - the sender's word
        self._set(id, state=SENDING, tried_s=now_s)

    def taken(self, id: int, address: str, now_s: int) -> None:  # noqa: A002
        with self._ledger.transaction() as connection:
            put(connection, tables.notice_taken, [{"notice": id, "address": address, "taken_s": now_s}])

    def sent(self, id: int, now_s: int) -> None:  # noqa: A002
        self._set(id, state=SENT, sent_s=now_s, error=None)

    def failed(self, id: int, now_s: int, error: str, next_try_s: int | None) -> None:  # noqa: A002
        """Tried again later, or given up; then those of the next level are told."""
        column = tables.notice.c
        with self._ledger.writing() as connection:
            row = connection.execute(sa.select(tables.notice).where(column.id == id)).one()
            values = {"attempts": row.attempts + 1, "error": error}
            values |= {"state": GIVEN_UP} if next_try_s is None else {"state": QUEUED, "due_s": next_try_s}
            connection.execute(sa.update(tables.notice).where(column.id == id).values(**values))
            if next_try_s is None and row.kind == DIGEST:
                digest.put_back(connection, row, self._region(), now_s)
            elif next_try_s is None:
                _pass_on(connection, row, self._region().contacts, now_s)

    def _fold(self) -> None:
        """Where several notices of one incident wait for one contact: let the last speak for those that nobody has got."""
        column = tables.notice.c
        with self._ledger.transaction() as connection:
            crowded = connection.execute(_CROWDED).all()
        for incident, contact in crowded:
            with self._ledger.writing() as connection:
                wanted = sa.select(tables.notice).where(column.incident == incident, column.contact == contact, column.state.in_(UNSENT))
                rows = connection.execute(wanted.order_by(column.id)).all()
                taken = _taken(connection, [row.id for row in rows])
                _fold(connection, [row for row in rows if row.state != SENDING and row.id not in taken])

    def _gather(self, now_s: int) -> None:
        """One message of all that waits, for each contact whose time has come."""
        with self._ledger.transaction() as connection:
            contacts = connection.execute(_RIPE, {"now_s": now_s}).scalars().all()
        for contact in contacts:
            with self._ledger.writing() as connection:
                digest.gather(connection, self._region(), contact, now_s)

    def _set(self, number: int, **values: object) -> None:
        with self._ledger.transaction() as connection:
            connection.execute(sa.update(tables.notice).where(tables.notice.c.id == number).values(**values))


def _fold(connection: sa.Connection, unsent: Sequence[sa.Row[Any]]) -> None:
    """The last says what is so now; what it begins with (it has opened, it was passed on) is what the first would have said."""
    if len(unsent) < 2:
        return
    column, first, last = tables.notice.c, unsent[0], unsent[-1]
    values: dict[str, object] = {"attempts": max(row.attempts for row in unsent)}  # who cannot be reached is given up all the same
    if last.kind != CLOSED:
        facts = replace(from_text(last.facts), kind=from_text(first.facts).kind)
        values |= {"kind": first.kind, "facts": to_text(facts)} | ({} if last.state == WAITING else {"due_s": first.due_s})
    connection.execute(sa.update(tables.notice).where(column.id == last.id).values(**values))
    connection.execute(sa.update(tables.notice).where(column.id.in_([row.id for row in unsent[:-1]])).values(state=FOLDED))


def tell(connection: sa.Connection, region: Region, changes: Iterable[Change], now_s: int) -> None:
    """Queue what these changes are worth: everybody of level 1, and of an end or a change those who know of the incident."""
    for change in changes:
        if change.what == CHANGED and change.incident.scope[0] == CENTER:
            digest.release(connection, region, change.incident, now_s)
            continue
        if change.what not in KINDS:
            continue
        told = _told(connection, change.incident.number)
        for contact in region.contacts:
            if contact.id in told or (contact.level == 1 and change.what in {OPENED, UNSTABLE}):
                _queue(connection, region, contact, (change.incident, KINDS[change.what]), now_s)


def remind(connection: sa.Connection, region: Region, now_s: int) -> None:
    """Queue reminders and escalations of what lasts, is not acknowledged and not snoozed."""
    for row in connection.execute(_UNATTENDED).all():
        if row.snoozed_until_s is not None and row.snoozed_until_s > now_s:
            continue
        told = _told(connection, row.id)
        incident = incident_of(row)
        heard_s = max(row.opened_s, digest.told_s(connection, row.id))
        for contact in region.contacts:
            level_s = heard_s + (contact.level - 1) * region.notices.escalate_after_min * 60
            if contact.id not in told and now_s >= level_s and contact.level > 1:
                _queue(connection, region, contact, (incident, ESCALATED), now_s)
            elif contact.id in told and now_s >= told[contact.id] + region.notices.remind_after_min * 60:
                _queue(connection, region, contact, (incident, REMINDER), now_s)


def _queue(connection: sa.Connection, region: Region, contact: Contact, told: tuple[Incident, str], now_s: int) -> None:
    incident, kind = told
    facts = facts_of(region, incident, kind, now_s)
    if contact.cares([library.district for library in facts.libraries]):
        _put(connection, contact, (incident.number, kind, facts), now_s)


def _put(connection: sa.Connection, contact: Contact, what: tuple[int, str, Facts], now_s: int) -> None:
    incident, kind, facts = what
    told = {"incident": incident, "kind": kind, "facts": to_text(facts)}
    whom = {"contact": contact.id, "language": contact.language, "level": contact.level}
    later = digest.waits(contact, facts)
    when = {"made_s": now_s, "due_s": contact.digest_s(now_s) if later else contact.awake_s(now_s)}
    connection.execute(sa.insert(tables.notice).values(**told, **whom, **when, state=WAITING if later else QUEUED, attempts=0))


def _pass_on(connection: sa.Connection, row: sa.Row[Any], contacts: Sequence[Contact], now_s: int) -> None:
    """Somebody could not be reached: those of the next level are told instead, who do not know of it yet."""
    told = _told(connection, row.incident)
    higher = [contact for contact in contacts if contact.level > row.level and contact.id not in told]
    lowest = min((contact.level for contact in higher), default=0)
    for contact in higher:
        if contact.level == lowest:
            _put(connection, contact, (row.incident, row.kind, from_text(row.facts)), now_s)


def _told(connection: sa.Connection, incident: int) -> dict[str, int]:
    """Contact → when it was last told of this incident."""
    return {row.contact: row.made_s for row in connection.execute(_TOLD, {"incident": incident})}


def _taken(connection: sa.Connection, numbers: Sequence[int]) -> dict[int, frozenset[str]]:
    """Notice → the addresses that have it; only those that some have."""
    column = tables.notice_taken.c
    found: dict[int, frozenset[str]] = {}
    for row in connection.execute(sa.select(column.notice, column.address).where(column.notice.in_(numbers))):
        found[row.notice] = found.get(row.notice, frozenset()) | {row.address}
    return found


def _waiting(row: sa.Row[Any], now_s: int, taken: frozenset[str]) -> Waiting:
    facts = replace(from_text(row.facts), now_s=max(now_s, row.made_s))
    return Waiting(row.id, row.contact, row.language, facts, row.attempts, row.state == SENDING, taken)
