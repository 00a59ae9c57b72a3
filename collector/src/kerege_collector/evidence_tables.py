"""Tables of the evidence that verdicts are made of: what ticks, boots, goodbyes and pings said, small enough to be kept for years."""

from typing import Any, Final

import sqlalchemy as sa

from kerege_collector.schema import METADATA, TEXT


def _table(name: str, *columns: Any) -> sa.Table:
    return sa.Table(name, METADATA, *columns, sqlite_with_rowid=False)


def _text(name: str, *, key: bool = False, null: bool = False) -> sa.Column[str]:
    return sa.Column(name, TEXT, primary_key=key, nullable=null)


def _whole(name: str, *, key: bool = False, null: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, primary_key=key, nullable=null, autoincrement=False)


run: Final = _table(
    "run",
    _text("center", key=True),
    _text("epoch", key=True),
    _whole("first_seq", key=True),
    _whole("last_seq"),
    _whole("first_s"),
    _whole("last_s"),
    _whole("alive_s"),
    _text("state", null=True),
    _text("cause", null=True),
    _text("clock"),
    _whole("within_s", null=True),
    sa.Index("run_by_time", "center", "first_s"),
    sa.Index("run_by_end", "center", "alive_s"),
)
"""`timeline.Run`."""

start: Final = _table(
    "start",
    _text("center", key=True),
    _text("epoch", key=True),
    _whole("time_s"),
    _text("cause", null=True),
    _text("stop", null=True),
    _text("why", null=True),
    _whole("last_alive_s", null=True),
    _text("previous_epoch", null=True),
    _whole("uptime_s", null=True),
    sa.Index("start_by_time", "center", "time_s"),
)
"""`timeline.Start`."""

goodbye: Final = _table(
    "goodbye", _text("center", key=True), _text("epoch", key=True), _whole("birth", key=True), _whole("time_s"), _text("why", null=True)
)
"""`timeline.Goodbye`."""

bad: Final = _table(
    "bad",
    _text("center", key=True),
    _whole("time_s", key=True),
    _text("target", key=True),
    _text("why"),
    sa.Column("strong", sa.Boolean, nullable=False),
)
"""`timeline.Bad`."""

quality: Final = _table(
    "quality", _text("center", key=True), _text("day", key=True), sa.Column("open", sa.Boolean, primary_key=True), _text("sketch")
)
"""How the link was on a local date, inside and outside opening hours: `quality.Quality` as JSON."""

dirty: Final = _table("dirty", _text("center", key=True), _whole("start_s"), _whole("end_s"), _text("why"))
"""The span over which evidence has come that no verdict has seen yet."""
