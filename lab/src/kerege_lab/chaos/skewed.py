"""``python -m kerege_lab.chaos.skewed OFFSET_FILE run --settings FILE``: the agent, its wall clock wrong by what a file says, in s.

Only what Python code reads as the wall clock is moved; the monotonic clocks are the machine's. (libfaketime 0.9.10 either moves
those too, or, told not to, makes ``time.sleep`` of Python 3.11 fail with EINVAL, whose clock_nanosleep it takes for one on the wall clock.)
"""

import runpy
import sys
import time
from pathlib import Path


def skew(offset_file: Path) -> None:
    """Move the wall clock of this process from now on; the file may change at any time, and may be missing."""
    true_ns = time.time_ns

    def time_ns() -> int:
        try:
            offset_s = float(offset_file.read_text(encoding="ascii"))
        except (OSError, ValueError):
            offset_s = 0.0
        return true_ns() + int(offset_s * 1e9)

    def seconds() -> float:
        return time_ns() / 1e9

    time.time_ns, time.time = time_ns, seconds


def main() -> None:
    """Skew the clock, then be the agent."""
    skew(Path(sys.argv.pop(1)))
    runpy.run_module("kerege_agent", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
