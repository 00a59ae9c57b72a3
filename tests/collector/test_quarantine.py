"""Listing, readmitting and dropping what could not be stored (`quarantine`)."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from kerege_collector import quarantine
from kerege_collector.admit import alone
from kerege_collector.books import Book
from kerege_collector.centers import Center, Region
from kerege_collector.ledger import Ledger, Quarantined
from kerege_collector.quarantine import AlreadyResolvedError, Readmitted
from kerege_collector.stores import Rejected, RetryLater, Row
from kerege_collector.stores.sqlite import SqliteStore
from kerege_wire import Body, Boot, Drop, Record, Report, Tick, encode_report
from kerege_wire.ranges import RangeSet
from tests.places import Place

NOW_S = 1_795_465_800
REGION = Region({"demo": Center(id="demo")}, {}, {})
EPOCH = "Zk3q9w2a"


class Desk:
    """A ledger and a store, and the command over both."""

    def __init__(self, place: Place) -> None:
        self.ledger = Ledger(place.open())
        self.store = SqliteStore(place.directory / "records.db", retention_days=400)

    def keep(self, *items: Quarantined) -> None:
        self.ledger.commit([], items, {}, NOW_S)

    def readmit(self, number: int) -> Readmitted | None:
        return quarantine.readmit(self.ledger, self.store, number, region=REGION, admit_unknown=False, now_ms=NOW_S * 1000)

    @property
    def stored(self) -> list[int]:
        return [row.seq for _, row in self.store.all()]


@pytest.fixture
def desk(place: Place) -> Iterator[Desk]:
    found = Desk(place)
    yield found
    found.ledger.close()
    found.store.close()


def kept(seq: int, *, reason: str = "store-refused", time: int = NOW_S, center: str = "demo") -> Quarantined:
    record = Record(seq, time, Tick("online"))
    return Quarantined(center, EPOCH, seq, time, NOW_S - 60, reason, "in words", alone(Report(EPOCH, records=(record,)), record))


def whole(payload: bytes, reason: str) -> Quarantined:
    return Quarantined("demo", "", 0, None, NOW_S - 60, reason, "in words", payload)


def test_a_record_is_stored_after_the_fix(desk: Desk) -> None:
    """It goes through admission and the store again, is entered in its epoch's book, and is resolved; its arrival stays what it was."""
    desk.ledger.commit([Book("demo", EPOCH, RangeSet([(1, 4)]), RangeSet([(5, 5)]))], [kept(5)], {}, NOW_S)
    assert desk.readmit(1) == Readmitted(stored=1, repeats=0, refused=())
    ((_, row),) = desk.store.all()
    assert (row.seq, row.received_s) == (5, NOW_S - 60)
    book = desk.ledger.book("demo", EPOCH)
    assert book is not None
    assert list(book.accepted) == [(1, 5)]
    assert list(quarantine.listing(desk.ledger)) == []
    assert [item.resolved for item in quarantine.listing(desk.ledger, waiting_only=False)] == ["readmitted"]


@pytest.mark.parametrize(
    "body", [Drop("epoch-99", "2-4", "ping", 3, "spool full"), Boot("agent", "unclean", previous_epoch="epoch-99", previous_seq=4)]
)
def test_what_a_record_says_of_another_epoch_is_entered_with_it(desk: Desk, body: Body) -> None:
    """A drop record excuses what it names, a boot record tells where the run before ended."""
    desk.ledger.commit([Book("demo", "epoch-99", RangeSet([(1, 1), (5, 5)]))], [], {}, NOW_S)
    record = Record(5, NOW_S, body)
    desk.keep(Quarantined("demo", EPOCH, 5, NOW_S, NOW_S, "store-refused", "", alone(Report(EPOCH, records=(record,)), record)))
    assert desk.readmit(1) == Readmitted(stored=1, repeats=0, refused=())
    book = desk.ledger.book("demo", "epoch-99")
    assert book is not None
    assert (list(book.excused), book.expected_last) == (([(2, 4)], None) if isinstance(body, Drop) else ([], 4))


def test_a_whole_payload_is_read_again(desk: Desk) -> None:
    """What an older version could not read, this one can: all its records are stored."""
    payload = encode_report(Report(EPOCH, records=(Record(1, NOW_S, Tick()), Record(2, NOW_S, Tick()))))
    desk.keep(whole(payload, "unknown-codec"))
    assert desk.readmit(1) == Readmitted(stored=2, repeats=0, refused=())
    assert desk.stored == [1, 2]


def test_what_is_still_wrong_stays(desk: Desk) -> None:
    """The reason is told again, and the item waits on."""
    desk.keep(whole(b"garbage", "unknown-codec"), kept(7, reason="time-future", time=NOW_S + 4000))
    assert desk.readmit(1) == Readmitted(0, 0, ((0, "unknown-codec", "first byte 0x67; known are 0x01 (deflate) and 0x7b (JSON)"),))
    assert desk.readmit(2) == Readmitted(0, 0, ((7, "time-future", "4000 s ahead of the collector's clock"),))
    assert [item.id for item in quarantine.listing(desk.ledger)] == [1, 2]
    assert desk.stored == []


def test_half_of_a_payload_may_be_stored(desk: Desk) -> None:
    """The good records of a payload are stored, and what is refused keeps the item waiting."""
    payload = encode_report(Report(EPOCH, records=(Record(1, NOW_S, Tick()), Record(2, NOW_S + 4000, Tick()))))
    desk.keep(whole(payload, "unknown-codec"))
    again = desk.readmit(1)
    assert again is not None
    assert (again.stored, [seq for seq, _, _ in again.refused], again.resolved) == (1, [2], False)
    assert desk.stored == [1]


def test_what_was_stored_meanwhile_is_resolved(desk: Desk) -> None:
    """The agent has sent it again and it went through: nothing is left to do."""
    desk.ledger.commit([Book("demo", EPOCH, RangeSet([(5, 5)]))], [kept(5)], {}, NOW_S)
    assert desk.readmit(1) == Readmitted(stored=0, repeats=1, refused=())
    assert list(quarantine.listing(desk.ledger)) == []


def test_the_record_of_a_second_agent_cannot_take_the_place_of_the_first(desk: Desk) -> None:
    """Its number is taken: it stays in quarantine until somebody drops it."""
    desk.ledger.commit([Book("demo", EPOCH, RangeSet([(5, 5)]))], [kept(5, reason="two-agents")], {}, NOW_S)
    again = desk.readmit(1)
    assert again is not None
    assert [reason for _, reason, _ in again.refused] == ["two-agents"]
    assert len(list(quarantine.listing(desk.ledger))) == 1


def test_a_center_has_to_be_registered_first(desk: Desk) -> None:
    """Records of a center that is not in the registry stay where they are."""
    desk.keep(kept(5, center="new-library"))
    assert desk.readmit(1) == Readmitted(0, 0, ((0, "unknown center", ""),))
    assert desk.stored == []


def test_a_store_that_refuses_again(desk: Desk) -> None:
    """Its words are told, and the item waits on."""

    class Refusing(SqliteStore):
        def write(self, rows: Sequence[Row]) -> list[Rejected]:
            return [Rejected(row, "400: no") for row in rows]

    desk.keep(kept(5))
    store = Refusing(Path("unused"), retention_days=1)
    again = quarantine.readmit(desk.ledger, store, 1, region=REGION, admit_unknown=False, now_ms=NOW_S * 1000)
    assert again == Readmitted(0, 0, ((5, "store-refused", "400: no"),))
    assert len(list(quarantine.listing(desk.ledger))) == 1


def test_a_store_that_is_away_changes_nothing(desk: Desk) -> None:
    """Try again later: the item is as it was."""

    class Away(SqliteStore):
        def write(self, rows: Sequence[Row]) -> list[Rejected]:
            raise RetryLater("unreachable", "no route")

    desk.keep(kept(5))
    with pytest.raises(RetryLater):
        quarantine.readmit(desk.ledger, Away(Path("unused"), retention_days=1), 1, region=REGION, admit_unknown=False, now_ms=NOW_S * 1000)
    assert [item.resolved for item in quarantine.listing(desk.ledger)] == [None]


def test_dropping_ends_it(desk: Desk) -> None:
    """A dropped item waits no more, and can be neither readmitted nor dropped again."""
    desk.keep(kept(5))
    assert quarantine.drop(desk.ledger, 1)
    assert list(quarantine.listing(desk.ledger)) == []
    with pytest.raises(AlreadyResolvedError):
        quarantine.drop(desk.ledger, 1)
    with pytest.raises(AlreadyResolvedError):
        desk.readmit(1)


def test_a_number_that_is_none(desk: Desk) -> None:
    """Nothing is found, nothing happens."""
    assert (desk.readmit(1), quarantine.drop(desk.ledger, 1), quarantine.show(desk.ledger, 1)) == (None, False, None)


def test_long_listings_are_read_in_steps(desk: Desk) -> None:
    """All items come, in the order of arrival, however many."""
    desk.keep(*[kept(seq) for seq in range(1, 1201)])
    assert [item.what.seq for item in quarantine.listing(desk.ledger)] == list(range(1, 1201))


def test_readmitting_beside_the_service_loses_none_of_its_ranges(desk: Desk, place: Place) -> None:
    """What the service commits between our looking and our writing is still there afterwards."""
    desk.keep(kept(5))
    service = Ledger(place.open())
    write = desk.store.write

    def write_slowly(rows: Sequence[Row]) -> list[Rejected]:
        service.commit([Book("demo", EPOCH, RangeSet([(1, 4), (6, 9)]))], [], {}, NOW_S)
        return write(rows)

    desk.store.write = write_slowly  # type: ignore[method-assign]
    desk.readmit(1)
    book = service.book("demo", EPOCH)
    service.close()
    assert book is not None
    assert list(book.accepted) == [(1, 9)]
