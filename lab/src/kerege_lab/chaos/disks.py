"""Small disks that can be filled and freed again: tmpfs in a mount namespace of our own, so that nothing is left however we end."""

import ctypes
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

CLONE_NEWNS: Final = 0x00020000
_FILLER: Final = "filler"
_SMALL_BYTES: Final = 1024


def private_mounts() -> str | None:
    """Give this thread, and the processes that it starts, mounts of their own. None, or why that is not possible."""
    if sys.platform != "linux":
        return "mounting a small disk takes Linux"
    if os.geteuid() != 0:
        return "mounting a small disk takes root"
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNS) != 0:
        return f"mounting a small disk is not allowed here: {os.strerror(ctypes.get_errno())}"
    made = subprocess.run(["mount", "--make-rprivate", "/"], capture_output=True, text=True, check=False)
    return None if made.returncode == 0 else f"mounting a small disk is not allowed here: {made.stderr.strip()}"


class Disk:
    """A tmpfs of ``mb`` megabytes at ``path``."""

    def __init__(self, path: Path, *, mb: int) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={mb}m", "tmpfs", str(path)], check=True, capture_output=True)

    def fill(self) -> None:
        """Leave not a byte."""
        with (self.path / _FILLER).open("wb", buffering=0) as filler:
            free = os.statvfs(self.path)
            try:
                os.posix_fallocate(filler.fileno(), 0, max(free.f_bavail * free.f_frsize, 1))
                filler.seek(0, os.SEEK_END)
                while True:
                    filler.write(bytes(_SMALL_BYTES))
            except OSError:
                return

    def free(self) -> None:
        """Give it back."""
        (self.path / _FILLER).unlink(missing_ok=True)

    def close(self) -> None:
        """Take it away, with all that is on it."""
        subprocess.run(["umount", "--lazy", str(self.path)], check=False, capture_output=True)
