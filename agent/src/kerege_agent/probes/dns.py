"""How long a name takes to resolve: a query of our own to the name server, so that no cache of this machine answers in its place."""

import secrets
import socket
import time
from pathlib import Path
from typing import Final

from kerege_agent.probes.context import Context
from kerege_agent.probes.dns_message import query, rcode_of
from kerege_agent.probes.limited import within
from kerege_agent.probes.rounding import significant_ms
from kerege_agent.probes.words import words_of
from kerege_wire import Dns

RESOLV_CONF: Final = Path("/etc/resolv.conf")

ANSWER_TIMEOUT_S: Final = 5.0
"""As resolv.conf(5) waits for one answer."""

MAX_ANSWER_BYTES: Final = 4096
SYSTEM: Final = "system"
DNS_PORT: Final = 53


def target_of(context: Context) -> str:
    """The series that the records belong to: the resolver of the settings, or the operating system's, whatever its address is today."""
    return context.settings.dns.resolver or SYSTEM


def measure(context: Context) -> list[Dns]:
    """One record about one name; the names take turns. None where the settings have no name."""
    names = context.settings.dns.names
    if not names:
        return []
    turn = context.memory.get("turn", 0)
    context.memory["turn"] = turn + 1
    name = names[turn % len(names)]
    timeout_s = min(ANSWER_TIMEOUT_S, context.settings.probes.dns.timeout_s * 0.9)
    resolver = context.settings.dns.resolver or first_nameserver()
    if resolver is None:
        return [_ask_system(name, timeout_s)]
    port = context.settings.dns.resolver_port if context.settings.dns.resolver else DNS_PORT
    return [_ask(target_of(context), (resolver, port), name, timeout_s)]


def first_nameserver() -> str | None:
    """The address of the first name server of resolv.conf(5), None where there is none."""
    try:
        lines = RESOLV_CONF.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    return next((columns[1] for columns in map(str.split, lines) if len(columns) >= 2 and columns[0] == "nameserver"), None)


def _ask(target: str, server: tuple[str, int], name: str, timeout_s: float) -> Dns:
    identifier = secrets.randbelow(1 << 16)
    try:
        question = query(identifier, name)
        family, kind, protocol, _, address = socket.getaddrinfo(*server, type=socket.SOCK_DGRAM, flags=socket.AI_NUMERICHOST)[0]
        with socket.socket(family, kind, protocol) as asking:
            asking.connect(address)  # answers from elsewhere are not read, and a refusal is told at once
            start_ns = time.monotonic_ns()
            asking.send(question)
            rcode = _await(asking, identifier=identifier, name=name, timeout_s=timeout_s)
            resolve_ms = significant_ms(time.monotonic_ns() - start_ns)
    except (OSError, ValueError) as error:
        return Dns(target, via="udp", name=name, error=words_of(error))
    return Dns(target, via="udp", name=name, resolve_ms=resolve_ms, rcode=rcode)


def _await(asking: socket.socket, *, identifier: int, name: str, timeout_s: float) -> str:
    deadline_s = time.monotonic() + timeout_s
    while True:
        left_s = deadline_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        asking.settimeout(left_s)
        rcode = rcode_of(asking.recv(MAX_ANSWER_BYTES), identifier=identifier, name=name)
        if rcode is not None:
            return rcode


def _ask_system(name: str, timeout_s: float) -> Dns:
    start_ns = time.monotonic_ns()
    try:
        within(timeout_s, lambda: socket.getaddrinfo(name, None, type=socket.SOCK_STREAM))
    except (OSError, ValueError) as error:
        return Dns(SYSTEM, via="system", name=name, error=words_of(error))
    return Dns(SYSTEM, via="system", name=name, resolve_ms=significant_ms(time.monotonic_ns() - start_ns), rcode="NOERROR")
