"""Try until it works: the store or the ledger is away for a second, or for a day; nothing is lost and nothing is acknowledged."""

import logging
import random
import threading
import time
from collections.abc import Callable
from typing import Final, TypeVar

from kerege_collector.alarm import Alarm
from kerege_collector.stores import RetryLater

log = logging.getLogger(__name__)

FIRST_BACKOFF_S: Final = 0.2
MAX_BACKOFF_S: Final = 15.0
"""Full jitter up to a bound that doubles from the first to the second: a database that comes back is used within seconds."""

AWAY_AFTER_S: Final = 10.0
"""When trouble has lasted for so long the agents are told to hold their spool: sending would only cost them bytes."""

MAX_WISH_S: Final = 60.0
"""A server that asks for more patience than this is asked again sooner."""

WAIT_STEP_S: Final = 0.5

Result = TypeVar("Result")


class StoppedError(Exception):
    """The service stops while something is still to be written: it stays with the agents."""


class Persistence:
    """Runs a step again and again until it does not raise.

    failed: told the place and the class of each failure. announce: ``away`` once trouble lasts, ``ready`` when it is over.
    meanwhile: called while waiting, at least each WAIT_STEP_S.
    """

    def __init__(
        self,
        stopping: threading.Event,
        *,
        failed: Callable[[str, str], None],
        announce: Callable[[str], None],
        meanwhile: Callable[[], None],
    ) -> None:
        self._stopping = stopping
        self._failed = failed
        self._announce = announce
        self._meanwhile = meanwhile
        self._alarm = Alarm()
        self.trouble: str | None = None

    def until_done(self, place: str, step: Callable[[], Result]) -> Result:
        """What ``step`` returns. Raises StoppedError where the service is told to stop first."""
        started = time.monotonic()
        attempt = 0
        while True:
            try:
                result = step()
            except RetryLater as trouble:
                self._say(place, trouble, started)
                self._wait(attempt, trouble.retry_after_s)
            except Exception as error:  # noqa: BLE001 - a mistake of ours: loud, but what is held must not be lost by it
                self._say(place, RetryLater("internal", f"{type(error).__name__}: {error}"), started, error)
                self._wait(attempt, None)
            else:
                if attempt:
                    self._over(place, started)
                return result
            attempt += 1

    def _say(self, place: str, trouble: RetryLater, started: float, error: Exception | None = None) -> None:
        self._failed(place, trouble.reason)
        self.trouble = f"{place}: {trouble}"
        now = time.monotonic()
        if self._alarm.due(f"{place} {trouble.reason}", now):
            fields = {"place": place, "reason": trouble.reason, "detail": trouble.detail, "for_s": round(now - started)}
            log.error("pipeline.cannot_write", extra={"fields": fields}, exc_info=error)
        if now - started >= AWAY_AFTER_S:
            self._announce("away")

    def _over(self, place: str, started: float) -> None:
        self.trouble = None
        self._alarm = Alarm()
        log.warning("pipeline.writes_again", extra={"fields": {"place": place, "after_s": round(time.monotonic() - started, 1)}})
        self._announce("ready")

    def _wait(self, attempt: int, retry_after_s: float | None) -> None:
        bound = min(MAX_BACKOFF_S, FIRST_BACKOFF_S * 2 ** min(attempt, 10))
        until = time.monotonic() + (min(retry_after_s, MAX_WISH_S) if retry_after_s else random.uniform(0, bound))
        while (left := until - time.monotonic()) > 0:
            if self._stopping.wait(min(left, WAIT_STEP_S)):
                break
            self._meanwhile()
        if self._stopping.is_set():
            raise StoppedError
