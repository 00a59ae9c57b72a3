"""The embedded store's promises (`stores.sqlite`)."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from kerege_collector.stores import RetryLater, Row
from kerege_collector.stores.sqlite import DAY_S, TIDY_ROWS, SqliteStore, Unreadable
from kerege_wire import Body, Boot, Dns, Drop, Host, Http, Ping, Tick, Traffic, kind_of

NOW_S = 1_795_465_800
BODIES: list[Body] = [
    Tick("online", rtt_ms=612.0),
    Ping("google", family=4, sent=10, received=9),
    Dns("system", error="no reply"),
    Http("Өскемен", status=200, portal=False),
    Traffic("eth0", 300.0, 1, 2),
    Host(spool_state="disk"),
    Boot("host", "first"),
    Drop("Zk3q9w2a", "3-7,12", "ping", 6),
]


def row(seq: int, body: Body = BODIES[0], *, received_s: int = NOW_S) -> Row:
    return Row("demo", "epoch-01", seq, NOW_S + seq, kind_of(body), "synced", None, body, received_s)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "records.db"


@pytest.fixture
def store(path: Path) -> Iterator[SqliteStore]:
    found = SqliteStore(path, retention_days=400)
    yield found
    found.close()


def test_every_kind_comes_back_as_it_was(store: SqliteStore) -> None:
    """A record read from the store is the record that was written, quality of its time included."""
    rows = [row(number + 1, body)._replace(clock="estimated", within_s=60) for number, body in enumerate(BODIES)]
    assert store.write(rows) == []
    assert [found for _, found in store.all()] == rows


def test_a_repeat_is_stored_once(store: SqliteStore) -> None:
    """Writing a batch again, as after a crash before the ledger's commit, changes nothing."""
    store.write([row(1), row(2)])
    store.write([row(1), row(2), row(3)])
    store.write([row(2, Tick("offline"))])
    assert [(found.seq, found.body) for _, found in store.all()] == [(seq, BODIES[0]) for seq in (1, 2, 3)]


def test_reading_goes_on_where_it_stopped(store: SqliteStore) -> None:
    """Ids only ever grow: what comes after one is what was written later."""
    store.write([row(seq) for seq in range(1, 8)])
    first = store.iterate(0, 3)
    assert [found.seq for _, found in first] == [1, 2, 3]
    assert [found.seq for _, found in store.all(after_rowid=first[-1][0], step=2)] == [4, 5, 6, 7]


def test_old_records_are_forgotten_in_small_steps(store: SqliteStore) -> None:
    """A step looks at a thousand of the oldest, by their arrival, and the next waits where there was less; ids are not given out again."""
    old = NOW_S - 400 * DAY_S - 1
    store.write([row(seq, received_s=old) for seq in range(1, TIDY_ROWS + 501)])
    store.write([row(5000)])
    store.tidy(NOW_S)
    assert len(list(store.all())) == 501
    store.tidy(NOW_S)  # there was more
    ((last_id, found),) = store.all()
    assert found.seq == 5000
    store.tidy(NOW_S + 401 * DAY_S)
    store.write([row(5001, received_s=old)])
    store.tidy(NOW_S + 401 * DAY_S + 1)  # not so soon again
    assert len(list(store.all())) == 1
    store.tidy(NOW_S + 500 * DAY_S)
    assert list(store.all()) == []
    store.write([row(1)])
    ((new_id, _),) = store.all()
    assert new_id > last_id


def test_nothing_young_is_forgotten(store: SqliteStore) -> None:
    """Retention counts from the arrival: a backlog of last year is kept as long as anything else."""
    store.write([row(1)._replace(time=NOW_S - 500 * DAY_S)])
    store.tidy(NOW_S)
    assert len(list(store.all())) == 1


def test_what_is_written_is_on_disk(store: SqliteStore, path: Path) -> None:
    """WAL with full synchronisation: another process sees it, and a power cut leaves it."""
    store.write([row(1)])
    connection = store._open()
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
    with sqlite3.connect(path) as other:
        assert other.execute("SELECT count(*) FROM records").fetchone() == (1,)
    other.close()


def test_a_locked_file_is_tried_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody else's long transaction makes RetryLater; afterwards the same batch is written."""
    monkeypatch.setattr("kerege_collector.stores.sqlite.BUSY_TIMEOUT_S", 0.05)
    store = SqliteStore(path, retention_days=1)
    store.write([row(1)])
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(RetryLater) as caught:
        store.write([row(2)])
    assert caught.value.reason == "locked"
    other.execute("COMMIT")
    other.close()
    store.write([row(2)])
    assert len(list(store.all())) == 2
    store.close()


def test_a_full_disk_writes_nothing_and_is_tried_again(store: SqliteStore) -> None:
    """Not one row of the batch is there until all are."""
    store.write([row(1)])
    connection = store._open()
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count={pages}")
    batch = [row(seq, Tick(error="x" * 200)) for seq in range(2, 500)]
    with pytest.raises(RetryLater) as caught:
        store.write(batch)
    assert caught.value.reason == "disk-full"
    assert len(list(store.all())) == 1
    store.write(batch)  # on a fresh connection, whose limit is the disk's
    assert len(list(store.all())) == 499


def test_a_read_only_file_is_tried_again(store: SqliteStore, path: Path) -> None:
    """Somebody takes the right to write away, and gives it back."""
    store.write([row(1)])
    connection = store._open()
    connection.execute("PRAGMA query_only=ON")
    with pytest.raises(RetryLater) as caught:
        store.write([row(2)])
    assert caught.value.reason == "read-only"
    store.write([row(2)])
    assert len(list(store.all())) == 2


def test_a_damaged_file_is_said_and_left_alone(path: Path) -> None:
    """It is never replaced by an empty one: what is in it may be saved, and the agents keep what is new."""
    path.write_bytes(b"no database at all " * 500)
    store = SqliteStore(path, retention_days=1)
    with pytest.raises(RetryLater) as caught:
        store.write([row(1)])
    assert caught.value.reason == "damaged"
    assert path.read_bytes() == b"no database at all " * 500
    store.close()


def test_a_file_of_a_newer_version_is_left_alone(path: Path) -> None:
    """An old collector does not write into what it does not understand."""
    with sqlite3.connect(path) as other:
        other.execute("PRAGMA user_version=99")
    other.close()
    store = SqliteStore(path, retention_days=1)
    with pytest.raises(RetryLater) as caught:
        store.write([row(1)])
    assert caught.value.reason == "newer-schema"
    store.close()


def test_a_database_of_another_program_is_left_alone(path: Path) -> None:
    """A path that was mistyped."""
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE loans(book)")
    other.close()
    store = SqliteStore(path, retention_days=1)
    with pytest.raises(RetryLater) as caught:
        store.write([row(1)])
    assert (caught.value.reason, "name another store.path" in caught.value.detail) == ("not-ours", True)
    store.close()


def test_a_row_that_is_not_what_was_written_is_said(store: SqliteStore, path: Path) -> None:
    """A flipped bit, or a kind of a newer version: it stops no others."""
    store.write([row(1), row(2), row(3)])
    with sqlite3.connect(path) as other:
        other.execute("UPDATE records SET kind = 'tock' WHERE seq = 2")
    other.close()
    found = [item for _, item in store.iterate(0, 10)]
    assert [item.seq for item in found] == [1, 2, 3]
    assert isinstance(found[1], Unreadable)
    assert found[1].why.startswith("not what this version has written: ")
    assert [item.seq for _, item in store.all()] == [1, 3]


def test_a_file_that_was_moved_away_is_not_written_to(store: SqliteStore, path: Path) -> None:
    """After a restore or a rotation the records go into the file of that name, not into one that has none."""
    store.write([row(1)])
    path.rename(path.with_name("old.db"))
    store.write([row(2)])
    assert [found.seq for _, found in store.all()] == [2]


def test_a_missing_directory_is_said(tmp_path: Path) -> None:
    """An unmounted disk is trouble that may pass."""
    store = SqliteStore(tmp_path / "nowhere" / "records.db", retention_days=1)
    with pytest.raises(RetryLater) as caught:
        store.write([row(1)])
    assert caught.value.reason == "cannot-open"
