"""The worker's promises: the order of things, and what happens when one of them fails (`pipeline`, `persistence`)."""

import json
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from kerege_collector import persistence
from kerege_collector.ack import Acks
from kerege_collector.admit import Admission, Admitted
from kerege_collector.board import Board
from kerege_collector.books import Books
from kerege_collector.centers import Region
from kerege_collector.gaps import GapCounts
from kerege_collector.inbox import Message
from kerege_collector.ledger import Ledger
from kerege_collector.pipeline import MAX_RECORDS, BatchLimits, Parts, Pipeline
from kerege_collector.quarantine_room import DEFAULT_BOUNDS, Bounds
from kerege_collector.stages import Stages
from kerege_collector.stores import Rejected, RetryLater, Row
from kerege_collector.stores.sqlite import SqliteStore
from kerege_collector.witness import Witness
from kerege_wire import Ack, Presence, Record, Report, Tick, decode_ack, encode_presence, encode_report
from kerege_wire.ranges import RangeSet
from tests.places import Place

NOW_S = 1_795_465_800
EPOCH = "Zk3q9w2a"
DEADLINE_S = 60.0


class Mailbox:
    """The inbox's place: hands out what the test puts in, and notes what is done with it, in order."""

    def __init__(self, log: list[str]) -> None:
        self.batches: deque[list[Message]] = deque()
        self.log = log
        self.done_topics: list[str] = []
        self.states: list[str] = []

    def take(self, max_messages: int, wait_s: float, idle_s: float) -> list[Message]:
        if self.batches:
            return self.batches.popleft()
        time.sleep(0.005)
        return []

    def put_back(self, first: Sequence[Message], last: Sequence[Message]) -> None:
        if first:
            self.batches.appendleft(list(first))
        if last:
            self.batches.append(list(last))

    def done(self, messages: Sequence[Message]) -> None:
        self.log.append(f"puback {len(messages)}")
        self.done_topics += [message.topic for message in messages]

    def announce(self, state: str) -> None:
        self.states.append(state)


class TestStore(SqliteStore):
    """The real embedded store, with a place to make it fail."""

    __test__ = False

    def __init__(self, path: Path, log: list[str]) -> None:
        super().__init__(path, retention_days=400)
        self.log = log
        self.before: Callable[[Sequence[Row]], list[Rejected]] = lambda _: []

    def write(self, rows: Sequence[Row]) -> list[Rejected]:
        rejected = self.before(rows)
        bad = {item.row.seq for item in rejected}
        super().write([row for row in rows if row.seq not in bad])
        self.log.append(f"store {len(rows)}")
        return rejected


class TestLedger(Ledger):
    """The real ledger, likewise."""

    __test__ = False
    log: list[str]
    before: Callable[[], None]

    def commit(self, *args: object, **named: object) -> None:
        self.before()
        super().commit(*args, **named)  # type: ignore[arg-type]
        self.log.append("ledger")


class Counts:
    """What was counted."""

    def __init__(self) -> None:
        self.by_name: Counter[str] = Counter()

    def records(self, outcome: str, count: int) -> None:
        self.by_name[f"records {outcome}"] += count

    def payloads(self, outcome: str, count: int) -> None:
        self.by_name[f"payloads {outcome}"] += count

    def store_failure(self, place: str, reason: str) -> None:
        self.by_name[f"failure {place} {reason}"] += 1

    def batch(self, seconds: float, records: int) -> None:
        self.by_name["batches"] += 1


class House:
    """A worker with a real store, a real ledger, a real board, and a mailbox."""

    def __init__(self, place: Place, *, bounds: Bounds) -> None:
        self.log: list[str] = []
        self.acks_sent: list[Ack] = []
        self.mail = Mailbox(self.log)
        self.store = TestStore(place.directory / "records.db", self.log)
        self.ledger = TestLedger(place.open(), bounds=bounds)
        self.ledger.log, self.ledger.before = self.log, lambda: None
        self.counts = Counts()
        self.board = Board(dict)
        self.books = Books(self.ledger.book)
        admission = Admission(
            self.books,
            {"demo", "other"},
            admit_unknown=False,
            two_agents=lambda center: self.board.two_agents(center, NOW_S),
            clock_is_right=lambda: True,
        )
        acks = Acks(self._publish, within_s=300.0, clock=lambda: "synced", now_ms=lambda: NOW_S * 1000)
        self.gaps = GapCounts()
        self.witness = Witness(self.ledger.runs, lambda: Region({}, {}, {}))
        parts = Parts(
            self.mail, admission, self.books, self.store, self.ledger, acks, self.board, self.gaps, self.witness, self.counts, Stages()
        )
        self.acks = acks
        self.pipeline = Pipeline(parts, BatchLimits(), now_s=lambda: NOW_S)
        self.thread = threading.Thread(target=self.pipeline.run)

    def _publish(self, topic: str, payload: bytes) -> bool:
        self.acks_sent.append(decode_ack(payload))
        self.log.append("ack")
        return True

    def put(self, *payloads: bytes, center: str = "demo", leaf: str = "report", at_s: int = NOW_S) -> None:
        self.mail.batches.append([Message(f"kerege/v1/{center}/{leaf}", payload, at_s * 1000, 1, 1) for payload in payloads])

    def start(self) -> None:
        self.thread.start()

    def wait(self, what: Callable[[], bool]) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while not what():
            assert time.monotonic() < deadline
            assert self.thread.is_alive()
            time.sleep(0.005)

    def run_until_done(self) -> None:
        """Work off what was put in, and stop in good order."""
        wanted = sum(len(batch) for batch in self.mail.batches)
        self.start()
        self.wait(lambda: len(self.mail.done_topics) >= wanted)
        self.stop()

    def stop(self) -> None:
        self.pipeline.stop()
        self.thread.join(DEADLINE_S)
        assert not self.thread.is_alive()

    @property
    def stored(self) -> list[int]:
        return [row.seq for _, row in self.store.all()]

    @property
    def named(self) -> list[tuple[int, int]]:
        return list(RangeSet(pair for ack in self.acks_sent for pair in ack.stored))


@pytest.fixture
def bounds() -> Bounds:
    """Of the quarantine; a test may have its own."""
    return DEFAULT_BOUNDS


@pytest.fixture
def house(place: Place, bounds: Bounds, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    monkeypatch.setattr(persistence, "FIRST_BACKOFF_S", 0.005)
    monkeypatch.setattr(persistence, "MAX_BACKOFF_S", 0.02)
    found = House(place, bounds=bounds)
    yield found
    if found.thread.is_alive():
        found.stop()
    found.store.close()
    found.ledger.close()


def report(*seqs: int, prompt: bool = True, epoch: str = EPOCH) -> bytes:
    records = tuple(Record(seq, NOW_S, Tick("online")) for seq in seqs)
    return encode_report(Report(epoch, sent=5, ack="now" if prompt else None, records=records))


def fails_times(count: int, error: Exception) -> Callable[..., list[Rejected]]:
    left = [count]

    def fail(*_: object) -> list[Rejected]:
        left[0] -= 1
        if left[0] >= 0:
            raise error
        return []

    return fail


def test_the_order_is_store_ledger_puback_ack(house: House) -> None:
    """Nothing is acknowledged, to the broker or to the agent, before store and ledger have committed."""
    house.put(report(1, 2), report(3))
    house.run_until_done()
    assert house.log[:4] == ["store 3", "ledger", "puback 2", "ack"]
    assert house.named == [(1, 3)]
    assert house.stored == [1, 2, 3]


def test_everything_is_counted(house: House) -> None:
    """Each record and each payload under its outcome."""
    house.put(report(1, 2), report(2), b"garbage", encode_report(Report(EPOCH, center="other", records=(Record(9, NOW_S, Tick()),))))
    house.put(report(1), center="stranger")
    house.put(encode_report(Report(EPOCH, records=(Record(7, 5, Tick()),))))
    house.run_until_done()
    assert house.counts.by_name == {
        "records accepted": 2,
        "records repeated": 1,
        "records refused": 2,
        "payloads accepted": 3,
        "payloads unreadable": 1,
        "payloads wrong-center": 1,
        "payloads held": 1,
        "batches": 3,
    }


@pytest.mark.parametrize("part", ["store", "ledger"])
def test_while_something_is_away_nothing_is_acknowledged(house: House, part: str) -> None:
    """The batch waits and is tried until it succeeds; it is then stored once and acknowledged."""
    back = threading.Event()
    tries = []

    def away(*_: object) -> list[Rejected]:
        tries.append(1)
        if not back.is_set():
            raise RetryLater("disk-full", "no space left")
        return []

    if part == "store":
        house.store.before = away
    else:
        house.ledger.before = away  # type: ignore[assignment]
    house.put(report(1, 2))
    house.start()
    house.wait(lambda: len(tries) >= 5)
    assert (house.mail.done_topics, house.acks_sent) == ([], [])
    assert house.pipeline.trouble == f"{part}: disk-full: no space left"
    assert house.counts.by_name[f"failure {part} disk-full"] >= 5
    back.set()
    house.wait(lambda: bool(house.acks_sent))
    house.stop()
    assert (house.stored, house.named) == ([1, 2], [(1, 2)])
    wait_over: str | None = house.pipeline.trouble
    assert wait_over is None


def test_agents_are_told_when_trouble_lasts(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a while the state is ``away``, so that nobody sends in vain; and ``ready`` when it is over."""
    monkeypatch.setattr(persistence, "AWAY_AFTER_S", 0.05)
    back = threading.Event()

    def away(_: object) -> list[Rejected]:
        if not back.is_set():
            raise RetryLater("unreachable", "")
        return []

    house.store.before = away
    house.put(report(1))
    house.start()
    house.wait(lambda: "away" in house.mail.states)
    back.set()
    house.wait(lambda: house.mail.states[-1] == "ready")
    assert house.stored == [1]


def test_the_worker_shows_that_it_lives_while_it_waits(house: House) -> None:
    """A store that is away for hours is no reason to be restarted."""
    house.store.before = fails_times(10**9, RetryLater("unreachable", ""))
    house.put(report(1))
    house.start()
    house.wait(lambda: house.counts.by_name["failure store unreachable"] > 3)
    then = house.pipeline.alive_s
    house.wait(lambda: house.pipeline.alive_s > then)


def test_the_servers_wish_is_respected(house: House) -> None:
    """Retry-After is waited for."""
    house.store.before = fails_times(1, RetryLater("throttled", "", retry_after_s=0.3))
    house.put(report(1))
    started = time.monotonic()
    house.run_until_done()
    assert time.monotonic() - started >= 0.3


def test_a_stop_in_the_middle_of_trouble_acknowledges_nothing(house: House) -> None:
    """What could not be written stays with the agents."""
    house.store.before = fails_times(10**9, RetryLater("unreachable", ""))
    house.put(report(1))
    house.start()
    house.wait(lambda: house.counts.by_name["failure store unreachable"] > 1)
    house.stop()
    assert (house.mail.done_topics, house.acks_sent, house.stored) == ([], [], [])


def test_a_clean_stop_says_all_that_is_durable(house: House) -> None:
    """Acks that were held back are sent, and the board is in the ledger."""
    house.put(report(1, prompt=False))
    house.run_until_done()
    assert house.named == [(1, 1)]
    assert "demo" in house.ledger.snapshots()


def test_what_the_store_refuses_is_kept_and_said(house: House) -> None:
    """Only these records are refused; they are in quarantine with the store's words, and are no gaps."""
    house.store.before = lambda rows: [Rejected(row, "400: field type conflict") for row in rows if row.seq in {2, 5}]
    house.put(report(1, 2, 3), report(4, 5))
    house.run_until_done()
    assert house.stored == [1, 3, 4]
    assert house.named == [(1, 1), (3, 4)]
    assert sorted(pair for ack in house.acks_sent for pair in ack.refused) == [(2, "store-refused"), (5, "store-refused")]
    assert [(item.what.seq, item.what.detail) for item in house.ledger.quarantined()] == [
        (2, "400: field type conflict"),
        (5, "400: field type conflict"),
    ]
    assert house.counts.by_name["records refused"] == 2
    assert house.gaps.of("demo") == 0


def test_what_the_store_refused_may_be_stored_later(house: House) -> None:
    """Its number is not taken: the agent's repeat is tried again."""
    house.store.before = lambda rows: [Rejected(rows[0], "no")]
    house.put(report(1))
    house.start()
    house.wait(lambda: len(house.acks_sent) == 1)
    house.store.before = lambda _: []
    house.put(report(1))
    house.wait(lambda: len(house.acks_sent) == 2)
    house.stop()
    assert house.stored == [1]


def test_a_message_that_upsets_admission_stops_nobody(
    house: House, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is kept as unreadable with the reason "internal", its traceback is logged, and the others go on."""
    admit = Admission.admit

    def upset(self: Admission, topic: str, payload: bytes, received_ms: int) -> Admitted:
        if payload == b"{poison}":
            raise ZeroDivisionError("a mistake of ours")
        return admit(self, topic, payload, received_ms)

    monkeypatch.setattr(Admission, "admit", upset)
    house.put(report(1), b"{poison}", report(2))
    house.put(b"{poison}")
    house.run_until_done()
    assert house.stored == [1, 2]
    (item,) = house.ledger.quarantined()
    assert (item.what.reason, item.what.payload) == ("internal", b"{poison}")
    assert [ack.reason for ack in house.acks_sent if ack.unreadable] == ["internal", "internal"]
    assert house.counts.by_name["payloads unreadable"] == 2
    failures = [record for record in caplog.records if record.getMessage() == "pipeline.admit_failed"]
    assert len(failures) == 1
    assert failures[0].exc_info is not None


def test_a_record_that_upsets_the_store_stops_nobody(house: House) -> None:
    """It is found by halving and refused; the others are stored."""

    def upset(rows: Sequence[Row]) -> list[Rejected]:
        if any(row.seq == 5 for row in rows):
            raise ZeroDivisionError("a mistake of ours")
        return []

    house.store.before = upset
    house.put(report(*range(1, 9)))
    house.run_until_done()
    assert house.stored == [1, 2, 3, 4, 6, 7, 8]
    assert [ack.refused for ack in house.acks_sent] == [((5, "internal"),)]
    assert house.ledger.quarantined()[0].what.detail == "ZeroDivisionError: a mistake of ours"


def test_a_store_that_never_worked_costs_no_record(house: House) -> None:
    """When every record upsets it, it is not the records' fault: they wait, and go through when it is mended."""
    mended = threading.Event()

    def broken(_: Sequence[Row]) -> list[Rejected]:
        if not mended.is_set():
            raise TypeError("a mistake of ours")
        return []

    house.store.before = broken
    house.put(report(1, 2, 3))
    house.start()
    house.wait(lambda: house.counts.by_name["failure store internal"] > 1)
    assert house.acks_sent == []
    mended.set()
    house.wait(lambda: bool(house.acks_sent))
    house.stop()
    assert house.stored == [1, 2, 3]


def test_a_mistake_of_the_ledger_is_retried_and_said(house: House) -> None:
    """Whatever it raises: nothing is acknowledged until it has committed."""
    house.ledger.before = fails_times(3, ZeroDivisionError("a mistake of ours"))  # type: ignore[assignment]
    house.put(report(1))
    house.run_until_done()
    assert house.counts.by_name["failure ledger internal"] == 3
    assert house.named == [(1, 1)]


def test_a_board_that_fails_stops_nobody(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page is the least: records are stored and acked without it."""

    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(house.board, "report", fail)
    house.put(report(1), report(2))
    house.run_until_done()
    assert house.named == [(1, 2)]


def test_an_enormous_batch_is_seen_through_in_parts(house: House) -> None:
    """Reports with a thousand records each: each part is stored and acknowledged before the next is read."""
    reports = 45
    house.put(*[report(*range(1 + 1000 * number, 1001 + 1000 * number), prompt=False) for number in range(reports)])
    house.run_until_done()
    assert [line for line in house.log if line.startswith("store")] == [f"store {MAX_RECORDS}", f"store {MAX_RECORDS}", "store 5000"]
    assert house.log.index("puback 20") < house.log.index("store 5000")
    assert house.named == [(1, 1000 * reports)]


def test_who_sends_more_than_a_batch_holds_lets_the_others_go_first(house: House) -> None:
    """A flood of tiny payloads with a thousand bad records each: they count as well, and another center's report goes before the rest."""
    flood = json.dumps({"epoch": EPOCH, "seq": 1, "time": NOW_S, "records": [[0, "x", 0]] * 1000}).encode()
    house.put(*[flood] * 50)
    house.mail.batches[0].append(Message("kerege/v1/other/report", report(1), NOW_S * 1000, 1, 1))
    house.run_until_done()
    assert house.mail.done_topics.index("kerege/v1/other/report") == MAX_RECORDS // 1000
    assert max(int(line.removeprefix("puback ")) for line in house.log if line.startswith("puback")) <= 31


@pytest.mark.parametrize("bounds", [Bounds(rows=10, payload_bytes=10_000)])
def test_what_finds_no_room_in_quarantine_stays_with_its_agent(house: House) -> None:
    """It is neither acknowledged nor forgotten as a gap; it is counted, said, and goes through when there is room."""
    bad = encode_report(Report(EPOCH, ack="now", records=tuple(Record(seq, 5 + seq, Tick()) for seq in (1, 2))))
    house.put(report(3), bad)
    house.put(b"garbage", center="other")
    house.put(b"rubbish", center="other")
    house.start()
    house.wait(lambda: len(house.mail.done_topics) == 4)
    refused = [pair for ack in house.acks_sent for pair in ack.refused]
    assert (refused, [ack.reason for ack in house.acks_sent if ack.unreadable]) == ([(1, "time-before-2020")], ["unknown-codec"])
    assert [(item.what.center, item.what.seq) for item in house.ledger.quarantined()] == [("demo", 1), ("other", 0)]
    assert (house.gaps.of("demo"), house.counts.by_name["records kept"], house.named) == (1, 1, [(3, 3)])
    assert house.pipeline.trouble == "the quarantine is full"
    assert house.board.rows(NOW_S)[0].trouble == "kept: quarantine-full"
    house.ledger.resolve(1, "dropped")
    house.put(bad)
    house.wait(lambda: (2, "time-before-2020") in [pair for ack in house.acks_sent for pair in ack.refused])


@pytest.mark.parametrize("end", ["an ack falls due", "a stop"])
def test_no_ack_names_what_the_ledger_does_not_have(house: House, end: str) -> None:
    """An ack that was held back, for an epoch of which more is in the store alone, names what was committed."""
    refuses = threading.Event()

    def refuse() -> None:
        if refuses.is_set():
            raise RetryLater("disk-full", "no space left")

    house.ledger.before = refuse
    house.put(report(1, prompt=False))
    house.start()
    house.wait(lambda: len(house.mail.done_topics) == 1)
    refuses.set()
    house.put(report(2, prompt=False))
    house.wait(lambda: house.counts.by_name["failure ledger disk-full"] > 1)
    if end == "a stop":
        house.stop()
    else:
        house.acks.flush(time.monotonic() + 400)
    assert house.named == [(1, 1)]
    refuses.clear()


def test_after_a_crash_between_store_and_ledger_nothing_is_lost_or_doubled(house: House, tmp_path: Path) -> None:
    """The store has the batch, the ledger does not: the agent's repeat is stored over itself and acknowledged."""
    house.store.write([Row("demo", EPOCH, seq, NOW_S, "tick", "synced", None, Tick("online"), NOW_S) for seq in (1, 2)])
    house.put(report(1, 2))
    house.run_until_done()
    assert (house.stored, house.named) == ([1, 2], [(1, 2)])


def test_presence_reaches_the_board(house: House) -> None:
    """A birth is shown; what is no presence is counted, and a retained one that was removed by hand is nothing."""
    house.put(encode_presence(Presence("online", EPOCH, 1, agent="0.1.0")), b"garbage", b"", leaf="presence")
    house.put(encode_presence(Presence("online", EPOCH, 1, center="demo")), center="other", leaf="presence")
    house.put(encode_presence(Presence("online", EPOCH, 1)), center="stranger", leaf="presence")
    house.run_until_done()
    seen = {row.center: row.agent for row in house.board.rows(NOW_S)}
    assert seen == {"demo": "0.1.0"}
    assert house.counts.by_name["payloads bad-presence"] == 2


def test_what_could_not_be_taken_is_shown(house: House) -> None:
    """The page says of a center why its messages are not taken."""
    house.put(b"garbage")
    house.put(report(1), center="stranger")
    house.run_until_done()
    assert {row.center: row.trouble for row in house.board.rows(NOW_S)} == {
        "demo": "unreadable: unknown-codec",
        "stranger": "held: unknown center",
    }


def test_repeats_of_two_agents_are_kept(house: House) -> None:
    """Once the board has seen an epoch come back from the dead, a number that is taken is not waved through."""
    for minute, (epoch, birth) in enumerate([(EPOCH, 1), ("other000", 1), (EPOCH, 2)]):
        house.put(encode_presence(Presence("online", epoch, birth)), leaf="presence", at_s=NOW_S - 180 + 60 * minute)
    house.put(report(1))
    house.put(report(1))
    house.run_until_done()
    assert house.stored == [1]
    assert [item.what.reason for item in house.ledger.quarantined()] == ["two-agents"]
    assert house.acks_sent[-1].refused == ((1, "two-agents"),)
