"""``kerege-agent spool``: what waits in the queue, read from a copy of its files so that a running agent is not disturbed."""

import json
import shutil
import sqlite3
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TextIO

from kerege_agent.carve import LOG_HEADER_BYTES
from kerege_agent.rows import Row
from kerege_agent.salvage import log_of
from kerege_agent.settings import Settings
from kerege_agent.spool_file import FILE_NAME, SpoolFile
from kerege_wire import WireError
from kerege_wire.fields import write_fields

COPY_ATTEMPTS: Final = 10
"""The agent may fold its log into the file while we copy: then the copy is made again."""


class SpoolCopyError(Exception):
    """The spool cannot be read. The text is for people."""


def show(settings: Settings, *, as_json: bool, listing: bool = False, out: TextIO | None = None) -> int:
    """Print a summary, or every record; 0, or 1 where there is no spool to read."""
    out = sys.stdout if out is None else out
    try:
        with tempfile.TemporaryDirectory(prefix="kerege-spool-") as scratch:
            rows = _rows(settings.state_directory, Path(scratch))
            lines = (_listing(rows, as_json=as_json)) if listing else _summary(rows, settings.state_directory, as_json=as_json)
            for line in lines:
                out.write(line + "\n")
    except SpoolCopyError as error:
        sys.stderr.write(f"kerege-agent: {error}\n")
        return 1
    return 0


def _rows(directory: Path, scratch: Path) -> Iterator[Row]:
    """Every readable record, oldest first."""
    path = directory / FILE_NAME
    try:
        _copy(path, scratch / FILE_NAME)
        file = SpoolFile(scratch / FILE_NAME)
    except FileNotFoundError as error:
        raise SpoolCopyError(f"{path}: there is no spool here (no agent has run on this state_directory yet)") from error
    except (OSError, sqlite3.Error, UnicodeDecodeError) as error:
        raise SpoolCopyError(f"{path}: cannot be read: {error}") from error
    with closing(file):
        yield from file.rows()


def _copy(path: Path, copy: Path) -> None:
    """Copy file and log as one state: the log is still the one that was there before the file was read."""
    for _ in range(COPY_ATTEMPTS):
        before = _log_header(path)
        shutil.copyfile(path, copy)
        if log_of(path).exists():
            shutil.copyfile(log_of(path), log_of(copy))
        else:
            log_of(copy).unlink(missing_ok=True)
        if _log_header(path) == before:
            return
    raise OSError("it changes faster than it can be copied")


def _log_header(path: Path) -> bytes:
    try:
        with log_of(path).open("rb") as log:
            return log.read(LOG_HEADER_BYTES)
    except FileNotFoundError:
        return b""


def _listing(rows: Iterator[Row], *, as_json: bool) -> Iterator[str]:
    for row in rows:
        item = _item(row)
        if as_json:
            yield json.dumps(item)
        else:
            identity = f"{row.epoch} {row.seq:>8}  {_when(row.time_s):<20}"
            yield f"{identity}  {item['clock'] or '-':<9}  {row.kind:<8} {json.dumps(item['fields'], ensure_ascii=False)}"


def _item(row: Row) -> dict[str, Any]:
    try:
        fields = write_fields(row.read())
    except (WireError, ValueError):
        fields = {"unknown": row.body}
    return {
        "epoch": row.epoch,
        "seq": row.seq,
        "kind": row.kind,
        "time": row.time_s,
        "clock": None if row.time_s is None else row.clock,
        "within_s": row.within_s,
        "mono_ms": row.mono_ms,
        "fields": fields,
    }


def _summary(rows: Iterator[Row], directory: Path, *, as_json: bool) -> Iterator[str]:
    kinds: Counter[str] = Counter()
    epochs: Counter[str] = Counter()
    times: list[int] = []
    without_time = 0
    for row in rows:
        kinds[row.kind] += 1
        epochs[row.epoch] += 1
        if row.time_s is None:
            without_time += 1
        else:
            times = [min(times[0], row.time_s), max(times[1], row.time_s)] if times else [row.time_s, row.time_s]
    size = sum(found.stat().st_size for found in directory.glob(f"{FILE_NAME}*") if "damaged" not in found.name)
    oldest, newest = (times[0], times[1]) if times else (None, None)
    if as_json:
        summary = {"records": kinds.total(), "bytes": size, "oldest": oldest, "newest": newest, "without_time": without_time}
        yield json.dumps(summary | {"kinds": dict(kinds), "epochs": dict(epochs)})
        return
    yield f"{kinds.total()} records wait in {directory / FILE_NAME} ({size / 1e6:.2f} MB)"
    yield f"oldest {_when(oldest)}, newest {_when(newest)}" + (f", {without_time} wait for their time" if without_time else "")
    yield from (f"  {kind:<9} {count}" for kind, count in kinds.most_common())
    yield from (f"  epoch {epoch}  {count}" for epoch, count in epochs.items())


def _when(time_s: int | None) -> str:
    return "-" if time_s is None else datetime.fromtimestamp(time_s, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
