"""The journal of tests and audits: one line of JSON for each record that was made, written before the spool gets it.

    {"epoch":"Zk3q9w2a","seq":7,"kind":"tick","time":null,"mono_ms":86400123}      made; `time` once it is known
    {"epoch":"Zk3q9w2a","seq":7,"kept":true}                                      `put` has made it durable
    {"epoch":"Zk3q9w2a","seq":7,"time":1795465800}                                its time was fixed later

So whoever kills the agent knows what it had promised to keep. A `drop` record's line also carries what was dropped.
"""

import json
import logging
import os
from pathlib import Path
from typing import Any

_log = logging.getLogger(__name__)


class JournalFile:
    """Appends lines; each is with the operating system when the call returns. Trouble with the file is said once and costs nothing else."""

    def __init__(self, path: Path) -> None:
        """Raises OSError where the file cannot be opened."""
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._said = False

    def __call__(self, line: dict[str, Any]) -> None:
        try:
            os.write(self._descriptor, json.dumps(line, separators=(",", ":")).encode() + b"\n")
        except OSError as error:
            if not self._said:
                _log.error("journal.failed", extra={"fields": {"error": str(error)}})
            self._said = True

    def close(self) -> None:
        os.close(self._descriptor)
