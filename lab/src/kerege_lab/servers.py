"""Real servers as subprocesses: what the tests, ``kerege-lab up``, the chaos run and the benchmarks share.

    with Mosquitto(directory) as broker, Influxd(directory) as database:
        broker.kill()           # SIGKILL, as a power cut would
        broker.start()          # on the same port
        database.pause()        # SIGSTOP: it accepts connections and answers nothing, as a hung machine would
        database.resume()
        database.query("SELECT * FROM tick")

All listen on 127.0.0.1 only, keep everything in the directory they are given, and write what they say to ``<name>.log``
there. No process is left behind: the context manager stops it, and on Linux the kernel kills it when the *thread* that
started it ends (PR_SET_PDEATHSIG), so start servers from a thread that lives as long as they shall.

    ServerError                 a server did not start, or answered with an error; the message ends with its last log lines
    └── ServerMissingError      its program is nowhere to be found; the message says how to install it
"""

import ctypes
import json
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import pbkdf2_hmac
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import ProxyHandler, Request, build_opener

from kerege_lab.certificates import Certificates

HOST: Final = "127.0.0.1"

START_TIMEOUT_S: Final = 30.0
"""A broker is there in milliseconds, InfluxDB in half a second; the rest is for a machine that is busy with other tests."""

STOP_TIMEOUT_S: Final = 10.0
"""How long a server may take to end by itself before it is killed."""

HTTP_TIMEOUT_S: Final = 10.0

PORTS: Final = range(15_000, 30_000)
"""Below the ports that Linux gives to outgoing connections (32768 on): there a client that keeps trying a stopped server's
port on the loopback can meet itself (a simultaneous open, RFC 9293 section 3.5) and keep the server from coming back."""

LOG_LINES: Final = 20
DATABASE: Final = "kerege"

HOUSE_ACL: Final = """\
pattern write kerege/v1/%u/report
pattern write kerege/v1/%u/presence
pattern read kerege/v1/%u/ack
pattern read kerege/v1/collector/state

user collector
topic read kerege/v1/+/report
topic read kerege/v1/+/presence
topic write kerege/v1/+/ack
topic write kerege/v1/collector/state
"""
"""Who may do what at the broker, the user name being the center's id: what deploy/mosquitto/kerege.acl says."""

_FORM: Final = "application/x-www-form-urlencoded"
_PLAIN: Final = "text/plain; charset=utf-8"
_PR_SET_PDEATHSIG: Final = 1
_open: Final = build_opener(ProxyHandler({})).open  # the loopback is not behind a proxy, whatever the environment says
_libc: Final = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


class ServerError(RuntimeError):
    """A server that did not start, or that answered with an error."""


class ServerMissingError(ServerError):
    """No program of that name on the path or in the cache."""


def cache_directory() -> Path:
    """Where scripts/install-servers puts what it builds."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("KEREGE_CACHE") or Path(base) / "kerege")


def find_mosquitto() -> Path:
    """The program of the Mosquitto broker. Raises ServerMissingError where there is none."""
    return _find("mosquitto", lambda _: True)


def find_influxd() -> Path:
    """The program of InfluxDB 1.x, which one without a version in its name is too. Raises ServerMissingError where there is none."""
    return _find("influxd", _is_influxdb_1)


def free_port() -> int:
    """A TCP port that nobody listens on just now, and that no outgoing connection will be given."""
    chance = random.SystemRandom()  # not the common generator: a test runner seeds it, and two runs would take the same ports
    for _ in range(1000):
        port = chance.choice(PORTS)
        if _is_free(port):
            return port
    raise ServerError(f"no free port from {PORTS.start} to {PORTS.stop}")


def write_passwords(path: Path, passwords: Mapping[str, str]) -> Path:
    """A password file for Mosquitto: user name → password, as ``mosquitto_passwd`` would write it (PBKDF2, SHA-512)."""
    rounds, lines = 101, []
    for user, password in passwords.items():
        salt = os.urandom(12)
        digest = pbkdf2_hmac("sha512", password.encode(), salt, rounds)
        lines.append(f"{user}:$7${rounds}${b64encode(salt).decode()}${b64encode(digest).decode()}\n")
    path.touch(mode=0o600)
    path.write_text("".join(lines))
    return path


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: connections of the one before may linger
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


class Server(ABC):
    """One server process with a fixed port; a subclass says what to run and how to see that it is there."""

    name: str
    scheme: str
    user: str | None = None
    """Who runs it, where that is not ourselves."""

    def __init__(self, directory: Path, *, port: int | None = None) -> None:
        self.directory = directory.resolve()  # the server is started in it
        self.port = port or free_port()
        self.log = self.directory / f"{self.name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"{self.scheme}://{HOST}:{self.port}"

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Raises ServerError where it does not run."""
        return self._alive().pid

    def start(self) -> Self:
        """Start it and wait until it answers. Raises ServerError where it ends instead, or does not answer in time."""
        if self.running:
            raise ServerError(f"{self.name} runs already, as process {self.pid}")
        if not _is_free(self.port):  # looked at first: whoever has it might answer in our server's place
            raise ServerError(f"{self.name}: port {self.port} is taken")
        self.directory.mkdir(parents=True, exist_ok=True)
        command = self._prepare()
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                user=self.user,
                group=None if self.user is None else pwd.getpwnam(self.user).pw_gid,
                extra_groups=None if self.user is None else (),
                process_group=0,  # Ctrl-C at a terminal is for us alone: we say in which order things end
                preexec_fn=die_with_parent(),  # noqa: PLW1509 - one system call, prepared before the fork
            )
        try:
            self._wait_until_ready(time.monotonic() + START_TIMEOUT_S)
        except BaseException:
            self.kill()
            raise
        return self

    def stop(self) -> None:
        """End it in good order (SIGTERM), or by force where it takes too long. No harm where it has ended already."""
        if self._process is None:
            return
        if self.running:
            self._process.terminate()
            self._process.send_signal(signal.SIGCONT)  # a paused process cannot end
            try:
                self._process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._process.wait()
        self._process = None

    def kill(self) -> None:
        """End it as a power cut would (SIGKILL): nothing is flushed, no will is sent, no session is closed."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def restart(self) -> Self:
        """Stop it in good order and start it again, on the same port and data."""
        self.stop()
        return self.start()

    def pause(self) -> None:
        """Hang it (SIGSTOP): the kernel still accepts connections for it, nobody answers."""
        self._alive().send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on after `pause`."""
        self._alive().send_signal(signal.SIGCONT)

    def last_log_lines(self, count: int = LOG_LINES) -> str:
        """The end of what it wrote."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-count:])

    def __enter__(self) -> Self:
        return self if self.running else self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    @abstractmethod
    def _prepare(self) -> list[str]:
        """Write its settings; return the command that runs it in the foreground."""

    def _ready(self) -> bool:
        """Does it answer?"""
        with socket.create_connection((HOST, self.port), timeout=1.0):
            return True

    def _wait_until_ready(self, deadline: float) -> None:
        pause_s = 0.005
        while True:
            self._alive()
            try:
                if self._ready():
                    return
            except OSError:
                pass
            if time.monotonic() > deadline:
                raise self._error(f"{self.name} did not answer on port {self.port} within {START_TIMEOUT_S:g} s")
            time.sleep(pause_s)
            pause_s = min(pause_s * 1.5, 0.2)

    def _alive(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise ServerError(f"{self.name} does not run")
        if self._process.poll() is not None:
            raise self._error(f"{self.name} has ended with status {self._process.returncode}")
        return self._process

    def _error(self, message: str) -> ServerError:
        return ServerError(f"{message}; the end of {self.log}:\n{self.last_log_lines()}")


class Mosquitto(Server):
    """The Mosquitto broker.

    Without ``tls`` and ``password_file`` everyone may connect. With ``tls`` only those with a client certificate may, and
    its common name is their user name and their client id. ``acl`` is the text of an access list, usually `HOUSE_ACL`.
    ``max_queued`` is what it keeps for each absent or slow client (its own default is 1000, 0 is no limit).
    ``lines`` are added to its settings.
    """

    name = "mosquitto"
    scheme = "mqtt"

    def __init__(
        self,
        directory: Path,
        *,
        port: int | None = None,
        tls: Certificates | None = None,
        persistence: bool = False,
        acl: str | None = None,
        password_file: Path | None = None,
        max_queued: int | None = None,
        lines: Sequence[str] = (),
    ) -> None:
        super().__init__(directory, port=port)
        self.tls = tls
        self.persistence = persistence
        self.acl = acl
        self.password_file = password_file
        self.max_queued = max_queued
        self.lines = tuple(lines)
        self.scheme = "mqtts" if tls else "mqtt"

    def _prepare(self) -> list[str]:
        program = find_mosquitto()
        settings = self.directory / "mosquitto.conf"
        if self.acl is not None:
            (self.directory / "acl").write_text(self.acl)
        settings.write_text("\n".join(self._settings()) + "\n")
        return [str(program), "-c", str(settings)]

    def _settings(self) -> list[str]:
        nameless = not self.tls and not self.password_file
        settings = [f"listener {self.port} {HOST}", f"allow_anonymous {str(nameless).lower()}", "log_dest stderr"]
        if os.geteuid() == 0:
            settings.append("user root")  # else it becomes the user mosquitto, who may not read or write here
        if self.tls:
            settings += [f"cafile {self.tls.ca}", f"certfile {self.tls.server.certificate}", f"keyfile {self.tls.server.key}"]
            settings += ["require_certificate true", "use_identity_as_username true", "use_username_as_clientid true"]
        if self.persistence:
            settings += ["persistence true", f"persistence_location {self.directory}/"]
        if self.acl is not None:
            settings.append(f"acl_file {self.directory / 'acl'}")
        if self.password_file:
            settings.append(f"password_file {self.password_file.resolve()}")
        if self.max_queued is not None:
            settings.append(f"max_queued_messages {self.max_queued}")
        return settings + list(self.lines)


class EmbeddedBroker(Server):
    """The broker for machines without Mosquitto (amqtt): MQTT 3.1.1 only, no persistence, no access list."""

    name = "embedded-broker"
    scheme = "mqtt"

    def _prepare(self) -> list[str]:
        return [sys.executable, "-m", "kerege_lab.embedded_broker", "--port", str(self.port)]


@dataclass(frozen=True, slots=True)
class InfluxTarget:
    """A running InfluxDB of any version, as a client sees it. InfluxQL and ``/api/v2/write`` are what all of them speak."""

    url: str
    token: str
    org: str
    bucket: str

    def query(self, influxql: str, *, epoch: str = "s") -> list[dict[str, Any]]:
        """All rows of all series that the statements gave, columns and tags by name, ``time`` as a whole number of ``epoch``.

        Raises ServerError where InfluxDB refuses the query or does not answer.
        """
        return [row for rows in self.query_series(influxql, epoch=epoch).values() for row in rows]

    def query_series(self, influxql: str, *, epoch: str = "s") -> dict[str, list[dict[str, Any]]]:
        """As `query`, by measurement."""
        answer = self._post("/query", {"db": self.bucket, "epoch": epoch}, urlencode({"q": influxql}).encode(), _FORM)
        found: dict[str, list[dict[str, Any]]] = {}
        for result in json.loads(answer)["results"]:
            if "error" in result:
                raise ServerError(f"InfluxDB: {result['error']} in {influxql}")
            for series in result.get("series", ()):
                rows = [series.get("tags", {}) | dict(zip(series["columns"], row, strict=True)) for row in series.get("values", ())]
                found.setdefault(series.get("name", ""), []).extend(rows)
        return found

    def write(self, lines: str, *, precision: str = "s") -> None:
        """Write points in line protocol. Raises ServerError where InfluxDB refuses one or does not answer."""
        self._post("/api/v2/write", {"org": self.org, "bucket": self.bucket, "precision": precision}, lines.encode(), _PLAIN)

    def _post(self, path: str, parameters: Mapping[str, str], body: bytes, kind: str) -> bytes:
        headers = {"Authorization": f"Token {self.token}", "Content-Type": kind}
        request = Request(f"{self.url}{path}?{urlencode(parameters)}", body, headers)  # noqa: S310 - a test server's address
        try:
            with _open(request, timeout=HTTP_TIMEOUT_S) as response:
                return bytes(response.read())
        except HTTPError as error:
            with error:
                raise ServerError(f"InfluxDB: {error.code} {error.read().decode(errors='replace')}") from error
        except OSError as error:
            raise ServerError(f"InfluxDB does not answer at {self.url}: {error}") from error


class Influxd(Server):
    """InfluxDB 1.x with the database `DATABASE`; it asks for no password, so that any token will do."""

    name = "influxd"
    scheme = "http"

    @property
    def target(self) -> InfluxTarget:
        """What a client needs to know."""
        return InfluxTarget(url=self.url, token="lab:lab", org="kerege", bucket=DATABASE)  # noqa: S106 - user:password, not checked

    def start(self) -> Self:
        super().start()
        try:
            self.query(f"CREATE DATABASE {DATABASE}")
        except BaseException:
            self.kill()
            raise
        return self

    def query(self, influxql: str, *, epoch: str = "s") -> list[dict[str, Any]]:
        """As `InfluxTarget.query`."""
        return self.target.query(influxql, epoch=epoch)

    def empty(self) -> None:
        """Forget all points: for a test that counts them on a server that others have used."""
        self.query(f"DROP DATABASE {DATABASE}; CREATE DATABASE {DATABASE}")

    def _prepare(self) -> list[str]:
        program = find_influxd()
        settings = self.directory / "influxd.conf"
        settings.write_text(self._settings())
        return [str(program), "-config", str(settings)]

    def _settings(self) -> str:
        here = self.directory
        return f"""\
reporting-disabled = true
bind-address = "{HOST}:{free_port()}"
[meta]
dir = "{here}/meta"
[data]
dir = "{here}/data"
wal-dir = "{here}/wal"
index-version = "tsi1"
query-log-enabled = false
[monitor]
store-enabled = false
[http]
bind-address = "{HOST}:{self.port}"
log-enabled = false
flux-enabled = true
"""

    def _ready(self) -> bool:
        with _open(f"{self.url}/ping", timeout=1.0) as response:
            return bool(response.status == 204)


def _find(program: str, accepts: Callable[[Path], bool]) -> Path:
    # Debian keeps daemons in sbin, which is not on every user's path
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin"))
    on_path = shutil.which(program, path=path)
    for candidate in (Path(on_path) if on_path else None, cache_directory() / "bin" / program):
        if candidate is not None and os.access(candidate, os.X_OK) and accepts(candidate):
            return candidate
    raise ServerMissingError(f"no {program} on the path, nor in {cache_directory() / 'bin'}: run scripts/install-servers")


def _is_influxdb_1(program: Path) -> bool:
    """2.x has a program of the same name. One that was built without a version in it says "unknown"."""
    said = subprocess.run([program, "version"], capture_output=True, text=True, check=False, timeout=HTTP_TIMEOUT_S).stdout
    return said.startswith(("InfluxDB v1.", "InfluxDB 1.", "InfluxDB unknown"))


def die_with_parent() -> Callable[[], None] | None:
    """What a child does between fork and exec (``preexec_fn``) so that it does not outlive us; None where the system has no such thing."""
    if _libc is None:
        return None
    prctl, parent = _libc.prctl, os.getpid()

    def ask() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died in between
            os._exit(1)

    return ask
