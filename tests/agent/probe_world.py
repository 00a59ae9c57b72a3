"""What the tests of probes share: settings on the loopback, a context without an agent, small servers, network namespaces."""

import json
import os
import shutil
import socket
import socketserver
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest

from kerege_agent import clock
from kerege_agent.clock import Reading
from kerege_agent.probes import Context
from kerege_agent.settings import Dns, Link, Mqtt, Portal, Probes, Settings, Target, Traffic

COMMAND_TIMEOUT_S: Final = 60.0
HAVE_NAMESPACES: Final = sys.platform == "linux" and os.geteuid() == 0 and shutil.which("ip") is not None
NEEDS_NAMESPACES: Final = "needs Linux, root and ip(8)"


def loopback_settings(**changes: Any) -> Settings:
    """Settings that reach nothing but this machine."""
    given: dict[str, Any] = {
        "center": "demo",
        "mqtt": Mqtt(host="127.0.0.1", tls=False),
        "link": Link(gateway="127.0.0.1"),
        "targets": (Target(name="lo", address="127.0.0.1", tcp_port=9),),
        "dns": Dns(names=("localhost",), resolver="127.0.0.1", resolver_port=9),
        "portal": Portal(url="http://127.0.0.1:9/generate_204"),
        "probes": Probes(),
        "traffic": Traffic(interface="lo"),
    }
    return Settings(**(given | changes))


@dataclass(slots=True)
class FakeClock:
    """Readings that move when they are told to."""

    mono_ms: int = 1_000_000
    wall_ms: int = 0
    boot_id: str = "boot"

    def __call__(self) -> Reading:
        return Reading(self.boot_id, self.mono_ms, self.wall_ms)


@dataclass(slots=True)
class FakeSession:
    """An MQTT session as the uplink would show it."""

    connected: bool = True
    error: str | None = None
    last_ack_mono_ms: int | None = None
    last_puback_mono_ms: int | None = None


@dataclass(slots=True)
class FakeSpool:
    """The part of a spool that probes see."""

    depth: int = 3
    size_bytes: int = 1_234_567
    state: str = "disk"
    accounts: dict[str, dict[str, Any]] = field(default_factory=dict)

    def account(self, name: str) -> Mapping[str, Any]:
        return self.accounts.get(name, {})

    def set_account(self, name: str, value: dict[str, Any]) -> None:
        self.accounts[name] = value


def context_of(settings: Settings | None = None, **parts: Any) -> Context:
    """A context of a single probe."""
    given: dict[str, Any] = {"settings": settings or loopback_settings(), "read": clock.read}
    return Context(**(given | parts))


@contextmanager
def serving(answer: Callable[[socket.socket], None], family: int = socket.AF_INET) -> Iterator[int]:
    """A TCP server on the loopback that hands each connection to ``answer``; gives its port."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            answer(self.request)

    class Server(socketserver.ThreadingTCPServer):
        address_family = family
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            """A client that hangs up early is what some tests are about."""

    with Server(("::1" if family == socket.AF_INET6 else "127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def answering(content: bytes) -> Callable[[socket.socket], None]:
    """Reads a request's head, and answers with these bytes."""

    def answer(connection: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            head += connection.recv(1024)
        connection.sendall(content)

    return answer


NO_CONTENT: Final = b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Namespace:
    """A network namespace with no interface but a loopback that is down."""

    name: str

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command inside; what it prints."""
        inside = ["ip", "netns", "exec", self.name, *command]
        return subprocess.run(inside, capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S, check=False)

    def python(self, code: str, *arguments: str) -> Any:
        """Run Python inside, with this module's names; the JSON that it prints."""
        root = str(Path(__file__).parents[2])
        start = f"import json, sys; sys.path.insert(0, {root!r}); from tests.agent.probe_world import *\n"
        done = self.run(sys.executable, "-c", start + code, *arguments)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def configure(self, *commands: str) -> None:
        """Run commands inside that must succeed."""
        for command in commands:
            done = self.run(*command.split())
            assert done.returncode == 0, f"{command}: {done.stderr}"

    @contextmanager
    def internet(self, *answering: str, delay_ms: int = 0) -> Iterator[None]:
        """A default route to where these addresses answer pings, see `tun_internet`."""
        script = Path(__file__).with_name("tun_internet.py")
        inside = ["ip", "netns", "exec", self.name, sys.executable, str(script), str(delay_ms), *answering]
        with subprocess.Popen(inside, stdout=subprocess.PIPE, text=True) as running:
            try:
                assert running.stdout is not None
                assert running.stdout.readline() == "ready\n"
                yield
            finally:
                running.kill()


@contextmanager
def namespace() -> Iterator[Namespace]:
    """A namespace of our own, removed afterwards."""
    if not HAVE_NAMESPACES:
        pytest.skip(NEEDS_NAMESPACES)
    name = f"kerege-{os.getpid()}-{threading.get_ident() % 10_000}"
    subprocess.run(["ip", "netns", "add", name], check=True, timeout=COMMAND_TIMEOUT_S)
    try:
        yield Namespace(name)
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=True, timeout=COMMAND_TIMEOUT_S)


def bare_environment() -> dict[str, str]:
    """The environment without what makes a started Python measure its coverage: that imports a good deal."""
    return {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}


OWN_GATEWAY: Final = '[link]\ngateway = "127.0.0.1"\n'


def settings_file(directory: Path, text: str = OWN_GATEWAY) -> Path:
    """A settings file on the loopback in ``directory``; ``text`` is appended."""
    path = directory / "agent.toml"
    path.write_text(
        'center = "demo"\nstate_directory = "state"\n'
        '[mqtt]\nhost = "127.0.0.1"\nport = 9\ntls = false\n'
        '[dns]\nnames = ["localhost"]\nresolver = "127.0.0.1"\nresolver_port = 9\n'
        '[portal]\nurl = "http://127.0.0.1:9/generate_204"\n'
        '[[targets]]\nname = "lo"\naddress = "127.0.0.1"\ntcp_port = 9\n' + text
    )
    return path
