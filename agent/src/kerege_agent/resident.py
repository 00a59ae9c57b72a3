"""The process that stays. ``kerege-agent run`` becomes this one (the same process id) once the settings are checked.

A Python that begins anew holds nothing of what only the beginning needed: that is 0.9 of the agent's 30 MB.
"""

import os
import sys

from kerege_agent.logs import LogFormat, set_up
from kerege_agent.settings import from_json


def become(settings_json: str, log_format: LogFormat) -> None:
    """Put `main` in the place of this process, with these settings.

    Returns where that cannot be: on Windows, which would start a second process and end the first, and with settings that a pipe does not
    hold (64 KiB on Linux; a disk is not asked, since it may be full).
    """
    if sys.platform == "win32":
        return
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    content = settings_json.encode()
    try:
        held = os.write(writing, content) == len(content)
    except BlockingIOError:
        held = False
    os.close(writing)
    if held:
        os.set_inheritable(reading, True)
        os.environ.setdefault("MALLOC_ARENA_MAX", "1")  # glibc gives each thread a heap of its own: 0.2 MB, for threads that seldom meet
        os.execv(sys.executable, [sys.executable, "-m", "kerege_agent.resident", str(reading), log_format])  # noqa: S606 - ourselves
    os.close(reading)


def main() -> int:
    """Run the agent with the settings in the open file whose number is the first argument; the second is the format of the log."""
    from kerege_agent import service  # noqa: PLC0415 - the process that becomes this one has no use for it

    with os.fdopen(int(sys.argv[1]), encoding="utf-8") as kept:
        settings = from_json(kept.read())
    set_up("json" if sys.argv[2] == "json" else "text")
    return service.run(settings)


if __name__ == "__main__":
    sys.exit(main())
