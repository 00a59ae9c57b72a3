"""The thread that hands notices over, and knocks at whoever watches the watcher."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from kerege_collector.centers import Region
from kerege_collector.heartbeat import Heartbeat
from kerege_collector.ledger import Ledger
from kerege_collector.outbox import LedgerOutbox
from kerege_collector.sender import Sender

EVERY_S: Final = 2.0
"""A part of the time from cut to notice."""


class Postman:
    """`run` in a thread of its own, until `stop`. is_well: the heartbeat is sent only while all is well with us."""

    def __init__(
        self,
        ledger: Ledger,
        region: Callable[[], Region],
        *,
        is_well: Callable[[], bool],
        heartbeat: Heartbeat | None = None,
        now_s: Callable[[], int] = lambda: int(time.time()),
    ) -> None:
        self._is_well = is_well
        self._heartbeat = heartbeat
        self._region = region
        self._stopping = threading.Event()
        self._sender = Sender(LedgerOutbox(ledger, region), self._addresses, now_s)

    def run(self) -> None:
        while not self._stopping.wait(EVERY_S):
            self.step()

    def step(self) -> None:
        """Hand over what is due. Raises nothing."""
        self._sender.step()
        if self._heartbeat is not None and self._is_well():
            self._heartbeat.step()

    def stop(self) -> None:
        self._stopping.set()

    def _addresses(self, contact: str) -> Path | None:
        return next((each.addresses_file for each in self._region().contacts if each.id == contact), None)
