"""The reports that are under way: sent on this connection, and not yet acknowledged in full. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from kerege_wire import Ack
from kerege_wire.ranges import Range


@dataclass(slots=True)
class UnderWay:
    """One report.

    keys: sequence number → key of the records in it that are not acknowledged yet.
    crc: CRC-32 of its payload, as the collector names one that it could not read.
    prompt: its ack is wanted at once; published: the broker has it.
    """

    epoch: str
    keys: dict[int, int]
    crc: str
    prompt: bool
    deadline_ms: int
    published: bool = False


class Window:
    """Reports under way, by the ``sent`` that names them."""

    def __init__(self) -> None:
        self._reports: dict[int, UnderWay] = {}

    def add(self, sent: int, report: UnderWay) -> None:
        self._reports[sent] = report

    def clear(self) -> None:
        """Nothing is under way any more: all may be sent again."""
        self._reports.clear()

    def published(self, sent: int) -> None:
        """The broker has confirmed a report."""
        if sent in self._reports:
            self._reports[sent].published = True

    @property
    def filled(self) -> int:
        """Reports that the broker has not confirmed yet, or whose ack is wanted at once: those that count against the window.

        A report whose ack may come minutes later does not: a tick must not wait for it.
        """
        return sum(report.prompt or not report.published for report in self._reports.values())

    @property
    def keys(self) -> set[int]:
        """All records under way."""
        return {key for report in self._reports.values() for key in report.keys.values()}

    def acknowledge(self, ack: Ack) -> None:
        """Strike out the records that an ack names."""
        refused = {seq for seq, _ in ack.refused}
        for sent, report in list(self._reports.items()):
            if report.epoch == ack.epoch:
                for seq in [seq for seq in report.keys if seq in refused or _within(seq, ack.stored)]:
                    del report.keys[seq]
                if not report.keys:
                    del self._reports[sent]

    def expire(self, now_ms: int) -> int:
        """Forget the reports whose ack is overdue; how many were there?"""
        late = [sent for sent, report in self._reports.items() if now_ms >= report.deadline_ms]
        for sent in late:
            del self._reports[sent]
        return len(late)

    def unreadable(self, crc: str) -> list[list[int]]:
        """Forget the reports with this checksum; the keys in each, oldest first."""
        bad = [sent for sent, report in self._reports.items() if report.crc == crc]
        return [list(self._reports.pop(sent).keys.values()) for sent in bad]


def _within(seq: int, ranges: Sequence[Range] | Iterable[Range]) -> bool:
    return any(first <= seq <= last for first, last in ranges)
