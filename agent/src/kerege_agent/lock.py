"""One agent a state directory: two would mix their records in one spool."""

import logging
import os
import sys
from pathlib import Path
from typing import Final

LOCK_NAME: Final = "agent.lock"
_log = logging.getLogger(__name__)


class AlreadyRunningError(Exception):
    """Another agent holds the state directory. The text is for people."""


class DirectoryLock:
    """Held by the process until it ends, however it ends; the file stays and means nothing by itself."""

    def __init__(self, directory: Path) -> None:
        """Raises AlreadyRunningError. A directory that cannot be written is used without a lock, and said so."""
        self._descriptor: int | None = None
        path = directory / LOCK_NAME
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            _log.warning("agent.no_lock", extra={"fields": {"file": str(path), "error": str(error)}})
            return
        if not _locked(descriptor):
            os.close(descriptor)
            raise AlreadyRunningError(
                f"{directory}: another kerege-agent is at work here. Stop it first, or give this one its own state_directory"
            )
        self._descriptor = descriptor

    def release(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def is_held(directory: Path) -> bool | None:
    """Does an agent work on this directory at present? None where this user may not look."""
    try:
        descriptor = os.open(directory / LOCK_NAME, os.O_RDWR if sys.platform == "win32" else os.O_RDONLY)
    except PermissionError:
        return None
    except OSError:
        return False
    try:
        return not _locked(descriptor)
    finally:
        os.close(descriptor)


def _locked(descriptor: int) -> bool:
    try:
        if sys.platform == "win32":
            import msvcrt  # noqa: PLC0415 - there is no such module elsewhere

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl  # noqa: PLC0415 - nor this one on Windows

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
