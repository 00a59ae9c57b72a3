"""One collector to a state directory: two would overwrite each other's ledger."""

import os
import sys
from pathlib import Path
from typing import IO, Final

LOCK_FILE: Final = "collector.lock"


class ClaimedError(Exception):
    """Another collector runs on this state directory."""


def claim(directory: Path) -> IO[str]:
    """Lock the directory for as long as the returned file is open, which ends with the process at the latest.

    Raises ClaimedError where another process has it, OSError where the lock file cannot be made. Windows has no such lock: there
    nothing is kept out.
    """
    file = (directory / LOCK_FILE).open("a+")
    if sys.platform != "win32":
        import fcntl  # noqa: PLC0415 - not on every platform

        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            pid = file.read().strip() or "unknown"
            file.close()
            cure = "stop it, or name another state_directory"
            raise ClaimedError(f"{directory}: another collector (process {pid}) runs here; {cure}") from None
    file.truncate(0)
    file.write(f"{os.getpid()}\n")
    file.flush()
    return file
