"""Makes the wall clock of every Python process wrong that has this directory in PYTHONPATH, by what a file says, in seconds.

The file is named in the environment, may change at any time, and may be missing. Only what Python code reads as the wall clock is moved;
the monotonic clocks are the machine's. (libfaketime 0.9.10 either moves those too or, told not to, makes ``time.sleep`` of Python 3.11
fail with EINVAL, whose clock_nanosleep it takes for one on the wall clock.)
"""

# ruff: noqa: INP001 - no package: a directory for PYTHONPATH

import os
import time

_true_ns = time.time_ns
_offset_file = os.environ.get("KEREGE_LAB_CLOCK_OFFSET_FILE", "")


def _time_ns() -> int:
    try:
        with open(_offset_file, encoding="ascii") as file:  # noqa: PTH123 - imported by every process: pathlib is slow to come
            offset_s = float(file.read())
    except (OSError, ValueError):
        offset_s = 0.0
    return _true_ns() + int(offset_s * 1e9)


def _time() -> float:
    return _time_ns() / 1e9


time.time_ns, time.time = _time_ns, _time
