"""A sign of life to somebody who watches the watcher: GET of a URL every few minutes. Where it stays away, that somebody raises the alarm.

The URL is a secret (who has it can feign life) and comes from a file; no log line has it.
"""

import logging
import random
from collections.abc import Callable
from pathlib import Path
from typing import Final
from urllib.error import HTTPError
from urllib.request import Request, urlopen

TIMEOUT_S: Final = 10.0

JITTER: Final = 0.1
"""Up to a tenth of the interval earlier, so that collectors started together do not knock together."""

_MAX_LINE: Final = 4096

log = logging.getLogger(__name__)

Get = Callable[[str], None]
"""GET; raises what went wrong."""


def get(url: str) -> None:
    """Raises OSError for anything but a 2xx answer, ValueError for what is no http(s) URL."""
    if not url.startswith(("https://", "http://")):
        raise ValueError("wanted an http or https URL")
    try:
        with urlopen(Request(url, headers={"User-Agent": "Kerege"}), timeout=TIMEOUT_S) as answer:  # noqa: S310 - both checked above
            answer.read(1)
    except HTTPError as error:
        error.close()
        raise


class Heartbeat:
    """`step` is called again and again while the collector is well, by one thread; it may take `TIMEOUT_S`. ``now_s`` is monotonic."""

    def __init__(self, url_file: Path, every_s: float, now_s: Callable[[], float], fetch: Get = get) -> None:
        self._url_file = url_file
        self._every_s = every_s
        self._now_s = now_s
        self._get = fetch
        self._due_s = now_s()
        self._failing = False

    def step(self) -> None:
        """Knock where it is time. Raises nothing; a failure is logged once, and its end once."""
        now_s = self._now_s()
        if now_s < self._due_s:
            return
        self._due_s = now_s + self._every_s * random.uniform(1 - JITTER, 1)
        try:
            self._get(self._url())
        except Exception as error:  # noqa: BLE001 - what a URL library raises may have the URL in its text: the type alone is told
            if not self._failing:
                log.warning("heartbeat.failed", extra={"fields": {"error": _told(error)}})
            self._failing = True
        else:
            if self._failing:
                log.info("heartbeat.works_again")
            self._failing = False

    def _url(self) -> str:
        """Read each time: a new one needs no restart."""
        with self._url_file.open(encoding="utf-8-sig") as file:
            return file.readline(_MAX_LINE).strip()


def _told(error: Exception) -> str:
    """The type, and an HTTP status where there is one."""
    status = getattr(error, "code", None)
    return f"{type(error).__name__} ({status})" if isinstance(status, int) else type(error).__name__
