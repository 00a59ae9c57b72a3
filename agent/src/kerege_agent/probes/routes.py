"""The default route: is there one, through which interface, to which gateway.

Linux tells it in /proc. Elsewhere the kernel is asked which address it would send from: that needs no privilege, sends nothing, and says
whether there is a route, but not to which gateway.
"""

import logging
import socket
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

IPV4_ROUTES: Final = Path("/proc/net/route")
IPV6_ROUTES: Final = Path("/proc/net/ipv6_route")
ARP: Final = Path("/proc/net/arp")

ROUTE_UP: Final = 0x1
ROUTE_REJECT: Final = 0x200
"""Flags of linux/route.h; a route that rejects leads nowhere."""

ARP_COMPLETE: Final = 0x2
"""ATF_COM of linux/if_arp.h: the neighbour has answered."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Route:
    """A default route.

    gateway: None on a link with one other end, or where the system does not tell; an IPv6 link-local one carries its scope.
    """

    interface: str | None
    gateway: str | None
    family: int
    metric: int


def default_routes(towards: str) -> list[Route]:
    """The default routes, best first (IPv4 before IPv6). ``towards``: an Internet address to ask about where /proc tells nothing."""
    if sys.platform == "linux" and IPV4_ROUTES.exists():
        found = [*_ipv4(_lines(IPV4_ROUTES)), *_ipv6(_lines(IPV6_ROUTES))]
        return sorted(found, key=lambda route: (route.family, route.metric))
    return _asked(towards)


def _lines(path: Path) -> list[list[str]]:
    try:
        return [line.split() for line in path.read_text(encoding="ascii", errors="replace").splitlines()]
    except OSError as error:  # a kernel without IPv6
        log.debug("routes.unreadable", extra={"fields": {"path": str(path), "error": str(error)}})
        return []


def _ipv4(lines: list[list[str]]) -> Iterator[Route]:
    """Columns: interface, destination, gateway, flags, references, uses, metric, mask; addresses in the machine's byte order."""
    for columns in lines[1:]:
        if len(columns) >= 8 and columns[1] == columns[7] == "00000000" and _leads_on(columns[3]):
            gateway = socket.inet_ntoa(int(columns[2], 16).to_bytes(4, sys.byteorder))
            yield Route(columns[0], None if gateway == "0.0.0.0" else gateway, 4, int(columns[6]))  # noqa: S104 - read, not bound


def _ipv6(lines: list[list[str]]) -> Iterator[Route]:
    """Columns: destination, its prefix length, source, its prefix length, next hop, metric, references, uses, flags, interface."""
    for columns in lines:
        if len(columns) >= 10 and set(columns[0]) == {"0"} and columns[1] == "00" and _leads_on(columns[8]) and columns[9] != "lo":
            gateway = socket.inet_ntop(socket.AF_INET6, bytes.fromhex(columns[4]))
            scoped = f"{gateway}%{columns[9]}" if gateway.startswith("fe80") else gateway
            yield Route(columns[9], None if gateway == "::" else scoped, 6, int(columns[5], 16))


def _leads_on(flags: str) -> bool:
    return int(flags, 16) & (ROUTE_UP | ROUTE_REJECT) == ROUTE_UP


def _asked(towards: str) -> list[Route]:
    family = socket.AF_INET6 if ":" in towards else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as asking:
            asking.connect((towards, 53))  # UDP: nothing is sent
            address = asking.getsockname()[0]
    except OSError:
        return []
    return [Route(_interface_of(address), None, 6 if family == socket.AF_INET6 else 4, 0)]


def _interface_of(address: str) -> str | None:
    for name, addresses in psutil.net_if_addrs().items():
        if any(item.address.partition("%")[0] == address for item in addresses):
            return name
    return None


def neighbour_answers(address: str) -> bool | None:
    """Has this IPv4 neighbour answered ARP of late? None where that cannot be known (IPv6, other systems, an address not on our net)."""
    with suppress(OSError):
        for columns in (line.split() for line in ARP.read_text(encoding="ascii", errors="replace").splitlines()[1:]):
            if len(columns) >= 4 and columns[0] == address:
                return bool(int(columns[2], 16) & ARP_COMPLETE)
    return None
