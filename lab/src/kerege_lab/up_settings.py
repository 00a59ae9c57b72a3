"""What ``kerege-lab up`` runs, and with which settings: all of it under one directory, so that a second start goes on with it."""

import os
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.error import HTTPError
from urllib.request import urlopen

from kerege_lab.certificates import COLLECTOR, Certificates, Identity, make_certificates
from kerege_lab.house import Access, Agent, Center, Collector, Table, agent_settings, collector_settings, influx_store
from kerege_lab.servers import (
    HOST,
    HOUSE_ACL,
    EmbeddedBroker,
    InfluxTarget,
    Mosquitto,
    Server,
    ServerError,
    ServerMissingError,
    find_mosquitto,
)

CENTER: Final = "this-machine"
"""The same whatever the machine is called: its certificate and its records stay its own. The registry has its host name."""

BY_HAND: Final = "by-hand"
"""A second identity, for reports made by hand (docs/wire.md): with the agent's own they would take its connection."""

PING_TIMEOUT_S: Final = 5.0

NO_TOKEN: Final = "kerege:kerege"  # noqa: S105 - nobody's password
"""For an InfluxDB 1.x that asks for none; any other answers 401, and the collector says so."""


class UsageError(Exception):
    """What was asked for cannot be done; the text says what to do instead."""


@dataclass(frozen=True, slots=True)
class House:
    """The parts in the order in which they start; they end in the reverse one. ``about``: what to tell the person in front of it."""

    broker: Server
    collector: Collector
    agent: Agent
    about: tuple[str, ...]

    @property
    def parts(self) -> tuple[Server, ...]:
        return (self.broker, self.collector, self.agent)


def plan_house(directory: Path, *, port: int, internet: bool) -> House:
    """Everything but started. Raises UsageError."""
    _refuse_busy(port)
    broker, access, about_broker = _broker(directory)
    store, about_store = _store(directory)
    settings = collector_settings(access, directory / "collector", port=port, store=store) | {"unknown_centers": "admit"}
    center = Center(CENTER, name=f"This machine ({socket.gethostname()})", district="Here", provider="unknown")
    agent = agent_settings(CENTER, access, directory / "agent", page=f"http://{HOST}:{port}")
    if internet:
        agent = {key: value for key, value in agent.items() if key not in ("link", "targets", "dns", "http")}
    return House(
        broker=broker,
        collector=Collector(directory / "collector", settings, [center]),
        agent=Agent(directory / "agent", agent),
        about=(about_broker, about_store, _about_agent(internet=internet)),
    )


def _about_agent(*, internet: bool) -> str:
    if internet:
        return "agent: measures public targets (see `kerege-agent check`), and this machine"
    return "agent: measures the loopback alone; with --internet also public targets"


def _refuse_busy(port: int) -> None:
    if not 0 < port < 65_536:
        raise UsageError(f"--port {port}: a port is a number from 1 to 65535")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except PermissionError as error:
            raise UsageError(f"port {port} may not be used by this user. Choose one above 1023: kerege-lab up --port 8480") from error
        except OSError as error:
            raise UsageError(
                f"port {port} on {HOST} is busy: another program listens there, maybe a `make up` in another terminal. "
                f"End it, or choose another port: {_command()} up --port {_free_beside(port)}"
            ) from error


def _free_beside(port: int) -> int:
    for other in range(port + 1, min(port + 100, 65_536)):
        with socket.socket() as probe:
            try:
                probe.bind((HOST, other))
            except OSError:
                continue
            return other
    return 0


def _command() -> str:
    """How the person can call us again."""
    program = Path(sys.argv[0])
    try:
        return str(program.relative_to(Path.cwd()))
    except ValueError:
        return program.name


# --- broker ---


def _broker(directory: Path) -> tuple[Server, Access, str]:
    try:
        find_mosquitto()
    except ServerMissingError:
        embedded = EmbeddedBroker(directory / "broker")
        return (
            embedded,
            Access(embedded.port),
            "broker: embedded (no mosquitto here), plain MQTT on the loopback, no passwords: for this machine only",
        )
    certificates = _certificates(directory / "certificates")
    mosquitto = Mosquitto(directory / "broker", tls=certificates, acl=HOUSE_ACL)
    return (
        mosquitto,
        Access(mosquitto.port, certificates),
        f"broker: mosquitto on port {mosquitto.port}, TLS, certificates in {directory / 'certificates'}",
    )


def _certificates(directory: Path) -> Certificates:
    """Those of an earlier start, or fresh ones."""
    identities = {
        name: Identity(directory / "clients" / f"{name}.pem", directory / "clients" / f"{name}.key")
        for name in (COLLECTOR, CENTER, BY_HAND)
    }
    server = Identity(directory / "server" / "localhost.pem", directory / "server" / "localhost.key")
    files = [directory / "ca.pem", *(path for each in (server, *identities.values()) for path in (each.certificate, each.key))]
    if all(path.exists() and path.stat().st_size for path in files):
        return Certificates(ca=directory / "ca.pem", server=server, clients=identities)
    return make_certificates(directory, [CENTER, BY_HAND])


# --- store ---


def _store(directory: Path) -> tuple[Table | None, str]:
    url = os.environ.get("INFLUX_URL")
    if not url:
        return None, f"store: SQLite in {directory / 'collector' / 'records.db'}; INFLUX_URL=http://... would use an InfluxDB"
    target = InfluxTarget(
        url=url.rstrip("/"),
        token=os.environ.get("INFLUX_TOKEN") or NO_TOKEN,
        org=os.environ.get("INFLUX_ORG", "kerege"),
        bucket=os.environ.get("INFLUX_BUCKET", "kerege"),
    )
    made = _make_database(target)
    return influx_store(target, directory / "collector"), f"store: InfluxDB at {target.url}, database {target.bucket}{made}"


def _make_database(target: InfluxTarget) -> str:
    """In InfluxDB 1.x a database is made by a query; in 2.x and 3 the bucket must be there, and the collector says so where it is not."""
    if not target.url.startswith(("http://", "https://")):
        raise UsageError(f"INFLUX_URL={target.url}: wanted an address such as http://127.0.0.1:8086")
    try:
        with urlopen(f"{target.url}/ping", timeout=PING_TIMEOUT_S) as response:  # noqa: S310 - checked above
            version = response.headers.get("X-Influxdb-Version", "")
    except HTTPError:
        return ""  # it is there, and wants something more for a ping
    except (OSError, ValueError) as error:
        raise UsageError(
            f"INFLUX_URL={target.url}: no InfluxDB answers there ({error}). Start it, or unset INFLUX_URL to use SQLite"
        ) from error
    if not version.lstrip("v").startswith("1."):
        return ""
    try:
        target.query(f'CREATE DATABASE "{target.bucket}"')
    except ServerError as error:
        raise UsageError(
            f"INFLUX_URL={target.url}: the database {target.bucket} cannot be made: {error}. Check INFLUX_TOKEN (user:password)"
        ) from error
    return f" (version {version})"
