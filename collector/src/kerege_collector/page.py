"""The page at ``/`` in the reader's language: complete as it is served, and kept up to date by a small script where the browser runs one.

Style and script are in the page itself, named by their hashes in its Content-Security-Policy: nothing else may run, and nothing is
fetched but the page itself, of which the script takes what has changed. Times are UTC; the script writes them in the browser's zone.
"""

import base64
import hashlib
from collections.abc import Mapping
from functools import partial
from importlib.resources import files
from typing import Any, Final

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup

from kerege_collector import figures, wording
from kerege_collector.languages import LANGUAGES, translations

_POLICY: Final = (
    "default-src 'none'; style-src {style}; script-src {script}; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class Page:
    """The template with its style and script, read once, in each language."""

    def __init__(self) -> None:
        package = files("kerege_collector")
        style = package.joinpath("static", "board.css").read_text(encoding="utf-8")
        script = package.joinpath("static", "board.js").read_text(encoding="utf-8")
        source = package.joinpath("templates", "board.html").read_text(encoding="utf-8")
        self._templates = {language: _template(source, language, style, script) for language in LANGUAGES}
        self.headers = {"content-security-policy": _POLICY.format(style=_hash(style), script=_hash(script))}

    def render(self, content: Mapping[str, Any], language: str) -> str:
        """The page for what the API would answer now."""
        return self._templates[language].render(**content)


def _template(source: str, language: str, style: str, script: str) -> Template:
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.i18n"]
    )
    catalog = translations(language)
    environment.install_gettext_translations(catalog, newstyle=True)  # type: ignore[attr-defined]
    _ = catalog.gettext
    environment.filters |= {
        "span": partial(figures.span, _=_),
        "number": partial(figures.number, language=language),
        "clock": partial(figures.clock, language=language),
        "utc": figures.utc,
        "iso": figures.iso,
        "state": partial(wording.word, wording.STATES, _=_),
        "cause": partial(wording.word, wording.CAUSES, _=_),
        "link": partial(wording.word, wording.LINKS, _=_),
        "reason": partial(wording.reason, _=_),
        "own": partial(wording.own, _=_),
    }
    environment.globals |= {
        "language": language,
        "languages": LANGUAGES,
        "style": Markup(style),  # noqa: S704 - files of this package
        "script": Markup(script),  # noqa: S704
    }
    return environment.from_string(source)


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
