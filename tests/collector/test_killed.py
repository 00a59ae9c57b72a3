"""kill -9 in every step from the evidence to a notice that somebody has: nothing is lost, and nothing is told twice without saying so."""

import multiprocessing
import signal
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest
import sqlalchemy as sa

from kerege_collector import evidence, verdicts
from kerege_collector import verdict_tables as tables
from kerege_collector.ledger import Ledger
from kerege_lab import hook as hooks
from kerege_lab.hook import Hook
from tests.collector.killed_collector import CENTERS, MINUTES, MUTE, SILENT, STEPS, T, live
from tests.places import Place

MAY_REPEAT: Final = "You may have received this message before"

TWICE: Final = {"handed-over-and-not-noted": [False, True, False], "end-handed-over-and-not-noted": [False, False, True]}
"""Whoever dies between a delivery and the note of it cannot know: it is told again, and says so."""

DOUBTFUL: Final = {"marked-as-being-sent": [True, False]}
"""Whoever dies before a delivery that it has announced cannot know either: it is told once, and says so."""


class Wreck(NamedTuple):
    """What is durable at the moment of the kill. waiting: centers whose evidence is not judged; due: those with points to be written."""

    waiting: str = ""
    due: str = ""
    revisions: int = 0
    incident: str = ""
    notices: tuple[str, ...] = ()
    told: int = 0


ALL: Final = " ".join(CENTERS)

WRECKS: Final = {
    "before-the-judge": Wreck(waiting=ALL),
    "verdicts-not-committed": Wreck(waiting="bb cc dd", due="aa"),
    "points-not-yet-due": Wreck(waiting="bb cc dd", due="aa"),
    "day-not-accounted-for": Wreck(waiting="bb cc dd", due="aa"),
    "between-two-centers": Wreck(waiting="cc dd", due="aa bb"),
    "before-the-points": Wreck(due=ALL),
    "before-the-backlog-is-judged": Wreck(waiting=ALL, incident="open", notices=("sent",), told=1),
    "revision-not-committed": Wreck(waiting="bb cc dd", due="aa", incident="open", notices=("sent",), told=1),
    "revised-and-not-in-the-points": Wreck(due=ALL, revisions=1, incident="open", notices=("sent",), told=1),
    "half-of-the-points-written": Wreck(due=ALL, revisions=1, incident="open", notices=("sent",), told=1),
    "points-written-and-still-due": Wreck(due=ALL, revisions=1, incident="open", notices=("sent",), told=1),
    "incident-without-its-notice": Wreck(),
    "notice-not-begun": Wreck(),
    "incident-not-committed": Wreck(),
    "incident-committed": Wreck(incident="open", notices=("queued",)),
    "before-the-sending": Wreck(incident="open", notices=("queued",)),
    "marked-as-being-sent": Wreck(incident="open", notices=("sending",)),
    "handed-over-and-not-noted": Wreck(incident="open", notices=("sending",), told=1),
    "taken-and-not-sent": Wreck(incident="open", notices=("sending",), told=1),
    "sent": Wreck(incident="open", notices=("sent",), told=1),
    "end-without-its-notice": Wreck(revisions=1, incident="open", notices=("sent",), told=1),
    "end-handed-over-and-not-noted": Wreck(revisions=1, incident="closed", notices=("sent", "sending"), told=2),
}
"""Step → what it leaves: it has died where its name says, and a transaction that was under way has left nothing."""

REVISED_POINTS: Final = {"half-of-the-points-written": 2, "points-written-and-still-due": len(SILENT)}
"""How many of the revised points are in the store at the moment of the kill, of the steps in which they are being written."""


@dataclass(frozen=True, slots=True)
class Life:
    """What a collector leaves. incidents: scope, name, kind, since, is it over; events: incident, time, what, in order.

    notices: kind and state, in order; points: of the store.
    """

    intervals: dict[str, list[tuple[int, int, str, str | None]]]
    revisions: list[verdicts.Revision]
    incidents: list[tuple[str, str, str, int, bool]]
    events: list[tuple[int, int, str]]
    notices: list[tuple[str, str]]
    points: set[tuple[Any, ...]]
    points_due: int


def prepare(place: Place, hook: Hook) -> tuple[Path, Path]:
    """A collector's settings, and where it keeps its progress."""
    (place.directory / "desk.urls").write_text(hook.url() + "\n")
    (place.directory / "desk.urls").chmod(0o600)
    centers = "".join(f'[[center]]\nid = "{name}"\nlink = {{ kind = "geo", provider = "p-{name}" }}\n' for name in CENTERS)
    settings = place.settings_file(
        f'zone = "Asia/Almaty"\n[[contact]]\nid = "desk"\nlanguage = "en"\naddresses_file = "desk.urls"\n{centers}'
    )
    return settings, place.directory / "progress"


def run(step: str, where: tuple[Path, Path]) -> int | None:
    """A process that lives until this step; its exit status. Forked off one that has all modules: starting afresh takes seconds."""
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["apprise", "tests.collector.killed_collector"])
    process = processes.Process(target=live, args=(step, *where))
    process.start()
    process.join(120)
    return process.exitcode


def left(place: Place) -> Life:
    ledger = Ledger(place.open())
    incident, event, notice = tables.incident, tables.incident_event, tables.notice
    with ledger.transaction() as connection:
        found = {center: verdicts.read(connection, center, T, T + MINUTES * 60) for center in CENTERS}
        revisions = verdicts.revisions(connection, MUTE, T, T + MINUTES * 60)
        incidents = connection.execute(sa.select(incident).order_by(incident.c.id)).all()
        events = connection.execute(sa.select(event).order_by(event.c.id)).all()
        notices = connection.execute(sa.select(notice).order_by(notice.c.id)).all()
        due = len(connection.execute(sa.select(tables.points_due)).all())
    ledger.close()
    return Life(
        {center: [(each.start_s, each.end_s, each.state, each.cause) for each in intervals] for center, intervals in found.items()},
        revisions,
        [(row.scope, row.name, row.kind, row.since_s, row.closed_s is not None) for row in incidents],
        [(row.incident, row.time_s, row.what) for row in events],
        [(row.kind, row.state) for row in notices],
        points(place),
        due,
    )


def points(place: Place) -> set[tuple[Any, ...]]:
    with closing(sqlite3.connect(place.directory / "records.db")) as records:
        return set(records.execute("SELECT center, time, state_text, cause_text FROM states").fetchall())


def wreck(place: Place, hook: Hook) -> Wreck:
    ledger = Ledger(place.open())
    with ledger.transaction() as connection:
        waiting = evidence.dirty(connection)
        due = set(connection.execute(sa.select(tables.points_due.c.center)).scalars())
        revisions = len(connection.execute(sa.select(tables.revision.c.id)).all())
        incidents = [
            "open" if closed_s is None else "closed" for closed_s in connection.execute(sa.select(tables.incident.c.closed_s)).scalars()
        ]
        notices = tuple(connection.execute(sa.select(tables.notice.c.state).order_by(tables.notice.c.id)).scalars())
    ledger.close()
    return Wreck(" ".join(sorted(waiting)), " ".join(sorted(due)), revisions, " ".join(incidents), notices, len(hook.bodies))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Life:
    place = Place(tmp_path_factory.mktemp("undisturbed"))
    with hooks.hook() as hook:
        assert run("none", prepare(place, hook)) == 0
        assert [MAY_REPEAT in body["message"] for body in hook.bodies] == [False, False]
    life = left(place)
    for intervals in life.intervals.values():
        assert (intervals[0][0], intervals[-1][1]) == (T, T + (MINUTES - 1) * 60)
        assert all(before[1] == after[0] for before, after in pairwise(intervals))
    assert [(each.state, each.cause) for revision in life.revisions for each in revision.after] == [("up", None), ("down", "provider")]
    assert life.incidents == [("center", "bb", "silent", T + 300, True)]
    assert [what for _, _, what in life.events] == ["opened", "closed"]
    assert life.notices == [("opened", "sent"), ("closed", "sent")]
    assert (len(life.points), life.points_due) == (len(CENTERS) * MINUTES, 0)
    assert {(time - T) // 60 for _, time, state, _ in life.points if state == "down"} == set(SILENT)
    return life


@pytest.mark.parametrize("step", [step for step in STEPS if step != "none"])
def test_killed_there_it_goes_on_as_if_nothing_had_been(place: Place, hook: Hook, undisturbed: Life, step: str) -> None:
    where = prepare(place, hook)
    assert run(step, where) == -signal.SIGKILL
    assert wreck(place, hook) == WRECKS[step]
    if step in REVISED_POINTS:
        assert len([state for _, _, state, _ in points(place) if state == "down"]) == REVISED_POINTS[step]
    assert run("none", where) == 0
    assert left(place) == undisturbed
    assert [MAY_REPEAT in body["message"] for body in hook.bodies] == (TWICE | DOUBTFUL).get(step, [False, False])
