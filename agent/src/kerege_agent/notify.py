"""systemd's sd_notify protocol (man sd_notify(3)): one datagram to the socket named in the environment; nothing without one."""

import logging
import os
import socket
import sys
from typing import Final

_MICROSECONDS: Final = 1_000_000
_log = logging.getLogger(__name__)


def notify(*lines: str) -> bool:
    """Tell systemd ``READY=1``, ``WATCHDOG=1``, ``STATUS=...``. Was there a systemd to tell?"""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address or sys.platform == "win32":
        return False
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.connect("\0" + address[1:] if address.startswith("@") else address)
            sock.sendall("\n".join(lines).encode())
    except OSError as error:
        _log.warning("notify.failed", extra={"fields": {"error": str(error)}})
        return False
    return True


def watchdog_s() -> float | None:
    """Within how many seconds systemd wants to hear of us, None where it does not."""
    try:
        period = int(os.environ.get("WATCHDOG_USEC", "0"))
        ours = int(os.environ.get("WATCHDOG_PID", str(os.getpid()))) == os.getpid()
    except ValueError:
        return None
    return period / _MICROSECONDS if period > 0 and ours else None
