"""Reading records back: the same lines from either store, with the identity of each."""

import json
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any, Final

import pytest

from kerege_collector import records, records_influx, records_sqlite
from kerege_collector.records import Line, NoRecordsYetError, ReadError, Wanted, time_of
from kerege_collector.records_influx import InfluxReader
from kerege_collector.records_sqlite import Position, SqliteReader
from kerege_collector.settings import Influx, Mqtt, Settings, Sqlite
from kerege_collector.stages import Stages
from kerege_collector.stores import Row, Store
from kerege_collector.stores import sqlite as sqlite_store
from kerege_collector.stores.influx import InfluxAccess, InfluxStore
from kerege_collector.stores.sqlite import SqliteStore
from kerege_lab.servers import InfluxTarget, free_port
from kerege_wire import Boot, Dns, Drop, Host, Http, Ping, Tick, Traffic, kind_of
from kerege_wire.fields import write_fields
from kerege_wire.records import Body

T: Final = 1_795_435_200
BODIES: Final[tuple[Body, ...]] = (
    Boot("host", "unclean", last_alive=T - 900, previous_epoch="Zk3q9w2a", previous_seq=7, agent="0.1.0", system="Linux, x86_64"),
    Tick("online", rungs="++.+==+", target="cloudflare", via="datagram", rtt_ms=612.0, gateway_rtt_ms=0.73),
    Tick("offline", broken="internet", rungs="++.-??-"),
    Tick(error='timeout: "no reply", \\ back=slash, and a comma'),
    Ping("google, the second", family=4, sent=10, received=9, rtt_min_ms=540.0, rtt_p50_ms=600.5, rtt_p95_ms=700.0, rtt_max_ms=701.0),
    Ping("quad9", sent=0, received=0, error="no route"),
    Dns("system", name="gov.kz", resolve_ms=31.5, rcode="NOERROR"),
    Http("page", family=6, status=200, portal=False, first_byte_ms=800.0),
    Traffic("eth0", 300.0, 3_000_000, 0, 812.5, 0.0),
    Host(cpu_percent=3.5, uptime_s=86_400, spool_records=0, wall_clock_error_s=-315_360_000.0),
    Drop("Zk3q9w2a", "3-7,12", "ping", 6, "the spool is full"),
)


def rows(center: str, *, at: int = T, epoch: str = "epochAAA") -> list[Row]:
    """One of everything, a second apart; the last was only estimated."""
    found = [Row(center, epoch, seq, at + seq, kind_of(body), "synced", None, body, at + 60) for seq, body in enumerate(BODIES, start=1)]
    return [*found[:-1], found[-1]._replace(clock="estimated", within_s=90)]


def line_of(row: Row) -> Line:
    """What is expected of a row; `received` is known to SQLite only."""
    envelope: Line = {name: getattr(row, name) for name in ("center", "epoch", "seq", "time", "kind", "clock")}
    return envelope | ({} if row.within_s is None else {"within_s": row.within_s}) | {"fields": write_fields(row.body)}


def without_arrival(lines: Iterator[Line]) -> list[Line]:
    return [{key: value for key, value in line.items() if key != "received"} for line in lines]


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[tuple[Store, Path]]:
    path = tmp_path / "records.db"
    store = SqliteStore(path, retention_days=400)
    yield store, path
    store.close()


@pytest.fixture
def influx(any_influx: InfluxTarget, tmp_path: Path) -> Iterator[tuple[Store, InfluxReader]]:
    """Both ends of a real InfluxDB, which other tests use too: each test has centers of its own."""
    (tmp_path / "token").write_text(any_influx.token)
    section = Influx(url=any_influx.url, organisation=any_influx.org, bucket=any_influx.bucket, token_file=tmp_path / "token")
    access = InfluxAccess(any_influx.url, any_influx.bucket, any_influx.org, any_influx.token)
    store = InfluxStore(access, lambda center: f",center={center},link=geo", Stages())
    yield store, InfluxReader(section)
    store.close()


# --- both stores --------------------------------------------------------------------------------------------------------


def test_sqlite_gives_back_what_was_written(sqlite: tuple[Store, Path]) -> None:
    store, path = sqlite
    store.write(rows("ulan"))
    found = list(SqliteReader(path).read(Wanted()))
    assert without_arrival(iter(found)) == [line_of(row) for row in rows("ulan")]
    assert {line["received"] for line in found} == {T + 60}


def test_influxdb_gives_back_what_was_written(influx: tuple[Store, InfluxReader]) -> None:
    """Nothing of the dashboards' derived fields and tags, and every field of the record, to the letter."""
    store, reader = influx
    assert store.write(rows("influx-ulan")) == []
    assert list(reader.read(Wanted("influx-ulan"))) == [line_of(row) for row in rows("influx-ulan")]


FILTERS: Final[list[tuple[dict[str, Any], Callable[[Row], bool]]]] = [
    ({}, lambda row: True),
    ({"kind": "ping"}, lambda row: row.kind == "ping"),
    ({"since_s": T + 4}, lambda row: row.time >= T + 4),
    ({"until_s": T + 4}, lambda row: row.time < T + 4),
    ({"kind": "tick", "since_s": T + 3, "until_s": T + 4}, lambda row: row.kind == "tick" and row.time == T + 3),
    ({"since_s": T + 1000}, lambda row: False),
]


@pytest.mark.parametrize(("bounds", "expected"), FILTERS, ids=[" ".join(bounds) or "all" for bounds, _ in FILTERS])
def test_sqlite_gives_what_is_wanted(sqlite: tuple[Store, Path], bounds: dict[str, Any], expected: Callable[[Row], bool]) -> None:
    store, path = sqlite
    store.write(rows("zaisan", epoch="epochBBB"))
    store.write(rows("ulan"))
    found = without_arrival(SqliteReader(path).read(Wanted("ulan", **bounds)))
    assert found == [line_of(row) for row in rows("ulan") if expected(row)]
    everywhere = without_arrival(SqliteReader(path).read(Wanted(**bounds)))
    assert everywhere == [line_of(row) for row in [*rows("zaisan", epoch="epochBBB"), *rows("ulan")] if expected(row)]


def test_influxdb_gives_what_is_wanted(influx: tuple[Store, InfluxReader]) -> None:
    store, reader = influx
    store.write([*rows("influx-zaisan"), *rows("influx-kurshim")])
    for bounds, expected in FILTERS:
        found = list(reader.read(Wanted("influx-kurshim", **bounds)))
        assert found == [line_of(row) for row in rows("influx-kurshim") if expected(row)]


def test_sqlite_is_read_in_steps_without_losing_or_repeating_any(sqlite: tuple[Store, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Many records have the same time; some arrive later than younger ones."""
    monkeypatch.setattr(records_sqlite, "STEP", 7)
    store, path = sqlite
    ticks = [Row("ulan", "epochAAA", seq, T + (seq * 37 % 100) // 10, "tick", "synced", None, Tick("online"), T) for seq in range(1, 101)]
    store.write(ticks)
    reader = SqliteReader(path)
    assert [line["seq"] for line in reader.read(Wanted())] == list(range(1, 101))
    by_time = [(line["time"], line["seq"]) for line in reader.read(Wanted("ulan"))]
    assert by_time == sorted(by_time, key=lambda pair: pair[0])
    assert sorted(seq for _, seq in by_time) == list(range(1, 101))


def test_influxdb_is_read_in_steps_without_losing_or_repeating_any(
    influx: tuple[Store, InfluxReader], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One second holds more points than a step does."""
    monkeypatch.setattr(records_influx, "STEP", 7)
    store, reader = influx
    at = T - 400 * 86_400  # a time of its own, since the first look is at all centers
    ticks = [
        Row(f"steps-{number:02d}", "epochAAA", 1, at + number // 20, "tick", "synced", None, Tick("online"), T) for number in range(60)
    ]
    store.write(ticks)
    found = [line["center"] for line in reader.read(Wanted(kind="tick", since_s=at, until_s=at + 100))]
    assert sorted(found) == [row.center for row in ticks]


def test_following_sqlite_shows_what_is_stored_from_now_on_old_backlog_too(sqlite: tuple[Store, Path]) -> None:
    store, path = sqlite
    store.write(rows("ulan"))
    follow = SqliteReader(path).follow()
    assert next(follow) == []
    store.write(rows("zaisan", at=T - 86_400))
    assert without_arrival(iter(next(follow))) == [line_of(row) for row in rows("zaisan", at=T - 86_400)]
    assert next(follow) == []


def test_following_influxdb_shows_what_is_stored_from_now_on(influx: tuple[Store, InfluxReader]) -> None:
    store, reader = influx
    now_s = int(time.time())
    store.write(rows("follow-before", at=now_s - 100))
    follow = reader.follow()
    next(follow)
    store.write(rows("follow-after", at=now_s - 50))
    shown = [line for line in next(follow) if line["center"].startswith("follow-")]
    assert shown == [line_of(row) for row in rows("follow-after", at=now_s - 50)]
    assert [line for line in next(follow) if line["center"].startswith("follow-")] == []


# --- what can go wrong --------------------------------------------------------------------------------------------------


def test_no_file_is_said_and_none_is_made(tmp_path: Path) -> None:
    with pytest.raises(ReadError, match="does the collector run"):
        list(SqliteReader(tmp_path / "records.db").read(Wanted()))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("made", ["nothing", "a table of another's transaction"])
def test_a_file_that_the_collector_is_only_just_making_holds_no_records_yet(tmp_path: Path, made: str) -> None:
    path = tmp_path / "records.db"
    with closing(sqlite3.connect(path)) as maker:
        maker.execute("PRAGMA journal_mode=WAL")
        if made != "nothing":
            maker.execute("BEGIN IMMEDIATE")
            maker.execute("CREATE TABLE records (id INTEGER)")
        reader = SqliteReader(path)
        for ask in (lambda: list(reader.read(Wanted())), lambda: next(reader.follow()), reader.last_id):
            with pytest.raises(NoRecordsYetError):
                ask()


def test_a_crash_while_the_file_is_made_leaves_one_that_is_finished_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "records.db"
    whole = sqlite_store._SCHEMA
    monkeypatch.setattr(sqlite_store, "_SCHEMA", whole.replace("COMMIT", "SELECT 1 FROM no_such_table"))
    interrupted = SqliteStore(path, retention_days=400)
    with pytest.raises(sqlite3.OperationalError, match="no_such_table"):
        interrupted.write(rows("ulan"))
    with pytest.raises(NoRecordsYetError):
        list(SqliteReader(path).read(Wanted()))
    monkeypatch.setattr(sqlite_store, "_SCHEMA", whole)
    interrupted.write(rows("ulan"))
    assert without_arrival(SqliteReader(path).read(Wanted())) == [line_of(row) for row in rows("ulan")]
    interrupted.close()


def test_a_file_that_is_no_store_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "records.db").write_bytes(b"no database" * 100)
    with pytest.raises(ReadError, match="cannot be read"):
        list(SqliteReader(tmp_path / "records.db").read(Wanted()))


def test_reading_does_not_keep_the_service_from_writing(sqlite: tuple[Store, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody reads slowly, page by page; records arrive meanwhile, and the reader sees them too."""
    monkeypatch.setattr(records_sqlite, "STEP", 5)
    store, path = sqlite
    store.write(rows("ulan"))
    reading = SqliteReader(path).read(Wanted())
    first = list(islice(reading, 3))
    store.write(rows("zaisan"))
    assert len(first) + len(list(reading)) == 2 * len(BODIES)


def test_an_influxdb_that_is_away_is_said_so() -> None:
    reader = InfluxReader(Influx(url=f"http://127.0.0.1:{free_port()}", bucket="kerege"))
    with pytest.raises(ReadError, match="refused"):
        list(reader.read(Wanted()))


def test_an_influxdb_that_refuses_is_quoted(any_influx: InfluxTarget, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records_influx, "_FIELDS", {"no such; kind'": ()})
    monkeypatch.setattr(records_influx, "KINDS", {'"': None})
    with pytest.raises(ReadError, match=any_influx.url):
        list(InfluxReader(Influx(url=any_influx.url, bucket=any_influx.bucket)).read(Wanted()))


def test_the_reader_is_that_of_the_settings_store(sqlite: tuple[Store, Path]) -> None:
    store, path = sqlite
    store.write([])
    mqtt = Mqtt(host="b")
    assert isinstance(records.open_reader(Settings(mqtt=mqtt, store=Sqlite(path=path))), SqliteReader)
    assert isinstance(records.open_reader(Settings(mqtt=mqtt, store=Influx(url="http://127.0.0.1:1", bucket="b"))), InfluxReader)


# --- for export ---------------------------------------------------------------------------------------------------------


def test_a_position_is_known_again_only_in_its_own_file(sqlite: tuple[Store, Path], tmp_path: Path) -> None:
    store, path = sqlite
    store.write(rows("ulan"))
    reader = SqliteReader(path)
    last = Position(len(BODIES), "ulan", "epochAAA", len(BODIES))
    assert reader.last_id() == len(BODIES)
    assert reader.goes_on_from(last)
    assert reader.goes_on_from(Position())
    assert not reader.goes_on_from(Position(3, "zaisan", "epochAAA", 3))
    assert not reader.goes_on_from(Position(len(BODIES) + 1, "ulan", "epochAAA", 12))
    with sqlite3.connect(path) as connection:
        connection.execute("DELETE FROM records")
    connection.close()
    assert reader.goes_on_from(last)  # forgotten by age, but this was its file


# --- times and lines ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-23", 1_795_392_000),
        ("2026-11-23T20:30", 1_795_465_800),
        ("2026-11-23T20:30:00Z", 1_795_465_800),
        ("2026-11-24T01:30:00+05:00", 1_795_465_800),
        ("90s", T - 90),
        ("2h", T - 7200),
        ("7d", T - 604_800),
    ],
)
def test_times_are_read_as_people_write_them(text: str, expected: int) -> None:
    assert time_of(text, T + 0.9) == expected


@pytest.mark.parametrize("text", ["", "yesterday", "23.11.2026", "2h30m", "-2h", "2026-13-01", "9" * 30 + "d"])
def test_other_times_are_said_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="2026-11-01"):
        time_of(text, T)


def test_a_line_for_a_person_has_the_identity_too(sqlite: tuple[Store, Path], capsys: pytest.CaptureFixture[str]) -> None:
    store, path = sqlite
    store.write(rows("ulan"))
    settings = Settings(mqtt=Mqtt(host="b"), store=Sqlite(path=path))
    assert records.show(settings, Wanted(kind="drop"), as_json=False, follow=False) == 0
    line = capsys.readouterr().out
    assert "(estimated)" in line
    assert f"epochAAA     {len(BODIES)}" in line
    assert "dropped_seqs=3-7,12" in line
    assert records.show(settings, Wanted("ulan"), as_json=True, follow=False) == 0
    assert [json.loads(text)["seq"] for text in capsys.readouterr().out.splitlines()] == list(range(1, len(BODIES) + 1))
