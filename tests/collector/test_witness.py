"""What records say for the verdicts: runs, however the records arrive."""

from collections.abc import Sequence
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

from kerege_collector.centers import Center, Region, Thresholds
from kerege_collector.hours import Calendar
from kerege_collector.stores import Row
from kerege_collector.timeline import Bad, Evidence, Run, intervals
from kerege_collector.witness import Witness, judge_ping
from kerege_wire import Body, Boot, Host, Ping, Tick, kind_of

REGION = Region({"demo": Center(id="demo")}, {"demo": Calendar(ZoneInfo("Asia/Almaty"))}, {})
UP, DOWN = Tick(result="online"), Tick(result="offline", broken="internet")
END = 20_000


def row(seq: int, time_s: int, body: Body = UP, *, epoch: str = "A", clock: str = "synced") -> Row:
    return Row("demo", epoch, seq, time_s, kind_of(body), clock, None, body, time_s + 1)


class Memory:
    """Runs as a ledger would keep them."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, int], Run] = {}
        self.witness = self.anew()

    def anew(self) -> Witness:
        self.witness = Witness(lambda _, epoch: [run for (name, _seq), run in self.kept.items() if name == epoch], lambda: REGION)
        return self.witness

    def commit(self, rows: Sequence[Row]) -> None:
        self.witness.take(rows)
        found = self.witness.findings()
        for _, epoch, first_seq in found.gone:
            del self.kept[epoch, first_seq]
        for _, run in found.runs:
            self.kept[run.epoch, run.first_seq] = run
        self.witness.committed()

    @property
    def runs(self) -> list[Run]:
        return sorted(self.kept.values())


def test_a_day_of_ticks_is_one_run() -> None:
    memory = Memory()
    for seq in range(1, 1441):
        memory.commit([row(seq, seq * 60)])
    assert memory.runs == [Run("A", 1, 1440, 60, 86_400, 86_400, "up", None, "synced", None)]


def test_other_records_keep_a_run_alive_and_do_not_end_it() -> None:
    memory = Memory()
    memory.commit([row(1, 60), row(2, 100, Host()), row(3, 120), row(4, 130, Host())])
    assert memory.runs == [Run("A", 1, 4, 60, 120, 130, "up", None, "synced", None)]


def test_a_change_a_hole_and_a_sleep_each_begin_a_run() -> None:
    memory = Memory()
    memory.commit([row(1, 60), row(2, 120, DOWN), row(4, 240, DOWN), row(5, 9000, DOWN)])
    assert [(run.first_seq, run.last_seq, run.state) for run in memory.runs] == [
        (1, 1, "up"),
        (2, 2, "down"),
        (4, 4, "down"),
        (5, 5, "down"),
    ]


def test_a_backlog_that_comes_newest_first_becomes_one_run() -> None:
    memory = Memory()
    for first in range(976, 0, -25):
        memory.commit([row(seq, seq * 60) for seq in range(first, first + 25)])
    assert memory.runs == [Run("A", 1, 1000, 60, 60_000, 60_000, "up", None, "synced", None)]


def test_a_run_goes_on_after_a_restart_of_the_collector() -> None:
    memory = Memory()
    memory.commit([row(1, 60)])
    memory.anew()
    memory.commit([row(2, 120)])
    assert len(memory.runs) == 1


def test_what_a_failed_batch_said_is_forgotten() -> None:
    memory = Memory()
    memory.commit([row(1, 60)])
    memory.witness.take([row(2, 120, DOWN)])
    memory.witness.forget()
    memory.commit([row(2, 120)])
    assert memory.runs == [Run("A", 1, 2, 60, 120, 120, "up", None, "synced", None)]


def test_a_boot_concerns_the_silence_before_it() -> None:
    witness = Memory().witness
    witness.take([row(1, 9000, Boot(cause="host", stop="unclean", last_alive=3000))])
    found = witness.findings()
    assert found.dirty["demo"][:2] == (3000, 9000)
    assert found.starts[0][1].last_alive_s == 3000


@given(st.permutations(range(1, 13)), st.lists(st.sampled_from([UP, DOWN, Host()]), min_size=12, max_size=12), st.data())
def test_the_timeline_does_not_depend_on_arrival(order: list[int], bodies: list[Body], data: st.DataObject) -> None:
    """Records one by one in any order, in batches of any size, make the verdicts of all at once."""
    steps = data.draw(st.lists(st.sampled_from([60, 140, 160, 4000]), min_size=12, max_size=12))
    rows = {seq: row(seq, sum(steps[:seq]), bodies[seq - 1]) for seq in order}
    whole, pieces = Memory(), Memory()
    whole.commit([rows[seq] for seq in sorted(rows)])
    at = 0
    while at < len(order):
        size = data.draw(st.integers(1, 4))
        pieces.commit([rows[seq] for seq in sorted(order[at : at + size])])
        at += size
    assert intervals(Evidence(pieces.runs), 0, END) == intervals(Evidence(whole.runs), 0, END)
    assert pieces.runs == whole.runs


def test_signs_of_a_bad_link() -> None:
    """A median round trip above the threshold is one, much loss too, a little loss a weak one; a dead target is none."""
    limits = Thresholds(rtt_ms=800, loss_percent=5)
    assert judge_ping(1, Ping(target="t", sent=10, received=10, rtt_p50_ms=900), limits) == Bad(1, "rtt", strong=True)
    assert judge_ping(1, Ping(target="t", sent=10, received=9, rtt_p50_ms=600), limits) == Bad(1, "loss", strong=False)
    assert judge_ping(1, Ping(target="t", sent=10, received=8, rtt_p50_ms=600), limits) == Bad(1, "loss", strong=True)
    assert judge_ping(1, Ping(target="t", sent=10, received=0), limits) is None
    assert judge_ping(1, Ping(target="t", sent=10, received=10, rtt_p50_ms=600), limits) is None
