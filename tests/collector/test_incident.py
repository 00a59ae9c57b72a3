"""Incidents as named timelines of what is seen: when they open, what they are called, and when they close."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import count

from kerege_collector.incident import (
    ABSENT,
    CHANGED,
    CLOSED,
    DOWN,
    MERGED,
    NOBODY,
    NOTED,
    OPENED,
    OWN,
    SILENT,
    UNSTABLE,
    Change,
    Incident,
    Rules,
    Seen,
    World,
    step,
)

RULES = Rules()
T = 1_000_000
STEP_S = 5


@dataclass
class Village:
    """Centers that report each minute unless they are told otherwise; `run` steps through time and gathers changes."""

    scopes: Mapping[str, Mapping[str, str]]
    now_s: int = T
    opened_s: int | None = T - 3600
    own: str = ""
    well_since_s: int = 0
    quiet: frozenset[str] = frozenset()
    mute: set[str] = field(default_factory=set)
    away: set[str] = field(default_factory=set)
    down: dict[str, str] = field(default_factory=dict)
    arrived: dict[str, int] = field(default_factory=dict)
    since: dict[str, tuple[str, int]] = field(default_factory=dict)
    incidents: dict[int, Incident] = field(default_factory=dict)
    openings: dict[str, list[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._numbers = count(1)
        for place, center in enumerate(self.scopes):
            self.arrived[center] = T - place * 7 % 60
            self.since[center] = "up", T - 3600

    def run(self, seconds: int) -> list[tuple[int, Change]]:
        found = []
        for _ in range(seconds // STEP_S):
            self.now_s += STEP_S
            for center in self.scopes:
                if center not in self.mute and self.now_s - self.arrived[center] >= 60:
                    silent = self.now_s - self.arrived[center] > 210
                    self.arrived[center] = self.now_s
                    self._say(center, DOWN if center in self.down else "up", anew=silent)
            for change in step(self._world(), list(self.incidents.values()), RULES, self._numbers):
                if change.what != NOTED:
                    found.append((self.now_s - T, change))
                self._keep(change)
        return found

    def _say(self, center: str, state: str, *, anew: bool) -> None:
        if anew or self.since[center][0] != state:
            self.since[center] = state, self.now_s

    def _keep(self, change: Change) -> None:
        if change.what == CLOSED and change.incident.kind == OWN:
            self.well_since_s = self.now_s  # as the clerk has it
        if change.incident.closed_s is None:
            self.incidents[change.incident.number] = change.incident
        else:
            del self.incidents[change.incident.number]
        if change.what in {OPENED, UNSTABLE}:
            for center in change.incident.centers:
                self.openings.setdefault(center, []).append(self.now_s)

    def _world(self) -> World:
        seen = [
            Seen(
                center,
                scopes,
                60,
                self.opened_s,
                self.since[center][0],
                self.down.get(center),
                self.since[center][1],
                self.arrived[center],
                center in self.away,
            )
            for center, scopes in self.scopes.items()
        ]
        return World(self.now_s, seen, self.own, self.well_since_s, self.quiet, self.openings)


def village(centers: int = 6, provider: str = "p{}") -> Village:
    """Each center has a provider of its own, unless ``provider`` has no number in it."""
    return Village({f"c{n}": {"provider": provider.format(n), "district": f"d{n}"} for n in range(centers)})


def morning() -> Village:
    """A village that opens now; in the evening all have said goodbye, and nobody has come yet."""
    here = village()
    here.away.update(here.scopes)
    here.mute.update(here.scopes)
    here.now_s += 50_000
    here.opened_s = here.now_s
    return here


def told(changes: Iterable[tuple[int, Change]]) -> list[tuple[str, tuple[str, str]]]:
    return [(change.what, change.incident.scope) for _, change in changes]


def test_nothing_happens_while_all_is_well() -> None:
    assert village().run(7200) == []


def test_a_cut_is_an_incident_within_ninety_seconds_and_over_when_it_has_been_back_for_minutes() -> None:
    here = village()
    here.mute.add("c2")
    changes = here.run(600)
    (at_s, opened), *more = changes
    assert (opened.what, opened.incident.scope, opened.incident.kind) == (OPENED, ("center", "c2"), SILENT)
    assert at_s <= 90
    assert more == []
    here.mute.clear()
    (_, closed), *more = here.run(600)
    assert (closed.what, more) == (CLOSED, [])
    assert closed.incident.closed_s is not None
    assert RULES.close_after_s <= closed.incident.closed_s - T - 600 <= RULES.close_after_s + 70


def test_live_ticks_that_say_offline_are_an_incident_with_their_cause() -> None:
    here = village()
    here.down["c1"] = "dns"
    ((at_s, opened),) = here.run(600)
    assert (opened.what, opened.incident.kind, opened.incident.cause) == (OPENED, DOWN, "dns")
    assert at_s <= 130


def test_a_late_heartbeat_and_a_goodbye_are_none() -> None:
    here = village()
    here.mute.add("c1")
    here.run(70)
    here.mute.clear()
    here.mute.add("c3")
    here.away.add("c3")
    assert here.run(3600) == []


def test_outside_opening_hours_nobody_is_told() -> None:
    here = village()
    here.opened_s = None
    here.mute.update({"c1", "c2"})
    assert here.run(7200) == []


def test_who_has_not_come_on_an_hour_after_opening_is_absent() -> None:
    here = village()
    here.opened_s = T
    here.mute.add("c1")
    here.away.add("c1")
    here.arrived["c1"] = T - 50_000
    ((at_s, opened),) = here.run(7200)
    assert (opened.what, opened.incident.kind) == (OPENED, ABSENT)
    assert at_s == 3600


def test_one_dead_satellite_is_one_incident_and_others_stay_their_own() -> None:
    scopes = {f"s{n}": {"satellite": "one", "provider": "sat", "district": f"d{n % 6}"} for n in range(30)}
    here = Village(scopes | {f"f{n}": {"provider": f"p{n}", "district": f"d{n % 6}"} for n in range(15)})
    here.mute.update(scopes)
    changes = here.run(300)
    assert changes[0][0] <= 90
    assert [change.what for _, change in changes].count(OPENED) == 1
    assert {change.incident.scope for _, change in changes} == {("satellite", "one")}
    assert len(next(iter(here.incidents.values())).centers) == 30
    here.mute.discard("s3")
    here.run(400)
    assert "s3" not in next(iter(here.incidents.values())).centers
    here.mute.clear()
    changes = here.run(400)
    assert changes[-1][1].what == CLOSED
    assert here.incidents == {}


def test_the_first_of_many_is_merged_with_the_others() -> None:
    """Its heartbeat was due just before the satellite failed; those of the others came just before, too."""
    scopes = {f"s{n}": {"satellite": "one", "provider": "sat"} for n in range(6)}
    here = Village(scopes | {f"f{n}": {"provider": f"p{n}"} for n in range(3)})
    here.arrived |= dict.fromkeys(scopes, T - 5)
    here.arrived["s0"] = T - 55
    here.mute.update(scopes)
    changes = here.run(120)
    assert told(changes) == [(OPENED, ("center", "s0")), (MERGED, ("center", "s0")), (OPENED, ("satellite", "one"))]
    ((_, common),) = here.incidents.items()
    assert set(common.centers) == set(scopes)
    here.mute.clear()
    assert told(here.run(400))[-1] == (CLOSED, ("satellite", "one"))


def test_three_power_cuts_over_a_day_are_not_one_cause() -> None:
    here = village(12, "same")
    for center in ("c1", "c5", "c9"):
        here.mute.add(center)
        here.run(3600)
    assert {incident.scope for incident in here.incidents.values()} == {("center", "c1"), ("center", "c5"), ("center", "c9")}


def test_when_nobody_at_all_is_heard_it_is_we_who_are_deaf() -> None:
    here = village()
    here.mute.update(here.scopes)
    changes = here.run(7200)
    assert told(changes) == [(OPENED, (OWN, ""))]
    assert changes[0][1].incident.cause == NOBODY


def test_after_we_were_deaf_the_others_have_time_to_be_heard_again() -> None:
    here = village()
    here.mute.update(here.scopes)
    here.run(3600)
    here.mute.discard("c1")
    assert told(here.run(120)) == [(CLOSED, (OWN, ""))]
    here.mute.clear()
    assert here.run(1200) == []


def test_where_nobody_is_heard_after_we_were_away_it_is_still_we() -> None:
    """The collector is back, after longer than anybody counts as lately heard; no agent knows it."""
    here = village()
    here.mute.update(here.scopes)
    here.now_s += 2400
    here.well_since_s = here.now_s
    assert told(here.run(3600)) == [(OPENED, (OWN, ""))]


def test_a_morning_on_which_nobody_at_all_is_heard_is_ours_or_a_day_off() -> None:
    here = morning()
    ((at_s, change),) = here.run(7200)
    assert (at_s, change.what, change.incident.cause) == (53_600, OPENED, NOBODY)


def test_one_that_was_heard_before_the_others_came_is_out_itself() -> None:
    """The first one in the morning loses its power before anybody else has come."""
    here = morning()
    here.arrived["c1"] = here.now_s
    here.away.discard("c1")
    assert told(here.run(600)) == [(OPENED, ("center", "c1"))]


def test_our_own_trouble_is_told_once_and_nothing_about_them() -> None:
    """Nor right after it: who has not been heard then needs time to come back."""
    here = village()
    here.own = "no connection to the broker"
    here.mute.update(here.scopes)
    assert told(here.run(1200)) == [(OPENED, (OWN, ""))]
    here.own, here.well_since_s = "", here.now_s
    here.run(60)
    here.mute.clear()
    assert [what for what, _ in told(here.run(1200))] == []
    assert here.incidents == {}


def test_maintenance_is_quiet() -> None:
    here = village()
    here.quiet = frozenset({"c1"})
    here.mute.add("c1")
    assert here.run(3600) == []


def test_a_flapping_link_is_called_unstable_and_closes_only_after_a_long_calm() -> None:
    here = village()
    kinds = []
    for _ in range(6):
        here.mute.add("c1")
        kinds += [what for what, _ in told(here.run(240))]
        here.mute.clear()
        kinds += [what for what, _ in told(here.run(400))]
    assert kinds.count(UNSTABLE) == 1
    assert kinds.count(OPENED) == 3
    assert kinds.count(CLOSED) == 3
    assert [what for what, _ in told(here.run(2400))] == [CLOSED]


def test_what_an_incident_is_can_become_clearer() -> None:
    """First nothing is heard; then ticks come that name the cause."""
    here = village()
    here.mute.add("c1")
    here.run(300)
    here.mute.clear()
    here.down["c1"] = "portal"
    changes = here.run(300)
    assert told(changes) == [(CHANGED, ("center", "c1"))]
    assert (changes[0][1].incident.kind, changes[0][1].incident.cause) == (DOWN, "portal")
