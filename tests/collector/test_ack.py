"""When an acknowledgement leaves, and what it says (`ack`)."""

import itertools
import zlib
from collections.abc import Sequence

import pytest

from kerege_collector.ack import HOLD_BURST, HOLD_EVERY_S, Acks
from kerege_collector.admit import Admitted, unreadable
from kerege_collector.books import Book
from kerege_wire import Ack, Record, Report, Tick, decode_ack
from kerege_wire.messages import MAX_RANGES
from kerege_wire.ranges import RangeSet

EPOCH = "Zk3q9w2a"
RECEIVED_MS = 1_795_465_801_042
REPLIED_MS = RECEIVED_MS + 46


class Broker:
    """Acks with a broker that is there or not, and takes what it is given."""

    def __init__(self, *, within_s: float = 300.0) -> None:
        self.connected = True
        self.clock = "synced"
        self.sent: list[tuple[str, Ack]] = []
        self.acks = Acks(self._publish, within_s=within_s, clock=lambda: self.clock, now_ms=lambda: REPLIED_MS)

    def _publish(self, topic: str, payload: bytes) -> bool:
        if self.connected:
            self.sent.append((topic, decode_ack(payload)))
        return self.connected

    def add(self, message: Admitted, stored: Sequence[int], refused: Sequence[tuple[int, str]], now_s: float) -> None:
        """This message came, and so it ended."""
        message.repeats, message.refused = list(stored), list(refused)
        self.acks.add(message, now_s)

    @property
    def last(self) -> Ack:
        return self.sent[-1][1]


def admitted(book: Book | None, *seqs: int, prompt: bool = False, sent: int | None = 86_400_123, center: str = "demo") -> Admitted:
    records = tuple(Record(seq, 1_795_465_800, Tick()) for seq in seqs)
    report = Report(book.epoch if book else EPOCH, sent=sent, ack="now" if prompt else None, records=records)
    return Admitted("accepted", center, RECEIVED_MS, report, book)


def book_of(*ranges: tuple[int, int], epoch: str = EPOCH) -> Book:
    return Book("demo", epoch, RangeSet(ranges))


def test_an_ack_names_the_whole_range_and_the_time() -> None:
    """The ranges around what was committed make good for lost acks; the four timestamps but one are in it."""
    broker = Broker()
    broker.add(admitted(book_of((1, 7), (9, 9), (20, 30)), 7, 25, prompt=True), [7, 25], [], 0.0)
    assert broker.sent == [
        ("kerege/v1/demo/ack", Ack(EPOCH, 86_400_123, RECEIVED_MS, REPLIED_MS, stored=((1, 7), (20, 30)))),
    ]


def test_an_empty_report_is_answered_at_once() -> None:
    """It asks for the time, and for all that is held of its epoch: acks that a dead connection swallowed need not be waited for."""
    broker = Broker()
    broker.add(admitted(book_of()), [], [], 0.0)
    assert broker.last == Ack(EPOCH, 86_400_123, RECEIVED_MS, REPLIED_MS)
    broker.add(admitted(book_of((1, 7), (20, 30))), [], [], 0.0)
    assert broker.last.stored == ((1, 7), (20, 30))


def test_the_answer_to_an_empty_report_names_all_that_is_held() -> None:
    """An agent that asks what there is learns all ranges of its epoch, however many."""
    broker = Broker()
    ranges = [(seq, seq) for seq in range(1, 2 * MAX_RANGES + 11, 2)]
    broker.add(admitted(book_of(*ranges)), [], [], 0.0)
    assert [pair for _, ack in broker.sent for pair in ack.stored] == ranges


def test_an_unsynchronised_clock_is_said() -> None:
    """The agents must know when the collector's own time is in doubt."""
    broker = Broker()
    broker.clock = "unsynced"
    broker.add(admitted(None), [], [], 0.0)
    assert broker.last.clock == "unsynced"


def test_steady_reports_are_acked_together_in_time() -> None:
    """Five ticks of a center make one ack, after at least half of ack_within_s and never after all of it."""
    broker = Broker(within_s=300.0)
    book = book_of((1, 5))
    for seq in range(1, 6):
        broker.add(admitted(book, seq, sent=seq), [seq], [], 0.0)
    broker.acks.flush(149.0)
    assert broker.sent == []
    broker.acks.flush(300.0)
    assert [ack.stored for _, ack in broker.sent] == [((1, 5),)]
    assert broker.last.sent == 5
    assert len(broker.acks) == 0


def test_acks_of_many_centers_are_spread() -> None:
    """A hundred centers that report together are not acked together."""
    broker = Broker(within_s=300.0)
    for number in range(100):
        broker.add(admitted(book_of((1, 1)), 1, center=f"center-{number}"), [1], [], 0.0)
    sent_by = []
    for second in range(150, 301, 25):
        broker.acks.flush(float(second))
        sent_by.append(len(broker.sent))
    assert sent_by[-1] == 100
    assert all(later > earlier for earlier, later in itertools.pairwise(sent_by))


def test_a_prompt_report_takes_along_what_waits() -> None:
    """The ack at once also names what was held back, refusals too; nothing is sent a second time later."""
    broker = Broker()
    book = book_of((1, 2), (5, 5))
    broker.add(admitted(book, 1, 2, 3), [1, 2], [(3, "store-refused")], 0.0)
    broker.add(admitted(book, 5, prompt=True), [5], [], 1.0)
    assert broker.last == Ack(EPOCH, 86_400_123, RECEIVED_MS, REPLIED_MS, stored=((1, 2), (5, 5)), refused=((3, "store-refused"),))
    broker.acks.flush(1000.0)
    assert len(broker.sent) == 1


def test_what_is_not_in_the_book_is_never_named() -> None:
    """Even if somebody asks: an ack speaks of what is durable."""
    broker = Broker()
    broker.add(admitted(book_of((1, 2)), 9, prompt=True), [9], [], 0.0)
    assert broker.last.stored == ()


def test_more_ranges_than_one_ack_may_carry() -> None:
    """Several acks go out, and together name all."""
    broker = Broker()
    seqs = list(range(1, 2 * MAX_RANGES + 100, 2))
    refused = [(seq + 1, "bad-field") for seq in seqs[:10]]
    book = book_of(*[(seq, seq) for seq in seqs])
    broker.add(admitted(book, *seqs, prompt=True), seqs, refused, 0.0)
    named = [pair for _, ack in broker.sent for pair in ack.stored]
    assert named == [(seq, seq) for seq in seqs]
    assert [pair for _, ack in broker.sent for pair in ack.refused] == refused
    assert len(broker.sent) == 2


def test_while_the_broker_is_away_acks_wait() -> None:
    """What is due goes out when the connection is back; a prompt one as well."""
    broker = Broker(within_s=10.0)
    broker.connected = False
    book = book_of((1, 2))
    broker.add(admitted(book, 1), [1], [], 0.0)
    broker.add(admitted(book, 2, prompt=True), [2], [], 0.0)
    broker.acks.flush(50.0)
    broker.connected = True
    broker.acks.flush(51.0)
    assert [ack.stored for _, ack in broker.sent] == [((1, 2),)]


def test_a_clean_stop_sends_everything() -> None:
    """Nothing that is durable stays unsaid."""
    broker = Broker()
    for epoch in ("epoch-01", "epoch-02"):
        broker.add(admitted(book_of((1, 1), epoch=epoch), 1), [1], [], 0.0)
    broker.acks.flush_all()
    assert sorted(str(ack.epoch) for _, ack in broker.sent) == ["epoch-01", "epoch-02"]
    assert broker.acks.next_due_s() is None


def test_a_center_on_hold_is_answered_seldom_but_at_every_honest_question() -> None:
    """A new connection or a question every few minutes has its answer, and the time with it; a storm has not."""
    broker = Broker()
    held = Admitted("held", "demo", RECEIVED_MS, Report(EPOCH, sent=9), reason="unknown center")
    for second in range(121):
        broker.add(held, [], [], float(second))
    assert HOLD_BURST <= len(broker.sent) <= HOLD_BURST + 120 / HOLD_EVERY_S
    assert {(ack.hold, ack.sent, ack.received) for _, ack in broker.sent} == {("unknown center", 9, RECEIVED_MS)}


def test_holds_of_different_centers_do_not_hinder_each_other() -> None:
    """Each center has its own minute, however many there are."""
    broker = Broker()
    for number in range(200):
        broker.add(Admitted("held", f"center-{number}", RECEIVED_MS, None, reason="unknown center"), [], [], 0.0)
    assert len(broker.sent) == 200


def test_an_unreadable_payload_is_named_by_its_checksum() -> None:
    """An agent that knows its own payloads finds the one."""
    broker = Broker()
    broker.add(unreadable("demo", b"garbage", RECEIVED_MS, "unknown-codec", "first byte 0x67"), [], [], 0.0)
    assert broker.sent == [("kerege/v1/demo/ack", Ack(unreadable=f"{zlib.crc32(b'garbage'):08x}", reason="unknown-codec"))]


def test_a_flood_of_garbage_is_no_flood_of_answers() -> None:
    """A burst is answered, then one a second."""
    broker = Broker()
    for step in range(1000):
        broker.add(unreadable("demo", b"garbage", RECEIVED_MS, "unknown-codec", ""), [], [], step / 100)
    assert len(broker.sent) == pytest.approx(20 + 10, abs=1)


def test_a_bad_topic_is_answered_to_nobody() -> None:
    """There is no center to tell."""
    broker = Broker()
    broker.add(Admitted("bad-topic", None, RECEIVED_MS), [], [], 0.0)
    assert broker.sent == []
