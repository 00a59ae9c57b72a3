"""The spool's rows wherever they are: in the file, or in memory while they wait for it.

They wait because a router spares its flash (``flush_ms``), or because the disk is full, read-only or broken; then the file is tried again
every few seconds and takes everything as soon as it can. A file whose content is broken is set aside and salvaged.
Not thread-safe: `Spool` holds its lock.
"""

import logging
import sqlite3
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Final, TypeVar

from kerege_agent.rows import Found, Row, Span, key_of
from kerege_agent.spool_file import FILE_NAME, Changes, RefusedError, SpoolFile, is_damage
from kerege_wire.ranges import Range

FIRST_RETRY_MS: Final = 2_000
LAST_RETRY_MS: Final = 60_000
"""A disk that refused is tried again after the first of these; doubled up to the second."""

DYING_MS: Final = 3_600_000
"""A disk that has refused for so long is taken for dying: what can be read from it is sent while it can be, with times that are kept in
memory only."""

_PROBE_BYTES: Final = 4096
_PRIMARY_CODE: Final = 0xFF
_MAX_SEQ: Final = 0xFFFFFFFF
_log = logging.getLogger(__name__)
_Answer = TypeVar("_Answer")


class Shelf:
    """Rows by key: those in memory stand before those in the file.

    kinds: how many there are of each kind; unfixed: how many have no time yet.
    held: rows that are not in the file, or stand there without their time (``shadows``).
    gone: key → kind of rows that are still to be deleted in the file.
    trouble: what the disk said when it refused; None while all is well.
    """

    def __init__(self, directory: Path, *, flush_ms: int, attached: Callable[[SpoolFile, str, int], None]) -> None:
        """``attached(file, spool, salvaged)`` is called whenever a file has come in: `kept`, `new` or `damaged`."""
        self.kinds: Counter[str] = Counter()
        self.unfixed = 0
        self.held: dict[int, Row] = {}
        self.shadows: set[int] = set()
        self.gone: dict[int, str] = {}
        self.spans: dict[int, Span] = {}
        self.notes: dict[str, str] = {}
        self.trouble: str | None = None
        self.now_ms = 0
        self._path = directory / FILE_NAME
        self._file: SpoolFile | None = None
        self._attached = attached
        self._flush_ms = flush_ms
        self._flushed_ms = 0
        self._stale = False
        self._refused_ms = 0
        self._retry_ms = 0
        self._wait_ms = FIRST_RETRY_MS

    # --- changing: reaches the file with the next `write` ---

    def add(self, row: Row) -> None:
        """A new row."""
        self.held[row.key] = row
        self.kinds[row.kind] += 1
        self.unfixed += row.time_s is None

    def fix(self, row: Row) -> None:
        """A row that has got its time: stands for the one in the file until it is written there."""
        if row.key not in self.held:
            self.shadows.add(row.key)
        self.held[row.key] = row
        self.unfixed -= 1

    def remove(self, leaving: Iterable[Found]) -> None:
        """Forget these rows."""
        for key, kind, time_s in leaving:
            self.kinds[kind] -= 1
            self.unfixed -= time_s is None
            if self.held.pop(key, None) is None or key in self.shadows:
                self.gone[key] = kind
            self.shadows.discard(key)

    def write(self, *, durable: bool, force: bool = False) -> bool:
        """Bring everything into the file, unless it may wait or the disk refused a moment ago. Is nothing left in memory?"""
        if self.trouble is not None:
            if self.now_ms < self._retry_ms and not force:
                return False
        elif not self._waiting:
            return True
        elif self._flush_ms and not force and 0 <= self.now_ms - self._flushed_ms < self._flush_ms:
            return False
        self._flushed_ms = self.now_ms
        return self._guard(lambda: self._write(durable=durable or bool(self.held))) is not None

    @property
    def _waiting(self) -> bool:
        return bool(self.held or self.gone or self.spans or self.notes)

    def _write(self, *, durable: bool) -> bool:
        if self._stale or (self.trouble is not None and not self._waiting):
            self._probe()
        if self._stale:  # the file could still be read; to write again it wants a fresh start
            self.close()
            self._stale = False
        file = self._opened()
        if self.trouble is not None and self.gone:  # first of all make room
            file.apply(Changes(gone=list(self.gone.items())), durable=False)
            self.gone.clear()
        rows, spans = list(self.held.values()), list(self.spans.values())
        file.apply(Changes(rows=rows, gone=list(self.gone.items()), spans=spans, notes=self.notes), durable=durable)
        for written in (self.held, self.shadows, self.gone, self.spans, self.notes):
            written.clear()
        if self.trouble is not None:
            _log.warning("spool.disk_recovered", extra={"fields": {"records": len(rows), "before": self.trouble}})
            self.trouble, self._wait_ms = None, FIRST_RETRY_MS
        return True

    # --- reading ---

    def newest(self, limit: int, without: Collection[int]) -> list[int]:
        """Keys of up to ``limit`` rows whose time is fixed and that are not in ``without``, newest first.

        A time that is not durable yet could come out differently after a crash, so such a row waits; but not for ever on a disk that dies.
        """
        wanted = limit + len(without) + len(self.gone) + len(self.shadows)
        nothing: list[int] = []
        found = set(self._ask(lambda file: file.newest(wanted), nothing))
        found.update(key for key, row in self.held.items() if row.time_s is not None)
        if self.trouble is None or self.now_ms - self._refused_ms < DYING_MS:
            found -= self.shadows
        return sorted((key for key in found if key not in without and key not in self.gone), reverse=True)[:limit]

    def load(self, keys: Iterable[int]) -> tuple[list[Row], list[Found]]:
        """The rows of these keys as far as they are there, and those that were damaged."""
        asked = list(keys)
        in_file = [key for key in asked if key not in self.held and key not in self.gone]
        nothing: tuple[list[Row], list[Found]] = ([], [])
        rows, damaged = self._ask(lambda file: file.load(in_file), nothing)
        return [*rows, *(self.held[key] for key in asked if key in self.held)], damaged

    def unfixed_rows(self, limit: int, *, after: int) -> tuple[list[Row], list[Found]]:
        """The oldest rows beyond a key that have no time yet, and those that were damaged."""
        nothing: tuple[list[Row], list[Found]] = ([], [])
        rows, damaged = self._ask(lambda file: file.unfixed(limit + len(self.shadows) + len(self.gone), after=after), nothing)
        found = {row.key: row for row in rows if row.key not in self.gone and row.key not in self.held}
        found.update((key, row) for key, row in self.held.items() if row.time_s is None and key > after)
        return [found[key] for key in sorted(found)[:limit]], damaged

    def unfixed_by_span(self) -> dict[int, tuple[int, int]]:
        """Span → (monotonic, wall) in ms of its last row without a time."""
        nothing: dict[int, tuple[int, int]] = {}
        found = dict(self._ask(lambda file: file.unfixed_by_span(), nothing))
        for row in sorted(self.held.values(), key=lambda row: row.key):
            if row.time_s is None:
                found[row.span] = (row.mono_ms, row.wall_ms)
        return found

    def within(self, span: int, ranges: Iterable[Range]) -> list[Found]:
        """The rows of a span whose sequence numbers lie in the ranges."""
        found: dict[int, Found] = {}
        nothing: list[Found] = []
        for first, last in ranges:
            low, high = key_of(span, min(first, _MAX_SEQ)), key_of(span, min(last, _MAX_SEQ))
            in_file = self._ask(lambda file, low=low, high=high: file.between(low, high), nothing)  # type: ignore[misc]
            found.update((item[0], item) for item in in_file if item[0] not in self.gone)
            found.update((row.key, (row.key, row.kind, row.time_s)) for row in self.held.values() if low <= row.key <= high)
        return list(found.values())

    def oldest_of(self, kind: str, limit: int) -> list[Found]:
        """The oldest rows of a kind that are in the file."""
        nothing: list[Found] = []
        found = self._ask(lambda file: file.oldest_of(kind, limit + len(self.gone)), nothing)
        return [item for item in found if item[0] not in self.gone and item[0] not in self.held][:limit]

    def oldest_held(self, kind: str, limit: int) -> list[Found]:
        """The oldest rows of a kind that are in memory only."""
        keys = sorted(key for key, row in self.held.items() if row.kind == kind and key not in self.shadows)
        return [(key, kind, self.held[key].time_s) for key in keys[:limit]]

    def note(self, name: str) -> str | None:
        """A value of the small key → text store."""
        return self.notes.get(name) or self._ask(lambda file: file.note(name), None)

    def used_bytes(self) -> int:
        """Size of the file's pages in use; 0 while there is no file."""
        return self._ask(lambda file: file.used_bytes(), 0)

    def recount(self) -> None:
        """Count rows anew: after damage, or when a file comes in."""
        self._ask(self._count, None)

    def _count(self, file: SpoolFile) -> None:
        census = file.census()
        self.shadows = {key for key in self.held if file.holds(key)}
        self.kinds = census.kinds
        self.unfixed = census.unfixed + sum(row.time_s is None for row in self.held.values())
        in_file, _ = file.load([*self.shadows, *self.gone])
        self.unfixed -= sum(row.time_s is None for row in in_file)
        self.kinds.subtract(row.kind for row in in_file)
        self.kinds.update(row.kind for row in self.held.values())

    # --- the file, and trouble with it ---

    def open(self) -> bool:
        """Open the file for the first time. Is it there?"""
        return self._guard(self._opened) is not None

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            file, self._file = self._file, None
            try:
                file.close()
            except sqlite3.Error as error:
                _log.warning("spool.close_failed", extra={"fields": {"error": str(error)}})

    def _ask(self, question: Callable[[SpoolFile], _Answer], default: _Answer) -> _Answer:
        if self._file is None:
            return default
        answer = self._guard(lambda: question(self._opened()))
        return default if answer is None else answer

    def _guard(self, action: Callable[[], _Answer]) -> _Answer | None:
        """Do something with the file; once more after a repair. None where the disk refuses."""
        for repairs in (1, 0):
            try:
                return action()
            except (sqlite3.Error, OSError, RefusedError, UnicodeDecodeError) as error:
                if repairs and is_damage(error) and self._repaired(error):
                    continue
                self._refused(error)
        return None

    def _refused(self, error: Exception) -> None:
        text = str(error)[:200] or type(error).__name__
        if self.trouble is None:
            _log.error("spool.disk_refused", extra={"fields": {"error": text, "file": str(self._path), "new_records": "kept in memory"}})
            self._refused_ms = self.now_ms
        self.trouble = text
        self._retry_ms = self.now_ms + self._wait_ms
        self._wait_ms = min(2 * self._wait_ms, LAST_RETRY_MS)
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_IOERR)
        self._stale = code & _PRIMARY_CODE != sqlite3.SQLITE_FULL

    def _probe(self) -> None:
        """Raises OSError while the disk takes nothing at all, which is cheap to find out."""
        probe = self._beside(".probe")
        try:
            probe.write_bytes(bytes(_PROBE_BYTES))
        finally:
            probe.unlink(missing_ok=True)

    def _opened(self) -> SpoolFile:
        if self._file is not None:
            return self._file
        new = not self._path.exists()
        if self._has_damaged_log() or self._is_half_salvaged():
            return self._salvaged("the write-ahead log is damaged, or a salvage was interrupted")
        try:
            self._file = SpoolFile(self._path)
        except (sqlite3.Error, UnicodeDecodeError) as error:
            if not is_damage(error):
                raise
            return self._salvaged(str(error))
        self._attached(self._file, "new" if new else "kept", 0)
        return self._file

    def _repaired(self, error: Exception) -> bool:
        self.close()
        try:
            self._salvaged(str(error))
        except (sqlite3.Error, OSError, RefusedError) as refusal:
            self._refused(refusal)
            return False
        return True

    def _beside(self, suffix: str) -> Path:
        return self._path.with_name(self._path.name + suffix)

    def _is_half_salvaged(self) -> bool:
        return self._beside(".salvaged").exists()

    def _has_damaged_log(self) -> bool:
        if not self._path.exists() or not self._beside("-wal").exists():
            return False  # as after a clean stop
        from kerege_agent.salvage import has_damaged_log  # noqa: PLC0415 - memory: as below

        return has_damaged_log(self._path)

    def _salvaged(self, why: str) -> SpoolFile:
        from kerege_agent.salvage import finish, rebuild  # noqa: PLC0415 - memory: most agents never need it

        if not finish(self._path):
            rebuild(self._path)
        self._file = SpoolFile(self._path)
        salvaged = self._file.census().kinds.total()
        _log.error("spool.damaged", extra={"fields": {"error": why[:200], "salvaged": salvaged}})
        self._attached(self._file, "damaged", salvaged)
        return self._file
