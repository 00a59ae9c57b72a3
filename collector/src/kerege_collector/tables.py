"""Listings: a table for a person at a terminal, JSON lines for machines."""

import json
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, TextIO

GAP: Final = "  "
NONE: Final = "–"


def print_table(headings: Sequence[str], rows: Iterable[Sequence[object]], *, out: TextIO | None = None) -> None:
    """Columns as wide as they need to be; numbers to the right. None is shown as a dash."""
    cells = [[NONE if value is None else str(value) for value in row] for row in rows]
    numeric = [bool(cells) and all(_is_number(row[column]) for row in cells) for column in range(len(headings))]
    widths = [max(len(heading), *(len(row[column]) for row in cells)) if cells else len(heading) for column, heading in enumerate(headings)]
    for row in [list(headings), *cells]:
        padded = [cell.rjust(width) if right else cell.ljust(width) for cell, width, right in zip(row, widths, numeric, strict=True)]
        (out or sys.stdout).write(GAP.join(padded).rstrip() + "\n")


def print_json(value: Mapping[str, Any], *, out: TextIO | None = None) -> None:
    """One line of JSON."""
    (out or sys.stdout).write(json.dumps(value, ensure_ascii=False) + "\n")


def local_time(time_s: int | None) -> str | None:
    """``2026-11-23 20:30:00`` in this machine's zone."""
    return None if time_s is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(time_s))


def _is_number(text: str) -> bool:
    return text == NONE or text.replace(".", "", 1).replace(" ", "").isdigit()
