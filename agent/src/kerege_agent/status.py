"""What the running agent says of itself in a small file, and the command that shows it.

The file lies in memory (a runtime directory) where there is one, so that it costs no flash; else it is written rarely.
"""

import json
import os
import sys
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, TextIO

from kerege_agent.lock import is_held
from kerege_agent.settings import Settings

EVERY_S: Final = 10.0
CHANGED_S: Final = 1.0
"""How often the file is written where it costs nothing, and how soon after something that matters has changed."""

EVERY_ON_FLASH_S: Final = 300.0
CHANGED_ON_FLASH_S: Final = 10.0
"""The same on a disk: some 300 small writes a day."""

MOUNTS: Final = Path("/proc/self/mounts")
IN_MEMORY: Final = frozenset({"tmpfs", "ramfs"})
SYSTEM_RUNTIME: Final = Path("/run/kerege-agent")
"""What systemd makes for the service (RuntimeDirectory); it names it to the service alone, and `status` is another process."""


class StatusFile:
    """Written by the agent's main loop."""

    def __init__(self, state_directory: Path) -> None:
        self._places = list(_places(state_directory))
        self._state_directory = state_directory
        self._due_s = self._changed_due_s = 0.0
        self._matters: tuple[Any, ...] = ()

    def write(self, status: dict[str, Any], *, now_s: float) -> None:
        """Write if it is time. ``now_s``: monotonic. A place that refuses is left for the next one."""
        matters = (status.get("session", {}).get("connected"), status.get("internet"), status.get("spool", {}).get("state"))
        if now_s < (self._due_s if matters == self._matters else self._changed_due_s):
            return
        self._matters = matters
        for place in list(self._places):
            on_flash = not is_in_memory(place.parent)
            self._due_s = now_s + (EVERY_ON_FLASH_S if on_flash else EVERY_S)
            self._changed_due_s = now_s + (CHANGED_ON_FLASH_S if on_flash else CHANGED_S)
            if _replace(place, status):
                return
            self._places.remove(place)
        self._places = list(_places(self._state_directory))  # none took it: all are tried again next time

    def remove(self) -> None:
        for place in _places(self._state_directory):
            try:
                place.unlink(missing_ok=True)
            except OSError:
                continue  # it says itself that it is old


def _places(state_directory: Path) -> Iterator[Path]:
    """Where the file may lie, best first."""
    name = f"kerege-agent-{zlib.crc32(str(state_directory.absolute()).encode()):08x}.json"
    for variable in ("RUNTIME_DIRECTORY", "XDG_RUNTIME_DIR"):
        for directory in os.environ.get(variable, "").split(":"):
            if directory:
                yield Path(directory) / name
    if SYSTEM_RUNTIME.is_dir():
        yield SYSTEM_RUNTIME / name
    yield state_directory / "status.json"


def is_in_memory(directory: Path) -> bool:
    """Does the directory lie in a file system that costs no flash? Where nobody can tell, it does not."""
    try:
        mounts = [line.split() for line in MOUNTS.read_text(encoding="utf-8", errors="replace").splitlines()]
    except OSError:
        return False
    here = directory.resolve()
    over = [(point, kind) for _, point, kind, *_ in mounts if here.is_relative_to(point)]
    return max(over, key=lambda mount: len(mount[0]), default=("", ""))[1] in IN_MEMORY


def _replace(path: Path, status: dict[str, Any]) -> bool:
    temporary = path.with_name(f".{path.name}.new")
    try:
        temporary.write_text(json.dumps(status), encoding="utf-8")
        temporary.replace(path)
    except OSError:
        return False
    return True


def latest(state_directory: Path) -> dict[str, Any] | None:
    """The newest status that an agent on this state directory has written, None where there is none."""
    found: list[dict[str, Any]] = []
    for place in _places(state_directory):
        try:
            status = json.loads(place.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(status, dict) and status.get("state_directory") == str(state_directory.absolute()):
            found.append(status)
    return max(found, key=lambda status: status.get("written", 0), default=None)


def show(settings: Settings, *, as_json: bool, out: TextIO | None = None) -> int:
    """Print what the agent says of itself. 0: it runs, is connected and its spool is on disk; 1 otherwise."""
    out = sys.stdout if out is None else out
    running = is_held(settings.state_directory)
    status = latest(settings.state_directory) or {}
    well = running is True and bool(status.get("session", {}).get("connected")) and status.get("spool", {}).get("state") == "disk"
    if as_json:
        out.write(json.dumps({"running": running, "well": well, **status}) + "\n")
    else:
        out.write("".join(f"{name:<12} {value}\n" for name, value in _lines(settings, status, running=running)))
    return 0 if well else 1


def _lines(settings: Settings, status: dict[str, Any], *, running: bool | None) -> Iterator[tuple[str, str]]:
    yield "center", settings.center
    if running is None:
        yield "agent", f"not known: user {_user()} may not read {settings.state_directory}; ask as root, or as the agent's user"
        return
    if not running:
        yield "agent", f"is not running on {settings.state_directory}"
        if status:
            yield "last seen", ago(status.get("written"))
        return
    if not status:
        yield "agent", "runs, and has not said anything yet"
        return
    session, spool, timing = status.get("session", {}), status.get("spool", {}), status.get("clock", {})
    yield "agent", f"{status.get('version')}, process {status.get('pid')}, epoch {status.get('epoch')}, as of {ago(status.get('written'))}"
    yield "internet", str(status.get("internet") or "not known yet")
    if session.get("connected"):
        yield (
            "broker",
            f"{session.get('broker')}, connected (MQTT {'5' if session.get('protocol') == 5 else '3.1.1'}), {session.get('phase')}",
        )
    else:
        yield "broker", f"{session.get('broker')}, not connected: {session.get('error') or 'connecting'}"
    yield "spool", f"{spool.get('records')} records, {spool.get('bytes', 0) / 1e6:.1f} MB, on {spool.get('state')}"
    if spool.get("trouble"):
        yield "", f"the disk refuses: {spool['trouble']}"
    yield "clock", _clock_text(timing)


def _user() -> str:
    return str(os.geteuid()) if hasattr(os, "geteuid") else "of this session"


def _clock_text(timing: dict[str, Any]) -> str:
    if timing.get("offset_ms") is None:
        return "not known: no answer from the collector in this boot yet"
    wrong_s = timing.get("wall_error_s") or 0
    return f"{timing.get('quality')}, within {timing.get('error_ms', 0) / 1000:.2f} s; the host's own clock is {abs(wrong_s):.1f} s " + (
        "fast" if wrong_s > 0 else "slow"
    )


def ago(written: object) -> str:
    """How long ago the agent wrote its status, by this machine's own clock."""
    if not isinstance(written, int | float):
        return "at an unknown time"
    return f"{max(0, int(time.time() - written))} s ago"
