"""Brings the catalogs of translated texts up to date with the code: ``make catalogs``. New texts are left empty for a translator."""

import re
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Final

from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_file
from babel.messages.pofile import read_po, write_po

SOURCE: Final = Path(__file__).parent.parent / "collector" / "src" / "kerege_collector"
LOCALE: Final = SOURCE / "locale"
KEYWORDS: Final = {"_": None, "N_": None, "gettext": None, "ngettext": (1, 2)}
OPTIONS: Final = {"newstyle_gettext": "true"}
_CHANGING: Final = re.compile(
    rb'"(Project-Id-Version|POT-Creation-Date|PO-Revision-Date|Generated-By|Report-Msgid|Last-Translator|Language-Team)'
    rb"|# (Copyright|This file is|FIRST AUTHOR|Translations template)"
)
"""Header lines that change at each run, or say nothing."""

_PLACEHOLDER: Final = re.compile(r"%\([a-z_]+\)[sd]")


def template() -> Catalog:
    """All texts of the collector's code and templates."""
    catalog = Catalog(project="Kerege", fuzzy=False)
    for path, method in _sources():
        for _, message, comments, context in extract_from_file(method, path, keywords=KEYWORDS, options=OPTIONS):
            catalog.add(message, None, [(path.relative_to(SOURCE).as_posix(), 0)], auto_comments=comments, context=context)
    return catalog


def _sources() -> Iterator[tuple[Path, str]]:
    for path in sorted(SOURCE.glob("*.py")):
        yield path, "python"
    for path in sorted(SOURCE.glob("templates/*.html")):
        yield path, "jinja2.ext:babel_extract"


def read(path: Path) -> Catalog:
    """One language's catalog."""
    return read_po(BytesIO(path.read_bytes()), locale=path.stem)


def updated(path: Path) -> bytes:
    """The catalog at ``path`` with the texts of the code as they are now."""
    catalog = read(path)
    catalog.update(template(), no_fuzzy_matching=True)
    catalog.obsolete.clear()
    text = BytesIO()
    write_po(text, catalog, width=120, omit_header=False, sort_output=True, include_lineno=False)
    return b"".join(line for line in text.getvalue().splitlines(keepends=True) if not _CHANGING.match(line))


def mistakes(path: Path) -> list[str]:
    """What keeps a catalog from being whole: texts without translation, and translations with other placeholders."""
    found = []
    for message in read(path):
        if not message.id:
            continue
        sources = message.id if isinstance(message.id, tuple | list) else (message.id,)
        said = message.string if isinstance(message.string, tuple | list) else (message.string or "",)
        wanted = set(_PLACEHOLDER.findall(sources[-1]))
        if message.fuzzy or not all(said):
            found.append(f"{path.name}: not translated: {sources[0]}")
        elif any(set(_PLACEHOLDER.findall(text)) != wanted for text in said):
            found.append(f"{path.name}: other placeholders: {sources[0]}")
    return found


def main() -> None:
    """Write both catalogs anew and say what is left to translate."""
    for path in sorted(LOCALE.glob("*.po")):
        path.write_bytes(updated(path))
        print("\n".join(mistakes(path)) or f"{path.name}: whole")


if __name__ == "__main__":
    main()
