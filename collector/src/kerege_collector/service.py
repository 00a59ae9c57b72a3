"""The collector as a process: puts the parts together, tells systemd how they are, and ends them in good order.

main thread     signals, watchdog, reload
inbox           the broker (inbox.py)
worker          admit → store → ledger → ack (pipeline.py)
clerk           evidence → verdicts → state points (clerk.py)
postman         notices, and the sign of life (postman.py)
web             page, API, metrics (web.py)
"""

import gc
import logging
import signal
import threading
import time
from collections.abc import Callable, Mapping
from types import FrameType
from typing import TYPE_CHECKING, Final

from kerege_collector import centers, web
from kerege_collector.ack import Acks
from kerege_collector.admit import Admission
from kerege_collector.board import Board
from kerege_collector.books import Books
from kerege_collector.centers import Region, Registry
from kerege_collector.claim import ClaimedError, claim
from kerege_collector.clerk import Clerk, Desk
from kerege_collector.gaps import GapCounts
from kerege_collector.heartbeat import Heartbeat
from kerege_collector.inbox import Inbox
from kerege_collector.ledger import Ledger, LedgerError
from kerege_collector.metrics import Metrics
from kerege_collector.mistakes import SettingsError
from kerege_collector.opening import LEDGER_CURES, ledger_database
from kerege_collector.pipeline import BatchLimits, Parts, Pipeline
from kerege_collector.points import center_tags
from kerege_collector.postman import Postman
from kerege_collector.records import Reader, open_reader
from kerege_collector.session import Broker
from kerege_collector.settings import Influx, Settings
from kerege_collector.stages import STAGES, Stages
from kerege_collector.stores import RetryLater
from kerege_collector.stores.sqlite import SqliteStore
from kerege_collector.systemd import notify
from kerege_collector.timekeeping import Timekeeper
from kerege_collector.trouble import CLOCK, HANGS, INBOX_DEAD, NO_BROKER, VERDICTS
from kerege_collector.witness import Witness

if TYPE_CHECKING:
    from kerege_collector.stores.influx import InfluxStore

log = logging.getLogger(__name__)

TURN_S: Final = 1.0
"""How often the main thread looks after the others."""

STUCK_AFTER_S: Final = 120.0
"""A worker that has not shown itself for so long, beyond the store's own timeout, hangs: the watchdog is no longer fed."""

STOP_S: Final = 20.0
"""How long a batch under way may take at a clean stop."""

GARBAGE_THRESHOLDS: Final = (50_000, 20, 20)
"""Of the collector of cycles (`gc`): a batch makes thousands of objects that die with it and hardly a cycle; with Python's own 700 they are
gone through again and again, a tenth of all CPU time."""

LEDGER_RETRY_S: Final = 2.0

OK: Final = 0
BROKEN: Final = 1
UNUSABLE: Final = 2
"""Exit statuses: ended as told; a part died; the settings or files cannot be used."""


class CenterTags:
    """The tags of each center as they stand in a line, worked out once per registry."""

    def __init__(self, registry: Registry) -> None:
        self._current: tuple[Registry, dict[str, str]] = registry, {}

    def use(self, registry: Registry) -> None:
        """The registry was read anew. One assignment, so that the worker never notes old tags for a new registry."""
        self._current = registry, {}

    def __call__(self, center: str) -> str:
        registry, known = self._current
        tags = known.get(center)
        if tags is None:
            entry = registry.get(center)
            tags = known[center] = (
                center_tags(center, district=entry.district, link=entry.link_kind, provider=entry.provider)
                if entry
                else center_tags(center)
            )
        return tags


class Service:
    """All parts of one collector, by the clock ``now_s`` (UTC). Raises LedgerError, SettingsError or OSError where one cannot be made."""

    def __init__(self, settings: Settings, stopping: threading.Event, *, now_s: Callable[[], float] = time.time) -> None:
        self.settings = settings
        self._now_s = now_s
        self._stopping = stopping
        self.region = _region(settings)
        self._tags = CenterTags(self.region.centers)
        self.stages = Stages()
        self.metrics = Metrics()
        self.timekeeper = Timekeeper(settings.clock.trust)
        self.ledger = _open_ledger(settings, stopping)
        self.store = _open_store(settings, self._tags, self.stages)
        self.gaps = GapCounts(self.ledger.books())
        self.board = Board(lambda: self.region.centers, gaps=self.gaps.of)
        self.board.restore(self.ledger.snapshots())
        self.inbox = Inbox(_broker(settings), self.stages, now_ms=self._now_ms)
        self.acks = Acks(self.inbox.publish, within_s=settings.ack_within_s, clock=self.timekeeper.quality, now_ms=self._now_ms)
        books = Books(self.ledger.book)
        self._admission = Admission(
            books,
            self.region.centers,
            admit_unknown=settings.unknown_centers == "admit",
            two_agents=lambda center: self.board.two_agents(center, self._whole_s()),
            clock_is_right=lambda: self.timekeeper.quality() == "synced",
        )
        parts = Parts(
            mail=self.inbox,
            admission=self._admission,
            books=books,
            store=self.store,
            ledger=self.ledger,
            acks=self.acks,
            board=self.board,
            gaps=self.gaps,
            witness=Witness(self.ledger.runs, lambda: self.region),
            counts=self.metrics,
            stages=self.stages,
        )
        self.pipeline = Pipeline(parts, BatchLimits(settings.batch.max_reports, settings.batch.wait_s), now_s=self._whole_s)
        store = _open_store(settings, self._tags, self.stages)  # of its own: each is used by one thread
        self.clerk = Clerk(Desk(self.ledger, store, self.board, lambda: self.region, self._deaf), now_s=self._whole_s)
        url_file = settings.heartbeat.url_file
        heartbeat = None if url_file is None else Heartbeat(url_file, settings.heartbeat.every_min * 60, time.monotonic)
        self.postman = Postman(
            self.ledger, lambda: self.region, is_well=lambda: not self.trouble(), heartbeat=heartbeat, now_s=self._whole_s
        )
        self._watch()

    def reload(self) -> None:
        """Read the registry again; a bad file changes nothing, and is said."""
        try:
            region = _region(self.settings)
        except SettingsError as error:
            log.error("centers.not_reloaded", extra={"fields": {"mistakes": "; ".join(error.mistakes)}})  # noqa: TRY400 - the text says it all
            return
        self.region = region
        self._admission.registered = region.centers
        self._tags.use(region.centers)
        log.info("centers.reloaded", extra={"fields": {"centers": len(region.centers)}})

    def serve(self, wants_reload: threading.Event) -> int:
        """Run until told to stop, or until a part dies; returns the exit status."""
        worker = threading.Thread(target=self.pipeline.run, name="worker", daemon=True)
        clerk = threading.Thread(target=self.clerk.run, name="clerk", daemon=True)
        server = web.WebServer(self.settings.http, self)
        server.start()
        self.inbox.start()
        self.inbox.announce("ready")
        gc.collect()
        gc.freeze()  # what is there now stays
        gc.set_threshold(*GARBAGE_THRESHOLDS)
        worker.start()
        clerk.start()
        postman = threading.Thread(target=self.postman.run, name="postman", daemon=True)
        postman.start()
        notify("READY=1")
        log.info(
            "collector.started",
            extra={"fields": {"store": self.settings.store.kind, "ledger": self.settings.ledger.kind, "centers": len(self.region.centers)}},
        )
        status = self._look_after({"worker": worker, "clerk": clerk, "postman": postman}, server, wants_reload)
        notify("STOPPING=1")
        self.pipeline.stop()
        self.clerk.stop()
        self.postman.stop()
        worker.join(STOP_S)
        clerk.join(STOP_S)
        self.inbox.stop()
        server.stop()
        log.info("collector.stopped")
        return status

    def close(self) -> None:
        self.store.close()
        self.ledger.close()

    def reader(self) -> Reader:
        """The store, for reading. Raises ReadError."""
        return open_reader(self.settings)

    def trouble(self) -> list[str]:
        """What is not well (see `trouble`); empty where all is."""
        found = []
        if not self.inbox.connected:
            found.append(NO_BROKER)
        if self.pipeline.trouble:
            found.append(self.pipeline.trouble)
        if self.clerk.trouble:
            found.append(f"{VERDICTS}: {self.clerk.trouble}")
        if not self.inbox.alive:
            found.append(INBOX_DEAD)
        if self._is_stuck():
            found.append(HANGS)
        clock = self.timekeeper.state()
        if not clock.synchronised:
            found.append(f"{CLOCK}: {clock.detail}")
        return found

    def _now_ms(self) -> int:
        return int(self._now_s() * 1000)

    def _whole_s(self) -> int:
        return int(self._now_s())

    def _deaf(self) -> str:
        """What keeps us from hearing the centers: their silence then says nothing of them."""
        return NO_BROKER if not self.inbox.connected else self.pipeline.trouble or ""

    def _look_after(self, threads: Mapping[str, threading.Thread], server: web.WebServer, wants_reload: threading.Event) -> int:
        while not self._stopping.wait(TURN_S):
            if wants_reload.is_set():
                wants_reload.clear()
                self.reload()
                server.reload()
            alive = {name: thread.is_alive() for name, thread in threads.items()} | {"inbox": self.inbox.alive, "web": server.alive}
            if not all(alive.values()):
                log.critical("collector.part_died", extra={"fields": alive})
                return BROKEN
            if not self._is_stuck():
                notify("WATCHDOG=1")
        return OK

    def _is_stuck(self) -> bool:
        patience_s = STUCK_AFTER_S + (self.settings.store.timeout_s if isinstance(self.settings.store, Influx) else 0.0)
        return time.monotonic() - self.pipeline.alive_s > patience_s

    def _watch(self) -> None:
        watch = self.metrics.watch
        watch("kerege_queue_messages", "Messages that wait for the worker", lambda: float(self.inbox.depth))
        watch(
            "kerege_overflowed_messages",
            "Messages dropped because the queue was full; their agents send them again",
            lambda: float(self.inbox.overflowed),
        )
        watch("kerege_broker_connected", "Is the broker there (1) or not (0)", lambda: float(self.inbox.connected))
        watch("kerege_acks_waiting", "Acks held back to be sent together", lambda: float(len(self.acks)))
        watch("kerege_quarantine_rows", "Rows in quarantine", lambda: float(self.ledger.quarantine_rows))
        cpu: dict[str, Callable[[], float]] = {stage: lambda stage=stage: self.stages.cpu_s[stage] for stage in STAGES}  # type: ignore[misc]
        watch("kerege_verdict_cpu_seconds", "CPU time of the thread that makes verdicts", lambda: self.clerk.cpu_s)
        self.metrics.watch_each("kerege_stage_cpu_seconds", "CPU time by stage of the hot path", "stage", cpu)


def run(settings: Settings) -> int:
    """The service until SIGTERM or SIGINT; SIGHUP reads the registry again. Returns the exit status."""
    stopping, wants_reload = threading.Event(), threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _setter(stopping))
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, _setter(wants_reload))
    try:
        settings.state_directory.mkdir(parents=True, exist_ok=True)
        with claim(settings.state_directory):
            return _serve(settings, stopping, wants_reload)
    except InterruptedError:
        return OK
    except RetryLater as trouble:  # the disk went away between opening the ledger and reading it: systemd tries again
        log.error("collector.cannot_start", extra={"fields": {"why": trouble}})  # noqa: TRY400
        return BROKEN
    except (ClaimedError, LedgerError, SettingsError, OSError) as error:
        log.error("collector.cannot_start", extra={"fields": {"why": error}})  # noqa: TRY400 - the text says it all
        return UNUSABLE


def _serve(settings: Settings, stopping: threading.Event, wants_reload: threading.Event) -> int:
    service = Service(settings, stopping)
    try:
        return service.serve(wants_reload)
    finally:
        service.close()


def _setter(event: threading.Event) -> Callable[[int, FrameType | None], None]:
    return lambda _, __: event.set()


def _region(settings: Settings) -> Region:
    return centers.load_region(settings.centers_file, may_be_absent=settings.unknown_centers == "admit")


def _open_ledger(settings: Settings, stopping: threading.Event) -> Ledger:
    """The ledger, as soon as disk or server let us have it. Raises LedgerError, or InterruptedError when told to stop first."""
    while True:
        try:
            return Ledger(ledger_database(settings), bounds=settings.quarantine.bounds)
        except RetryLater as trouble:
            fields = {"reason": trouble.reason, "detail": trouble.detail, "cure": LEDGER_CURES.get(trouble.reason)}
            log.error("ledger.cannot_open", extra={"fields": fields})  # noqa: TRY400
            if stopping.wait(LEDGER_RETRY_S):
                raise InterruptedError from trouble


def _open_store(settings: Settings, tags: Callable[[str], str], stages: Stages) -> "SqliteStore | InfluxStore":
    store = settings.store
    if isinstance(store, Influx):
        from kerege_collector.stores.influx import InfluxAccess, InfluxStore  # noqa: PLC0415 - it takes a second and 30 MB to load

        access = InfluxAccess(store.url, store.bucket, store.organisation, store.token, store.timeout_s)
        return InfluxStore(access, tags, stages)
    return SqliteStore(settings.records_path, retention_days=store.retention_days)


def _broker(settings: Settings) -> Broker:
    mqtt = settings.mqtt
    return Broker(
        host=mqtt.host,
        port=mqtt.port,
        client_id=mqtt.client_id,
        tls=mqtt.tls,
        ca_file=mqtt.ca_file,
        certificate_file=mqtt.certificate_file,
        key_file=mqtt.key_file,
        username=mqtt.username,
        password=mqtt.password,
        keepalive_s=mqtt.keepalive_s,
        connect_timeout_s=mqtt.connect_timeout_s,
        receive_maximum=mqtt.receive_maximum,
        shared_group=mqtt.shared_group,
        ack_within_s=settings.ack_within_s,
    )
