"""Tables of what was said: intervals, every change of them, the account of each day, and what people did."""

from typing import Any, Final

import sqlalchemy as sa

from kerege_collector.schema import METADATA, NUMBER, TEXT


def _text(name: str, *, key: bool = False, null: bool = False) -> sa.Column[str]:
    return sa.Column(name, TEXT, primary_key=key, nullable=null)


def _whole(name: str, *, key: bool = False, null: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, primary_key=key, nullable=null, autoincrement=False)


def _numbered(name: str, *columns: Any) -> sa.Table:
    return sa.Table(name, METADATA, sa.Column("id", NUMBER, primary_key=True), *columns, sqlite_autoincrement=True)


interval: Final = sa.Table(
    "interval",
    METADATA,
    _text("center", key=True),
    _whole("start_s", key=True),
    _whole("end_s"),
    _text("state"),
    _text("cause", null=True),
    _text("rule"),
    _whole("said_s"),
    sqlite_with_rowid=False,
)
"""The verdicts of now: `timeline.Interval`; of one center gapless and disjoint. said_s: since when we say so."""

revision: Final = _numbered(
    "revision",
    _text("center"),
    _whole("start_s"),
    _whole("end_s"),
    _whole("said_s"),
    _text("why"),
    _text("before"),
    _text("after"),
    sa.Index("revision_by_time", "center", "start_s"),
)
"""What we had said of a span, what we say since ``said_s``, and which evidence made us change it. before, after: JSON intervals."""

rollup: Final = sa.Table("rollup", METADATA, _text("center", key=True), _text("day", key=True), _text("seconds"), sqlite_with_rowid=False)
"""Of a local date the seconds by state and cause, inside and outside opening hours: `rollup.Day` as JSON."""

points_due: Final = _numbered("points_due", _text("center"), _whole("start_s"), _whole("end_s"))
"""Spans whose ``state`` points in the store must be written again."""

known: Final = sa.Table("known", METADATA, _text("center", key=True), _whole("since_s"), sqlite_with_rowid=False)
"""When the collector first met a center in the registry or on the wire: its timeline begins there."""

judged_by: Final = sa.Table(
    "judged_by",
    METADATA,
    _text("center", key=True),
    _whole("since_s", key=True),
    _text("settings"),
    _whole("heartbeat_s"),
    sqlite_with_rowid=False,
)
"""By which settings a center is judged since when; the first since 0. settings: a digest of those that the past is judged by too.
heartbeat_s: holds for its own time only, as ticks came as often as they did.
"""

correction: Final = _numbered(
    "correction",
    _text("center"),
    _whole("start_s"),
    _whole("end_s"),
    _text("state"),
    _text("cause", null=True),
    _text("who"),
    _whole("said_s"),
)
"""What a person knew better."""

audit: Final = _numbered("audit", _whole("time_s"), _text("who"), _text("action"), _text("what"))
"""Every human action. what: JSON."""

incident: Final = sa.Table(
    "incident",
    METADATA,
    sa.Column("id", NUMBER, primary_key=True, autoincrement=False),
    _text("scope"),
    _text("name"),
    _text("kind"),
    _text("cause", null=True),
    _text("centers"),
    _whole("since_s"),
    _whole("opened_s"),
    _whole("calm_s", null=True),
    sa.Column("unstable", sa.Boolean, nullable=False),
    _whole("closed_s", null=True),
    _text("acknowledged_by", null=True),
    _whole("snoozed_until_s", null=True),
    _text("reason", null=True),
    sa.Index("incident_by_time", "closed_s", "opened_s"),
)
"""`incident.Incident`, and what people did with it. centers: JSON, id → out since; reason: what a person found to be the cause."""

incident_event: Final = _numbered(
    "incident_event", _whole("incident"), _whole("time_s"), _text("what"), _text("centers"), sa.Index("event_by_incident", "incident")
)
"""What happened to an incident, and which centers it had then."""

maintenance: Final = _numbered("maintenance", _text("scope"), _text("name"), _whole("start_s"), _whole("end_s"), _text("who"), _text("why"))
"""Planned work at a center, or all centers of a satellite, provider or district: no incidents meanwhile."""

notice: Final = _numbered(
    "notice",
    _whole("incident"),
    _text("contact"),
    _text("language"),
    _text("kind"),
    _whole("level"),
    _text("facts"),
    _text("state"),
    _whole("attempts"),
    _whole("made_s"),
    _whole("due_s"),
    _whole("tried_s", null=True),
    _whole("sent_s", null=True),
    _text("error", null=True),
    sa.Index("notice_by_due", "state", "due_s"),
    sa.Index("notice_by_incident", "incident"),
)
"""One message to one contact (`outbox`). facts: `notice_text.Facts` as JSON; incident: 0 for a digest; state: as in `digest`."""

notice_taken: Final = sa.Table(
    "notice_taken", METADATA, _whole("notice", key=True), _text("address", key=True), _whole("taken_s"), sqlite_with_rowid=False
)
"""Which addresses of its contact have taken a notice: `sender.address_key`, as the address itself is a secret."""
