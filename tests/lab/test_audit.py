"""The audit's verdicts, each shown on a journal of a few lines."""

from collections.abc import Collection
from typing import Any

import pytest

from kerege_lab.audit import Audit, Found, Identity, Journal, Run, audit, found_record, ranges_by_run

BOOT_S = 1_795_000_000.0
RUN: Run = ("demo", "Zk3q9w2a")


def identity(seq: int) -> Identity:
    return (*RUN, seq)


def journal(kept: Collection[int], begun: Collection[int] = ()) -> Journal:
    """A journal in which the records of these numbers were made a second apart, some of them made durable."""
    made = Journal(boot_s=BOOT_S)
    for seq in sorted({*kept, *begun}):
        made.take("demo", {"epoch": RUN[1], "seq": seq, "kind": "tick", "time": None, "mono_ms": seq * 1000})
        if seq in kept:
            made.take("demo", {"epoch": RUN[1], "seq": seq, "kept": True})
    return made


def stored(*seqs: int, late_s: int = 0, clock: str = "synced") -> list[Found]:
    return [Found(identity(seq), "tick", int(BOOT_S) + seq + late_s, clock) for seq in seqs]


def account(made: Journal, found: list[Found], *, refused: Collection[Identity] = (), killed: Collection[Run] = ()) -> Audit:
    return audit(made, found, refused=refused, killed=killed)


def test_records_that_are_all_stored_once_are_sound() -> None:
    result = account(journal(kept=[1, 2, 3]), stored(1, 2, 3))
    assert result.sound
    assert (result.records, result.stored) == (3, 3)


def test_a_durable_record_that_is_nowhere_is_lost_even_after_a_kill() -> None:
    result = account(journal(kept=[1, 2, 3]), stored(1, 3), killed=[RUN])
    assert result.lost == [identity(2)]
    assert not result.sound


def test_an_identity_stored_twice_is_duplicated() -> None:
    result = account(journal(kept=[1, 2]), [*stored(1, 2), *stored(2, late_s=1)])
    assert result.duplicated == [identity(2)]
    assert not result.sound


def test_the_record_being_written_when_the_agent_was_killed_may_be_missing() -> None:
    result = account(journal(kept=[1, 2], begun=[3]), stored(1, 2), killed=[RUN])
    assert (result.unwritten, result.lost) == (1, [])
    assert result.sound


def test_only_the_last_one_of_a_run_may_have_been_being_written() -> None:
    result = account(journal(kept=[1, 3], begun=[2]), stored(1, 3), killed=[RUN])
    assert (result.unwritten, result.volatile) == (0, 1)


def test_a_record_in_memory_is_lost_where_the_agent_was_not_killed() -> None:
    assert account(journal(kept=[1], begun=[2, 3]), stored(1)).lost == [identity(2), identity(3)]


def test_a_refused_record_is_not_lost() -> None:
    result = account(journal(kept=[1, 2]), stored(1), refused=[identity(2)])
    assert (result.refused, result.lost) == (1, [])


def test_a_dropped_record_is_not_lost_where_the_drop_record_is_stored() -> None:
    line: dict[str, Any] = {"center": "demo", "epoch": RUN[1], "seq": 9, "kind": "drop", "time": int(BOOT_S) + 9, "clock": "synced"}
    drop = found_record(line | {"fields": {"dropped_epoch": RUN[1], "dropped_seqs": "2-3,5"}})
    result = account(journal(kept=[1, 2, 3, 4, 5, 9]), [*stored(1, 4), drop])
    assert (result.dropped, result.lost) == (3, [])
    assert account(journal(kept=[1, 2, 9]), stored(1)).lost == [identity(2), identity(9)]


def test_a_stored_record_that_nobody_made_is_invented() -> None:
    result = account(journal(kept=[1]), stored(1, 2))
    assert result.invented == [identity(2)]
    assert not result.sound


@pytest.mark.parametrize(
    ("late_s", "clock", "sound"), [(2, "synced", True), (3, "synced", False), (-3, "synced", True), (-4, "synced", False)]
)
def test_a_synced_time_is_right_within_two_seconds(late_s: int, clock: str, sound: bool) -> None:
    assert account(journal(kept=[1]), stored(1, late_s=late_s, clock=clock)).sound is sound


def test_a_time_that_says_itself_that_it_is_a_guess_may_be_wrong() -> None:
    result = account(journal(kept=[1]), stored(1, late_s=600, clock="estimated"))
    assert result.sound
    assert result.clocks == {"estimated": 1}


def test_many_identities_read_as_ranges() -> None:
    assert list(ranges_by_run([identity(4), identity(2), identity(3)])[RUN]) == [(2, 4)]


def test_a_time_that_is_not_the_one_the_agent_gave_is_wrong() -> None:
    made = journal(kept=[1])
    made.take("demo", {"epoch": RUN[1], "seq": 1, "time": int(BOOT_S) + 1})
    assert account(made, stored(1)).sound
    assert account(made, stored(1, late_s=1)).mistimed == [identity(1)]


def test_a_record_made_after_the_end_may_still_be_on_its_way() -> None:
    made = journal(kept=[1, 2])
    result = audit(made, stored(1), refused=[], killed=[], until_s=BOOT_S + 1.5)
    assert (result.records, result.lost) == (1, [])
