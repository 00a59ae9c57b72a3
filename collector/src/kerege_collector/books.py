"""What has been taken in of each epoch, in memory: a bounded cache over the ledger.

A *book* is one epoch of one center. It is changed while a batch is on its way and written with the batch; only books
without such changes are ever put away. A batch that cannot be written is tried again, never forgotten while the process lives.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from kerege_wire.ranges import Range, RangeSet

MAX_BOOKS: Final = 20_000
"""Most books in memory (some 1 kB each). 10,000 centers have one each in use; an older epoch is read again when needed."""

MAX_RANGES: Final = 1000
"""Most separate ranges of one epoch: an agent that goes backwards through its backlog makes a few, a broken one makes many."""

Key = tuple[str, str]
"""(center, epoch)"""


@dataclass(slots=True)
class Book:
    """One epoch of one center.

    accepted: in the store and in the ledger; only these are ever acknowledged. stored: in the store, and not yet in the ledger.
    excused: will never be stored, and why is known: refused, or thinned by the agent.
    expected_last: the last number of the epoch, where a later boot record has named it.
    pending: met in the batch that is under way; a second copy in the same batch is a repeat.
    fresh: nothing of it is in the ledger. as_of: which state of the ledger it was read from (see `Ledger.commit`).
    """

    center: str
    epoch: str
    accepted: RangeSet = field(default_factory=RangeSet)
    excused: RangeSet = field(default_factory=RangeSet)
    expected_last: int | None = None
    first_seen_s: int = 0
    updated_s: int = 0
    pending: RangeSet = field(default_factory=RangeSet)
    stored: RangeSet = field(default_factory=RangeSet)
    dirty: bool = False
    fresh: bool = False
    as_of: int = 0

    def holds(self, seq: int) -> bool:
        """Is this number accepted, be it a moment ago in the same batch?"""
        return seq in self.accepted or seq in self.pending

    def has_room_for(self, seq: int) -> bool:
        """May this number be accepted without making too many ranges?"""
        return len(self.accepted) + len(self.pending) < MAX_RANGES or any(
            near in held for held in (self.accepted, self.pending) for near in (seq - 1, seq + 1)
        )

    def store(self, seqs: Iterable[int]) -> None:
        """These numbers are in the store; they are accepted once the ledger has them too (`committed`)."""
        add = self.stored.add
        for seq in seqs:
            add(seq)
        self.dirty = True

    def to_commit(self) -> RangeSet:
        """What the ledger shall hold as accepted."""
        return RangeSet([*self.accepted, *self.stored]) if self.stored else self.accepted

    def committed(self) -> None:
        """The ledger has it all."""
        for first, last in self.stored:
            self.accepted.add(first, last)
        self.stored = RangeSet()
        self.dirty = self.fresh = False

    def merge(self, other: "Book") -> None:
        """Take in what somebody else has written of the same epoch meanwhile."""
        self.accepted = RangeSet([*self.accepted, *other.accepted])
        self.excused = RangeSet([*self.excused, *other.excused])
        self.expected_last = max(self.expected_last or 0, other.expected_last or 0) or None

    def excuse(self, ranges: Iterable[Range]) -> None:
        """Note numbers that will never be stored. Beyond MAX_RANGES they are not noted, and show as gaps."""
        for first, last in ranges:
            if len(self.excused) < MAX_RANGES:
                self.excused.add(first, last)
        self.dirty = True

    def expect(self, last: int) -> None:
        """The epoch is known to have given out numbers up to this one."""
        if last > (self.expected_last or 0):
            self.expected_last = last
            self.dirty = True

    @property
    def complete(self) -> bool:
        """The ordinary case, told cheaply: everything from 1 on is accepted, as far as is known."""
        return len(self.accepted) == 1 and 1 in self.accepted and (self.accepted.highest or 0) >= (self.expected_last or 0)

    def gaps(self) -> list[Range]:
        """Numbers that are under way, or lost: neither accepted nor excused."""
        known = RangeSet([*self.accepted, *self.excused])
        last = max(self.accepted.highest or 0, self.expected_last or 0)
        return known.gaps(1, last)


class Books:
    """The books in use; others are fetched by ``load`` (the ledger), which may raise RetryLater."""

    def __init__(self, load: Callable[[str, str], Book | None], *, max_books: int = MAX_BOOKS) -> None:
        self._load = load
        self._max_books = max_books
        self._books: OrderedDict[Key, Book] = OrderedDict()
        self._touched: dict[Key, Book] = {}

    def __len__(self) -> int:
        return len(self._books)

    def of(self, center: str, epoch: str, now_s: int) -> Book:
        """The book of this epoch, an empty one where it is new. Raises RetryLater."""
        key = (center, epoch)
        book = self._touched.get(key)
        if book is not None:
            return book
        book = self._books.get(key)
        if book is None:
            book = self._books[key] = self._load(center, epoch) or Book(center, epoch, first_seen_s=now_s, fresh=True)
        else:
            self._books.move_to_end(key)
        self._touched[key] = book
        return book

    def changed(self) -> list[Book]:
        """The books that this batch has changed."""
        return [book for book in self._touched.values() if book.dirty]

    def forget_pending(self) -> None:
        """The batch will be admitted again from its start."""
        for book in self._touched.values():
            book.pending = RangeSet()

    def end_batch(self) -> None:
        """The batch is committed: put away the books that were not used for longest, down to the bound."""
        self.forget_pending()
        self._touched.clear()
        while len(self._books) > self._max_books:
            self._books.popitem(last=False)
