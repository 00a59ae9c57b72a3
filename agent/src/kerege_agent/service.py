"""``kerege-agent run``: puts spool, clock, uplink and probes together, and keeps them alive until somebody asks it to stop."""

import logging
import os
import signal
import sys
import threading
import time
from typing import Any, Final

from kerege_agent import clock
from kerege_agent.clock import ClockModel, Reading
from kerege_agent.journal_file import JournalFile
from kerege_agent.lock import AlreadyRunningError, DirectoryLock
from kerege_agent.measure import Scheduler
from kerege_agent.notify import notify, watchdog_s
from kerege_agent.probes import Context
from kerege_agent.settings import Settings
from kerege_agent.spool import Spool
from kerege_agent.status import EVERY_S, StatusFile
from kerege_agent.uplink import Uplink
from kerege_agent.version import VERSION
from kerege_wire import Body, Tick

WRONG_USE: Final = 2
GOODBYE_S: Final = 5.0
"""How long a clean stop waits for the broker to take the goodbye: a PC that shuts down does not wait much longer."""

MAX_RESTARTS: Final = 10
"""Times in a row that a dead uplink thread is started anew; then the watchdog is not fed any more, and systemd starts the agent anew."""

STATE_COMMAND: Final = ("systemctl", "is-system-running")
STATE_TIMEOUT_S: Final = 2.0
"""Asks systemd whether the machine is going down; answered in milliseconds, or not at all."""

_log = logging.getLogger(__name__)


class Agent:
    """One running agent. `run` returns after `ask_to_stop`, which signal handlers and tests call."""

    def __init__(self, settings: Settings) -> None:
        """Raises AlreadyRunningError, and OSError where the journal file cannot be opened. A disk that refuses is no error: see `shelf`."""
        self._settings = settings
        try:
            settings.state_directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            _log.warning("agent.no_state_directory", extra={"fields": {"directory": str(settings.state_directory), "error": str(error)}})
        self._lock = DirectoryLock(settings.state_directory)
        self._journal = JournalFile(settings.journal_file) if settings.journal_file is not None else None
        self._stopping = threading.Event()
        self._why: str | None = None
        self._internet: str | None = None
        self._restarts = 0
        self.clock = ClockModel()
        wanted = settings.spool
        self.spool = Spool.open(
            settings.state_directory,
            clock=self.clock,
            reading=clock.read(),
            max_bytes=wanted.max_bytes,
            flush_s=wanted.flush_s,
            memory_records=wanted.memory_records,
        )
        self.spool.journal = self._journal
        self.uplink = Uplink(settings, self.spool, self.clock, settings.center, online=self._online)
        self._status = StatusFile(settings.state_directory)

    def ask_to_stop(self, why: str | None = None) -> None:
        """Stop cleanly as soon as possible; ``why`` (None: find out) goes into the goodbye and into the next run's boot record."""
        self._why = why
        self._stopping.set()

    def run(self) -> None:
        """Measure and deliver until asked to stop."""
        before = self.spool.previous
        fields = {"center": self._settings.center, "epoch": self.spool.epoch, "waiting": self.spool.depth, "previous_stop": before.stop}
        _log.info("agent.started", extra={"fields": fields | {"version": VERSION, "spool": before.spool}})
        self.uplink.start()
        scheduler = Scheduler(self._context(), self._deliver)
        notify("READY=1", f"STATUS=center {self._settings.center}")
        try:
            self._watch(scheduler)
        finally:
            notify("STOPPING=1")
            scheduler.close()
            self._stop()

    def _watch(self, scheduler: Scheduler) -> None:
        period_s = watchdog_s()
        longest_s = EVERY_S if period_s is None else min(EVERY_S, period_s / 3)
        while not self._stopping.is_set():
            wait_s = scheduler.step()
            self._keep_uplink()
            if period_s is not None and self._restarts < MAX_RESTARTS:
                notify("WATCHDOG=1")
            self._status.write(self._say(), now_s=time.monotonic())
            self._stopping.wait(min(wait_s, longest_s))

    def _keep_uplink(self) -> None:
        if self.uplink.alive:
            if self.uplink.session.connected:
                self._restarts = 0
            return
        self._restarts += 1
        if self._restarts <= MAX_RESTARTS:
            _log.error("agent.uplink_died", extra={"fields": {"restarts": self._restarts}})
            self.uplink.start()

    def _stop(self) -> None:
        why = self._why or reason_to_stop()
        said = self.uplink.stop(why, GOODBYE_S)
        self.spool.close(why)
        self._status.remove()
        if self._journal is not None:
            self._journal.close()
        self._lock.release()
        _log.info("agent.stopped", extra={"fields": {"why": why, "goodbye": said, "waiting": self.spool.depth}})

    def _context(self) -> Context:
        return Context(
            settings=self._settings,
            read=clock.read,
            spool=self.spool,
            session=lambda: self.uplink.session,
            clock_offset_ms=lambda: self.clock.offset_ms,
            previous=self.spool.previous,
        )

    def _deliver(self, body: Body, reading: Reading) -> None:
        self.spool.put(body, reading)
        if isinstance(body, Tick):
            if body.result == "online" and self._internet != "online":
                self.uplink.wake()  # the link is back: try now rather than when the backoff ends
            self._internet = body.result

    def _online(self) -> bool | None:
        return None if self._internet is None else self._internet == "online"

    def _say(self) -> dict[str, Any]:
        session, best, now = self.uplink.session, self.clock.best, clock.read()
        utc_ms = self.clock.utc_ms(now)
        return {
            "written": time.time(),
            "state_directory": str(self._settings.state_directory.absolute()),
            "center": self._settings.center,
            "epoch": self.spool.epoch,
            "pid": os.getpid(),
            "version": VERSION,
            "internet": self._internet,
            "session": {
                "connected": session.connected,
                "broker": session.broker,
                "protocol": session.protocol,
                "phase": session.phase,
                "error": session.error,
                "last_ack_age_s": None if session.last_ack_mono_ms is None else (now.mono_ms - session.last_ack_mono_ms) / 1000,
            },
            "spool": {
                "records": self.spool.depth,
                "kinds": self.spool.kinds,
                "bytes": self.spool.size_bytes,
                "state": self.spool.state,
                "trouble": self.spool.trouble,
            },
            "clock": {
                "offset_ms": None if best is None else best.offset_ms,
                "error_ms": None if best is None else best.error_at(now.mono_ms),
                "quality": None if best is None else best.quality,
                "wall_error_s": None if utc_ms is None else (now.wall_ms - utc_ms) / 1000,
            },
        }


def run(settings: Settings) -> int:
    """Run until SIGTERM or SIGINT.

    The exit status: 0 after a clean stop, 2 where another agent is at work or the journal cannot be opened.
    """
    asked = threading.Event()  # from here on: a stop while a large spool is opened is a clean stop too
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: asked.set())
    try:
        agent = Agent(settings)
    except (AlreadyRunningError, OSError) as error:
        sys.stderr.write(f"kerege-agent: {error}\n")
        return WRONG_USE
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: agent.ask_to_stop())
    if asked.is_set():
        agent.ask_to_stop()
    agent.run()
    return 0


def reason_to_stop() -> str:
    """`shutdown` where systemd, which started us, is taking the machine down; else `stop`."""
    if "NOTIFY_SOCKET" not in os.environ:
        return "stop"
    import subprocess  # noqa: PLC0415 - memory: needed at the end only

    try:
        asked = subprocess.run(  # noqa: S603 - a constant
            STATE_COMMAND, capture_output=True, text=True, timeout=STATE_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return "stop"
    return "shutdown" if asked.stdout.strip() == "stopping" else "stop"
