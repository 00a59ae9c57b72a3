"""How many records of each center are under way or lost: numbers that are neither accepted, refused nor thinned."""

import threading
from collections.abc import Iterable
from typing import Final

from kerege_collector.books import Book

MOST_SHOWN: Final = 1_000_000
"""More are no gap but an agent that has lost count, and a number that no JavaScript can hold."""


class GapCounts:
    """Counted by the worker when books change, read by the page. Only epochs with gaps take memory."""

    def __init__(self, books: Iterable[Book] = ()) -> None:
        self._lock = threading.Lock()
        self._missing: dict[str, dict[str, int]] = {}
        self.note(books)

    def note(self, books: Iterable[Book]) -> None:
        """These books have changed."""
        for book in books:
            missing = 0 if book.complete else sum(last - first + 1 for first, last in book.gaps())
            if missing or book.center in self._missing:
                self._put(book.center, book.epoch, missing)

    def of(self, center: str) -> int:
        """How many numbers are missing, over all epochs of this center; MOST_SHOWN where it is more."""
        with self._lock:
            return min(sum(self._missing.get(center, {}).values()), MOST_SHOWN)

    def _put(self, center: str, epoch: str, missing: int) -> None:
        with self._lock:
            epochs = self._missing.setdefault(center, {})
            if missing:
                epochs[epoch] = missing
            else:
                epochs.pop(epoch, None)
            if not epochs:
                del self._missing[center]
