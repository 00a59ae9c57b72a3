"""The ledger's promises (`ledger`, `gaps`)."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from kerege_collector.books import Book
from kerege_collector.gaps import GapCounts
from kerege_collector.ledger import Ledger, LedgerError, Quarantined
from kerege_collector.quarantine_room import Bounds, Room
from kerege_collector.stores import RetryLater
from kerege_wire.ranges import RangeSet
from tests.places import Place

NOW_S = 1_795_465_800
BOUNDS = Bounds(rows=30, payload_bytes=1_000_000)


@pytest.fixture
def ledger(place: Place) -> Iterator[Ledger]:
    found = Ledger(place.open(), bounds=BOUNDS)
    yield found
    found.close()


def kept(seq: int, *, reason: str = "bad-field", payload: bytes = b"{}", center: str = "demo") -> Quarantined:
    return Quarantined(center, "epoch-01", seq, NOW_S, NOW_S, reason, "in words", payload)


def filled(ledger: Ledger) -> list[Quarantined]:
    """Fill the quarantine: ten centers with three items each."""
    items = [kept(seq, center=f"center-{number}") for number in range(10) for seq in (1, 2, 3)]
    assert ledger.homeless(items) == frozenset()
    ledger.commit([], items, {}, NOW_S)
    return items


def test_a_book_comes_back_as_it_was(ledger: Ledger, place: Place) -> None:
    """Ranges, excuses and the expected end outlive the process."""
    book = Book("demo", "epoch-01", RangeSet([(1, 7), (9, 9)]), RangeSet([(8, 8)]), 12, NOW_S - 60)
    book.dirty = True
    ledger.commit([book], [], {}, NOW_S)
    assert not book.dirty
    again = Ledger(place.open())
    found = again.book("demo", "epoch-01")
    again.close()
    assert found is not None
    assert (list(found.accepted), list(found.excused), found.expected_last) == ([(1, 7), (9, 9)], [(8, 8)], 12)
    assert (found.first_seen_s, found.updated_s, found.dirty) == (NOW_S - 60, NOW_S, False)
    assert found.gaps() == [(10, 12)]


def test_an_epoch_that_was_never_seen_has_no_book(ledger: Ledger) -> None:
    """None, not an empty one: who asks makes its own."""
    assert ledger.book("demo", "epoch-01") is None


def test_a_commit_is_all_or_nothing(ledger: Ledger, place: Place) -> None:
    """A batch that fails at its last statement has changed nothing, and its books are still to be written."""
    book = Book("demo", "epoch-01", RangeSet([(1, 7)]))
    book.dirty = True
    place.fail("board")
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
        ledger.commit([], [kept(1), kept(2)], {}, NOW_S)
    assert [item.what.seq for item in ledger.quarantined()] == [1, 2]
    assert ledger.quarantine_rows == 2


def test_bytes_of_any_kind_are_kept(ledger: Ledger) -> None:
    """Payloads are bytes, and the words about them may hold what the payload held."""
    ledger.commit([], [Quarantined("demo", "", 0, None, NOW_S, "not-json", "lone \ud800 surrogate", bytes(range(256)))], {}, NOW_S)
    (item,) = ledger.quarantined()
    assert item.what.payload == bytes(range(256))
    assert item.what.detail == "lone ? surrogate"


def test_a_full_quarantine_has_no_room_but_for_what_it_holds_already(ledger: Ledger) -> None:
    """What is sent and refused again is kept; what is new is not."""
    items = filled(ledger)
    new = kept(1, center="late")
    assert ledger.homeless([new, items[7]]) == {new}


def test_one_center_takes_no_more_than_its_part_of_the_quarantine(ledger: Ledger) -> None:
    """A tenth; the others still find room."""
    items = [kept(seq) for seq in range(1, 6)]
    assert ledger.homeless(items) == set(items[3:])
    ledger.commit([], items[:3], {}, NOW_S)
    assert ledger.homeless([kept(4), kept(1, center="other")]) == {kept(4)}


def test_the_bytes_of_the_quarantine_are_bounded_too() -> None:
    room = Room(Bounds(rows=1000, payload_bytes=1000), {"demo": (1, 60), "other": (9, 870)})
    assert [room.take("demo", 40), room.take("demo", 1), room.take("third", 40), room.take("third", 1)] == [True, False, False, True]


def test_what_has_ended_makes_room_oldest_first(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Readmitted and dropped items are kept as long as nothing else needs their place."""
    monkeypatch.setattr("kerege_collector.ledger.FORGET_STEP", 1)
    filled(ledger)
    for number in (3, 5, 7):
        ledger.resolve(number, "dropped")
    late = [kept(1, center="late"), kept(2, center="late")]
    assert ledger.homeless(late) == frozenset()
    ledger.commit([], late, {}, NOW_S)
    assert [item.id for item in ledger.quarantined(waiting_only=False)] == [1, 2, 4, *range(6, 33)]
    assert ledger.quarantine_rows == BOUNDS.rows


def test_what_a_command_has_entered_beside_the_service_stays(ledger: Ledger, place: Place) -> None:
    """The service writes the book that it has in memory; what was readmitted meanwhile is in it."""
    mine = Book("demo", "epoch-01", RangeSet([(1, 4)]), RangeSet([(5, 5)]))
    ledger.commit([mine], [kept(5)], {}, NOW_S)
    command = Ledger(place.open())
    theirs = command.book("demo", "epoch-01")
    assert theirs is not None
    theirs.store([5])
    theirs.expect(9)
    command.readmitted(1, [theirs], "readmitted", NOW_S)
    command.close()
    mine.store([6])
    ledger.commit([mine], [], {}, NOW_S)
    assert (list(mine.accepted), mine.expected_last) == ([(1, 6)], 9)
    found = ledger.book("demo", "epoch-01")
    assert found is not None
    assert (list(found.accepted), found.expected_last) == ([(1, 6)], 9)


def test_a_book_is_accepted_only_when_the_ledger_has_it(ledger: Ledger, place: Place) -> None:
    """What is in the store alone is not among what acknowledgements name."""
    book = Book("demo", "epoch-01", RangeSet([(1, 1)]))
    book.store([2, 3])
    place.fail("accepted")
    with pytest.raises(Exception, match="no"):
        ledger.commit([book], [], {}, NOW_S)
    assert (list(book.accepted), book.dirty) == ([(1, 1)], True)
    place.fail_no_more("accepted")
    ledger.commit([book], [], {}, NOW_S)
    assert (list(book.accepted), book.dirty) == ([(1, 3)], False)


def test_a_database_of_another_program_is_refused_in_words(place: Place) -> None:
    """Nothing of ours is put into it."""
    place.execute("CREATE TABLE loans(book text)")
    with pytest.raises(LedgerError, match=r"a database of another program: move it away"):
        Ledger(place.open())
    with pytest.raises(Exception, match="accepted"):
        place.execute("SELECT * FROM accepted")


def test_a_ledger_whose_making_was_cut_short_is_finished(place: Place) -> None:
    """A power cut at the very first start must not lock the collector out."""
    Ledger(place.open()).close()
    for table in ("board", "quarantine", "meta"):
        place.execute(f"DROP TABLE {table}")
    ledger = Ledger(place.open())
    ledger.commit([], [], {"demo": {}}, NOW_S)
    assert ledger.snapshots() == {"demo": {}}
    ledger.close()
    Ledger(place.open()).close()


def test_a_newer_schema_is_refused_in_words(place: Place) -> None:
    """An old collector leaves a new ledger alone, and says what to do."""
    Ledger(place.open()).close()
    place.execute("UPDATE meta SET value = '99' WHERE name = 'schema'")
    with pytest.raises(LedgerError, match=r"made by a newer version.*\(schema 99, this one knows 2\).*upgrade"):
        Ledger(place.open())


def test_a_damaged_file_is_said_and_left_alone(tmp_path: Path) -> None:
    """It is not overwritten: somebody may be able to save it."""
    path = tmp_path / "ledger.db"
    path.write_bytes(b"this is no database, but it might have been one" * 100)
    with pytest.raises(RetryLater) as caught:
        Ledger(path)
    assert caught.value.reason == "damaged"
    assert path.read_bytes().startswith(b"this is no database")


def test_a_locked_file_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process that holds the lock for long makes RetryLater, and afterwards all is well."""
    monkeypatch.setattr("kerege_collector.database.BUSY_TIMEOUT_S", 0.05)
    quick = Ledger(tmp_path / "ledger.db")
    other = sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(RetryLater) as caught:
        quick.commit([], [kept(1)], {}, NOW_S)
    assert caught.value.reason == "locked"
    other.execute("COMMIT")
    other.close()
    quick.commit([], [kept(1)], {}, NOW_S)
    assert len(quick.quarantined()) == 1
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
    with ledger.transaction() as connection:
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
    first.store([8, 9, 10])
    first.committed()
    gaps.note([first])
    assert gaps.of("demo") == 1
    second.store([1])
    second.committed()
    gaps.note([second])
    assert gaps.of("demo") == 0
