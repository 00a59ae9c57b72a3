"""When a library is open: weeks, seasons, exceptions, holidays, and days on which the zone changes."""

from datetime import UTC, date, datetime
from itertools import pairwise
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerege_collector import centers
from kerege_collector.hours import Calendar
from kerege_collector.mistakes import SettingsError

ALMATY = ZoneInfo("Asia/Almaty")
REGISTRY = """
zone = "Asia/Almaty"
districts = ["Ұлан"]
[holidays]
more = [2026-11-30]
worked = [2026-12-16]
[hours.village]
mon-fri = ["09:00-13:00", "14:00-18:00"]
sat = ["10:00-15:00"]
on_holidays = ["10:00-12:00"]
seasons = [{ from = "06-01", to = "08-31", mon-sat = ["08:00-16:00"] }]
exceptions = [{ from = 2026-12-31, open = ["09:00-13:00"] }, { from = 2027-07-01, to = 2027-07-31, open = [], why = "repairs" }]
[[center]]
id = "demo"
district = "Ұлан"
hours = "village"
[[center]]
id = "router"
hours = "24h"
"""


@pytest.fixture
def village(tmp_path: Path) -> Calendar:
    (tmp_path / "centers.toml").write_text(REGISTRY)
    return centers.load_region(tmp_path / "centers.toml").calendar("demo")


def hours(calendar: Calendar, day: date) -> list[str]:
    spans = calendar.open_spans(*calendar.day_span(day))
    return ["-".join(datetime.fromtimestamp(moment, calendar.zone).strftime("%H:%M") for moment in span) for span in spans]


@pytest.mark.parametrize(
    ("day", "wanted"),
    [
        (date(2026, 11, 23), ["09:00-13:00", "14:00-18:00"]),  # a Monday
        (date(2026, 11, 28), ["10:00-15:00"]),
        (date(2026, 11, 29), []),
        (date(2026, 11, 30), ["10:00-12:00"]),  # the registry's own holiday
        (date(2026, 12, 16), ["09:00-13:00", "14:00-18:00"]),  # Independence Day, worked
        (date(2027, 3, 8), ["10:00-12:00"]),  # Women's Day, as `holidays` knows it
        (date(2026, 12, 31), ["09:00-13:00"]),
        (date(2026, 7, 4), ["08:00-16:00"]),
        (date(2027, 7, 15), []),
    ],
)
def test_what_decides_a_day(village: Calendar, day: date, wanted: list[str]) -> None:
    assert hours(village, day) == wanted


def test_at_a_moment(village: Calendar) -> None:
    opens = int(datetime(2026, 11, 23, 4, tzinfo=UTC).timestamp())
    assert [village.is_open(opens + shift) for shift in (-1, 0, 4 * 3600 - 1, 4 * 3600)] == [False, True, True, False]
    assert village.open_since(opens + 600) == opens
    assert village.open_since(opens - 1) is None


def test_local_hours_move_with_the_zone(village: Calendar) -> None:
    """Kazakhstan went from UTC+6 to UTC+5 on 2024-03-01: nine o'clock is an hour later since then, and that night had 25 hours."""
    before, after = (village.open_spans(*village.day_span(date(2024, month, day)))[0][0] for month, day in ((2, 29), (3, 1)))
    assert datetime.fromtimestamp(before, UTC).hour == 3
    assert datetime.fromtimestamp(after, UTC).hour == 4
    always = Calendar(ALMATY)
    first, last = always.day_span(date(2024, 2, 29))
    assert last - first == 25 * 3600
    assert always.open_spans(first, last + 86_400) == [(first, last + 86_400)]


@given(st.integers(1_700_000_000, 1_800_000_000), st.integers(1, 30 * 86_400))
def test_spans_are_in_order_disjoint_and_tell_what_each_moment_tells(start_s: int, length_s: int) -> None:
    week = tuple(((540, 780), (840, 1080)) for _ in range(6))
    calendar = Calendar(ALMATY, (*week, ((0, 1440),)))
    spans = calendar.open_spans(start_s, start_s + length_s)
    assert all(first < last for first, last in spans)
    assert all(one[1] < other[0] for one, other in pairwise(spans))
    for moment in range(start_s, start_s + length_s, 7000):
        assert calendar.is_open(moment) == any(first <= moment < last for first, last in spans)


def test_a_registry_that_contradicts_itself_is_refused_with_every_mistake(tmp_path: Path) -> None:
    path = tmp_path / "centers.toml"
    path.write_text(
        """
districts = ["Ұлан"]
[hours.village]
mon = ["09:00-13:00", "12:00-18:00"]
tue = ["18:00-09:00"]
[[center]]
id = "one"
district = "Улан"
hours = "vilage"
[[center]]
id = "one"
"""
    )
    with pytest.raises(SettingsError) as caught:
        centers.load_region(path)
    text = str(caught.value)
    assert '"18:00-09:00" ends before it begins' in text
    assert 'center[2].id: "one" is the id of center[1] already' in text
    path.write_text(path.read_text().replace('tue = ["18:00-09:00"]', "").replace('id = "one"\n"', "").rpartition("[[center]]")[0])
    with pytest.raises(SettingsError) as caught:
        centers.load_region(path)
    assert sorted(line.partition(": ")[2] for line in caught.value.mistakes) == [
        'center[1].district: "Улан" is none of the districts; did you mean "Ұлан"?',
        'center[1].hours: no [hours.vilage] is declared, and it is not "24h"; did you mean "village"?',
        'center[1].zone: its opening hours need a time zone, here or once for all above: zone = "Asia/Almaty"',
        "hours.village.mon: 09:00-13:00 and 12:00-18:00 overlap",
    ]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ('zone = "Asia/Oskemen"', 'zone: wanted a time zone such as "Asia/Almaty", got "Asia/Oskemen"'),
        ('[hours.x]\nmon = ["9-18"]', 'wanted a range such as "09:00-18:00", got "9-18"'),
        ('[hours.x]\nmondy = ["09:00-18:00"]', "hours.x.mondy: not a known key"),
        ('[hours.x]\nmon-wed = ["09:00-18:00"]\ntue = ["17:00-19:00"]', "hours.x.tue: 09:00-18:00 and 17:00-19:00 overlap"),
        (
            '[hours.x]\nseasons = [{ from = "06-01", to = "08-31" }, { from = "08-31", to = "09-30" }]',
            "hours.x.seasons[2]: overlaps seasons[1]",
        ),
        (
            "[hours.x]\nexceptions = [{ from = 2026-01-01, to = 2026-01-03, open = [] }, { from = 2026-01-03, open = [] }]",
            "hours.x.exceptions[2]: has days in common with exceptions[1]",
        ),
        (
            "[hours.x]\nexceptions = [{ from = 2026-01-03, to = 2026-01-01, open = [] }]",
            "exceptions[1].to: 2026-01-01 is before 2026-01-03",
        ),
        ('[hours.24h]\nmon = ["09:00-18:00"]', 'hours.24h: this name means "always open"'),
    ],
)
def test_each_mistake_of_hours_is_said(tmp_path: Path, text: str, wanted: str) -> None:
    (tmp_path / "centers.toml").write_text(text)
    with pytest.raises(SettingsError) as caught:
        centers.load_region(tmp_path / "centers.toml")
    assert wanted in str(caught.value)


def test_thresholds_come_from_the_center_then_the_mandate_then_the_kind(tmp_path: Path) -> None:
    (tmp_path / "centers.toml").write_text(
        """
[mandate]
loss_percent = 3.0
[[center]]
id = "one"
link = { kind = "geo", thresholds = { rtt_ms = 900.0 } }
[[center]]
id = "two"
link = { kind = "fiber" }
"""
    )
    found = centers.load_region(tmp_path / "centers.toml").thresholds
    assert (found["one"].rtt_ms, found["one"].loss_percent) == (900.0, 3.0)
    assert (found["two"].rtt_ms, found["two"].loss_percent) == (150.0, 3.0)
