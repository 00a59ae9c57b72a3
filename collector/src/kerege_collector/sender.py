"""Takes notices that are due out of the outbox and hands them over: each address of a contact separately, again where that failed.

Killed half-way: the outbox knows that a sending had begun, and the text then says that it may be a repetition. A server that hangs
holds up nobody but its own contact. Addresses are secrets: errors name the contact and the URL's scheme only.
"""

import hashlib
import logging
import random
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Protocol

from kerege_collector.delivery import deliver as deliver_with_apprise
from kerege_collector.delivery import scheme
from kerege_collector.notice_digest import compose
from kerege_collector.notice_text import Facts, Text

FIRST_RETRY_S: Final = 30.0
LONGEST_RETRY_S: Final = 900.0
MAX_TRIES: Final = 6
"""Some eight minutes in all, at the mean of the jitter: then somebody else has to be told."""

DELIVERY_TIMEOUT_S: Final = 30.0
"""How long one address may take."""

AT_ONCE: Final = 16
"""Contacts that are written to at the same time."""

MAX_REMEMBERED: Final = 10_000
"""Notices of which it is remembered which addresses have taken them."""

MAX_ADDRESS_FILE_BYTES: Final = 65_536

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Waiting:
    """A notice that is due. ``attempts`` were made before; ``was_sending``: of the last one nobody knows how it ended.

    taken: keys (`address_key`) of the addresses that have it already.
    """

    id: int
    contact: str
    language: str
    facts: Facts
    attempts: int
    was_sending: bool
    taken: frozenset[str] = frozenset()


class Outbox(Protocol):
    """Where notices wait, durably. Only the thread of `Sender.step` calls it."""

    def due(self, now_s: int) -> list[Waiting]:
        """Oldest first."""
        ...

    def sending(self, id: int, now_s: int) -> None:  # noqa: A002 - the outbox's word for it
        """Durable when it returns: the attempt begins then."""
        ...

    def taken(self, id: int, address: str, now_s: int) -> None:  # noqa: A002
        """This address (`address_key`) has it, whatever becomes of the others."""
        ...

    def sent(self, id: int, now_s: int) -> None:  # noqa: A002
        """At least one address of the contact has taken it."""
        ...

    def failed(self, id: int, now_s: int, error: str, next_try_s: int | None) -> None:  # noqa: A002
        """To be tried again at ``next_try_s``; None: given up for this contact."""
        ...


AddressBook = Callable[[str], Path | None]
"""Contact id → the file with its URLs, one a line; None for a contact that is not known (any more)."""

Deliver = Callable[[str, Text], str | None]
"""URL and text → None where it was taken, else a reason without secrets. What it raises is a failure too."""


@dataclass(slots=True)
class _Attempt:
    """One delivery in a thread of its own; ``ended`` is set last."""

    url: str
    reason: str | None = None
    ended: threading.Event = field(default_factory=threading.Event)

    def run(self, deliver: Deliver, text: Text, bell: threading.Semaphore) -> None:
        try:
            self.reason = deliver(self.url, text)
        except Exception as error:  # noqa: BLE001 - a plugin's mistake is a failed delivery; its message may have the URL in it
            self.reason = f"could not be delivered ({type(error).__name__})"
        finally:
            self.ended.set()
            bell.release()


@dataclass(slots=True)
class _Progress:
    """What this process remembers of a notice: addresses that took it, and those that have not answered in time."""

    taken: set[str] = field(default_factory=set)
    hanging: dict[str, _Attempt] = field(default_factory=dict)

    def settle(self) -> None:
        """A server that was slow may have taken it after all."""
        for url, attempt in list(self.hanging.items()):
            if attempt.ended.is_set():
                if attempt.reason is None:
                    self.taken.add(url)
                del self.hanging[url]

    def untold(self, known: frozenset[str]) -> list[str]:
        """Addresses that have taken it, and of which the outbox does not know so."""
        return [url for url in self.taken if address_key(url) not in known]


@dataclass(slots=True)
class _Try:
    """One notice on its way to the addresses of its contact that have not taken it yet."""

    notice: Waiting
    progress: _Progress
    attempts: list[_Attempt]

    def is_over(self) -> bool:
        return all(attempt.ended.is_set() for attempt in self.attempts)


class Sender:
    """One for an outbox; `step` is called again and again by one thread. ``now_s`` is UTC."""

    def __init__(
        self,
        outbox: Outbox,
        address_book: AddressBook,
        now_s: Callable[[], int],
        deliver: Deliver = deliver_with_apprise,
        *,
        timeout_s: float = DELIVERY_TIMEOUT_S,
    ) -> None:
        self._outbox = outbox
        self._address_book = address_book
        self._now_s = now_s
        self._deliver = deliver
        self._timeout_s = timeout_s
        self._remembered: OrderedDict[int, _Progress] = OrderedDict()
        self._bell = threading.Semaphore(0)  # rung by each attempt that ends

    def step(self) -> None:
        """Try everything that is due, once. Raises nothing."""
        try:
            queues: dict[str, list[Waiting]] = {}
            for notice in self._outbox.due(self._now_s()):
                queues.setdefault(notice.contact, []).append(notice)
            while queues:
                self._round(queues)
        except Exception:
            log.exception("sender.failed")

    def _round(self, queues: dict[str, list[Waiting]]) -> None:
        """The oldest notice of each contact, side by side. A contact whose server hangs is left for the next step."""
        contacts = list(queues)[:AT_ONCE]
        tries = [begun for contact in contacts if (begun := self._begun(queues[contact].pop(0))) is not None]
        deadline = time.monotonic() + self._timeout_s
        while not all(one.is_over() for one in tries) and (left_s := deadline - time.monotonic()) > 0:
            self._bell.acquire(timeout=left_s)
            for one in tries:
                self._note(one)
        for one in tries:
            self._finish(one)
        hanging = {one.notice.contact for one in tries if one.progress.hanging}
        for contact in contacts:
            rest = queues.pop(contact)
            if rest and contact not in hanging:
                queues[contact] = rest  # behind the contacts that have not had their turn

    def _begun(self, notice: Waiting) -> _Try | None:
        """Started, after the outbox knows of it. None where nothing was started: that is the outbox's trouble, or there is no address."""
        try:
            known = notice.id in self._remembered
            progress = self._remembered.setdefault(notice.id, _Progress())
            self._outbox.sending(notice.id, self._now_s())
            urls = self._addresses(notice)
            if not urls:
                return None
            progress.taken |= {url for url in urls if address_key(url) in notice.taken}
            progress.settle()
            doubtful = notice.was_sending or (notice.attempts > 0 and not known)
            facts = replace(notice.facts, may_repeat=True) if doubtful else notice.facts
            text = compose(facts, notice.language)
            attempts = [_Attempt(url) for url in urls if url not in progress.taken and url not in progress.hanging]
            for attempt in attempts:
                name = f"deliver-{notice.id}"
                threading.Thread(target=attempt.run, args=(self._deliver, text, self._bell), name=name, daemon=True).start()
            return _Try(notice, progress, attempts)
        except Exception:
            log.exception("sender.not_begun", extra={"fields": {"notice": notice.id, "contact": notice.contact}})
            return None

    def _addresses(self, notice: Waiting) -> list[str]:
        """Without any there is nothing to wait for: somebody else has to be told at once."""
        trouble = "has no addresses"
        try:
            path = self._address_book(notice.contact)
            urls = [] if path is None else read_addresses(path)
        except (OSError, ValueError) as error:
            urls = []
            trouble = f"its addresses cannot be read ({type(error).__name__})"
        if not urls:
            self._give_up(notice, f"contact {notice.contact}: {trouble}")
        return urls

    def _note(self, one: _Try) -> None:
        """What has been taken is durable before anything else is waited for: a kill must not have it taken twice."""
        progress = one.progress
        progress.taken |= {attempt.url for attempt in one.attempts if attempt.ended.is_set() and attempt.reason is None}
        try:
            for url in progress.untold(one.notice.taken):
                self._outbox.taken(one.notice.id, address_key(url), self._now_s())
                one.notice = replace(one.notice, taken=one.notice.taken | {address_key(url)})
        except Exception:
            log.exception("sender.not_recorded", extra={"fields": {"notice": one.notice.id, "contact": one.notice.contact}})

    def _finish(self, one: _Try) -> None:
        self._note(one)
        try:
            self._record(one)
        except Exception:
            log.exception("sender.not_recorded", extra={"fields": {"notice": one.notice.id, "contact": one.notice.contact}})

    def _record(self, one: _Try) -> None:
        notice, progress = one.notice, one.progress
        progress.hanging |= {attempt.url: attempt for attempt in one.attempts}
        refused = [(attempt.url, attempt.reason) for attempt in one.attempts if attempt.ended.is_set() and attempt.reason is not None]
        progress.settle()
        failures = [f"{scheme(url)}: {reason}" for url, reason in refused]
        failures += [f"{scheme(url)}: no answer within {self._timeout_s:g} s" for url in progress.hanging]
        error = f"contact {notice.contact}: {'; '.join(failures)}"
        if not failures or (notice.attempts + 1 >= MAX_TRIES and progress.taken):
            if failures:
                log.warning("notice.partly_sent", extra={"fields": {"notice": notice.id, "error": error}})
            self._outbox.sent(notice.id, self._now_s())
            self._forget(notice)
        elif notice.attempts + 1 >= MAX_TRIES:
            self._give_up(notice, error)
        else:
            log.warning("notice.not_sent", extra={"fields": {"notice": notice.id, "error": error}})
            now_s = self._now_s()
            self._outbox.failed(notice.id, now_s, error, now_s + retry_delay_s(notice.attempts))

    def _give_up(self, notice: Waiting, error: str) -> None:
        log.error("notice.given_up", extra={"fields": {"notice": notice.id, "error": error}})
        self._outbox.failed(notice.id, self._now_s(), error, None)
        self._forget(notice)

    def _forget(self, notice: Waiting) -> None:
        self._remembered.pop(notice.id, None)
        while len(self._remembered) > MAX_REMEMBERED:  # of notices that the outbox has withdrawn
            self._remembered.popitem(last=False)


def address_key(url: str) -> str:
    """By which the outbox remembers an address without holding its password."""
    return hashlib.sha256(url.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def retry_delay_s(attempts: int) -> int:
    """Full jitter below a bound that doubles from 30 s to 15 min, so that contacts of one server do not come back together."""
    return max(1, round(random.uniform(0, min(LONGEST_RETRY_S, FIRST_RETRY_S * 2 ** min(attempts, 10)))))


def read_addresses(path: Path) -> list[str]:
    """The URLs of a contact, each once; empty lines and those that begin with # are left out. Raises OSError, ValueError."""
    with path.open("rb") as file:
        content = file.read(MAX_ADDRESS_FILE_BYTES + 1)
    if len(content) > MAX_ADDRESS_FILE_BYTES:
        raise ValueError("too long")
    stripped = (line.strip() for line in content.decode("utf-8-sig").splitlines())
    return list(dict.fromkeys(line for line in stripped if line and not line.startswith("#")))
