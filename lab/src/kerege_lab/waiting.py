"""Waiting until something has happened that happens in milliseconds, or after somebody's backoff."""

import time
from collections.abc import Callable
from typing import Final

from kerege_lab.servers import ServerError

PATIENCE_S: Final = 60.0
LOOK_S: Final = 0.001


def wait_for(is_so: Callable[[], bool], what: str) -> None:
    """Raises ServerError where it does not become so."""
    deadline = time.monotonic() + PATIENCE_S
    while not is_so():
        if time.monotonic() > deadline:
            raise ServerError(f"waited {PATIENCE_S:g} s in vain until {what}")
        time.sleep(LOOK_S)
