"""A call that cannot be interrupted, given a limit: the operating system's resolver may take minutes where no name server answers."""

import logging
import queue
import threading
from collections.abc import Callable
from typing import Final, TypeVar

Result = TypeVar("Result")

MAX_THREADS: Final = 6
"""Calls that may hang at a time; beyond that a new one fails at once, so that a dead resolver does not fill the memory with threads."""

log = logging.getLogger(__name__)
_slots = threading.BoundedSemaphore(MAX_THREADS)


def within(timeout_s: float, call: Callable[[], Result]) -> Result:
    """What ``call`` returns or raises, or TimeoutError after ``timeout_s``; then its thread is left behind and its result is lost."""
    if timeout_s <= 0 or not _slots.acquire(blocking=False):
        raise TimeoutError("no time left, or too many calls hang already")
    answers: queue.SimpleQueue[tuple[Result | None, BaseException | None]] = queue.SimpleQueue()

    def work() -> None:
        try:
            answers.put((call(), None))
        except BaseException as error:  # noqa: BLE001 - handed to the caller, who waits for it
            answers.put((None, error))
        finally:
            _slots.release()

    threading.Thread(target=work, name="limited", daemon=True).start()
    try:
        result, error = answers.get(timeout=timeout_s)
    except queue.Empty:
        raise TimeoutError(f"no answer within {timeout_s:.1f} s") from None
    if error is not None:
        raise error
    return result  # type: ignore[return-value] # None only where Result is
