"""The agent started: what the spool knows about the run before. The proof of power cuts."""

import platform
from dataclasses import replace
from typing import Final

from kerege_agent.probes.context import Context
from kerege_agent.probes.host import uptime_s
from kerege_agent.probes.words import printable
from kerege_agent.version import VERSION
from kerege_wire import Boot

MAX_SYSTEM: Final = 64

_STARTED: Final = {True: "agent", False: "host", None: None}
"""Is it the same boot of the machine as that of the run before → what has started."""


def measure(context: Context) -> list[Boot]:
    """One record, once. Which of host and agent started is not known where there was no run before, or its end was not to be read."""
    before, system = context.previous, printable(f"{platform.system()} {platform.machine()}")[:MAX_SYSTEM]
    started = Boot(uptime_s=uptime_s(context.read()), agent=VERSION, system=system)
    if before is None:
        return [started]
    return [
        replace(
            started,
            cause=None if before.epoch is None else _STARTED[before.same_boot],
            stop=before.stop,
            why=before.why,
            last_alive=before.last_alive_s,
            previous_epoch=before.epoch,
            previous_seq=before.last_seq,
            spool=before.spool,
            salvaged=before.salvaged if before.spool == "damaged" else None,
        )
    ]
