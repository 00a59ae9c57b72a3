"""What is sent when: named timelines over the pure delivery logic, with a queue in memory and a clock that the test turns."""

import random
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from kerege_agent import delivery
from kerege_agent.delivery import Delivery, Outgoing, Pace
from kerege_agent.rows import Row, key_of, seq_of, span_of, text_of
from kerege_wire import Ack, CollectorState, Host, Report, Tick, decode_report
from kerege_wire.ranges import Range, RangeSet, ranges_of

BOOT = "boot-a"
CALM = Pace(backlog_start_delay_s=0.0)


@dataclass
class FakeQueue:
    """A spool without a disk: epochs are called epoch001, epoch002, ...; the last one is this run's."""

    runs: int = 1
    rows: dict[int, Row] = field(default_factory=dict)
    produced: int = 0
    latest_tick: int = 0
    given_up: list[tuple[int, str]] = field(default_factory=list)
    last_seq: dict[int, int] = field(default_factory=dict)

    @property
    def epoch(self) -> str:
        return f"epoch{self.runs:03d}"

    @property
    def depth(self) -> int:
        return len(self.rows)

    def put(self, count: int = 1, *, run: int | None = None, clock: str = "synced", kind: str = "tick", text: str = "") -> None:
        span = run or self.runs
        for _ in range(count):
            seq = self.last_seq[span] = self.last_seq.get(span, 0) + 1
            body = Tick(result="online", error=text or None) if kind == "tick" else Host(error=text or None)
            row = Row(key_of(span, seq), f"epoch{span:03d}", kind, 0, 0, 1_795_000_000 + 60 * seq, clock, None, text_of(body))
            self.rows[row.key] = row
            self.produced += 1
            if kind == "tick":
                self.latest_tick = row.key

    def newest(self, limit: int, without: set[int]) -> list[int]:
        return sorted((key for key in self.rows if key not in without), reverse=True)[:limit]

    def load(self, keys: Sequence[int]) -> list[Row]:
        return [self.rows[key] for key in keys if key in self.rows]

    def settle(self, epoch: str, stored: Sequence[Range], refused: Sequence[tuple[int, str]]) -> int:
        ranges = [*stored, *((seq, seq) for seq, _ in refused)]
        leaving = [key for key, row in self.rows.items() if row.epoch == epoch and any(low <= row.seq <= high for low, high in ranges)]
        for key in leaving:
            del self.rows[key]
        return len(leaving)

    def give_up(self, key: int, reason: str) -> None:
        self.given_up.append((seq_of(key), reason))
        del self.rows[key]


class Talk:
    """One agent's delivery and a clock in seconds; what it sends is decoded and kept."""

    def __init__(self, queue: FakeQueue, pace: Pace = CALM) -> None:
        self.queue = queue
        self.delivery = Delivery(queue, center="demo", pace=pace, chance=random.Random(1))
        self.now_ms = 1_000_000
        self.sent: list[Report] = []
        self.payloads: dict[int, bytes] = {}
        self.held: dict[str, RangeSet] = {}
        self.delivery.connected(self.now_ms)

    def send(self, *, puback: bool = True) -> list[Report]:
        """Everything that goes out now."""
        out: list[Outgoing] = []
        while (outgoing := self.delivery.next(self.now_ms, BOOT)) is not None:
            out.append(outgoing)
            self.payloads[outgoing.sent] = outgoing.payload
            if puback:
                self.delivery.published(outgoing.sent)
        reports = [decode_report(outgoing.payload) for outgoing in out]
        assert [len(report.records) for report in reports] == [outgoing.records for outgoing in out]
        self.sent += reports
        return reports

    def after(self, seconds: float) -> list[Report]:
        self.now_ms += int(seconds * 1000)
        return self.send()

    def take(self, report: Report) -> RangeSet:
        """The collector has it, and does not say so yet."""
        held = self.held.setdefault(report.epoch, RangeSet())
        for record in report.records:
            held.add(record.seq)
        return held

    def ack(self, report: Report, **more: object) -> None:
        """The collector takes it and names the whole ranges that it holds."""
        held = self.take(report)
        stored = tuple(held.around(record.seq for record in report.records))
        self.delivery.acknowledged(Ack(report.epoch, report.sent, 1, 1, stored=stored, **more), self.now_ms)  # type: ignore[arg-type]

    def greeted(self) -> "Talk":
        """The first question has been answered."""
        (question,) = self.send()
        assert not question.records
        self.ack(question)
        return self


def seqs(report: Report) -> list[int]:
    return [record.seq for record in report.records]


def test_first_of_all_the_time_is_asked_for() -> None:
    """A connection begins with an empty report that names the center and wants an answer at once; then silence until it comes."""
    queue = FakeQueue()
    queue.put(3)
    talk = Talk(queue)
    (question,) = talk.send()
    assert (question.records, question.center, question.ack, question.waiting, question.sent) == ((), "demo", "now", 3, 1_000_000)
    assert talk.after(19) == []


def test_a_question_without_an_answer_is_repeated_ever_more_seldom() -> None:
    """After 20, 40, 80, 120, 120 s; the center is named once a connection."""
    talk = Talk(FakeQueue())
    talk.send()
    times, began_ms = [], talk.now_ms
    while talk.now_ms < began_ms + 400_000:
        for report in talk.after(1):
            assert report.center is None
            times.append((talk.now_ms - began_ms) // 1000)
    assert times == [20, 60, 140, 260, 380]


def test_after_the_answer_everything_goes_at_once_where_it_fits_one_report() -> None:
    """A short absence: one report in rising order, its ack may come late, nothing waits."""
    queue = FakeQueue()
    queue.put(7)
    (report,) = Talk(queue).greeted().send()
    assert (seqs(report), report.ack, report.waiting) == ([1, 2, 3, 4, 5, 6, 7], None, 0)


def test_a_backlog_goes_newest_first_in_rising_order_within_a_report() -> None:
    """The newest 100 at once; then, two reports a second and while at most four wait for their ack, ever older ones."""
    queue = FakeQueue()
    queue.put(1000)
    talk = Talk(queue).greeted()
    first, second = talk.send()
    assert (seqs(first), first.ack, first.waiting) == (list(range(901, 1001)), "now", 900)
    assert (seqs(second), second.ack, second.waiting) == (list(range(801, 901)), "now", 800)
    assert talk.after(0.4) == []
    assert [seqs(report)[0] for report in talk.after(0.2)] == [701]
    assert [seqs(report)[0] for report in talk.after(0.5)] == [601]
    assert talk.after(5) == []  # four under way
    talk.ack(talk.sent[-1])
    assert [(seqs(report)[0], report.ack, report.waiting) for report in talk.after(0.5)] == [(501, "now", 500)]


def test_a_backlog_begins_after_a_random_delay() -> None:
    """45 PCs that are switched on together do not send their backlogs together; the newest state of each comes at once."""
    begins = set()
    for seed in range(20):
        queue = FakeQueue()
        queue.put(200)
        talk = Talk(queue, Pace(backlog_start_delay_s=10.0))
        talk.delivery._random = random.Random(seed)
        assert len(talk.greeted().send()) == 1
        began_ms = talk.now_ms
        while not talk.after(0.1):
            assert talk.now_ms < began_ms + 10_200
        begins.add((talk.now_ms - began_ms) // 1000)
    assert len(begins) > 5


def test_live_records_go_before_the_backlog() -> None:
    """A tick that is made while a backlog drains leaves at once."""
    queue = FakeQueue()
    queue.put(1000)
    talk = Talk(queue).greeted()
    talk.ack(talk.send()[0])
    queue.put(1)
    assert seqs(talk.send()[0]) == [1001]


def test_in_the_long_run_one_report_a_tick() -> None:
    """Records wait for the next tick and travel with it; no ack is asked for, and reports that the broker has do not fill the window."""
    talk = Talk(FakeQueue()).greeted()
    talk.send()
    for minute in range(30):
        talk.queue.put(1, kind="host")
        assert talk.after(30) == []
        talk.queue.put(1)
        (report,) = talk.after(30)
        assert (len(report.records), report.ack, report.waiting) == (2, None, 0)
        talk.take(report)
        if minute % 5 == 4:
            talk.ack(report)
    assert talk.queue.depth == 0


def test_without_ticks_records_still_go() -> None:
    """Ticks may be switched off: then what waits goes after a minute and a half."""
    talk = Talk(FakeQueue()).greeted()
    talk.send()
    talk.queue.put(1, kind="host")
    talk.after(1)
    assert talk.after(88) == []
    assert [seqs(report) for report in talk.after(2)] == [[1]]


def test_reports_that_the_broker_has_not_confirmed_fill_the_window() -> None:
    talk = Talk(FakeQueue()).greeted()
    for _ in range(10):
        talk.queue.put(1)
        talk.now_ms += 60_000
        talk.send(puback=False)
    assert len([report for report in talk.sent if report.records]) == 4


def test_one_lost_ack_costs_nothing() -> None:
    """The next ack names the whole range, and with it what the lost one had named."""
    talk = Talk(FakeQueue()).greeted()
    for _ in range(4):
        talk.queue.put(1)
        (report,) = talk.after(60)
        talk.take(report)
    talk.queue.put(1)
    (last,) = talk.after(60)
    talk.ack(last)
    assert talk.queue.depth == 0


def test_a_late_coalesced_ack_leads_back_to_the_question() -> None:
    """With no ack for ack_within_s and a minute, only a question goes out until the collector answers; then the records again."""
    talk = Talk(FakeQueue()).greeted()
    talk.queue.put(1)
    (report,) = talk.after(1)
    assert talk.after(359) == []
    (question,) = talk.after(2)
    assert (question.records, question.ack) == ((), "now")
    talk.queue.put(5)
    assert talk.after(10) == []
    talk.ack(question)
    (again,) = talk.after(1)
    assert again.records[0] == report.records[0]
    assert seqs(again) == [1, 2, 3, 4, 5, 6]


def test_the_answer_to_the_question_frees_what_the_collector_holds() -> None:
    """Where the collector's answer names the held range, nothing needs to be sent twice."""
    talk = Talk(FakeQueue()).greeted()
    talk.queue.put(3)
    (report,) = talk.after(1)
    talk.after(400)
    talk.delivery.acknowledged(Ack(report.epoch, talk.sent[-1].sent, 1, 1, stored=((1, 3),)), talk.now_ms)
    assert talk.after(1) == []
    assert talk.queue.depth == 0


def test_a_prompt_ack_that_does_not_come_slows_down() -> None:
    """A collector that answers questions but acknowledges nothing gets one report at a time, at ever longer intervals."""
    queue = FakeQueue()
    queue.put(1000)
    talk = Talk(queue).greeted()
    began_ms, sent_at = talk.now_ms, []
    while talk.now_ms < began_ms + 3_600_000:
        for report in talk.after(1):
            if report.records:
                sent_at.append((talk.now_ms - began_ms) // 1000)
            else:
                talk.ack(report)
    assert len(sent_at) < 20


def test_a_reconnect_makes_everything_sendable_again() -> None:
    """All that is not acknowledged goes again over the new connection, after its question was answered, the same to the letter."""
    talk = Talk(FakeQueue()).greeted()
    talk.queue.put(2)
    (report,) = talk.after(1)
    talk.delivery.connected(talk.now_ms)
    (question,) = talk.send()
    assert question.center == "demo"
    talk.ack(question)
    (again,) = talk.send()
    assert again.records == report.records


def test_an_ack_of_an_earlier_connection_still_counts() -> None:
    talk = Talk(FakeQueue()).greeted()
    talk.queue.put(2)
    (report,) = talk.after(1)
    talk.delivery.connected(talk.now_ms)
    talk.ack(report)
    assert talk.queue.depth == 0


def test_repeated_and_strange_acks_do_no_harm() -> None:
    """An ack that comes three times, one for an epoch that is not known, one that names numbers that were never given out."""
    talk = Talk(FakeQueue()).greeted()
    talk.queue.put(2)
    (report,) = talk.after(1)
    for _ in range(3):
        talk.ack(report)
    talk.delivery.acknowledged(Ack("whoknows", 5, 1, 1, stored=((1, 9),)), talk.now_ms)
    talk.queue.put(1)
    talk.delivery.acknowledged(Ack(talk.queue.epoch, 77, 1, 1, stored=((50, 10**15),)), talk.now_ms)
    assert [seqs(report) for report in talk.after(60)] == [[3]]


def test_refused_records_are_not_sent_again() -> None:
    """A record that the collector keeps in quarantine leaves the queue like a stored one."""
    talk = Talk(FakeQueue()).greeted()
    talk.queue.put(3)
    (report,) = talk.after(1)
    talk.delivery.acknowledged(Ack(report.epoch, report.sent, 1, 1, stored=((1, 2),), refused=((3, "time-future"),)), talk.now_ms)
    assert talk.queue.depth == 0
    assert all(not again.records for again in talk.after(600))


def test_reports_are_of_one_epoch_and_one_quality_of_time() -> None:
    queue = FakeQueue(runs=3)
    queue.put(2, run=1)
    queue.put(2, run=2, clock="estimated")
    queue.put(2, run=2)
    queue.put(2, run=3)
    talk = Talk(queue).greeted()
    reports = talk.send() + [report for _ in range(10) for report in talk.after(1)]
    found = [(report.epoch, report.clock, seqs(report)) for report in reports]
    assert found == [
        ("epoch003", "synced", [1, 2]),
        ("epoch002", "synced", [3, 4]),
        ("epoch002", "estimated", [1, 2]),
        ("epoch001", "synced", [1, 2]),
    ]


def test_reports_stay_small() -> None:
    """Bodies that hardly compress: fewer records a report, none above the limit, none left behind."""
    queue = FakeQueue()
    chance = random.Random(3)
    for _ in range(100):
        queue.put(1, text="".join(chance.choices("abcdefghijklmnopqrstuvwxyz0123456789äöüқғң", k=256)))
    talk = Talk(queue).greeted()
    for _ in range(40):
        for report in talk.after(1):
            talk.ack(report)
    assert queue.depth == 0
    assert all(len(payload) <= delivery.MAX_REPORT_BYTES for payload in talk.payloads.values())
    assert len(talk.payloads) > 3


def test_while_the_collector_holds_the_center_it_is_asked_every_few_minutes() -> None:
    """`hold` keeps everything: an empty report every five minutes or so, until an ack without `hold`."""
    queue = FakeQueue()
    queue.put(5)
    talk = Talk(queue)
    (question,) = talk.send()
    times, began_ms = [], talk.now_ms
    talk.ack(question, hold="unknown-center")
    while talk.now_ms < began_ms + 3_600_000:
        for report in talk.after(1):
            assert not report.records
            times.append((talk.now_ms - began_ms) // 1000)
            talk.ack(report, hold="unknown-center")
    assert 9 <= len(times) <= 15
    assert queue.depth == 5
    talk.now_ms += 400_000
    talk.ack(talk.send()[0])
    assert [seqs(report) for report in talk.send()] == [[1, 2, 3, 4, 5]]


def test_while_the_collector_is_away_there_is_silence() -> None:
    """`away` stops everything but a question every quarter of an hour; `ready` begins anew after a random delay."""
    talk = Talk(FakeQueue(), Pace(backlog_start_delay_s=10.0)).greeted()
    talk.delivery.announced(CollectorState("away"), talk.now_ms)
    talk.queue.put(5)
    asked = [report for _ in range(3600) for report in talk.after(1)]
    assert 3 <= len(asked) <= 5
    assert not any(report.records for report in asked)
    talk.delivery.announced(CollectorState("ready", ack_within_s=60), talk.now_ms)
    answers = [report for _ in range(11) for report in talk.after(1)]
    assert len(answers) == 1
    talk.ack(answers[0])
    assert [seqs(report) for report in talk.send()] == [[1, 2, 3, 4, 5]]


def test_a_collector_that_comes_while_it_is_asked_for_is_asked_again() -> None:
    """A question that nobody heard is repeated when the collector says that it is ready; what the broker had kept is no news."""
    talk = Talk(FakeQueue())
    assert len(talk.send()) == 1
    talk.delivery.announced(CollectorState("ready"), talk.now_ms, fresh=False)
    assert talk.after(1) == []
    talk.delivery.announced(CollectorState("ready"), talk.now_ms)
    assert len(talk.after(1)) == 1


def test_a_collector_that_forgot_to_say_that_it_is_back_is_found() -> None:
    """A stale `away` does not silence a center for ever: an answered question is proof enough; an old ack is not."""
    talk = Talk(FakeQueue()).greeted()
    talk.queue.put(1)
    (report,) = talk.after(1)
    talk.delivery.announced(CollectorState("away"), talk.now_ms)
    talk.queue.put(1)
    talk.ack(report)
    assert talk.after(60) == []
    question = next(report for _ in range(1200) for report in talk.after(1))
    talk.ack(question)
    assert [seqs(report) for report in talk.send()] == [[2]]


def test_an_unreadable_report_is_sent_again_record_by_record_and_a_hopeless_one_given_up() -> None:
    """The one record whose bytes the collector cannot read is found and given up; all others arrive."""
    queue = FakeQueue()
    queue.put(5)
    talk = Talk(queue).greeted()
    pending = talk.send()
    poison, arrived = 3, set()
    for _ in range(60):
        for report in pending:
            payload = talk.payloads[report.sent or 0]
            if poison in seqs(report):
                talk.delivery.acknowledged(Ack(unreadable=f"{zlib.crc32(payload):08x}", reason="not-deflate"), talk.now_ms)
            else:
                arrived.update(seqs(report))
                talk.ack(report)
        pending = talk.after(1)
    assert arrived == {1, 2, 4, 5}
    assert queue.given_up == [(3, "unreadable: not-deflate")]
    assert queue.depth == 0


def test_a_record_of_a_newer_version_is_kept_and_stops_nothing() -> None:
    """After a downgrade the spool may hold kinds that this version cannot write: they stay, everything else goes."""
    queue = FakeQueue()
    queue.put(3)
    row = queue.rows[key_of(1, 2)]
    queue.rows[row.key] = Row(row.key, row.epoch, "novel", 0, 0, row.time_s, "synced", None, '["novel",1]')
    talk = Talk(queue).greeted()
    sent = [seq for report in talk.send() + talk.after(1) + talk.after(1) for seq in seqs(report)]
    assert sent == [1, 3]
    for report in list(talk.sent):
        talk.ack(report)
    queue.put(1)
    (live,) = talk.after(60)
    assert (live.ack, live.waiting) == (None, 0)
    assert row.key in queue.rows


def test_two_reports_in_one_millisecond_have_different_names() -> None:
    """`sent` names a report, so it rises; the ack's echo of it is good for the time only on the same connection and in the same boot."""
    queue = FakeQueue()
    queue.put(300)
    talk = Talk(queue, Pace(backlog_reports_per_s=1000.0, backlog_start_delay_s=0.0)).greeted()
    for _ in range(3):
        talk.after(0.001)
    sends = [report.sent for report in talk.sent]
    assert sends == sorted(set(sends), key=lambda sent: sent or 0)
    ack = Ack("epoch001", sends[-1])
    assert talk.delivery.sent_in(ack, BOOT) == sends[-1]
    assert talk.delivery.sent_in(ack, "boot-b") is None
    talk.delivery.connected(talk.now_ms)
    assert talk.delivery.sent_in(ack, BOOT) is None


@pytest.mark.parametrize("loss", [0.0, 0.2, 0.6])
def test_everything_arrives_whatever_is_lost_on_the_way(loss: float) -> None:
    """Reports and acks that are lost at random, reconnects in between: in the end the queue is empty and the collector has all."""
    chance = random.Random(int(loss * 10))
    queue = FakeQueue(runs=2)
    queue.put(250, run=1)
    queue.put(30)
    talk = Talk(queue)
    arrived: dict[str, set[int]] = {"epoch001": set(), "epoch002": set()}
    for second in range(40_000):
        for report in talk.after(1):
            if chance.random() < loss:
                continue
            arrived[report.epoch].update(seqs(report))
            talk.take(report)
            if chance.random() >= loss:
                talk.ack(report)
        if second % 60 == 0 and second < 6000:
            queue.put(1)
        if chance.random() < 0.001:
            talk.delivery.connected(talk.now_ms)
        if second > 6000 and queue.depth == 0:
            break
    assert queue.depth == 0
    assert ranges_of(arrived["epoch001"]) == [(1, 250)]
    assert ranges_of(arrived["epoch002"]) == [(1, 130)]


def test_span_of_keys() -> None:
    """A key names its span and its number."""
    assert (span_of(key_of(7, 9)), seq_of(key_of(7, 9))) == (7, 9)
