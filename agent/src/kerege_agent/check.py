"""``kerege-agent check``: is everything as the agent needs it; each line says what was looked at, how it is, and the cure."""

import json
import os
import shutil
import socket
import ssl
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from kerege_agent.credentials import is_about_time, secret, tls_context
from kerege_agent.lock import is_held
from kerege_agent.mqtt_hello import ANSWERS, HARMLESS, NotMqttError, hello
from kerege_agent.probes.echo import method_of
from kerege_agent.probes.fetch import fetch
from kerege_agent.probes.limited import within
from kerege_agent.probes.words import words_of
from kerege_agent.session import ConnectionEndedError
from kerege_agent.settings import Settings, is_ip_address
from kerege_agent.settings_files import file_doubts
from kerege_agent.status import ago, latest
from kerege_agent.x509 import common_name

NAME_TIMEOUT_S: Final = 10.0
_ANNOUNCED: Final = {None: "it has never announced itself", "away": "it has said that it is away", "ready": "it has said that it is ready"}

MIN_FREE_SHARE: Final = 1.5
"""Free room for the spool at its full size, and half as much again for its journal."""


@dataclass(frozen=True, slots=True)
class Line:
    """One thing that was looked at. ``cure`` where it is not well."""

    check: str
    ok: bool
    why: str
    cure: str | None = None


def show(settings: Settings, *, as_json: bool) -> int:
    """Print one line a check as it is made; 0 where all is well, else 1."""
    well = True
    for line in lines(settings):
        well = well and line.ok
        sys.stdout.write(f"{json.dumps(asdict(line), ensure_ascii=False) if as_json else _text(line)}\n")
        sys.stdout.flush()
    return 0 if well else 1


def _text(line: Line) -> str:
    head = f"{'ok' if line.ok else 'NOT OK':6}  {line.check:15}  {line.why}"
    return head if line.cure is None else f"{head}\n{'':25}cure: {line.cure}"


def lines(settings: Settings) -> Iterator[Line]:
    """All checks, in the order in which they build on each other."""
    yield Line("settings", ok=True, why=f"center {settings.center}, link {settings.link.kind}, {len(settings.targets)} targets")
    checks: tuple[Callable[[Settings], Iterator[Line]], ...] = (_certificates, _broker_name, _broker, _names, _portal, _directory, _icmp)
    for check in checks:
        yield from check(settings)


def _certificates(settings: Settings) -> Iterator[Line]:
    mqtt = settings.mqtt
    if not mqtt.tls:
        yield Line("certificates", ok=True, why="none: tls = false, so anybody on the way can read and change what is sent")
        return
    files = {key: str(path) for key in ("ca_file", "certificate_file", "key_file") if (path := getattr(mqtt, key)) is not None}
    doubts = file_doubts(files, Path("/"))
    for key, text in doubts:
        yield Line("certificates", ok=False, why=f"mqtt.{key}: {text.partition(': ')[0]}", cure=text.partition(": ")[2])
    name = None if doubts or mqtt.certificate_file is None else common_name(mqtt.certificate_file.read_text(errors="replace"))
    if name is not None and name != settings.center:
        cure = f"take the certificate of {settings.center}, or correct center: the broker lets a center write only under its own name"
        yield Line("certificates", ok=False, why=f"mqtt.certificate_file is that of {name}, and center is {settings.center}", cure=cure)
    elif not doubts:
        yield Line("certificates", ok=True, why=", ".join(files.values()) or "the system's authorities, and none of our own")


def _broker_name(settings: Settings) -> Iterator[Line]:
    host = settings.mqtt.host
    if is_ip_address(host):
        yield Line("broker's name", ok=True, why=f"{host} is an address")
    else:
        yield _resolved("broker's name", host, "correct mqtt.host, or see to name resolution of this machine (/etc/resolv.conf)")


def _names(settings: Settings) -> Iterator[Line]:
    for name in settings.dns.names:
        yield _resolved("dns.names", name, "take another name into dns.names, or see to name resolution of this machine")


def _resolved(check: str, name: str, cure: str) -> Line:
    try:
        found = within(NAME_TIMEOUT_S, lambda: socket.getaddrinfo(name, None, type=socket.SOCK_STREAM))
    except (OSError, ValueError) as error:
        return Line(check, ok=False, why=f"{name}: {words_of(error)}", cure=cure)
    return Line(check, ok=True, why=f"{name} is {', '.join(sorted({str(address[0]) for *_, address in found}))}")


def _broker(settings: Settings) -> Iterator[Line]:
    mqtt = settings.mqtt
    where = f"{mqtt.host}:{mqtt.port}"
    running = is_held(settings.state_directory)
    if running:
        yield _running(settings, where)
        return
    if running is None:
        why = f"{where} is not asked: that would end the connection of an agent, and whether one runs cannot be known here"
        yield Line("broker", ok=False, why=why, cure="run check as root, or as the agent's user")
        return
    try:
        with (
            socket.create_connection((mqtt.host, mqtt.port), timeout=mqtt.connect_timeout_s) as plain,
            _secured(settings, plain) as connection,
        ):
            code = hello(connection, username=secret(mqtt.username_file), password=secret(mqtt.password_file))
    except NotMqttError as error:
        expected = "a TLS listener" if not mqtt.tls else "another service"
        yield Line("broker", ok=False, why=f"{where} {error}", cure=f"is this {expected}? Correct mqtt.port or mqtt.tls")
    except ssl.SSLError as error:
        yield Line("broker", ok=False, why=f"{where}: TLS: {error.reason or words_of(error)}: {words_of(error)}", cure=_tls_cure(error))
    except OSError as error:
        yield Line("broker", ok=False, why=f"{where}: {words_of(error)}", cure="is the broker running, and does a firewall let us through?")
    else:
        if code == 0 or code in HARMLESS:
            yield Line("broker", ok=True, why=f"{where} speaks MQTT{' over TLS' if mqtt.tls else ''}")
            yield _collector(settings)
        else:
            cure = "compare user name, password or certificate with the broker's rules"
            yield Line("broker", ok=False, why=f"{where} {ANSWERS.get(code, f'refuses with code {code}')}", cure=cure)


def _running(settings: Settings, where: str) -> Line:
    """By the agent's own word: a second connection under its name would end its own."""
    status = latest(settings.state_directory)
    if status is None:
        return Line("broker", ok=False, why="the agent runs, and has not said anything yet", cure="ask again in a few seconds")
    session = status.get("session", {})
    if session.get("broker") != where:
        why = f"the agent runs with earlier settings, for the broker {session.get('broker')}; {where} was not asked"
        return Line("broker", ok=False, why=why, cure="restart the agent, or stop it and check again")
    age_s = session.get("last_ack_age_s")
    if session.get("connected"):
        heard = "no answer of the collector yet" if age_s is None else f"the collector has answered, last {age_s:.0f} s before it said so"
        return Line("broker", ok=True, why=f"the agent runs, and is connected to {where} ({ago(status.get('written'))}); {heard}")
    cure = "see `kerege-agent status`; stop the agent to have the broker asked here"
    why = f"the agent runs, and is not connected to {where} ({ago(status.get('written'))}): {session.get('error') or 'connecting'}"
    return Line("broker", ok=False, why=why, cure=cure)


def _collector(settings: Settings) -> Line:
    """Does a report of this center come back as an ack?"""
    from kerege_agent.trial import ask_collector  # noqa: PLC0415 - loads paho

    try:
        trial = ask_collector(settings)
    except (ConnectionEndedError, OSError, ValueError) as error:
        cure = f"the broker must let {settings.center} connect, write its report and read its ack (deploy/mosquitto); its log tells more"
        return Line("collector", ok=False, why=f"could not be asked: {error}", cure=cure)
    if trial.answer is None:
        said = _ANNOUNCED[trial.state]
        cure = "does kerege-collector run, connected to this broker? May this center write its report and read its ack there?"
        return Line("collector", ok=False, why=f"no answer to a report; {said}", cure=cure)
    if trial.answer.hold is not None:
        cure = "have this center added to the collector's centers.toml"
        return Line("collector", ok=False, why=f"answers, and holds this center: {trial.answer.hold}", cure=cure)
    return Line("collector", ok=True, why=f"answered a report of {settings.center} within {trial.took_ms} ms")


def _portal(settings: Settings) -> Iterator[Line]:
    """Does the page answer by which a tick knows a captive portal?"""
    url = settings.portal_url
    fetched = fetch(url, timeout_s=NAME_TIMEOUT_S)
    if fetched.portal is False:
        yield Line("portal.url", ok=True, why=f"{url} answers 204")
        return
    why = fetched.error if fetched.status is None else f"answers {fetched.status} instead of 204"
    cure = "it must lead to the collector's /generate_204 over plain HTTP; or a captive portal stands in between: open a page in a browser"
    yield Line("portal.url", ok=False, why=f"{url}: {why}", cure=cure)


def _secured(settings: Settings, plain: socket.socket) -> socket.socket:
    if not settings.mqtt.tls:
        return plain
    return tls_context(settings.mqtt, check_times=True).wrap_socket(plain, server_hostname=settings.mqtt.host)


def _tls_cure(error: ssl.SSLError) -> str:
    if is_about_time(error):
        return "set this machine's clock; if it is right, the broker needs a new certificate (the agent goes by the collector's clock)"
    if isinstance(error, ssl.SSLCertVerificationError):
        return "mqtt.ca_file must be the authority that signed the broker's certificate, and mqtt.host a name that stands in it"
    if error.reason == "WRONG_VERSION_NUMBER":
        return "that port speaks no TLS: correct mqtt.port, or set tls = false"
    return "does the broker know our certificate's authority? Is the port right?"


def _directory(settings: Settings) -> Iterator[Line]:
    directory = settings.state_directory
    place = next(path for path in (directory, *directory.absolute().parents) if _is_there(path))
    try:
        with tempfile.TemporaryFile(dir=place):
            free_bytes = shutil.disk_usage(place).free
    except OSError as error:
        user = f"user {os.geteuid()}" if hasattr(os, "geteuid") else "the agent"
        cure = f"create it and give it to {user}, or name another as state_directory"
        yield Line("state directory", ok=False, why=f"{directory}: {error.strerror or error}", cure=cure)
        return
    needed_bytes = int(settings.spool.max_bytes * MIN_FREE_SHARE)
    why = f"{directory} {'is writable' if place == directory else 'can be made'}, {free_bytes / 1e6:.0f} MB free"
    if free_bytes < needed_bytes:
        cure = f"free {needed_bytes / 1e6:.0f} MB, or lower spool.max_bytes"
        yield Line("state directory", ok=False, why=f"{why}: less than a full spool needs", cure=cure)
    else:
        yield Line("state directory", ok=True, why=why)


def _is_there(path: Path) -> bool:
    """Is it there, or hidden behind a directory that may not be entered? What is tried there next says so in words."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def _icmp(settings: Settings) -> Iterator[Line]:
    families = sorted({6 if ":" in target.address else 4 for target in settings.targets})
    for family in families:
        via = method_of(family)
        cure = 'sysctl net.ipv4.ping_group_range="0 2147483647" (for IPv6 too), or give the agent CAP_NET_RAW'
        why = f"IPv{family} by {via}" if via else f"IPv{family}: neither datagram nor raw sockets are granted, so targets are asked by TCP"
        yield Line("ping", ok=via is not None, why=why, cure=None if via else cure)
