"""A collector and agents as real processes, with settings written for them as a person would write them.

    access = Access(broker.port, certificates)
    collector = Collector(directory / "collector", collector_settings(access, directory / "collector"), [Center("demo")])
    agent = Agent(directory / "demo", agent_settings("demo", access, directory / "demo"))
    with collector, agent:
        list(collector.json_lines("records"))

Everything that an agent of the lab measures is on the loopback, unless it is told otherwise.
"""

import json
import socket
import subprocess
import sys
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.request import urlopen

from kerege_lab.certificates import COLLECTOR, Certificates
from kerege_lab.servers import HOST, InfluxTarget, Server, ServerError
from kerege_lab.toml import toml_text

COMMAND_TIMEOUT_S: Final = 120.0
"""Longest time that a listing may take, on a machine that is busy."""

Table = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Access:
    """The way to a broker on the loopback: TLS with client certificates where there are some, plain where not."""

    port: int
    certificates: Certificates | None = None

    def table(self, who: str) -> Table:
        """The ``[mqtt]`` section of ``who``, a center or `COLLECTOR`."""
        table: Table = {"host": HOST, "port": self.port, "tls": self.certificates is not None}
        if self.certificates is not None:
            identity = self.certificates.clients[who]
            table |= {"ca_file": self.certificates.ca, "certificate_file": identity.certificate, "key_file": identity.key}
        return table


@dataclass(frozen=True, slots=True)
class Center:
    """An entry of the registry."""

    id: str
    name: str = ""
    district: str = "Lab"
    link: str = "fiber"
    provider: str = "loopback"

    def table(self) -> Table:
        """The entry as ``centers.toml`` has it."""
        return {
            "id": self.id,
            "name": self.name or self.id,
            "district": self.district,
            "link": {"kind": self.link, "provider": self.provider},
        }


class Service(Server):
    """One of our services, run as its console command runs it. ``settings`` may be changed between starts."""

    module: str

    def __init__(self, directory: Path, settings: Table, *, port: int | None = None) -> None:
        super().__init__(directory, port=port)
        self.settings = settings
        self.wrapper: tuple[str, ...] = ()
        """What stands before its command: ``("env", "LD_PRELOAD=...")`` for example."""

    @property
    @abstractmethod
    def settings_file(self) -> Path:
        """Where the settings are written at each start."""

    def command(self, *arguments: str) -> list[str]:
        """The command line of one of its commands."""
        return [sys.executable, "-m", self.module, *arguments, "--settings", str(self.settings_file)]

    def ask(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run one of its short commands beside it."""
        return subprocess.run(self.command(*arguments), capture_output=True, text=True, check=False, timeout=COMMAND_TIMEOUT_S)

    def json_lines(self, *arguments: str) -> Iterator[dict[str, Any]]:
        """What a listing prints with ``--json``, one object at a time. Raises ServerError where the command fails."""
        command = self.command(*arguments, "--json")
        with (
            (self.directory / f"{self.name}-{arguments[0]}.log").open("w+") as errors,
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as process,
        ):
            assert process.stdout is not None
            for line in process.stdout:
                yield json.loads(line)
            if process.wait():
                errors.seek(0)
                raise ServerError(f"{' '.join(command)} ended with status {process.returncode}:\n{errors.read()}")

    def _prepare(self) -> list[str]:
        self.settings_file.parent.mkdir(parents=True, exist_ok=True)
        self.settings_file.write_text(toml_text(self.settings))
        return [*self.wrapper, *self.command("run")]


class Collector(Service):
    """``kerege-collector run``; it is there when its page answers."""

    name = "collector"
    module = "kerege_collector"
    scheme = "http"

    def __init__(self, directory: Path, settings: Table, centers: Sequence[Center]) -> None:
        super().__init__(directory, settings, port=settings["http"]["port"])
        self.centers = centers

    @property
    def settings_file(self) -> Path:
        return self.directory / "collector.toml"

    def get(self, path: str) -> Any:
        """What its web server answers to a path, decoded from JSON."""
        with urlopen(f"{self.url}{path}", timeout=COMMAND_TIMEOUT_S) as response:  # noqa: S310 - our own address
            return json.load(response)

    @property
    def healthy(self) -> bool:
        """Does it say that all is well with it?"""
        try:
            with urlopen(f"{self.url}/healthz", timeout=COMMAND_TIMEOUT_S) as response:  # noqa: S310 - our own address
                return bool(response.status == 200)
        except OSError:
            return False

    def _prepare(self) -> list[str]:
        command = super()._prepare()
        (self.directory / "centers.toml").write_text(toml_text({"center": [center.table() for center in self.centers]}))
        return command


class Agent(Service):
    """``kerege-agent run``; it counts as started at once, since it has to start without anybody there."""

    name = "agent"
    module = "kerege_agent"
    scheme = "none"

    @property
    def settings_file(self) -> Path:
        return self.directory / "agent.toml"

    @property
    def center(self) -> str:
        """The center that it measures."""
        return str(self.settings["center"])

    def _ready(self) -> bool:
        return True


def collector_settings(access: Access, directory: Path, *, port: int, store: Table | None = None) -> Table:
    """Settings of a collector that keeps everything in ``directory``: records in SQLite unless ``store`` says otherwise."""
    return {
        "state_directory": directory,
        "mqtt": access.table(COLLECTOR),
        "store": store or {"kind": "sqlite", "path": directory / "records.db"},
        "http": {"host": HOST, "port": port},
    }


def influx_store(target: InfluxTarget, directory: Path) -> Table:
    """The ``[store]`` section for an InfluxDB; its token goes into a file of its own."""
    directory.mkdir(parents=True, exist_ok=True)
    token_file = directory / "influx.token"
    token_file.touch(mode=0o600)
    token_file.write_text(target.token)
    return {"kind": "influx", "url": target.url, "organisation": target.org, "bucket": target.bucket, "token_file": token_file}


def agent_settings(center: str, access: Access, directory: Path, *, page: str) -> Table:
    """Settings of an agent at default cadence that measures the loopback: itself as gateway and targets, and ``page`` by HTTP."""
    return {
        "center": center,
        "state_directory": directory / "state",
        "mqtt": access.table(center),
        "link": {"kind": "fiber", "gateway": HOST},
        "targets": [{"name": "loopback", "address": HOST}, *([{"name": "loopback6", "address": "::1"}] if has_ipv6() else [])],
        "dns": {"names": ["localhost"]},
        "http": {"targets": [{"name": "page", "url": f"{page}/generate_204"}]},
        "portal": {"url": f"{page}/generate_204"},
    }


def has_ipv6() -> bool:
    """Does the loopback have its IPv6 address?"""
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def merged(settings: Mapping[str, Any], changes: Mapping[str, Any]) -> Table:
    """Settings with some of them changed, section by section."""
    found = dict(settings)
    for key, value in changes.items():
        old = found.get(key)
        found[key] = merged(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return found
