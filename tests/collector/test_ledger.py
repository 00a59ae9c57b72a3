"""The ledger's promises (`ledger`, `gaps`)."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from kerege_collector.books import Book
from kerege_collector.gaps import GapCounts
from kerege_collector.ledger import Ledger, LedgerError, Quarantined
from kerege_collector.stores import RetryLater
from kerege_wire.ranges import RangeSet

NOW_S = 1_795_465_800


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    found = Ledger(tmp_path / "ledger.db", max_quarantine_rows=10)
    yield found
    found.close()


def kept(seq: int, *, reason: str = "bad-field", payload: bytes = b"{}") -> Quarantined:
    return Quarantined("demo", "epoch-01", seq, NOW_S, NOW_S, reason, "in words", payload)


def test_a_book_comes_back_as_it_was(ledger: Ledger, tmp_path: Path) -> None:
    """Ranges, excuses and the expected end outlive the process."""
    book = Book("demo", "epoch-01", RangeSet([(1, 7), (9, 9)]), RangeSet([(8, 8)]), 12, NOW_S - 60)
    book.dirty = True
    ledger.commit([book], [], {}, NOW_S)
    assert not book.dirty
    again = Ledger(tmp_path / "ledger.db")
    found = again.book("demo", "epoch-01")
    again.close()
    assert found is not None
    assert (list(found.accepted), list(found.excused), found.expected_last) == ([(1, 7), (9, 9)], [(8, 8)], 12)
    assert (found.first_seen_s, found.updated_s, found.dirty) == (NOW_S - 60, NOW_S, False)
    assert found.gaps() == [(10, 12)]


def test_an_epoch_that_was_never_seen_has_no_book(ledger: Ledger) -> None:
    """None, not an empty one: who asks makes its own."""
    assert ledger.book("demo", "epoch-01") is None


def test_a_commit_is_all_or_nothing(ledger: Ledger, tmp_path: Path) -> None:
    """A batch that fails at its last statement has changed nothing, and its books are still to be written."""
    book = Book("demo", "epoch-01", RangeSet([(1, 7)]))
    book.dirty = True
    with sqlite3.connect(tmp_path / "ledger.db") as other:
        other.execute("CREATE TRIGGER fails BEFORE INSERT ON board BEGIN SELECT RAISE(ABORT, 'no'); END")
    other.close()
    with pytest.raises(Exception, match="no"):
        ledger.commit([book], [kept(1)], {"demo": {}}, NOW_S)
    assert (ledger.book("demo", "epoch-01"), ledger.quarantined(), book.dirty) == (None, [], True)


def test_the_board_comes_back(ledger: Ledger) -> None:
    """The last snapshot of each center is there, the others untouched."""
    ledger.commit([], [], {"a": {"x": 1}, "b": {"x": [1, None]}}, NOW_S)
    ledger.commit([], [], {"a": {"x": 2}}, NOW_S)
    assert ledger.snapshots() == {"a": {"x": 2}, "b": {"x": [1, None]}}


def test_what_is_refused_again_is_one_row(ledger: Ledger) -> None:
    """A record that is resent after its ack was lost does not fill the quarantine."""
    for _ in range(3):
        assert ledger.commit([], [kept(1), kept(2)], {}, NOW_S) == 0
    assert [item.what.seq for item in ledger.quarantined()] == [1, 2]
    assert ledger.quarantine_rows == 2


def test_bytes_of_any_kind_are_kept(ledger: Ledger) -> None:
    """Payloads are bytes, and the words about them may hold what the payload held."""
    ledger.commit([], [Quarantined("demo", "", 0, None, NOW_S, "not-json", "lone \ud800 surrogate", bytes(range(256)))], {}, NOW_S)
    (item,) = ledger.quarantined()
    assert item.what.payload == bytes(range(256))
    assert item.what.detail == "lone ? surrogate"


def test_a_full_quarantine_makes_room_from_the_resolved(ledger: Ledger) -> None:
    """The oldest resolved rows go first; without any the new ones are counted and not kept."""
    ledger.commit([], [kept(seq) for seq in range(1, 11)], {}, NOW_S)
    assert ledger.commit([], [kept(11), kept(12)], {}, NOW_S) == 2
    ledger.resolve(3, "dropped")
    ledger.resolve(5, "readmitted")
    assert ledger.commit([], [kept(11)], {}, NOW_S) == 0
    assert [item.id for item in ledger.quarantined(waiting_only=False)] == [1, 2, 4, 5, 6, 7, 8, 9, 10, 11]
    assert ledger.commit([], [kept(12), kept(13), kept(14)], {}, NOW_S) == 2
    assert len(ledger.quarantined(waiting_only=False)) == 10


def test_a_newer_schema_is_refused_in_words(tmp_path: Path) -> None:
    """An old collector leaves a new ledger alone, and says what to do."""
    Ledger(tmp_path / "ledger.db").close()
    with sqlite3.connect(tmp_path / "ledger.db") as other:
        other.execute("UPDATE meta SET value = '2' WHERE name = 'schema'")
    other.close()
    with pytest.raises(LedgerError, match=r"made by a newer version.*upgrade"):
        Ledger(tmp_path / "ledger.db")


def test_a_damaged_file_is_said_and_left_alone(tmp_path: Path) -> None:
    """It is not overwritten: somebody may be able to save it."""
    path = tmp_path / "ledger.db"
    path.write_bytes(b"this is no database, but it might have been one" * 100)
    with pytest.raises(RetryLater) as caught:
        Ledger(path)
    assert caught.value.reason == "damaged"
    assert path.read_bytes().startswith(b"this is no database")


def test_a_locked_file_is_tried_again(ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process that holds the lock for long makes RetryLater, and afterwards all is well."""
    monkeypatch.setattr("kerege_collector.ledger.BUSY_TIMEOUT_S", 0.05)
    other = sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)
    quick = Ledger(tmp_path / "ledger.db")
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(RetryLater) as caught:
        quick.commit([], [kept(1)], {}, NOW_S)
    assert caught.value.reason == "locked"
    other.execute("COMMIT")
    other.close()
    quick.commit([], [kept(1)], {}, NOW_S)
    assert len(ledger.quarantined()) == 1
    quick.close()


def test_a_directory_in_its_place_is_said(tmp_path: Path) -> None:
    """A path that cannot be opened is trouble with the disk, not a crash."""
    (tmp_path / "ledger.db").mkdir()
    with pytest.raises(RetryLater) as caught:
        Ledger(tmp_path / "ledger.db")
    assert caught.value.reason == "cannot-open"


def test_a_full_disk_is_tried_again(tmp_path: Path) -> None:
    """When SQLite is out of pages the batch waits; with room again the same call succeeds."""
    ledger = Ledger(tmp_path / "ledger.db")
    with ledger._engine.begin() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")
        book = Book("demo", "epoch-01", RangeSet([(number, number) for number in range(1, 1999, 2)]))
    with pytest.raises(RetryLater) as caught:
        ledger.commit([book], [], {}, NOW_S)
    assert caught.value.reason == "disk-full"
    ledger.commit([book], [], {}, NOW_S)  # on a fresh connection, whose limit is the disk's
    assert ledger.book("demo", "epoch-01") is not None
    ledger.close()


def test_words_are_remembered(ledger: Ledger) -> None:
    """meta is a small table of names and values."""
    assert ledger.meta("export") is None
    ledger.set_meta("export", "17")
    ledger.set_meta("export", "18")
    assert ledger.meta("export") == "18"


def test_gaps_are_counted_over_all_epochs() -> None:
    """Missing numbers of all epochs of a center, until they come."""
    first = Book("demo", "epoch-01", RangeSet([(1, 7)]), expected_last=10)
    second = Book("demo", "epoch-02", RangeSet([(2, 3)]))
    gaps = GapCounts([first, second, Book("other", "epoch-03", RangeSet([(1, 9)]))])
    assert (gaps.of("demo"), gaps.of("other"), gaps.of("nobody")) == (4, 0, 0)
    first.accept([8, 9, 10])
    gaps.note([first])
    assert gaps.of("demo") == 1
    second.accept([1])
    gaps.note([second])
    assert gaps.of("demo") == 0
