"""The tables of ``docs/metrics.md``, made from the same declarations as the stored points; a test keeps the page true.

python -m kerege_collector.metrics_doc docs/metrics.md     writes them into the page, between the marks
"""

import sys
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Final

from kerege_collector.points import FIELDS, TAGS, StoredField
from kerege_wire import KINDS

BEGIN: Final = "<!-- tables: written by `python -m kerege_collector.metrics_doc`, checked by a test -->"
END: Final = "<!-- end of tables -->"
"""The marks in the page."""


def metrics_markdown() -> str:
    """Tags, and for each measurement its fields: type, unit, source, meaning."""
    return "\n".join([*_tags(), *_measurements()]) + "\n"


def with_tables(page: str) -> str:
    """The page with the tables between its marks. Raises ValueError where there are none."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"no {BEGIN} ... {END} in the page")
    return f"{before}{begin}\n\n{metrics_markdown()}\n{end}{after}"


def _tags() -> Iterator[str]:
    yield from ("## Tags", "", "| tag | meaning |", "|---|---|")
    yield from (f"| `{name}` | {doc} |" for name, doc in TAGS.items())


def _measurements() -> Iterator[str]:
    for measurement, fields in groupby(FIELDS, lambda field: field.measurement):
        yield from ("", f"## {measurement}", "", " ".join((KINDS[measurement].__doc__ or "").split()), "")
        yield from ("| field | type | unit | source | meaning |", "|---|---|---|---|---|")
        yield from (_row(field) for field in fields)


def _row(field: StoredField) -> str:
    return f"| `{field.name}` | {field.type} | {field.unit} | {field.source} | {field.doc} |"


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(with_tables(path.read_text(encoding="utf-8")), encoding="utf-8")
