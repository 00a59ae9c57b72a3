"""``kerege-collector export``: the embedded store's records into InfluxDB, in the order of arrival, going on where it stopped.

How far it has come is in a small file in the state directory, written after each batch: what a crash in between sends again overwrites
itself. Records that the server can never take are written beside it, with the server's words.
"""

import json
import os
import random
import re
import sys
import time
import zlib
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final, TextIO, TypeVar

from kerege_collector.records import ReadError
from kerege_collector.records_sqlite import START, Position, SqliteReader
from kerege_collector.stores import Rejected, RetryLater, Row, Store
from kerege_collector.stores.sqlite import SqliteStore, Unreadable
from kerege_collector.tables import print_json
from kerege_wire.fields import write_fields

BATCH: Final = 5000
"""Records of one write, which is one request."""

MAX_BACKOFF_S: Final = 15.0
GIVE_UP_S: Final = 600.0
"""After so long without anything written the command ends; run again, it goes on."""

HOPELESS: Final = frozenset({"unauthorized", "forbidden", "not-found", "bad-request", "unexpected-answer", "newer-schema", "not-ours"})
"""Troubles that waiting does not cure."""

SHOW_EVERY_S: Final = 0.2


Result = TypeVar("Result")


class ExportError(Exception):
    """The export cannot go on. The text is for people."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an export has come: the position of the last record that is written, and how many were, in all runs."""

    last: Position = START
    written: int = 0
    rejected: int = 0


class ProgressFile:
    """The progress of one export, from one file to one target. ``name`` tells targets apart."""

    def __init__(self, directory: Path, name: str) -> None:
        slug = f"{re.sub('[^A-Za-z0-9]+', '-', name).strip('-')[:80]}-{zlib.crc32(name.encode()):08x}"  # two names may read the same
        self.path = directory / f"export-{slug}.json"
        self.rejected_path = directory / f"export-{slug}.rejected.jsonl"

    def load(self) -> Progress:
        """What was saved; the beginning where nothing was. Raises ExportError."""
        try:
            saved = json.loads(self.path.read_text(encoding="utf-8"))
            return Progress(Position(**saved["last"]), saved["written"], saved["rejected"])
        except FileNotFoundError:
            return Progress()
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise ExportError(f"{self.path}: cannot be read ({error}); delete it to export everything again") from error

    def save(self, progress: Progress) -> None:
        """Replace what was saved, at once or not at all. Raises OSError."""
        temporary = self.path.with_suffix(".new")
        with temporary.open("w", encoding="utf-8") as file:
            json.dump(asdict(progress), file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self.path)

    def keep_rejected(self, rejected: Iterable[Rejected], unreadable: Iterable[Unreadable] = ()) -> None:
        """Append what the server refused, and what could not be read. Raises OSError."""
        with self.rejected_path.open("a", encoding="utf-8") as file:
            for item in rejected:
                row = item.row
                identity = {"center": row.center, "epoch": row.epoch, "seq": row.seq, "time": row.time, "kind": row.kind}
                file.write(json.dumps(identity | {"fields": write_fields(row.body), "why": item.detail}, ensure_ascii=False) + "\n")
            file.writelines(json.dumps(item._asdict(), ensure_ascii=False, default=str) + "\n" for item in unreadable)


class Export:
    """One run. waits: sleeps for so many seconds; show: told how far it is, often."""

    def __init__(
        self,
        source: Path,
        target: Store,
        progress_file: ProgressFile,
        *,
        show: Callable[[Progress], None],
        waits: Callable[[float], None] = time.sleep,
    ) -> None:
        self._source = source
        self._target = target
        self._file = progress_file
        self._show = show
        self._waits = waits

    def begin(self) -> Progress:
        """Where this run begins. Raises ExportError, ReadError."""
        progress = self._file.load()
        known = SqliteReader(self._source).goes_on_from(progress.last)
        return progress if known else Progress()  # another file may have taken the place of the one that was exported

    def run(self, progress: Progress) -> Progress:
        """Write all that comes after ``progress``. Raises ExportError, ReadError, OSError."""
        store = SqliteStore(self._source, retention_days=1)  # only read: nothing is forgotten
        try:
            while rows := self._patiently(partial(store.iterate, progress.last.id, BATCH)):
                progress = self._write(rows, progress)
                self._file.save(progress)
                self._show(progress)
        finally:
            store.close()
        return progress

    def _write(self, rows: list[tuple[int, Row | Unreadable]], progress: Progress) -> Progress:
        readable = [row for _, row in rows if isinstance(row, Row)]
        rejected = self._patiently(lambda: self._target.write(readable)) if readable else []
        unreadable = [row for _, row in rows if isinstance(row, Unreadable)]
        if rejected or unreadable:
            self._file.keep_rejected(rejected, unreadable)
        number, row = rows[-1]
        return replace(
            progress,
            last=Position(number, str(row.center), str(row.epoch), int(str(row.seq))),
            written=progress.written + len(readable) - len(rejected),
            rejected=progress.rejected + len(rejected) + len(unreadable),
        )

    def _patiently(self, step: Callable[[], Result]) -> Result:
        """What ``step`` returns, tried again for a while where it says "later"."""
        began = time.monotonic()
        attempt = 0
        while True:
            try:
                return step()
            except RetryLater as trouble:
                if trouble.reason in HOPELESS or time.monotonic() - began > GIVE_UP_S:
                    raise ExportError(f"{trouble}; run the command again to go on") from trouble
            self._waits(random.uniform(0, min(MAX_BACKOFF_S, 2.0**attempt)))
            attempt += 1


class Bar:
    """How far it is: one line that is rewritten on a terminal, nothing elsewhere."""

    def __init__(self, last_id: int, *, out: TextIO | None = None) -> None:
        self._last_id = last_id
        self._out = out or sys.stderr
        self._due_s = 0.0
        self._began_s = time.monotonic()
        self._first: Progress | None = None

    def __call__(self, progress: Progress) -> None:
        now_s = time.monotonic()
        if not self._out.isatty() or now_s < self._due_s:
            return
        self._due_s = now_s + SHOW_EVERY_S
        self._first = self._first or progress
        done = progress.written + progress.rejected
        rate = (done - self._first.written - self._first.rejected) / max(now_s - self._began_s, 0.001)
        share = min(100.0, 100.0 * progress.last.id / max(self._last_id, 1))
        self._out.write(f"\rexport: {done:,} records, {share:.0f} %, {rate:,.0f} a second ")
        self._out.flush()

    def end(self) -> None:
        """Leave the line."""
        if self._out.isatty():
            self._out.write("\r\x1b[K")


def show(source: Path, target: Store, progress_file: ProgressFile, *, name: str, as_json: bool) -> int:
    """Run an export and tell the result; 0, or 1 where it could not be finished or records were refused."""
    try:
        bar = Bar(SqliteReader(source).last_id())
        export = Export(source, target, progress_file, show=bar)
        before = export.begin()
        try:
            after = export.run(before)
        finally:
            bar.end()
            target.close()
    except (ExportError, ReadError, OSError) as error:
        sys.stderr.write(f"kerege-collector export: {error}\n")
        return 1
    result = {"target": name, "written": after.written, "written_now": after.written - before.written, "rejected": after.rejected}
    if as_json:
        print_json(result)
    else:
        refused = f"; {after.rejected} refused, see {progress_file.rejected_path}" if after.rejected else ""
        sys.stdout.write(f"{after.written} records are in {name}, {after.written - before.written} of them written now{refused}\n")
    return 1 if after.rejected else 0
