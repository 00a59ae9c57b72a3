"""What can wait (`notice_digest.can_wait`) of a contact who wants it once a day, in the ledger.

Such a notice is made like any other, in the transaction of its incident, and waits. When its time has come one transaction makes
one message of all that wait, which then goes the way of all messages: killed before, none is lost; killed after, none is there twice.
All functions work in the transaction of their caller.
"""

from collections.abc import Iterable
from typing import Any, Final

import sqlalchemy as sa

from kerege_collector import verdict_tables as tables
from kerege_collector.centers import Region
from kerege_collector.contacts import Contact
from kerege_collector.figures import DAY_S
from kerege_collector.incident import OPENED, Incident
from kerege_collector.incidents import incident_of
from kerege_collector.notice_digest import DIGEST, can_wait
from kerege_collector.notice_facts import facts_of, from_text, notices_in, to_text
from kerege_collector.notice_text import Facts

WAITING: Final = "waiting"
QUEUED: Final = "queued"
SENDING: Final = "sending"
SENT: Final = "sent"
GIVEN_UP: Final = "given-up"
FOLDED: Final = "folded"
"""States of a notice. waiting: for the digest; folded: another one says it too."""

UNSETTLED: Final = (QUEUED, SENDING)

_TOLD_S: Final = sa.select(sa.func.max(tables.notice.c.due_s)).where(
    tables.notice.c.incident == sa.bindparam("incident"),
    tables.notice.c.kind == OPENED,
    tables.notice.c.state.in_([WAITING, FOLDED]),
)

NO_INCIDENT: Final = 0
"""What a digest has in place of an incident's number."""


def waits(contact: Contact, facts: Facts) -> bool:
    """Is this told in the contact's digest?"""
    return contact.digest is not None and can_wait(facts.kind, facts.state, facts.cause)


def gather(connection: sa.Connection, region: Region, contact: str, now_s: int) -> None:
    """Make one message of all that waits for a contact."""
    column = tables.notice.c
    rows = connection.execute(sa.select(tables.notice).where(column.contact == contact, column.state == WAITING).order_by(column.id)).all()
    numbers = sorted({row.incident for row in rows})
    if not any(row.due_s <= now_s for row in rows) or _under_way(connection, contact, numbers):
        return
    found = connection.execute(sa.select(tables.incident).where(tables.incident.c.id.in_(numbers)).order_by(tables.incident.c.id)).all()
    parts = tuple(facts_of(region, incident_of(row), _kind(row), now_s) for row in found)
    facts = Facts(DIGEST, None, (), DIGEST, None, None, now_s, None, now_s, page_url=region.notices.page_url, parts=parts)
    text = to_text(facts, notices=[row.id for row in rows])
    _put(connection, {"contact": contact, "language": rows[-1].language, "level": rows[-1].level}, text, now_s, now_s)
    _set(connection, (row.id for row in rows), state=FOLDED)


def put_back(connection: sa.Connection, row: sa.Row[Any], region: Region, now_s: int) -> None:
    """A digest could not be handed over: the next level is told; where there is none, what it told waits for the next one."""
    higher = [contact for contact in region.contacts if contact.level > row.level]
    lowest = min((contact.level for contact in higher), default=0)
    for contact in higher:
        if contact.level == lowest:
            whom: dict[str, object] = {"contact": contact.id, "language": contact.language, "level": contact.level}
            _put(connection, whom, row.facts, now_s, contact.awake_s(now_s))
    if not higher:
        numbers = notices_in(row.facts)
        owner = connection.execute(sa.select(tables.notice.c.contact).where(tables.notice.c.id.in_(numbers))).scalars().first()
        for contact in region.contacts:
            if contact.id == owner:
                due_s = contact.digest_s(now_s) if contact.digest else now_s + DAY_S
                _set(connection, numbers, state=WAITING, due_s=due_s)


def release(connection: sa.Connection, region: Region, incident: Incident, now_s: int) -> None:
    """What could wait has become worse: who waits for the digest is told now."""
    if can_wait("opened", incident.kind, incident.cause):
        return
    column = tables.notice.c
    rows = connection.execute(
        sa.select(tables.notice).where(column.incident == incident.number, column.state == WAITING).order_by(column.id)
    ).all()
    for contact in region.contacts:
        mine = [row for row in rows if row.contact == contact.id]
        if mine:
            facts = facts_of(region, incident, from_text(mine[0].facts).kind, now_s)
            _set(connection, [mine[-1].id], kind=mine[0].kind, facts=to_text(facts), state=QUEUED, due_s=contact.awake_s(now_s))
            _set(connection, (row.id for row in mine[:-1]), state=FOLDED)


def told_s(connection: sa.Connection, incident: int) -> int:
    """When the last of those who wait for a digest hears, or has heard, of an incident; 0 where none does."""
    found: int | None = connection.execute(_TOLD_S, {"incident": incident}).scalar_one()
    return found or 0


def _put(connection: sa.Connection, whom: dict[str, object], facts: str, now_s: int, due_s: int) -> None:
    what = {"incident": NO_INCIDENT, "kind": DIGEST, "facts": facts, "state": QUEUED, "attempts": 0}
    connection.execute(sa.insert(tables.notice).values(**what, **whom, made_s=now_s, due_s=due_s))


def _under_way(connection: sa.Connection, contact: str, numbers: list[int]) -> bool:
    """Is something of these incidents on its way to the contact? Its end must not be told first."""
    column = tables.notice.c
    wanted = sa.select(column.id).where(column.contact == contact, column.incident.in_(numbers), column.state.in_(UNSETTLED))
    return connection.execute(wanted.limit(1)).first() is not None


def _kind(row: sa.Row[Any]) -> str:
    if row.closed_s is not None:
        return "closed"
    return "unstable" if row.unstable else "opened"


def _set(connection: sa.Connection, numbers: Iterable[int], **values: object) -> None:
    connection.execute(sa.update(tables.notice).where(tables.notice.c.id.in_(list(numbers))).values(**values))
