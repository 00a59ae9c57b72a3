"""``kerege-lab up``: broker, collector and an agent of this very machine, and what arrives, live, until Ctrl-C.

Everything is on the loopback. A part that dies is shown with its last words and started again; one that keeps dying ends
the run (exit status 1). No process is left behind: each ends in good order, or by force where it does not; if we are killed
ourselves, the kernel ends them.
"""

import argparse
import contextlib
import fcntl
import signal
import sys
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Final, NoReturn

from rich.console import Console
from rich.text import Text

from kerege_lab.servers import Server, ServerError
from kerege_lab.up_arrivals import Arrivals, line_of
from kerege_lab.up_settings import House, UsageError, plan_house

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
LOOK_S: Final = 0.5
"""How often we look whether all parts live, and what has arrived."""

MAX_DEATHS: Final = 3
DEATHS_WITHIN_S: Final = 60.0
"""A part that dies more often than that within that time will not get better by being started again."""


class _Stopped(Exception):  # noqa: N818 - no error: somebody wants us to end
    """A signal has come."""


def run(options: argparse.Namespace) -> int:
    """Run until a signal comes. 0: stopped as asked; 1: a part keeps dying; 2: cannot be done as asked."""
    console = Console(highlight=False, soft_wrap=True)
    try:
        with _alone(options.directory), _signals():
            house = plan_house(options.directory.resolve(), port=options.port, internet=options.internet)
            return _live(house, console)
    except UsageError as error:
        print(f"kerege-lab up: {error}", file=sys.stderr)
        return 2
    except _Stopped:
        return 0
    except BrokenPipeError:
        sys.stdout = None  # whoever read us has gone: nothing to say any more, not even at exit
        return 0


@contextlib.contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """Hold the directory: two at a time would run two agents of one name. Raises UsageError."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock = (directory / "lock").open("w")
    except OSError as error:
        raise UsageError(f"{directory} cannot be written: {error}. Choose another: kerege-lab up --directory DIR") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UsageError(
                f"another `kerege-lab up` is at work on {directory}. End it first, or choose another --directory and --port"
            ) from error
        yield


@contextlib.contextmanager
def _signals() -> Iterator[None]:
    def stop(_number: int, _frame: FrameType | None) -> NoReturn:
        for number in SIGNALS:  # the end takes a moment; being asked again does not make it quicker
            signal.signal(number, signal.SIG_IGN)
        raise _Stopped

    before = {number: signal.signal(number, stop) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _live(house: House, console: Console) -> int:
    with contextlib.ExitStack() as stack:
        stack.callback(_say_end, console)
        try:
            for part in (house.broker, house.collector):
                _start(part, stack)
            arrivals = Arrivals(house.collector.settings_file)
            arrivals.new()
            _start(house.agent, stack)
        except ServerError as error:
            console.print(Text(f"kerege-lab up: {error}", "red"))
            return 1
        _say_hello(house, console)
        keepers = [Keeper(part) for part in house.parts]
        while True:
            for keeper in keepers:
                if not keeper.look(console):
                    return 1
            for record in arrivals.new():
                console.print(line_of(record))
            time.sleep(LOOK_S)


def _start(part: Server, stack: contextlib.ExitStack) -> None:
    stack.callback(part.stop)
    part.start()


def _say_hello(house: House, console: Console) -> None:
    console.print(
        Text.assemble(
            "\nKerege runs. The page: ", (f"{house.collector.url}/", "bold green"), f"   (also {house.collector.url}/api/v1/centers)"
        )
    )
    for line in house.about:
        console.print(Text(f"  {line}", "dim"))
    console.print(Text("  Below: what is stored. A tick comes each minute, and with it what else was measured meanwhile.", "dim"))
    console.print(Text("  Ctrl-C stops it all; started again, it goes on with what is there.\n", "dim"))


def _say_end(console: Console) -> None:
    with contextlib.suppress(OSError):
        console.print(Text("\nstopped; nothing runs any more.", "dim"))


class Keeper:
    """Looks after one part."""

    def __init__(self, part: Server) -> None:
        self._part = part
        self._deaths: deque[float] = deque(maxlen=MAX_DEATHS + 1)

    def look(self, console: Console) -> bool:
        """Start the part again if it has died. False: it keeps dying."""
        if self._part.running:
            return True
        now_s = time.monotonic()
        self._deaths.append(now_s)
        console.print(Text(f"{self._part.name} has ended by itself. Its last words ({self._part.log}):", "red"))
        console.print(Text(self._part.last_log_lines(), "dim"))
        if len(self._deaths) > MAX_DEATHS and now_s - self._deaths[0] < DEATHS_WITHIN_S:
            console.print(Text(f"{self._part.name} has died {len(self._deaths)} times within {DEATHS_WITHIN_S:g} s: giving up", "red"))
            return False
        try:
            self._part.start()
        except ServerError as error:
            console.print(Text(str(error), "red"))
        return True
