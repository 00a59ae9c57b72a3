"""What becomes of each record: the table of docs/wire.md, row by row (`admit`, `books`)."""

import json
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerege_collector import admit
from kerege_collector.admit import Admission, Admitted
from kerege_collector.books import MAX_RANGES, Book, Books
from kerege_wire import Boot, Drop, Record, Report, Tick, decode_report, encode_report
from kerege_wire.dictionary import DICTIONARY_1
from kerege_wire.ranges import RangeSet

NOW_S = 1_795_465_800
NOW_MS = NOW_S * 1000
EPOCH = "Zk3q9w2a"
DEMO = "kerege/v1/demo/report"
TICK = Tick("online", rtt_ms=612.0)


class House:
    """An admission with books of its own."""

    def __init__(self, *known: Book, admit_unknown: bool = False) -> None:
        self.suspicious = False
        self.clock_is_right = True
        stored = {(book.center, book.epoch): book for book in known}
        self.books = Books(lambda center, epoch: stored.get((center, epoch)))
        self.admission = Admission(
            self.books,
            {"demo"},
            admit_unknown=admit_unknown,
            two_agents=lambda _: self.suspicious,
            clock_is_right=lambda: self.clock_is_right,
        )

    def admit(self, payload: bytes, topic: str = DEMO) -> Admitted:
        return self.admission.admit(topic, payload, NOW_MS)

    def take(self, payload: bytes) -> Admitted:
        """Admit, store and commit."""
        admitted = self.admit(payload)
        if admitted.book is not None:
            admitted.book.store([row.seq for row in admitted.rows])
            admitted.excuse()
        for book in self.books.changed():
            book.committed()
        self.books.end_batch()
        return admitted


def report(*seqs: int, time: int = NOW_S, **header: Any) -> bytes:
    return encode_report(Report(EPOCH, records=tuple(Record(seq, time, TICK) for seq in seqs), **header))


def plain(records: list[Any], seq: int = 1, **members: Any) -> bytes:
    return json.dumps({"epoch": EPOCH, "seq": seq, "time": NOW_S, "records": records} | members).encode()


def deflated(text: bytes) -> bytes:
    deflater = zlib.compressobj(9, zlib.DEFLATED, -15, zdict=DICTIONARY_1)
    return b"\x01" + deflater.compress(text) + deflater.flush()


def numbers(found: Report) -> list[int]:
    return sorted([record.seq for record in found.records] + [item.seq for item in found.refused])


def test_a_good_record_is_accepted() -> None:
    """A first record becomes one row with its identity, its time and how that was known."""
    admitted = House().admit(report(7, clock="estimated", within_s=60))
    (row,) = admitted.rows
    assert admitted.outcome == "accepted"
    assert (row.center, row.epoch, row.seq, row.time, row.kind, row.clock, row.within_s, row.body, row.received_s) == (
        ("demo", EPOCH, 7, NOW_S, "tick", "estimated", 60, TICK, NOW_S)
    )


def test_a_repeat_is_acked_and_not_stored_again() -> None:
    """An identity that is stored is a repeat, in a later report as in the ledger of an earlier run."""
    house = House(Book("demo", EPOCH, RangeSet([(1, 4)])))
    house.take(report(7))
    admitted = house.admit(report(3, 7, 8))
    assert [row.seq for row in admitted.rows] == [8]
    assert (admitted.repeats, admitted.refused) == ([3, 7], [])


def test_a_second_copy_in_the_same_batch_is_a_repeat() -> None:
    """Two copies that arrive together are stored once."""
    house = House()
    first, second = house.admit(report(1, 2)), house.admit(report(2, 3))
    assert [row.seq for row in first.rows + second.rows] == [1, 2, 3]
    assert second.repeats == [2]


def test_a_batch_that_is_admitted_again_loses_nothing() -> None:
    """When the ledger was away in the middle of a batch, the second admission finds nothing taken."""
    house = House()
    house.admit(report(1, 2))
    house.books.forget_pending()
    assert [row.seq for row in house.admit(report(1, 2)).rows] == [1, 2]


def test_an_older_number_in_a_later_report_is_accepted() -> None:
    """Order between reports means nothing: backlogs go newest first."""
    house = House()
    house.take(report(50, 51))
    assert [row.seq for row in house.take(report(3, 4)).rows] == [3, 4]


@pytest.mark.parametrize(
    ("time", "reason"),
    [
        (NOW_S + 300, None),
        (NOW_S + 301, "time-future"),
        (1_577_836_800, None),
        (1_577_836_799, "time-before-2020"),
        (0, "time-before-2020"),
    ],
)
def test_times_that_cannot_be(time: int, reason: str | None) -> None:
    """More than five minutes ahead, or before 2020: refused, kept, and acked as refused."""
    admitted = House().admit(report(1, time=time))
    assert admitted.refused == ([(1, reason)] if reason else [])
    assert [item.reason for item in admitted.quarantined] == ([reason] if reason else [])
    assert len(admitted.rows) == (0 if reason else 1)


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"kind": "weather", "rain": True}, "unknown-kind"),
        ({"kind": "tick", "rtt_ms": "fast"}, "bad-field"),
        ({"kind": "tick", "rtt_ms": -1}, "bad-field"),
        ({"kind": "ping", "sent": 10}, "bad-field"),
        ([0, "tick", 0, "sideways"], "bad-field"),
        ({"kind": "drop", "dropped_epoch": EPOCH, "dropped_seqs": "9-3"}, "bad-field"),
        ({"kind": "tick"} | {f"x{number}": 1 for number in range(70)}, "bad-message"),
    ],
)
def test_one_bad_record_spoils_no_other(record: Any, reason: str) -> None:
    """It is refused alone, and what is kept of it is a report that anybody can decode."""
    admitted = House().admit(plain([{"kind": "tick"}, record, {"kind": "tick"}], seq=4))
    assert [row.seq for row in admitted.rows] == [4, 6]
    assert admitted.refused == [(5, reason)]
    (kept,) = admitted.quarantined
    assert (kept.center, kept.epoch, kept.seq, kept.time, kept.reason) == ("demo", EPOCH, 5, NOW_S, reason)
    again = decode_report(kept.payload)
    assert numbers(again) == [5]


def test_what_is_refused_once_may_be_accepted_later() -> None:
    """A refusal holds no number: the same record, its reason gone, is stored."""
    house = House()
    assert house.take(report(1, time=NOW_S + 400)).refused == [(1, "time-future")]
    house.admission.admit(DEMO, report(1, time=NOW_S + 400), NOW_MS + 200_000)
    assert [row.seq for row in house.admit(report(1)).rows] == []  # the copy of the line before is under way
    house.books.end_batch()
    assert [row.seq for row in house.admit(report(1)).rows] == [1]


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "empty"),
        (b"\x02anything", "unknown-codec"),
        (b"hello", "unknown-codec"),
        (b"\x01\xff\xff", "not-deflate"),
        (report(1)[:-3], "not-deflate"),
        (b"{", "not-json"),
        (b'{"epoch":"Zk3q9w2a","sent":1e999}', "bad-field"),
        (b'{"epoch":"Zk3q9w2a","sent":NaN}', "not-json"),
        (deflated(b"[1]"), "bad-message"),
        (b"{}", "bad-field"),
        (plain([{"kind": "tick"}, {"kind": "tick", "skip": -1}]), "bad-field"),
        (plain([[0, "tick", -5]]), "bad-field"),
        (plain([{"kind": "tick"}] * 1001), "bad-message"),
        (plain([7]), "bad-message"),
        (b"{" + b" " * 70_000 + b"}", "too-large"),
        (deflated(b'{"epoch":"' + b"a" * 10_000_000), "too-large"),
        (b'{"epoch":"Zk3q9w2a","x":' + b"[" * 20 + b"]" * 20 + b"}", "bad-message"),
    ],
)
def test_an_unreadable_payload_is_kept_and_named(payload: bytes, reason: str) -> None:
    """Nothing of it is stored, its bytes are kept, and the reason is the one of docs/wire.md."""
    admitted = House().admit(payload)
    assert (admitted.outcome, admitted.reason, admitted.rows) == ("unreadable", reason, [])
    (kept,) = admitted.quarantined
    assert (kept.payload, kept.reason, kept.epoch, kept.seq) == (payload, reason, "", 0)


def test_a_report_of_ten_megabytes_is_never_inflated() -> None:
    """A bomb of 10 kB that would become 10 MB is answered, and costs no memory worth speaking of."""
    bomb = deflated(b'{"epoch":"' + b"a" * 10_000_000)
    assert len(bomb) < 16_000
    assert House().admit(bomb).reason == "too-large"


def test_another_centers_name_in_the_body() -> None:
    """The whole report is refused, every number of it, and its bytes are kept under the center of the topic."""
    payload = report(1, 2, center="other")
    admitted = House().admit(payload)
    assert (admitted.outcome, admitted.rows) == ("wrong-center", [])
    assert admitted.refused == [(1, "wrong-center"), (2, "wrong-center")]
    assert [(item.center, item.payload) for item in admitted.quarantined] == [("demo", payload)]


def test_the_own_name_in_the_body_is_right() -> None:
    """A report may name its center."""
    assert len(House().admit(report(1, center="demo")).rows) == 1


@pytest.mark.parametrize(
    "topic", ["kerege/v1/Demo/report", "kerege/v1/collector/report", "kerege/v2/demo/report", "kerege/v1/demo/ack", "", "�"]
)
def test_a_topic_that_is_no_centers(topic: str) -> None:
    """It is dropped and counted; nobody could be told."""
    admitted = House(admit_unknown=True).admit(report(1), topic)
    assert (admitted.outcome, admitted.center, admitted.rows, admitted.quarantined) == ("bad-topic", None, [], [])


def test_an_unknown_center_is_held() -> None:
    """Nothing is stored and nothing refused: the agent keeps it all, and learns the time from the ack that says so."""
    admitted = House().admit(report(1, sent=5), "kerege/v1/new-library/report")
    assert (admitted.outcome, admitted.rows, admitted.quarantined, admitted.reason) == ("held", [], [], "unknown center")
    assert admitted.report is not None
    assert admitted.report.sent == 5


def test_an_unknown_center_may_be_admitted() -> None:
    """With the setting, its records are taken in like any other's."""
    admitted = House(admit_unknown=True).admit(report(1), "kerege/v1/new-library/report")
    assert [row.center for row in admitted.rows] == ["new-library"]


def test_a_thousand_gaps_and_no_more() -> None:
    """The 1,001st separate range of an epoch is refused; a number that joins one of them is not."""
    house = House()
    evens = list(range(2, 2 * MAX_RANGES + 3, 2))
    admitted = house.take(report(*evens[:999]))
    assert admitted.refused == []
    admitted = house.take(report(*evens[999:]))
    assert admitted.refused == [(evens[-1], "too-many-gaps")]
    assert [row.seq for row in house.take(report(3, 2 * MAX_RANGES + 1)).rows] == [3, 2 * MAX_RANGES + 1]


def test_dropped_numbers_are_no_gaps() -> None:
    """A drop record excuses the numbers that it names, in whatever epoch; a record of such a number that comes all the same is stored."""
    house = House(Book("demo", "earlier0", RangeSet([(1, 2), (9, 9)])))
    drop = Record(1, NOW_S, Drop("earlier0", "3-5,8", "ping", 4))
    house.take(encode_report(Report(EPOCH, records=(drop,))))
    book = house.books.of("demo", "earlier0", NOW_S)
    assert book.gaps() == [(6, 7)]
    late = encode_report(Report("earlier0", records=(Record(4, NOW_S, TICK),)))
    assert [row.seq for row in house.take(late).rows] == [4]


def test_a_boot_record_tells_where_the_epoch_before_ended() -> None:
    """Numbers up to the last that is known to have been given out, and not stored, are gaps."""
    house = House(Book("demo", "earlier0", RangeSet([(1, 6)])))
    boot = Record(1, NOW_S, Boot("agent", "unclean", previous_epoch="earlier0", previous_seq=9))
    house.take(encode_report(Report(EPOCH, records=(boot,))))
    book = house.books.of("demo", "earlier0", NOW_S)
    assert book.gaps() == [(7, 9)]
    assert not book.complete


def test_refused_numbers_are_no_gaps() -> None:
    """What is in quarantine is not missing."""
    house = House()
    house.take(plain([{"kind": "tick"}, {"kind": "weather"}, {"kind": "tick"}]))
    assert house.books.of("demo", EPOCH, NOW_S).gaps() == []


def test_repeats_of_a_center_with_two_agents_are_kept() -> None:
    """One of two records with one identity is not the other's repeat: it is refused and kept, and what is stored stays so."""
    house = House(Book("demo", EPOCH, RangeSet([(1, 4)])))
    house.suspicious = True
    admitted = house.take(report(4, 5))
    assert [row.seq for row in admitted.rows] == [5]
    assert (admitted.repeats, admitted.refused) == ([], [(4, "two-agents")])
    assert len(admitted.quarantined) == 1
    assert list(house.books.of("demo", EPOCH, NOW_S).excused) == []


def test_an_empty_report_changes_nothing() -> None:
    """A question is answered from the book, and leaves nothing to be written."""
    house = House()
    house.take(report(1, 2))
    admitted = house.admit(encode_report(Report(EPOCH, sent=5, center="demo")))
    assert (admitted.outcome, admitted.rows, admitted.refused) == ("accepted", [], [])
    assert admitted.book is house.books.of("demo", EPOCH, NOW_S)
    unknown = house.admit(encode_report(Report("neverSen", sent=5, center="demo")))
    assert unknown.book is not None
    assert not unknown.book.dirty


def test_what_seems_to_come_from_the_future_stays_with_its_agent_while_our_own_clock_is_in_doubt() -> None:
    """It is neither stored nor refused: when our clock is right again it may prove to be good."""
    house = House()
    house.clock_is_right = False
    admitted = house.admit(report(1, time=NOW_S + 301))
    assert (admitted.rows, admitted.refused, admitted.quarantined, admitted.left) == ([], [], [], [(1, "collector-clock")])
    house.clock_is_right = True
    assert house.admit(report(1, time=NOW_S + 301)).refused == [(1, "time-future")]


def test_a_collector_that_lives_before_2020_takes_nothing_and_tells_no_time() -> None:
    """Its clock was never set: an agent would date its records by it, and they would be refused for good."""
    admitted = House().admission.admit(DEMO, report(1), 86_400_000)
    assert (admitted.outcome, admitted.reason, admitted.report) == ("held", "the collector's clock is wrong", None)


def test_an_agent_that_takes_new_epochs_without_end_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is a row in the ledger for ever. Epochs that are known go on, questions are answered, and after a while a new one is let in."""
    monkeypatch.setattr(admit, "EPOCHS_BURST", 3)
    house = House()

    def from_epoch(number: int, *seqs: int, later_s: int = 0) -> Admitted:
        payload = encode_report(Report(f"epoch-{number:02d}", records=tuple(Record(seq, NOW_S, TICK) for seq in seqs)))
        admitted = house.admission.admit(DEMO, payload, NOW_MS + later_s * 1000)
        house.books.end_batch()
        return admitted

    outcomes = [from_epoch(number, 1).outcome for number in range(5)]
    assert outcomes == ["accepted", "accepted", "accepted", "held", "held"]
    assert from_epoch(4, 1).reason == "too many epochs"
    assert from_epoch(2, 2).outcome == "accepted"
    assert from_epoch(7).outcome == "accepted"
    assert from_epoch(4, 1, later_s=11).outcome == "accepted"


def test_epochs_that_are_only_named_are_bounded_likewise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Boot and drop records may name any epoch; beyond the bound they are stored, and nothing is noted of what they name."""
    monkeypatch.setattr(admit, "EPOCHS_BURST", 3)
    house = House()
    boots = [Boot("agent", "unclean", previous_epoch=f"epoch-{number:02d}", previous_seq=9) for number in range(5)]
    records = tuple(Record(seq, NOW_S, boot) for seq, boot in enumerate(boots, start=1))
    admitted = house.admit(encode_report(Report(EPOCH, records=records)))
    assert len(admitted.rows) == 5
    assert sorted(book.epoch for book in house.books.changed()) == ["epoch-00", "epoch-01"]


def test_books_in_memory_are_bounded() -> None:
    """Those not used for longest are put away, and read again from the ledger when needed."""
    kept: dict[tuple[str, str], Book] = {}
    books = Books(lambda center, epoch: kept.get((center, epoch)), max_books=3)
    for number in range(10):
        book = books.of("demo", f"epoch-{number:02d}", NOW_S)
        book.store([number + 1])
        book.committed()
        kept[book.center, book.epoch] = book
        books.end_batch()
    assert len(books) == 3
    assert books.of("demo", "epoch-00", NOW_S).holds(1)


members = st.dictionaries(
    st.sampled_from(["epoch", "sent", "center", "waiting", "ack", "clock", "within_s", "seq", "time", "records", "x"]),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=10) | st.just(EPOCH) | st.just(NOW_S),
        lambda inner: (
            st.lists(inner, max_size=6) | st.dictionaries(st.sampled_from(["kind", "after", "skip", "target", "y"]), inner, max_size=4)
        ),
        max_leaves=15,
    ),
    max_size=8,
)
rows = st.lists(
    st.lists(st.sampled_from(["tick", "ping", "drop", "boot", "online", EPOCH, "1-3", "9-1", None, 0, 1, -1, 60, 1.5, True]), max_size=14),
    max_size=4,
)
payloads = (
    st.binary(max_size=200)
    | members.map(lambda found: json.dumps(found).encode())
    | st.builds(lambda found, listed: plain(listed) if not found else deflated(plain(listed)), st.booleans(), rows)
)


@given(st.lists(payloads, max_size=6))
def test_every_payload_has_a_named_outcome(batch: list[bytes]) -> None:
    """Whatever the bytes: no exception, and every record that can be named is accepted, repeated or refused, once."""
    house = House(admit_unknown=True)
    for payload in batch:
        admitted = house.admit(payload)
        assert admitted.outcome in {"accepted", "unreadable", "wrong-center"}
        if admitted.outcome == "accepted" and admitted.report is not None:
            named = sorted([row.seq for row in admitted.rows] + admitted.repeats + [seq for seq, _ in admitted.refused])
            assert named == numbers(admitted.report)
            assert all(decode_report(item.payload) for item in admitted.quarantined)
