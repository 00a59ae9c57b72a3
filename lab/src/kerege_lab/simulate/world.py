"""What happens in the simulated region: who has which link, and what is on, broken or bad when. Pure: a seed makes one world.

Place       a library as the registry has it
Script      what happens to one library: its machine's sessions, and what goes wrong in them
World       all of them, and the times when the broker or the collector is away
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from kerege_collector.hours import Calendar

BEGIN_S: Final = 1_788_836_400
"""2026-09-08, a Tuesday, 08:00 in UTC+5: the first day, before anybody has opened."""

DAY_S: Final = 86_400
AFTERMATH_S: Final = 3 * 3600
"""How long the world goes on after its last judged second, so that machines start and late records come."""

ZONE: Final = "Asia/Almaty"
ORBIT, CABLE, MOBILE = "Orbit", "Cable", "Mobile"
SATELLITE: Final = "Sat-1"
DISTRICTS: Final = ("Altai", "Kurshim", "Samar", "Ulan", "Zaisan")

NINE_TO_SIX: Final = "library"
WITH_LUNCH: Final = "with-lunch"
EVENINGS: Final = "evenings"
HOURS: Final = {NINE_TO_SIX: ["09:00-18:00"], WITH_LUNCH: ["09:00-13:00", "14:00-18:00"], EVENINGS: ["09:00-20:00"]}
"""Monday to Saturday."""

CAUSES: Final = ("lan", "terminal", "provider", "dns", "portal")
WEIGHTS: Final = (3, 4, 4, 2, 1)

OUTAGE, FADE, CUT, FLICKER, CRASH, UPGRADE, NAP, LATE, ABSENT = 0.12, 0.15, 0.05, 0.01, 0.03, 0.02, 0.03, 0.1, 0.01
"""On how many of its days such a thing happens to a library."""


class Span(NamedTuple):
    """In [start_s, end_s) this was so; what: the cause of an outage, of a bad link, or how an agent ended."""

    start_s: int
    end_s: int
    what: str

    def holds(self, time_s: float) -> bool:
        return self.start_s <= time_s < self.end_s


@dataclass(frozen=True, slots=True)
class Place:
    """A library as the registry has it. connected: has it a link at all? dead_clock: its PC forgets the time when it is off."""

    id: str
    district: str
    provider: str
    link: str
    hours: str
    connected: bool = True
    dead_clock: bool = False
    slow_backlog: bool = False

    @property
    def satellite(self) -> str | None:
        return SATELLITE if self.provider == ORBIT else None


@dataclass(slots=True)
class Script:
    """What happens to one library.

    sessions: of the machine; what: how each ends, ``shutdown`` or ``power``. naps: the machine sleeps. stops: the agent alone does not run;
    what: ``crash`` or ``upgrade``. outages: what: whose matter it is. fades: a bad link; what: ``rtt`` or ``loss``.
    """

    sessions: list[Span] = field(default_factory=list)
    naps: list[Span] = field(default_factory=list)
    stops: list[Span] = field(default_factory=list)
    outages: list[Span] = field(default_factory=list)
    fades: list[Span] = field(default_factory=list)


class Common(NamedTuple):
    """Something that hits many at once, and should be told once."""

    start_s: int
    end_s: int
    scope: str
    name: str
    centers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class World:
    """places and scripts by id. broker_away, collector_away: nobody is heard then, and that is nobody's fault but ours.

    maintenance: announced work at one library; what: its id.
    """

    seed: int
    days: int
    places: dict[str, Place]
    scripts: dict[str, Script]
    calendars: dict[str, Calendar]
    commons: tuple[Common, ...]
    broker_away: Span
    collector_away: Span
    maintenance: Span

    @property
    def end_s(self) -> int:
        """The end of what is judged."""
        return BEGIN_S + self.days * DAY_S

    @property
    def last_s(self) -> int:
        """The end of the world."""
        return BEGIN_S + self.last_day * DAY_S + AFTERMATH_S

    @property
    def last_day(self) -> int:
        """The working day on which machines start once more."""
        return last_day(self.days)


def last_day(days: int) -> int:
    """The first working day after so many; the first day of all is a Tuesday, and on Sundays nobody works."""
    return days + 1 if (days + 1) % 7 == 6 else days


def make(centers: int, days: int, seed: int) -> World:
    """The world of this seed."""
    chance = random.Random(f"world {seed}")
    places = {place.id: place for place in _places(centers)}
    calendars = {place.id: _calendar(place) for place in places.values()}
    when = _Diary(chance, days)
    away, own = when.moment("broker", 20, 30), when.moment("collector", 30, 50)
    scripts = {name: Script() for name in places}
    commons = [
        _provider_outage(chance, scripts, places, when.moment("provider", 40, 90)),
        _provider_outage(chance, scripts, places, when.moment("provider again", 6, 12)),
    ]
    for number, name in enumerate([name for name in places if places[name].slow_backlog or places[name].dead_clock]):
        start_s = when.moment(f"long {number}", 1, 2).start_s
        scripts[name].outages.append(Span(start_s, start_s + (3 * DAY_S + 7 * 3600 if days > 7 else 5 * 3600), "terminal"))
    dark = when.moment("district", 60, 90)
    district = DISTRICTS[1]
    hit = tuple(name for name, place in places.items() if place.district == district and place.connected)
    commons.append(Common(dark.start_s, dark.end_s, "district", district, hit))
    planned = next(name for name, place in places.items() if place.provider == MOBILE)
    work = when.moment("maintenance", 45, 60)
    scripts[planned].outages.append(Span(work.start_s + 300, work.end_s - 300, "provider"))
    for name, place in places.items():
        if place.connected:
            _live(random.Random(f"{seed} {name}"), scripts[name], place, calendars[name], days)
    for name in hit:
        _darken(chance, scripts[name], dark)
    for script in scripts.values():
        end_s = BEGIN_S + days * DAY_S
        script.outages = [span._replace(end_s=min(span.end_s, end_s)) for span in script.outages if span.start_s < end_s]
        _settle(script)
    return World(seed, days, places, scripts, calendars, tuple(commons), away, own, work._replace(what=planned))


def _places(centers: int) -> Iterator[Place]:
    """Two thirds on one satellite, the others on cables and mobile networks; the last has no link."""
    orbit = centers * 2 // 3
    for number in range(centers):
        last = number == centers - 1
        provider = ORBIT if number < orbit else (MOBILE if number % 3 == 0 else CABLE)
        hours = (NINE_TO_SIX, NINE_TO_SIX, WITH_LUNCH, EVENINGS)[number % 4]
        link = {ORBIT: "geo", CABLE: "fiber", MOBILE: "cellular"}[provider]
        yield Place(
            f"library-{number + 1:02d}",
            DISTRICTS[number % len(DISTRICTS)],
            provider,
            link,
            hours,
            connected=not last,
            dead_clock=number == 7,
            slow_backlog=number == 2,
        )


def _calendar(place: Place) -> Calendar:
    spans = tuple((_minutes(text[:5]), _minutes(text[6:])) for text in HOURS[place.hours])
    return Calendar(ZoneInfo(ZONE), (*([spans] * 6), ()))


def _minutes(text: str) -> int:
    return int(text[:2]) * 60 + int(text[3:])


class _Diary:
    """Gives each great event a morning or afternoon of its own."""

    def __init__(self, chance: random.Random, days: int) -> None:
        halves = [(day, hour) for day in range(days) if (day + 1) % 7 != 6 for hour in (10, 15)]  # the world begins on a Tuesday
        self._left = chance.sample(halves, len(halves))
        self._chance = chance

    def moment(self, what: str, least_min: int, most_min: int) -> Span:
        """From some time after ten or three, for so many minutes."""
        day, hour = self._left.pop()
        start_s = BEGIN_S + day * DAY_S + (hour - 8) * 3600 + self._chance.randint(0, 1800)
        return Span(start_s, start_s + self._chance.randint(least_min, most_min) * 60, what)


def _provider_outage(chance: random.Random, scripts: dict[str, Script], places: dict[str, Place], span: Span) -> Common:
    hit = tuple(name for name, place in places.items() if place.provider == ORBIT)
    for name in hit:
        scripts[name].outages.append(Span(span.start_s + chance.randint(0, 20), span.end_s + chance.randint(0, 60), "provider"))
    return Common(span.start_s, span.end_s, "satellite", SATELLITE, hit)


def _darken(chance: random.Random, script: Script, dark: Span) -> None:
    """The power fails in a whole district: every session ends, and begins anew when it is back."""
    sessions = []
    for session in script.sessions:
        if session.end_s <= dark.start_s or session.start_s >= dark.end_s:
            sessions.append(session)
            continue
        if session.start_s < dark.start_s:
            sessions.append(Span(session.start_s, dark.start_s + chance.randint(0, 2), "power"))
        back_s = dark.end_s + chance.randint(30, 120)
        if session.end_s > back_s + 600:
            sessions.append(Span(back_s, session.end_s, session.what))
    script.sessions = sessions


def _live(chance: random.Random, script: Script, place: Place, calendar: Calendar, days: int) -> None:
    """All days of one library."""
    for day in range(last_day(days) + 1):
        midnight_s = BEGIN_S - 8 * 3600 + day * DAY_S
        opens = calendar.open_spans(midnight_s, midnight_s + DAY_S)
        if not opens or (0 < day < days and chance.random() < ABSENT):
            continue
        late = chance.random() < LATE and 0 < day < days
        on_s = opens[0][0] + (chance.randint(60, 1500) if late else -chance.randint(60, 600))
        off_s = opens[-1][1] + chance.randint(0, 900)
        for pause_s, again_s in [(first[1], second[0]) for first, second in pairwise(opens)]:
            script.naps.append(Span(pause_s + chance.randint(10, 120), again_s - chance.randint(20, 200), "lunch"))
        _work(chance, script, (on_s, off_s), quiet=day == 0 or day >= days)
        if day < days:
            _weather(chance, script, (on_s, off_s), place)


def _work(chance: random.Random, script: Script, day: tuple[int, int], *, quiet: bool) -> None:
    """A day of the machine. quiet: nothing happens to it."""
    on_s, off_s = day
    at_s = chance.randint(on_s + 1800, off_s - 4000)
    roll = 1.0 if quiet else chance.random()
    if roll < CUT:
        back_s = at_s + chance.randint(300, 3 * 3600)
        script.sessions.append(Span(on_s, at_s, "power"))
        if chance.random() < FLICKER / CUT:
            script.sessions.append(Span(back_s, back_s + chance.randint(40, 100), "power"))
            back_s += chance.randint(400, 1200)
        if back_s < off_s - 900:
            script.sessions.append(Span(back_s, off_s, "shutdown"))
        return
    script.sessions.append(Span(on_s, off_s, "shutdown"))
    if roll < CUT + CRASH:
        script.stops.append(Span(at_s, at_s + chance.randint(15, 600), "crash"))
    elif roll < CUT + CRASH + UPGRADE:
        script.stops.append(Span(at_s, at_s + chance.randint(10, 60), "upgrade"))
    elif roll < CUT + CRASH + UPGRADE + NAP:
        script.naps.append(Span(at_s, at_s + chance.randint(600, 2400), "nap"))


def _weather(chance: random.Random, script: Script, day: tuple[int, int], place: Place) -> None:
    """What happens to the link on a day."""
    on_s, off_s = day
    if chance.random() < OUTAGE:
        start_s = chance.randint(on_s + 600, off_s - 600)
        minutes = min(max(chance.lognormvariate(3.0, 1.0), 3.0), 300.0)
        script.outages.append(Span(start_s, start_s + int(minutes * 60), chance.choices(CAUSES, WEIGHTS)[0]))
    if place.provider == ORBIT and chance.random() < FADE:
        start_s = chance.randint(on_s + 600, off_s - 600)
        script.fades.append(Span(start_s, start_s + chance.randint(20, 120) * 60, chance.choice(("rtt", "loss"))))


def _settle(script: Script) -> None:
    """Put everything in order; of two outages that overlap, or follow each other at once, the earlier counted one stays."""
    script.sessions.sort()
    script.outages = _disjoint(script.outages, 300)
    script.fades = _disjoint(script.fades, 300)
    script.naps = [nap for nap in _disjoint(script.naps, 300) if _within(nap, script.sessions)]
    script.stops = [stop for stop in script.stops if _within(stop, script.sessions) and not _touches(stop, script.naps)]


def _disjoint(spans: Sequence[Span], apart_s: int) -> list[Span]:
    kept: list[Span] = []
    for span in spans:
        if all(span.end_s + apart_s <= other.start_s or other.end_s + apart_s <= span.start_s for other in kept):
            kept.append(span)
    return sorted(kept)


def _within(span: Span, sessions: Sequence[Span]) -> bool:
    return any(session.start_s + 120 <= span.start_s and span.end_s <= session.end_s - 120 for session in sessions)


def _touches(span: Span, others: Sequence[Span]) -> bool:
    return any(span.start_s < other.end_s + 120 and other.start_s < span.end_s + 120 for other in others)
