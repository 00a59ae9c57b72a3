"""Each row of the table of precedence in docs/verdicts.md, and the properties that hold whatever the evidence is."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerege_collector.timeline import (
    AGENT,
    DOWN,
    OFF,
    POWER,
    SHUTDOWN,
    UNKNOWN,
    UP,
    Bad,
    Correction,
    Evidence,
    Goodbye,
    Interval,
    Run,
    Standing,
    Start,
    intervals,
    seconds,
)

HOUR = 3600
DOC = Path(__file__).parents[2] / "docs" / "verdicts.md"


def run(
    epoch: str,
    seqs: tuple[int, int],
    times: tuple[int, int],
    state: str | None = UP,
    cause: str | None = None,
    *,
    clock: str = "synced",
    alive_s: int | None = None,
) -> Run:
    return Run(epoch, *seqs, *times, times[1] if alive_s is None else alive_s, state, cause, clock, None)


def host(
    epoch: str, time_s: int, stop: str | None, last_s: int, before: str, *, cause: str | None = "host", why: str | None = None
) -> Start:
    return Start(epoch, time_s, cause, stop, why, last_s, before, 40)


def told(found: Sequence[Interval]) -> list[tuple[int, int, str, str | None, str]]:
    return [tuple(each) for each in found]  # type: ignore[misc]


BEFORE = run("A", (1, 60), (0, 3600))
AFTER = run("B", (2, 60), (10_000, 13_600))
ROWS: dict[str, tuple[Evidence, list[tuple[int, int, str, str | None, str]]]] = {
    "tick": (
        Evidence([run("A", (1, 10), (0, 600)), run("A", (11, 20), (660, 1200), DOWN, "provider"), run("A", (21, 30), (1260, 14_000))]),
        [(0, 660, UP, None, "tick"), (660, 1260, DOWN, "provider", "tick"), (1260, 14_000, UP, None, "tick")],
    ),
    "tick: a change that nobody saw lies at most a heartbeat after the last that said otherwise": (
        Evidence([run("A", (1, 10), (0, 600)), run("A", (11, 20), (740, 14_000), DOWN, "lan")]),
        [(0, 660, UP, None, "tick"), (660, 14_000, DOWN, "lan", "tick")],
    ),
    "tick: a synced time before an estimated one": (
        Evidence([run("A", (1, 60), (0, 7200)), run("B", (1, 60), (6000, 14_000), DOWN, "dns", clock="estimated")]),
        [(0, 7230, UP, None, "tick"), (7230, 14_000, DOWN, "dns", "tick")],
    ),
    "tick: who reached the Internet is right": (
        Evidence([run("A", (1, 60), (0, 14_000), DOWN, "lan"), run("B", (1, 60), (3000, 6000))]),
        [(0, 2970, DOWN, "lan", "tick"), (2970, 6030, UP, None, "tick"), (6030, 14_000, DOWN, "lan", "tick")],
    ),
    "boot-unclean: a power cut": (
        Evidence([BEFORE, AFTER], [host("B", 9990, "unclean", 3600, "A")]),
        [(0, 3630, UP, None, "tick"), (3630, 9950, OFF, POWER, "boot-unclean"), (9950, 13_630, UP, None, "tick")],
    ),
    "boot-clean: a shutdown, from the goodbye on where there was one": (
        Evidence([BEFORE, AFTER], [host("B", 9990, "clean", 3600, "A")], [Goodbye("A", 3650, "shutdown")]),
        [
            (0, 3630, UP, None, "tick"),
            (3630, 3650, UNKNOWN, None, "silence"),
            (3650, 9950, OFF, SHUTDOWN, "boot-clean"),
            (9950, 13_630, UP, None, "tick"),
        ],
    ),
    "boot-agent: only the agent had died": (
        Evidence([BEFORE, AFTER], [host("B", 9990, "unclean", 3600, "A", cause="agent")]),
        [
            (0, 3630, UP, None, "tick"),
            (3630, 9990, OFF, AGENT, "boot-agent"),
            (9990, 13_630, UP, None, "tick"),
        ],
    ),
    "boot-without-cause: unclean, and nobody knows whether the host had started": (
        Evidence([BEFORE, AFTER], [host("B", 9990, "unclean", 3600, "A", cause=None)]),
        [(0, 3630, UP, None, "tick"), (3630, 9990, UNKNOWN, None, "boot-without-cause"), (9990, 13_630, UP, None, "tick")],
    ),
    "boot-without-memory: the spool had forgotten the run before": (
        Evidence([BEFORE, AFTER], [Start("B", 9990, "host", None, None, 3600, "A", 40)]),
        [(0, 3630, UP, None, "tick"), (3630, 9950, UNKNOWN, None, "boot-without-memory"), (9950, 13_630, UP, None, "tick")],
    ),
    "boot: two of them inside one silence": (
        Evidence([BEFORE, AFTER], [host("M", 6000, "unclean", 3600, "A"), host("B", 9990, "clean", 6100, "M")]),
        [
            (0, 3630, UP, None, "tick"),
            (3630, 5960, OFF, POWER, "boot-unclean"),
            (5960, 6130, UNKNOWN, None, "silence"),
            (6130, 9950, OFF, SHUTDOWN, "boot-clean"),
            (9950, 13_630, UP, None, "tick"),
        ],
    ),
    "boot: the numbers before it that have not come yet are no power cut": (
        Evidence([BEFORE, AFTER], [host("B", 9990, "unclean", 8000, "A")]),
        [
            (0, 3630, UP, None, "tick"),
            (3630, 8030, UNKNOWN, None, "silence"),
            (8030, 9950, OFF, POWER, "boot-unclean"),
            (9950, 13_630, UP, None, "tick"),
        ],
    ),
    "asleep: no number is missing, and time has passed": (
        Evidence([BEFORE, run("A", (61, 99), (10_000, 13_600))]),
        [(0, 3630, UP, None, "tick"), (3630, 9970, OFF, SHUTDOWN, "asleep"), (9970, 13_630, UP, None, "tick")],
    ),
    "asleep: not while other records show that the machine ran": (
        Evidence([BEFORE, run("A", (61, 70), (3700, 9900), None), run("A", (71, 99), (10_000, 13_600))]),
        [(0, 3630, UP, None, "tick"), (3630, 9970, UNKNOWN, None, "silence"), (9970, 13_630, UP, None, "tick")],
    ),
    "goodbye: off until anything is heard again": (
        Evidence([BEFORE], (), [Goodbye("A", 3650, "shutdown")]),
        [(0, 3630, UP, None, "tick"), (3630, 3650, UNKNOWN, None, "silence"), (3650, 14_000, OFF, SHUTDOWN, "goodbye")],
    ),
    "goodbye: of an agent that was only stopped": (
        Evidence([BEFORE], (), [Goodbye("A", 3640, "upgrade")]),
        [(0, 3630, UP, None, "tick"), (3630, 3640, UNKNOWN, None, "silence"), (3640, 14_000, OFF, AGENT, "goodbye")],
    ),
    "standing: a library without a link is not connected": (
        Evidence([run("A", (1, 60), (10_000, 14_000))], standing=[Standing(0, 10_000)]),
        [(0, 9970, UNKNOWN, "not-connected", "standing"), (9970, 14_000, UP, None, "tick")],
    ),
    "missing: numbers between two runs have not come": (
        Evidence([BEFORE, run("A", (80, 99), (10_000, 13_600))]),
        [(0, 3630, UP, None, "tick"), (3630, 9970, UNKNOWN, None, "missing"), (9970, 13_630, UP, None, "tick")],
    ),
    "silence: nothing is known": (
        Evidence([BEFORE]),
        [(0, 3630, UP, None, "tick"), (3630, 14_000, UNKNOWN, None, "silence")],
    ),
    "quality: up, and the link was bad": (
        Evidence([run("A", (1, 200), (0, 14_000))], bad=[Bad(3000, "rtt", strong=True), Bad(9000, "loss", strong=False)]),
        [(0, 2850, UP, None, "tick"), (2850, 3150, "degraded", "rtt", "quality"), (3150, 14_000, UP, None, "tick")],
    ),
    "quality: two weak signs are one": (
        Evidence([run("A", (1, 200), (0, 14_000))], bad=[Bad(3000, "loss", strong=False), Bad(3300, "loss", strong=False)]),
        [(0, 2850, UP, None, "tick"), (2850, 3450, "degraded", "loss", "quality"), (3450, 14_000, UP, None, "tick")],
    ),
    "corrected: a person knew better, but not than a tick that was online": (
        Evidence([BEFORE], corrections=[Correction(3000, 9000, OFF, POWER)]),
        [(0, 3630, UP, None, "tick"), (3630, 9000, OFF, POWER, "corrected"), (9000, 14_000, UNKNOWN, None, "silence")],
    ),
}


def _trimmed(wanted: list[tuple[int, int, str, str | None, str]]) -> list[tuple[int, int, str, str | None, str]]:
    """The rows end at 14,000; what is not written out is silence."""
    if wanted[-1][1] < 14_000:
        return [*wanted, (wanted[-1][1], 14_000, UNKNOWN, None, "silence")]
    return wanted


@pytest.mark.parametrize("name", ROWS)
def test_each_row_of_the_table(name: str) -> None:
    evidence, wanted = ROWS[name]
    assert told(intervals(evidence, 0, 14_000)) == _trimmed(wanted)


def test_the_document_has_each_rule_in_its_place() -> None:
    """docs/verdicts.md names every rule, in the order of precedence."""
    text = DOC.read_text()
    table = [line.split("|")[1].strip(" `") for line in text.splitlines() if line.startswith("| `")]
    assert table == [
        "corrected", "quality", "tick", "boot-agent", "boot-clean", "boot-unclean", "boot-without-cause", "boot-without-memory",
        "asleep", "goodbye", "standing", "missing", "silence",
    ]  # fmt: skip


# --- properties ---------------------------------------------------------------------------------------------------------

END = 6 * HOUR
STATES = [(UP, None), (DOWN, "provider"), (DOWN, "dns"), (UNKNOWN, None), (None, None)]


@st.composite
def epochs(draw: st.DrawFn) -> list[Run]:
    """Runs of some epochs, with holes, sleeps, silences and bad clocks."""
    found = []
    for epoch in draw(st.lists(st.sampled_from("ABCD"), min_size=1, max_size=3, unique=True)):
        seq, time_s = 1, draw(st.integers(0, END // 2))
        clock = draw(st.sampled_from(["synced", "synced", "estimated", "unsynced"]))
        for _ in range(draw(st.integers(1, 6))):
            count, step_s = draw(st.integers(1, 20)), draw(st.integers(50, 70))
            state, cause = draw(st.sampled_from(STATES))
            last_s = time_s + (count - 1) * step_s
            found.append(Run(epoch, seq, seq + count - 1, time_s, last_s, last_s, state, cause, clock, None))
            seq += count + draw(st.sampled_from([0, 0, 0, 3]))
            time_s = last_s + draw(st.sampled_from([60, 61, 140, 151, 400, 4000]))
    return found


starts = st.lists(
    st.builds(
        Start,
        epoch=st.sampled_from("ABCD"),
        time_s=st.integers(0, END),
        cause=st.sampled_from(["host", "agent", None]),
        stop=st.sampled_from(["clean", "unclean", "first", None]),
        why=st.none(),
        last_alive_s=st.none() | st.integers(0, END),
        previous_epoch=st.none() | st.sampled_from("ABCD"),
        uptime_s=st.none() | st.integers(0, 600),
    ),
    max_size=3,
)
goodbyes = st.lists(
    st.builds(Goodbye, epoch=st.sampled_from("ABCD"), time_s=st.integers(0, END), why=st.sampled_from(["shutdown", "stop", None])),
    max_size=2,
)
bad = st.lists(st.builds(Bad, time_s=st.integers(0, END), why=st.sampled_from(["rtt", "loss"]), strong=st.booleans()), max_size=5)


@given(epochs(), starts, goodbyes, bad)
def test_intervals_are_gapless_disjoint_and_add_up(runs: list[Run], boots: list[Start], byes: list[Goodbye], signs: list[Bad]) -> None:
    found = intervals(Evidence(runs, boots, byes, signs), 0, END)
    assert found[0].start_s == 0
    assert found[-1].end_s == END
    assert all(one.end_s == other.start_s for one, other in pairwise(found))
    assert all(each.start_s < each.end_s for each in found)
    assert sum(seconds(found).values()) == END


@given(epochs(), starts, goodbyes, bad, st.randoms())
def test_the_order_of_arrival_changes_nothing(
    runs: list[Run], boots: list[Start], byes: list[Goodbye], signs: list[Bad], chance: object
) -> None:
    wanted = intervals(Evidence(runs, boots, byes, signs), 0, END)
    for shuffled in (runs, boots, byes, signs):
        chance.shuffle(shuffled)  # type: ignore[attr-defined]
    assert intervals(Evidence(runs, boots, byes, signs), 0, END) == wanted


@given(st.builds(Evidence, epochs(), starts, goodbyes, bad), st.integers(0, END), st.integers(1, END))
def test_a_window_shows_what_the_whole_shows(known: Evidence, start_s: int, length_s: int) -> None:
    """A verdict on a second does not depend on the window that was asked for."""
    end_s = min(start_s + length_s, END)
    if start_s >= end_s:
        return
    whole = [
        each._replace(start_s=max(each.start_s, start_s), end_s=min(each.end_s, end_s))
        for each in intervals(known, 0, END)
        if each.start_s < end_s and each.end_s > start_s
    ]
    assert intervals(known, start_s, end_s) == whole


@given(epochs(), st.integers(200, END - 200))
def test_a_tick_moves_only_seconds_between_its_neighbours(runs: list[Run], time_s: int) -> None:
    """Adding a tick changes nothing beyond the evidence next to it on either side, and what that spoke for."""
    tick = Run("Z", 1, 1, time_s, time_s, time_s, DOWN, "lan", "synced", None)
    before, after = intervals(Evidence(runs), 0, END), intervals(Evidence([*runs, tick]), 0, END)
    moments = sorted({moment for each in (*before, *after) for moment in each[:2]})

    def at(found: list[Interval], moment: int) -> Interval:
        return next(each for each in found if each.start_s <= moment < each.end_s)

    for moment in moments[:-1]:
        if at(before, moment)[2:] != at(after, moment)[2:]:
            assert time_s - 60 <= moment <= time_s + 60
