"""Pictures of notices as a mail and in a messenger, in all languages: ``.venv/bin/python scripts/notice_pictures.py DIRECTORY``.

For people's eyes: a text is not done before somebody has looked at it. Needs Chromium.
"""

import html
import shutil
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Final

from kerege_collector.languages import LANGUAGES
from kerege_collector.notice_digest import DIGEST, compose
from kerege_collector.notice_text import Facts, Library, Text

NOW_S: Final = 1_795_668_000
TIMEOUT_S: Final = 60.0

# the places are real, the libraries are made up (as in centers.example.toml)
_ULAN: Final = Library("ulan-bozanbay", "Бозанбай ауылдық кітапханасы", "Ұлан", "Asia/Almaty")
_MANY: Final = tuple(
    Library(f"{district}-{number}", f"№ {number} ауылдық кітапхана", district, "Asia/Almaty")
    for number in range(1, 18)
    for district in ("Ұлан", "Күршім", "Зайсан")
)
_ONE: Final = Facts("opened", 17, (_ULAN,), "silent", None, None, NOW_S - 1500, None, NOW_S, page_url="https://kerege.example/")

_ABSENT: Final = replace(_ONE, state="absent", since_s=NOW_S - 90_000)
_PARTS: Final = (
    _ABSENT,
    replace(_ABSENT, libraries=_MANY[4:5], since_s=NOW_S - 4_000),
    replace(_ONE, libraries=_MANY[7:8], kind="closed", state="down", cause="lan", since_s=NOW_S - 50_000, until_s=NOW_S - 43_000),
    replace(_ONE, libraries=_MANY[:24], kind="closed", scope=("satellite", "Sputnik-1"), since_s=NOW_S - 30_000, until_s=NOW_S - 26_000),
    replace(_ABSENT, libraries=_MANY[9:10], kind="closed", since_s=NOW_S - 88_000, until_s=NOW_S - 80_000),
    replace(_ONE, kind="own-over", libraries=(), since_s=NOW_S - 20_000, until_s=NOW_S - 19_000),
)

SHOWN: Final = {
    "silent": _ONE,
    "lan": replace(_ONE, kind="escalated", state="down", cause="lan", since_s=NOW_S - 90_000, may_repeat=True),
    "common": replace(_ONE, state="down", cause="provider", scope=("provider", "Sputnik"), libraries=_MANY),
    "closed": replace(_ONE, kind="closed", state="down", cause="provider", since_s=NOW_S - 11_000, until_s=NOW_S - 120),
    "own": replace(_ONE, kind="own", libraries=(), cause="no connection to the broker", incident=None),
    "nobody": replace(_ONE, kind="own", libraries=(), incident=None),
    "digest": replace(_ONE, kind=DIGEST, incident=None, libraries=(), parts=_PARTS),
}
"""Name of the picture → the incident."""

STYLE: Final = """
body { margin: 0; padding: 16px; background: #d7dee3; font: 15px/1.4 "DejaVu Sans", sans-serif }
body { display: flex; gap: 16px; align-items: start }
.mail { background: #fff; width: 620px; border: 1px solid #b5bdc3 }
.mail h1 { font-size: 18px; margin: 0; padding: 12px 16px; border-bottom: 1px solid #d5dade }
pre { font: inherit; white-space: pre-wrap; overflow-wrap: anywhere; margin: 0 }
.mail pre { padding: 16px }
.bubble { background: #fff; width: 340px; border-radius: 12px; padding: 8px 12px }
"""


def page(text: Text, language: str) -> str:
    """A mail at the left, and at the right the same in a messenger on a telephone, which puts the subject in bold on top."""
    subject, body = html.escape(text.subject), html.escape(text.body)
    mail = f'<div class="mail"><h1>{subject}</h1><pre>{body}</pre></div>'
    bubble = f'<div class="bubble"><pre><b>{subject}</b>\n{body}</pre></div>'
    return f'<!doctype html><html lang="{language}"><meta charset="utf-8"><style>{STYLE}</style><body>{mail}{bubble}'


def take(chromium: str, content: str, picture: Path) -> None:
    """Raises CalledProcessError and TimeoutExpired."""
    with tempfile.TemporaryDirectory() as directory:
        source = Path(directory) / "notice.html"
        source.write_text(content, encoding="utf-8")
        height = 100 + 21 * sum(1 + len(line) // 36 for line in content.partition('"bubble"')[2].splitlines())
        options = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
            f"--user-data-dir={directory}",
        ]
        command = [chromium, *options, f"--window-size=1030,{height}", f"--screenshot={picture}", source.as_uri()]
        subprocess.run(command, check=True, capture_output=True, timeout=TIMEOUT_S)  # noqa: S603 - named by this script


def main() -> None:
    """All of them into the directory that is named."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if len(sys.argv) != 2 or chromium is None:
        raise SystemExit("usage: notice_pictures.py DIRECTORY (needs chromium: scripts/install-servers)")
    directory = Path(sys.argv[1]).absolute()
    directory.mkdir(parents=True, exist_ok=True)
    for name, facts in SHOWN.items():
        for language in LANGUAGES:
            picture = directory / f"{name}-{language}.png"
            take(chromium, page(compose(facts, language), language), picture)
            print(picture)


if __name__ == "__main__":
    main()
