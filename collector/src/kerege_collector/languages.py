"""Kazakh, Russian and English: which one a reader gets, and its catalog of translated texts.

Catalogs are gettext's .po files in ``locale/``, read as they are: nothing is compiled beforehand (`scripts/catalogs` brings them up
to date). The texts of the code are the English ones.
"""

import re
from functools import cache
from gettext import GNUTranslations, NullTranslations
from importlib.resources import files
from io import BytesIO
from typing import Final

from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po

LANGUAGES: Final = {"kk": "Қазақша", "ru": "Русский", "en": "English"}
"""Code (ISO 639-1) → what its speakers call it, in the order in which they are offered."""

DEFAULT: Final = "kk"
"""For readers who ask for none of them: the language of the state."""

_RANGE: Final = re.compile(r"\s*([A-Za-z]{2,8})(?:-[A-Za-z0-9-]+)?\s*(?:;\s*q\s*=\s*([01](?:\.\d{0,3})?))?\s*")


def preferred(*named: str | None, accept: str = "") -> str:
    """The first language of ``named`` that is one of ours, else the one that an Accept-Language (RFC 9110 section 12.5.4) prefers."""
    for name in named:
        if name in LANGUAGES:
            return str(name)
    wanted: list[tuple[float, str]] = []
    for part in accept[:1000].split(","):
        found = _RANGE.fullmatch(part)
        if found and found[1].lower() in LANGUAGES and float(found[2] or 1) > 0:
            wanted.append((float(found[2] or 1), found[1].lower()))
    return max(wanted, key=lambda choice: choice[0])[1] if wanted else DEFAULT  # of equals the first


@cache
def translations(language: str) -> NullTranslations:
    """The catalog of a language; English is what the code says."""
    if language == "en":
        return NullTranslations()
    text = files("kerege_collector").joinpath("locale", f"{language}.po").read_bytes()
    compiled = BytesIO()
    write_mo(compiled, read_po(BytesIO(text), locale=language))
    compiled.seek(0)
    return GNUTranslations(compiled)
