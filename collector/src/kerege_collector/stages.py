"""Where the time goes: CPU seconds by stage of the hot path, taken a batch at a time so that measuring costs nothing."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

STAGES: Final = ("inbox", "admit", "points", "store", "evidence", "ledger", "board", "ack")
"""inbox: the network thread (paho, TLS, sockets). The others are parts of the worker; store is the client or SQLite itself."""


class Stages:
    """CPU seconds of the calling thread, by stage. Each stage is written by one thread only."""

    def __init__(self) -> None:
        self.cpu_s: dict[str, float] = dict.fromkeys(STAGES, 0.0)
        self.turn = threading.Lock()
        """Held by the thread that computes. Without it the interpreter's own lock changes hands at every system call and every inflate
        of two busy threads, and the same work takes one and a half times the CPU (`kerege-lab bench ingest`)."""

    @contextmanager
    def measure(self, stage: str, *, without: str | None = None) -> Iterator[None]:
        """Add the CPU time of the body to a stage, less what the body itself adds to another."""
        started, inner = time.thread_time(), self.cpu_s[without] if without else 0.0
        try:
            yield
        finally:
            self.cpu_s[stage] += time.thread_time() - started - ((self.cpu_s[without] - inner) if without else 0.0)
