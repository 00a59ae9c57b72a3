"""The scheduler: every probe in its time, and a record whatever happens to it."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

import pytest

from kerege_agent import clock
from kerege_agent.clock import Reading
from kerege_agent.measure import CONFIRM_S, MAX_STUCK, SLEPT_MS, STILL_RUNNING, Scheduler
from kerege_agent.probes import PROBES, Context, Probe
from kerege_agent.settings import BootSettings, PingSettings, Probes, ProbeSettings, RareSettings, Settings, TickSettings
from kerege_wire import Body, Boot, Host, Ping, Tick, Traffic, kind_of
from tests.agent.probe_world import FakeClock, loopback_settings

SOON_S: Final = 5.0
"""Longest wait for what should happen at once."""


def soon(true: Callable[[], bool]) -> None:
    """Wait until something is true; fail when it does not come true."""
    deadline_s = time.monotonic() + SOON_S
    while not true():
        assert time.monotonic() < deadline_s, "did not happen"
        time.sleep(0.002)


@dataclass
class World:
    """A scheduler with a clock of our own and the records that it delivered."""

    clock: FakeClock = field(default_factory=FakeClock)
    now_s: float = 100.0
    delivered: list[tuple[Body, Reading]] = field(default_factory=list)
    release: threading.Event = field(default_factory=threading.Event)
    jitter: list[float] = field(default_factory=list)

    def scheduler(
        self, probes: Mapping[str, Probe], settings: Settings | None = None, *, read: Callable[[], Reading] | None = None, **parts: object
    ) -> Scheduler:
        context = Context(settings=settings or loopback_settings(), read=read or self.clock)
        given: dict[str, object] = {"samplers": {}, "monotonic": lambda: self.now_s, "uniform": self._uniform}
        return Scheduler(context, lambda body, reading: self.delivered.append((body, reading)), probes=probes, **(given | parts))  # type: ignore[arg-type]

    def _uniform(self, low: float, high: float) -> float:
        return self.jitter.pop(0) if self.jitter else (low + high) / 2

    def pass_s(self, seconds: float) -> None:
        """Time passes, awake."""
        self.now_s += seconds
        self.clock.mono_ms += int(seconds * 1000)

    def sleep_s(self, seconds: float) -> None:
        """The machine sleeps: only the clock that counts suspend goes on."""
        self.clock.mono_ms += int(seconds * 1000)

    @property
    def kinds(self) -> list[str]:
        return [kind_of(body) for body, _ in self.delivered]

    @property
    def errors(self) -> list[str | None]:
        return [body.error for body, _ in self.delivered]

    def hang(self, context: Context) -> list[Body]:
        """A probe that hangs until the test ends."""
        self.release.wait()
        return [Tick(result="online")]


@pytest.fixture
def world() -> Iterator[World]:
    """No thread of a test outlives it."""
    made = World()
    yield made
    made.release.set()


def online(context: Context) -> list[Body]:
    """A probe that measures."""
    return [Tick(result="online")]


def run_until(world: World, scheduler: Scheduler, true: Callable[[], bool]) -> None:
    """Step, with the clock standing still, until something is true."""

    def stepped() -> bool:
        scheduler.step()
        return true()

    soon(stepped)


def test_boot_comes_first_then_the_tick_at_once_then_the_others_one_by_one(world: World) -> None:
    """The boot record has sequence number 1; nobody waits for the first tick; the first runs of the rest do not meet."""
    made: dict[str, Callable[[Context], list[Body]]] = {
        "boot": lambda context: [Boot()],
        "tick": online,
        "host": lambda context: [Host()],
        "ping": lambda context: [Ping("lo")],
        "traffic": lambda context: [Traffic()],
    }
    scheduler = world.scheduler(made)
    run_until(world, scheduler, lambda: len(world.delivered) >= 2)
    assert world.kinds == ["boot", "tick"]
    for expected in (["host"], ["ping"], ["traffic"]):
        world.pass_s(5.0)
        before = len(world.delivered)
        run_until(world, scheduler, lambda before=before, expected=expected: world.kinds[before:] == expected)  # type: ignore[misc]


def test_a_boot_probe_that_takes_its_time_holds_the_others_back(world: World) -> None:
    """Until the boot record is made, or given up, no other is."""
    scheduler = world.scheduler({"boot": world.hang, "tick": online})
    for _ in range(5):
        scheduler.step()
    assert world.delivered == []
    world.pass_s(world_timeout_s("boot") + 1)
    run_until(world, scheduler, lambda: world.kinds == ["boot", "tick"])
    assert world.errors == ["timeout", None]


def world_timeout_s(kind: str) -> float:
    timeout_s: float = getattr(loopback_settings().probes, kind).timeout_s
    return timeout_s


@pytest.mark.parametrize(("jitter", "seconds"), [(0.9, 54.0), (1.1, 66.0)])
def test_intervals_are_jittered_by_a_tenth(world: World, jitter: float, seconds: float) -> None:
    """A tick each minute comes between 54 and 66 seconds after the one before."""
    scheduler = world.scheduler({"tick": online})
    world.jitter = [jitter]
    run_until(world, scheduler, lambda: len(world.delivered) == 1)
    world.pass_s(seconds - 0.1)
    scheduler.step()
    assert len(world.delivered) == 1
    world.pass_s(0.2)
    run_until(world, scheduler, lambda: len(world.delivered) == 2)


def test_a_tick_that_first_finds_the_internet_gone_is_soon_followed_by_another(world: World) -> None:
    """Once for each outage, and not at the start, when nobody knows how long it has been so."""
    results = ["offline", "online", "offline", "offline", "online"]
    scheduler = world.scheduler({"tick": lambda context: [Tick(result=results[len(world.delivered)])]})
    run_until(world, scheduler, lambda: len(world.delivered) == 1)
    for apart_s in (60.0, 60.0, CONFIRM_S, 60.0):
        before = len(world.delivered)
        world.pass_s(apart_s - 0.1)
        scheduler.step()
        assert len(world.delivered) == before
        world.pass_s(0.2)
        run_until(world, scheduler, lambda before=before: len(world.delivered) == before + 1)  # type: ignore[misc]


def test_real_jitter_differs_from_run_to_run() -> None:
    """Two agents that start together do not stay in step."""
    waits = set()
    for _ in range(4):
        made = FakeClock()
        scheduler = Scheduler(Context(settings=loopback_settings(), read=made), lambda body, reading: None, probes={"tick": online})
        scheduler.step()
        waits.add(scheduler._lines[0].due_ms)
    assert len(waits) == 4


def test_a_hanging_probe_delays_no_other_and_becomes_a_timeout(world: World) -> None:
    """While one probe really hangs, another runs on; the one that hangs becomes a record, on a real clock."""
    settings = loopback_settings(
        probes=Probes(tick=TickSettings(interval_s=0.02, timeout_s=5), ping=PingSettings(interval_s=0.02, timeout_s=0.1))
    )
    scheduler = world.scheduler({"tick": online, "ping": world.hang}, settings, read=clock.read, monotonic=time.monotonic)

    def stepped() -> bool:
        began_s = time.monotonic()
        scheduler.step()
        assert time.monotonic() - began_s < SOON_S  # it waits for nobody, and nobody comes
        return world.kinds.count("tick") >= 10 and "timeout" in world.errors

    soon(stepped)
    assert {body for body, _ in world.delivered if isinstance(body, Ping)} == {Ping("lo", error="timeout")}


def test_the_result_of_a_run_that_was_given_up_is_not_delivered(world: World) -> None:
    """One run, one record: the timeout was told, so what comes later is not."""
    scheduler = world.scheduler({"tick": world.hang})
    scheduler.step()
    world.pass_s(world_timeout_s("tick") + 1)
    scheduler.step()
    assert world.errors == ["timeout"]
    world.release.set()
    soon(lambda: scheduler.stuck == {})
    assert world.errors == ["timeout"]


def test_at_most_three_threads_of_a_probe_hang(world: World) -> None:
    """A probe that hangs is tried again, so that one slow resolver does not silence it; after three there is a record and no thread."""
    scheduler = world.scheduler({"tick": world.hang})
    for number in range(MAX_STUCK + 2):
        scheduler.step()
        world.pass_s(world_timeout_s("tick") + 1)
        scheduler.step()
        assert scheduler.stuck == {"tick": min(number + 1, MAX_STUCK)}
        world.pass_s(40.0)
    assert world.errors == ["timeout"] * MAX_STUCK + [STILL_RUNNING] * 2


def test_a_probe_that_hung_recovers(world: World) -> None:
    """When its threads have ended the probe runs as ever."""
    scheduler = world.scheduler({"tick": world.hang})
    scheduler.step()
    world.pass_s(world_timeout_s("tick") + 1)
    scheduler.step()
    world.release.set()
    soon(lambda: scheduler.stuck == {})
    world.pass_s(60.0)
    run_until(world, scheduler, lambda: len(world.delivered) == 2)
    assert world.errors == ["timeout", None]


def test_a_probe_that_raises_becomes_a_record_with_its_error(world: World) -> None:
    """The record says class and text of the exception, for each target of the kind."""

    def broken(context: Context) -> list[Body]:
        raise ZeroDivisionError("of nothing\nby nothing")

    scheduler = world.scheduler({"tick": broken, "ping": broken})
    run_until(world, scheduler, lambda: len(world.delivered) == 1)
    world.pass_s(20)
    run_until(world, scheduler, lambda: len(world.delivered) == 2)
    assert [body for body, _ in world.delivered] == [
        Tick(error="ZeroDivisionError: of nothing by nothing"),
        Ping("lo", error="ZeroDivisionError: of nothing by nothing"),
    ]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_dies_of_something_else_is_noticed(world: World) -> None:
    """`SystemExit` ends a thread without a word; the record says that it died."""

    def leaving(context: Context) -> list[Body]:
        raise SystemExit

    scheduler = world.scheduler({"tick": leaving})
    run_until(world, scheduler, lambda: len(world.delivered) == 1)
    assert world.errors == ["the probe's thread died"]


def test_a_machine_that_slept_does_not_catch_up(world: World) -> None:
    """After eight hours of sleep each probe runs once, the tick at once, the others spread as at the start."""
    made: dict[str, Probe] = {"tick": online, "host": lambda context: [Host()], "traffic": lambda context: [Traffic()]}
    scheduler = world.scheduler(made)
    for _ in range(3):
        run_until(world, scheduler, lambda: "tick" in world.kinds)
        world.pass_s(5.0)
    run_until(world, scheduler, lambda: len(world.delivered) == 3)
    world.sleep_s(8 * 3600)
    world.delivered.clear()
    run_until(world, scheduler, lambda: world.kinds == ["tick"])
    scheduler.step()
    assert world.kinds == ["tick"]
    for expected in (["tick", "host"], ["tick", "host", "traffic"]):
        world.pass_s(5.0)
        run_until(world, scheduler, lambda expected=expected: world.kinds == expected)  # type: ignore[misc]


def test_a_run_that_the_machine_slept_through_is_done_again(world: World) -> None:
    """A tick during which the machine slept measured the sleep; it is no record, and the next comes at once."""
    entered, go_on = threading.Event(), threading.Event()

    def slow(context: Context) -> list[Body]:
        entered.set()
        go_on.wait()
        return [Tick(result="offline")]

    scheduler = world.scheduler({"tick": slow})
    scheduler.step()
    assert entered.wait(SOON_S)
    entered.clear()
    world.sleep_s(SLEPT_MS / 1000 + 1)
    go_on.set()
    run_until(world, scheduler, lambda: len(world.delivered) == 1)
    assert entered.is_set()


def test_a_probes_time_limit_does_not_run_while_the_machine_sleeps(world: World) -> None:
    """A probe that was asleep with its machine is not said to have timed out."""
    scheduler = world.scheduler({"tick": world.hang})
    scheduler.step()
    world.sleep_s(3600)
    scheduler.step()
    assert world.delivered == []


def test_nothing_is_delivered_after_the_end(world: World) -> None:
    """A probe that ends after `close` leaves no record behind it."""
    scheduler = world.scheduler({"tick": world.hang})
    scheduler.step()
    scheduler.close()
    thread = scheduler._lines[0].run
    assert thread is not None
    assert thread.thread is not None
    world.release.set()
    thread.thread.join(SOON_S)
    assert world.delivered == []


def test_a_probe_that_is_switched_off_does_not_run(world: World) -> None:
    """``enabled = false`` is heard, also for the boot record, for which nobody waits then."""
    settings = loopback_settings(probes=Probes(boot=BootSettings(enabled=False), host=ProbeSettings(enabled=False)))
    scheduler = world.scheduler({"boot": online, "tick": online, "host": online}, settings)
    assert [line.kind for line in scheduler._lines] == ["tick"]
    run_until(world, scheduler, lambda: len(world.delivered) == 1)


def test_a_probe_keeps_its_memory_between_runs(world: World) -> None:
    """What a probe remembers it finds again, and nobody else does."""
    seen: list[tuple[str, int]] = []

    def counting(kind: str) -> Probe:
        def count(context: Context) -> list[Body]:
            context.memory["runs"] = context.memory.get("runs", 0) + 1
            seen.append((kind, context.memory["runs"]))
            return []

        return count

    scheduler = world.scheduler({"tick": counting("tick"), "host": counting("host")})
    for _ in range(3):
        world.pass_s(70)
        count = len([kind for kind, _ in seen if kind == "tick"])
        run_until(world, scheduler, lambda count=count: len([kind for kind, _ in seen if kind == "tick"]) > count)  # type: ignore[misc]
    assert [runs for kind, runs in seen if kind == "tick"] == [1, 2, 3]
    assert all(runs == 1 for kind, runs in seen if kind == "host")


def test_counters_are_looked_at_between_runs_but_never_during_one(world: World) -> None:
    """The sampler has the probe's memory for itself: every ten seconds, and not while the probe runs."""
    looks: list[int] = []
    hanging = threading.Event()

    def traffic(context: Context) -> list[Body]:
        hanging.set()
        world.release.wait()
        return [Traffic()]

    scheduler = world.scheduler({"traffic": traffic}, samplers={"traffic": lambda context: looks.append(context.read().mono_ms)})
    scheduler.step()
    assert len(looks) == 1
    scheduler.step()
    assert len(looks) == 1
    world.pass_s(4.9)
    scheduler.step()
    world.pass_s(0.2)
    scheduler.step()
    assert hanging.wait(SOON_S)
    world.pass_s(10)
    scheduler.step()
    assert len(looks) == 1


def test_a_sampler_that_raises_stops_nothing(world: World) -> None:
    """The probe itself will say what is wrong."""

    def broken(context: Context) -> None:
        raise OSError("no /proc here")

    scheduler = world.scheduler({"traffic": lambda context: [Traffic()]}, samplers={"traffic": broken})
    scheduler.step()
    world.pass_s(5.1)
    run_until(world, scheduler, lambda: world.kinds == ["traffic"])


def test_the_wait_ends_when_something_is_due_and_is_never_long(world: World) -> None:
    """At most five seconds, so that a suspend is noticed and a watchdog fed."""
    scheduler = world.scheduler({"tick": online})
    run_until(world, scheduler, lambda: len(world.delivered) == 1)
    soon(lambda: scheduler.step() == 5.0)
    world.pass_s(59.0)
    assert scheduler.step() == pytest.approx(1.0, abs=0.1)


def test_a_thread_that_cannot_start_is_a_record_too(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that gives no more threads does not stop the agent."""

    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    scheduler = world.scheduler({"tick": online})
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        scheduler.step()
        scheduler.step()
    assert world.errors == ["the probe's thread died"]


def test_every_kind_but_drop_has_a_probe_and_its_settings() -> None:
    """The table of probes is whole, and each kind has its section; rare ones are rare."""
    assert set(PROBES) == {"boot", "tick", "host", "dns", "http", "ping", "traffic"}
    probes = loopback_settings().probes
    assert all(hasattr(probes, kind) for kind in PROBES)
    assert isinstance(probes.dns, RareSettings)
