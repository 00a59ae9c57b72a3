"""The page at ``/``: complete as it is served, and kept up to date by a small script where the browser runs one.

Style and script are in the page itself, named by their hashes in its Content-Security-Policy: nothing else may run, nothing is
fetched but ``api/v1/centers``. Times are written in UTC; the script writes them in the browser's own zone.
"""

import base64
import hashlib
import time
from collections.abc import Mapping
from importlib.resources import files
from typing import Any, Final

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

MINUTE_S: Final = 60
HOUR_S: Final = 3600
DAY_S: Final = 86_400

_POLICY: Final = (
    "default-src 'none'; style-src {style}; script-src {script}; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class Page:
    """The template with its style and script, read once."""

    def __init__(self) -> None:
        package = files("kerege_collector")
        style = package.joinpath("static", "board.css").read_text(encoding="utf-8")
        script = package.joinpath("static", "board.js").read_text(encoding="utf-8")
        environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
        environment.filters |= {"span": span, "number": number, "utc": utc, "iso": iso, "clock": clock}
        environment.globals |= {"style": Markup(style), "script": Markup(script)}  # noqa: S704 - files of this package
        self._template = environment.from_string(package.joinpath("templates", "board.html").read_text(encoding="utf-8"))
        self.headers = {"content-security-policy": _POLICY.format(style=_hash(style), script=_hash(script))}

    def render(self, content: Mapping[str, Any]) -> str:
        """The page for what the API would answer now."""
        return self._template.render(**content)


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def span(seconds: int) -> str:
    """A duration as people say it: ``12 s``, ``5 min``, ``3 h 12 min``, ``5 d 3 h``."""
    seconds = max(seconds, 0)
    if seconds < MINUTE_S:
        return f"{seconds} s"
    if seconds < HOUR_S:
        return f"{seconds // MINUTE_S} min"
    if seconds < 2 * DAY_S:
        return f"{seconds // HOUR_S} h {seconds % HOUR_S // MINUTE_S} min"
    return f"{seconds // DAY_S} d {seconds % DAY_S // HOUR_S} h"


def number(value: float) -> str:
    """At most three significant digits, and no exponent: ``0.73``, ``612``, ``1250``."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def utc(time_s: int) -> str:
    """``2026-11-23 20:30:00 UTC``."""
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(time_s))


def iso(time_s: int) -> str:
    """``2026-11-23T20:30:00Z``."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time_s))


def clock(time_s: int, now_s: int) -> str:
    """``20:30 UTC``, with the day where it is not today."""
    form = "%H:%M UTC" if time_s // DAY_S == now_s // DAY_S else "%-d %b %H:%M UTC"
    return time.strftime(form, time.gmtime(time_s))
