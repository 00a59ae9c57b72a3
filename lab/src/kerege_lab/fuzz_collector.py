"""The collector's admission as a target of the fuzz: no exception at all may come out, and what it takes must make a line or an answer."""

import time
from typing import Final

from kerege_collector.ack import Acks
from kerege_collector.admit import Admission
from kerege_collector.books import Books
from kerege_collector.points import center_tags, line
from kerege_lab.fuzz import Target
from kerege_wire import decode_ack

CENTER: Final = "demo"
TOPIC: Final = f"kerege/v1/{CENTER}/report"
FORGET_AFTER: Final = 200
"""Payloads after which the books begin anew, so that repeats are met and yet most records are new."""


class Collector:
    """Admission, points and acks put together as the pipeline does, without the store."""

    def __init__(self) -> None:
        self._fed = 0
        self._begin()

    def _begin(self) -> None:
        self._books = Books(lambda _center, _epoch: None)
        self._admission = Admission(self._books, (CENTER,), admit_unknown=False, two_agents=lambda _: False, clock_is_right=lambda: True)
        self._acks = Acks(self._published, within_s=0.0, clock=lambda: "synced", now_ms=lambda: time.time_ns() // 1_000_000)
        self._tags = center_tags(CENTER)

    @staticmethod
    def _published(_topic: str, payload: bytes) -> bool:
        decode_ack(payload)
        return True

    def take(self, payload: bytes) -> str:
        """Admit, make lines, accept and acknowledge."""
        self._fed += 1
        if self._fed % FORGET_AFTER == 0:
            self._begin()
        admitted = self._admission.admit(TOPIC, payload, time.time_ns() // 1_000_000)
        for row in admitted.rows:
            if "\n" in line(row, self._tags):
                raise AssertionError("one record made two lines")
        if admitted.book is not None:
            admitted.book.store([row.seq for row in admitted.rows])
            admitted.excuse()
        for book in self._books.changed():
            book.committed()
        self._acks.add(admitted, time.monotonic())
        self._acks.flush_all()
        self._books.end_batch()
        return admitted.outcome


def admission() -> Target:
    """The target for `kerege_lab.fuzz.run`."""
    return Target("admit", Collector().take, expected=())
