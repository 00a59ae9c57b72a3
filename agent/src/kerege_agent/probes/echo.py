"""Are hosts there, and how far away: echo requests that overlap, so that slow and lost ones do not hold up the others.

ICMP over an unprivileged datagram socket, else over a raw socket, else TCP connects (a refusal is an answer too: the host sent it).
icmplib makes sockets and packets; all times are ours, monotonic, taken right before a packet is handed to the kernel and right after one
is read, because icmplib stamps with the wall clock and its ``receive`` loses replies when that jumps.
"""

import logging
import selectors
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from kerege_agent.probes.icmp import IcmpWay, open_icmp
from kerege_agent.probes.tcp import TcpWay

LOSS_TIMEOUT_S: Final = 3.0
"""An echo that takes longer is lost (RFC 6673 asks for a stated limit); twice a geostationary round trip on a full queue."""

_NS: Final = 1_000_000_000

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Aim:
    """Whom to ask. ``tcp``: by TCP connect even where ICMP could be sent."""

    address: str
    tcp_port: int = 443
    timeout_s: float = LOSS_TIMEOUT_S
    tcp: bool = False

    @property
    def family(self) -> int:
        """IP version, 4 or 6."""
        return 6 if ":" in self.address else 4


@dataclass(slots=True)
class Shot:
    """One request, and what became of it. Times are monotonic nanoseconds."""

    aim: Aim
    index: int
    due_ns: int
    sent_ns: int | None = None
    answered_ns: int | None = None
    error: str | None = None

    @property
    def over(self) -> bool:
        """Answered, refused by our own system, or reported undeliverable: there is nothing to wait for."""
        return self.answered_ns is not None or self.error is not None

    @property
    def expires_ns(self) -> int:
        """When it counts as lost."""
        return (self.due_ns if self.sent_ns is None else self.sent_ns) + int(self.aim.timeout_s * _NS)

    @property
    def rtt_ns(self) -> int | None:
        """Round-trip time, None where no answer came in time."""
        if self.sent_ns is None or self.answered_ns is None or self.answered_ns > self.expires_ns:
            return None
        return self.answered_ns - self.sent_ns


class Way(Protocol):
    """One method of asking."""

    @property
    def via(self) -> str: ...
    def send(self, shot: Shot) -> None: ...
    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one aim.

    via: how it was asked.
    sent: requests that really left this machine.
    rtts_ns: the round-trip times that came in time, in the order of sending.
    error: why nothing could be sent at all; None as soon as one request left.
    """

    via: str
    sent: int
    rtts_ns: tuple[int, ...] = ()
    error: str | None = None


@dataclass(slots=True)
class _Ways:
    """The methods of one run: one ICMP socket a family, opened when first needed, and TCP."""

    selector: selectors.BaseSelector
    clock_ns: Callable[[], int]
    _icmp: dict[int, IcmpWay | None] = field(default_factory=dict)
    _tcp: TcpWay | None = None

    def of(self, aim: Aim) -> Way:
        if not aim.tcp:
            if aim.family not in self._icmp:
                self._icmp[aim.family] = open_icmp(aim.family, self.selector, self.clock_ns)
            icmp = self._icmp[aim.family]
            if icmp is not None:
                return icmp
        self._tcp = self._tcp or TcpWay(self.selector, self.clock_ns)
        return self._tcp

    def close(self) -> None:
        for way in (*self._icmp.values(), self._tcp):
            if way is not None:
                way.close()


def ask(
    aims: Sequence[Aim],
    *,
    count: int = 1,
    spacing_s: float = 1.0,
    first_of: Collection[int] = (),
    clock_ns: Callable[[], int] = time.monotonic_ns,
) -> list[Answer]:
    """Send each aim ``count`` requests ``spacing_s`` apart, and wait for the answers. One `Answer` for each aim, in order.

    ``first_of``: stop as soon as one of the aims at these places has answered.
    """
    with selectors.DefaultSelector() as selector:
        ways = _Ways(selector, clock_ns)
        for aim in aims:
            ways.of(aim)  # opened now, so that opening one delays no request of another
        try:
            shots = _shots(aims, count, spacing_s, clock_ns())
            _exchange(shots, ways, first_of)
            return [_answer(ways.of(aim).via, [shot for shot in shots if shot.index == index]) for index, aim in enumerate(aims)]
        finally:
            ways.close()


def _shots(aims: Sequence[Aim], count: int, spacing_s: float, start_ns: int) -> list[Shot]:
    return [Shot(aim, index, start_ns + int(number * spacing_s * _NS)) for number in range(count) for index, aim in enumerate(aims)]


def _exchange(shots: Sequence[Shot], ways: _Ways, first_of: Collection[int]) -> None:
    waiting = list(shots)
    while True:
        now_ns = ways.clock_ns()
        for shot in waiting:
            if shot.sent_ns is None and shot.due_ns <= now_ns:
                ways.of(shot.aim).send(shot)
                _read(ways.selector, 0)  # or an answer that is there already would be charged with the sending of the others
        waiting = [shot for shot in waiting if not shot.over and shot.expires_ns > now_ns]
        if not waiting or any(shot.rtt_ns is not None for shot in shots if shot.index in first_of):
            return
        next_ns = min(shot.due_ns if shot.sent_ns is None else shot.expires_ns for shot in waiting)
        _read(ways.selector, max(next_ns - ways.clock_ns(), 0) / _NS)


def _read(selector: selectors.BaseSelector, wait_s: float) -> None:
    for key, _ in selector.select(wait_s):
        key.data()


def _answer(via: str, shots: Sequence[Shot]) -> Answer:
    sent = sum(shot.sent_ns is not None for shot in shots)
    rtts_ns = tuple(shot.rtt_ns for shot in shots if shot.rtt_ns is not None)
    errors = [shot.error for shot in shots if shot.error is not None]
    if errors:
        log.debug("echo.errors", extra={"fields": {"address": shots[0].aim.address, "via": via, "sent": sent, "last": errors[-1]}})
    return Answer(via, sent, rtts_ns, errors[-1] if errors and not sent else None)


def method_of(family: int) -> str | None:
    """How echo requests of an IP version go out here, `datagram` or `raw`; None where no ICMP is granted and TCP has to do."""
    with selectors.DefaultSelector() as selector:
        way = open_icmp(family, selector, time.monotonic_ns)
        if way is None:
            return None
        way.close()
        return way.via
