"""ICMP echo over one socket of one family: sending through icmplib, reading replies and error messages ourselves."""

import codecs
import logging
import secrets
import selectors
import sys
from collections.abc import Callable
from dataclasses import dataclass
from struct import unpack_from
from typing import TYPE_CHECKING, Any, Final

from kerege_agent.probes.echo_sockets import ICMPLibError, ICMPRequest, ICMPv4Socket, ICMPv6Socket
from kerege_agent.probes.words import UNREACHABLE, words_of

if TYPE_CHECKING:
    from kerege_agent.probes.echo import Shot

PAYLOAD_BYTES: Final = 16
"""Small: ten a target every five minutes add up on a metered link. An IPv4 echo is 44 bytes then, instead of ping's usual 84."""

MAX_PACKET_BYTES: Final = 2048

log = logging.getLogger(__name__)

codecs.lookup("idna")  # `getaddrinfo` loads it at its first call, and the first request of a process would be charged with a millisecond


@dataclass(frozen=True, slots=True)
class Types:
    """Numbers of RFC 792 or RFC 4443: request, reply, and the errors that quote the request."""

    request: int
    reply: int
    errors: tuple[int, ...]


TYPES: Final = {4: Types(8, 0, (3, 11)), 6: Types(128, 129, (1, 3))}
IPV6_HEADER_BYTES: Final = 40


def parse(packet: bytes, family: int, *, ip_header: bool) -> tuple[bool, int, int] | None:
    """(is it a reply rather than an error, identifier, sequence number) of an ICMP message about an echo request, else None.

    ``ip_header``: an IPv4 header stands before the message.
    """
    try:
        at = _header_bytes(packet, 0) if ip_header else 0
        types = TYPES[family]
        kind = packet[at]
        if kind == types.reply:
            return (True, *_identity(packet, at))
        if kind in types.errors:
            at += 8
            at += IPV6_HEADER_BYTES if family == 6 else _header_bytes(packet, at)
            if packet[at] == types.request:
                return (False, *_identity(packet, at))
    except (IndexError, ValueError):
        log.debug("icmp.short", extra={"fields": {"bytes": len(packet)}})
    return None


def _header_bytes(packet: bytes, at: int) -> int:
    return (packet[at] & 0x0F) * 4


def _identity(packet: bytes, at: int) -> tuple[int, int]:
    if len(packet) < at + 8:
        raise ValueError("the echo header ends early")
    identifier, sequence = unpack_from("!HH", packet, at + 4)
    return identifier, sequence


def open_icmp(family: int, selector: selectors.BaseSelector, clock_ns: Callable[[], int]) -> "IcmpWay | None":
    """A socket for echo requests of this family, datagram or else raw; None where the system grants neither."""
    make = ICMPv6Socket if family == 6 else ICMPv4Socket
    for privileged in (False, True):
        try:
            opened = make(privileged=privileged)
        except ICMPLibError as error:
            log.debug("icmp.not_granted", extra={"fields": {"family": family, "raw": privileged, "error": str(error)}})
        else:
            return IcmpWay(opened, family, selector, clock_ns)
    return None


class IcmpWay:
    """Requests and replies of one socket. Sequence numbers run over all aims, so that a reply names its request."""

    def __init__(self, opened: Any, family: int, selector: selectors.BaseSelector, clock_ns: Callable[[], int]) -> None:
        self.via = "raw" if opened.is_privileged else "datagram"
        self._socket = opened
        self._family = family
        self._ip_header = family == 4 and (opened.is_privileged or sys.platform != "linux")
        self._clock_ns = clock_ns
        self._payload = secrets.token_bytes(PAYLOAD_BYTES)
        self._identifier = secrets.randbelow(1 << 16)
        self._shots: dict[int, Shot] = {}
        self._sequence = secrets.randbelow(1 << 15)
        opened.blocking = False
        selector.register(opened.sock, selectors.EVENT_READ, self._read)

    def send(self, shot: "Shot") -> None:
        """Send one request; what fails here never left the machine."""
        self._sequence = (self._sequence + 1) & 0xFFFF
        request = ICMPRequest(shot.aim.address, self._identifier, self._sequence, payload=self._payload)
        sent_ns = self._clock_ns()
        try:
            self._socket.send(request)
        except ICMPLibError as error:
            shot.error = words_of(error.__context__ or error)
            return
        self._identifier = request.id  # the kernel chooses it for a datagram socket
        self._shots[self._sequence] = shot
        shot.sent_ns = sent_ns

    def _read(self) -> None:
        while True:
            try:
                packet = self._socket.sock.recv(MAX_PACKET_BYTES)
            except BlockingIOError:
                return
            except OSError as error:  # an ICMP error that the kernel reports this way; the request it means is not named
                log.debug("icmp.receive", extra={"fields": {"error": str(error)}})
                return
            arrived_ns = self._clock_ns()
            heard = parse(packet, self._family, ip_header=self._ip_header)
            if heard is not None and heard[1] == self._identifier:
                self._take(replied=heard[0], sequence=heard[2], arrived_ns=arrived_ns)

    def _take(self, *, replied: bool, sequence: int, arrived_ns: int) -> None:
        shot = self._shots.get(sequence)
        if shot is None or shot.over:
            return  # somebody else's, or a duplicate
        if replied:
            shot.answered_ns = arrived_ns
        else:
            shot.error = UNREACHABLE

    def close(self) -> None:
        self._socket.close()
