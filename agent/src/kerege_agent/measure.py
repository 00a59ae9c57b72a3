"""Runs each probe in its time, in a thread of its own, and turns whatever happens to it into records.

One thread calls `Scheduler.step` again and again; it never waits for a probe. Times of runs are on the monotonic clock that counts suspend;
a run's own time limit is on one that does not, because a machine that slept gave the probe no chance.
"""

import logging
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from kerege_agent.clock import Reading
from kerege_agent.probes import PROBES, SAMPLERS, Context, Probe, Sampler, failed
from kerege_agent.probes.words import TIMEOUT, words_of
from kerege_wire import Body, Tick

JITTER: Final = 0.1
"""An interval is up to this share longer or shorter, so that PCs which are switched on together do not stay in step."""

FIRST_RUN_SPACING_S: Final = 5.0
"""Between the first runs of two probes, so that they do not measure each other. The boot record and the first tick do not wait."""

FIRST_KINDS: Final = ("boot", "tick")

CONFIRM_S: Final = 10.0
"""A tick that first finds the Internet gone is followed by another so soon: people are told of an outage that two have seen, and one of
seconds is not taken for one of a minute. It costs one more tick at each outage."""

MAX_WAIT_S: Final = 5.0
"""Longest time between two steps."""

SUSPEND_GAP_MS: Final = 30_000
"""Steps that lie further apart than this: the machine slept. All probes are overdue then, and are spread anew rather than run at once."""

SLEPT_MS: Final = 2_000
"""A run during which the machine slept longer than this measured the sleep: it is thrown away and done again."""

MAX_STUCK: Final = 3
"""Threads of one probe that may hang. While there are fewer it is tried again: most that hang (in a resolver, say) are slow, not dead."""

STILL_RUNNING: Final = "still running"
DIED: Final = "the probe's thread died"

_GATE_POLL_S: Final = 0.02

Deliver = Callable[[Body, Reading], object]
"""Takes a record and when it was made; called from several threads."""

log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class _Run:
    """One run of one probe. Whoever sets ``over``, under the scheduler's lock, delivers its records."""

    began: Reading
    began_s: float
    over: bool = False
    thread: threading.Thread | None = None


@dataclass(slots=True)
class _Line:
    """One probe's timetable. ``interval_s`` None: it runs once. ``due_ms`` None: never again. said: the last tick, of the Internet."""

    kind: str
    probe: Probe
    context: Context
    interval_s: float | None
    timeout_s: float
    due_ms: float | None
    said: str | None = None
    run: _Run | None = None
    stuck: list[threading.Thread] = field(default_factory=list)

    @property
    def gates(self) -> bool:
        """Is this a probe that the others wait for?"""
        return self.interval_s is None and (self.due_ms is not None or self.run is not None)


class Scheduler:
    """All enabled probes. Give it to one thread that calls `step`; `close` when no more records are wanted."""

    def __init__(
        self,
        context: Context,
        deliver: Deliver,
        *,
        probes: Mapping[str, Probe] = PROBES,
        samplers: Mapping[str, Sampler] = SAMPLERS,
        monotonic: Callable[[], float] = time.monotonic,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._context = context
        self._deliver = deliver
        self._samplers = samplers
        self._monotonic = monotonic
        self._uniform = uniform
        self._lock = threading.Lock()
        self._closed = False
        self._stepped_ms = context.read().mono_ms
        self._sample_due_ms: float = self._stepped_ms
        self._lines = [self._line(kind, probe) for kind, probe in probes.items() if getattr(context.settings.probes, kind).enabled]
        self._spread(self._stepped_ms)

    def _line(self, kind: str, probe: Probe) -> _Line:
        wanted = getattr(self._context.settings.probes, kind)
        interval_s = getattr(wanted, "interval_s", None)
        return _Line(kind, probe, replace(self._context, memory={}), interval_s, wanted.timeout_s, due_ms=self._stepped_ms)

    @property
    def stuck(self) -> dict[str, int]:
        """Kind → how many of its threads hang, for the probes of which any does."""
        counted = {line.kind: sum(thread.is_alive() for thread in line.stuck) for line in self._lines}
        return {kind: count for kind, count in counted.items() if count}

    def step(self) -> float:
        """Start what is due, give up what is overdue. Returns how many seconds may pass until the next step."""
        reading = self._context.read()
        if reading.mono_ms - self._stepped_ms > SUSPEND_GAP_MS:
            log.info("measure.slept", extra={"fields": {"seconds": (reading.mono_ms - self._stepped_ms) // 1000}})
            self._spread(reading.mono_ms)
        self._stepped_ms = reading.mono_ms
        for line in self._lines:
            self._end(line)
        for line in self._lines:
            if line.run is None and line.due_ms is not None and line.due_ms <= reading.mono_ms and not self._gated(line):
                self._start(line, reading)
        self._sample(reading)
        return self._wait_s(reading)

    def close(self) -> None:
        """Deliver nothing more. Threads that still run are left to end by themselves."""
        with self._lock:
            self._closed = True

    def _gated(self, line: _Line) -> bool:
        return line.interval_s is not None and any(other.gates for other in self._lines)

    def _spread(self, now_ms: float) -> None:
        """Give every probe that would be due soon a moment of its own."""
        others = 0
        for line in self._lines:
            if line.kind in FIRST_KINDS or line.interval_s is None:
                continue
            others += 1
            offset_s = min(others * FIRST_RUN_SPACING_S, line.interval_s) * self._uniform(1 - JITTER, 1 + JITTER)
            line.due_ms = max(line.due_ms or 0, now_ms + offset_s * 1000)

    def _start(self, line: _Line, reading: Reading) -> None:
        jitter = self._uniform(1 - JITTER, 1 + JITTER)
        line.due_ms = None if line.interval_s is None else reading.mono_ms + line.interval_s * jitter * 1000
        line.stuck = [thread for thread in line.stuck if thread.is_alive()]
        if len(line.stuck) >= MAX_STUCK:
            self._hand_over(failed(line.kind, line.context, STILL_RUNNING), reading)
            return
        run = _Run(reading, self._monotonic())
        run.thread = threading.Thread(target=self._work, args=(line, line.context, run), name=f"probe-{line.kind}", daemon=True)
        line.run = run
        try:
            run.thread.start()
        except RuntimeError:
            log.exception("measure.no_thread", extra={"fields": {"kind": line.kind}})

    def _work(self, line: _Line, context: Context, run: _Run) -> None:
        try:
            bodies = line.probe(context)
        except Exception as error:
            log.warning("measure.failed", exc_info=True, extra={"fields": {"kind": line.kind}})
            bodies = failed(line.kind, context, words_of(error))
        ended = context.read()
        slept_ms = (ended.mono_ms - run.began.mono_ms) - (self._monotonic() - run.began_s) * 1000
        if self._claim(run):
            if slept_ms > SLEPT_MS and line.interval_s is not None:
                log.info("measure.thrown_away", extra={"fields": {"kind": line.kind, "slept_ms": int(slept_ms)}})
                line.due_ms = min(line.due_ms or ended.mono_ms, ended.mono_ms)
                return
            self._confirm(line, bodies, ended)
            self._hand_over(bodies, ended)

    @staticmethod
    def _confirm(line: _Line, bodies: Sequence[Body], reading: Reading) -> None:
        """Look again soon where the Internet has gone since the last tick."""
        said = next((body.result for body in bodies if isinstance(body, Tick)), None)
        if (line.said, said) == ("online", "offline") and line.due_ms is not None:
            line.due_ms = min(line.due_ms, reading.mono_ms + CONFIRM_S * 1000)
        line.said = said or line.said

    def _claim(self, run: _Run) -> bool:
        with self._lock:
            if run.over:
                return False
            run.over = True
            return True

    def _hand_over(self, bodies: Sequence[Body], reading: Reading) -> None:
        for body in bodies:
            if not self._closed:
                self._deliver(body, reading)

    def _end(self, line: _Line) -> None:
        """Take note of a run that has ended; give up one that takes too long."""
        run = line.run
        if run is None or run.thread is None:
            return
        if not run.thread.is_alive():
            line.run = None
            if self._claim(run):  # it never started, or something raised what is no Exception
                self._hand_over(failed(line.kind, line.context, DIED), self._context.read())
        elif self._monotonic() - run.began_s > line.timeout_s and self._claim(run):
            log.warning("measure.timeout", extra={"fields": {"kind": line.kind, "timeout_s": line.timeout_s}})
            line.run = None
            line.stuck.append(run.thread)
            line.context = replace(line.context, memory=dict(line.context.memory))  # the thread may still write into the old one
            self._hand_over(failed(line.kind, line.context, TIMEOUT), self._context.read())

    def _sample(self, reading: Reading) -> None:
        if self._sample_due_ms > reading.mono_ms:
            return
        self._sample_due_ms = reading.mono_ms + self._context.settings.traffic.sample_s * 1000
        for line in self._lines:
            sampler = self._samplers.get(line.kind)
            if sampler is None or line.run is not None:  # a running probe looks for itself
                continue
            try:
                sampler(line.context)
            except Exception:
                log.debug("measure.sample", exc_info=True, extra={"fields": {"kind": line.kind}})

    def _wait_s(self, reading: Reading) -> float:
        if any(other.gates for other in self._lines):
            return _GATE_POLL_S
        waits_s = [MAX_WAIT_S, (self._sample_due_ms - reading.mono_ms) / 1000]
        for line in self._lines:
            if line.run is not None:
                waits_s.append(line.run.began_s + line.timeout_s - self._monotonic())
            elif line.due_ms is not None:
                waits_s.append((line.due_ms - reading.mono_ms) / 1000)
        return max(min(waits_s), _GATE_POLL_S)
