"""What all tests share: real servers, and no test that quietly does not run.

Servers come from scripts/install-servers. One that cannot be found skips the tests that need it and says why; under
``CI=true`` that is a failure, as is every other skip but those marked ``platform_specific``.

    mosquitto     a broker for the tests of one module; one may kill and start it, and leaves it running
    influxd       InfluxDB 1.12 for the whole run: shared, so use names of your own, or `Influxd.empty`
    any_influx    an `InfluxTarget`, once for each version that is to be had: 1.12; the server that KEREGE_TEST_INFLUX_URL names
                  (with ..._TOKEN, ..._ORG, ..._BUCKET); 2.7 and 3 in containers where Docker runs and has or gets their images
    postgresql    PostgreSQL for the whole run: shared, so take a database of your own (`PostgreSQL.create`), and leave it running
    place         where a ledger can be: once a file of SQLite, once a database of PostgreSQL, empty for each test
    certificates  an authority, a server, and clients named demo, other and collector
"""

import os
import signal
import subprocess
import time
from collections.abc import Generator, Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final, TypeVar

import pytest
from hypothesis import settings
from testcontainers.core.container import DockerContainer

from kerege_lab.certificates import Certificates, make_certificates
from kerege_lab.postgresql import PostgreSQL
from kerege_lab.servers import DATABASE, Influxd, InfluxTarget, Mosquitto, Server, ServerError, ServerMissingError
from tests.places import Place

CI: Final = os.environ.get("CI") == "true"
GIVEN_INFLUX: Final = os.environ.get("KEREGE_TEST_INFLUX_URL")
IMAGES: Final = {"2.7": "influxdb:2.7", "3": "influxdb:3-core"}
TOKEN: Final = "kerege-test-token"
DOCKER_TIMEOUT_S: Final = 180.0
"""Long enough to pull an image; where no daemon runs the command says so at once."""

CONTAINER_TIMEOUT_S: Final = 60.0

settings.register_profile("house", deadline=None)  # how long an example takes says more about what else the machine does
settings.load_profile("house")

AnyServer = TypeVar("AnyServer", bound=Server)


@pytest.fixture(scope="module")
def mosquitto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    """A broker that lets everyone do everything."""
    yield from _served(Mosquitto(tmp_path_factory.mktemp("mosquitto")))


@pytest.fixture(scope="session")
def influxd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Influxd]:
    """InfluxDB 1.12 with the database kerege."""
    yield from _served(Influxd(tmp_path_factory.mktemp("influxd")))


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQL]:
    """PostgreSQL without any ledger."""
    yield from _served(PostgreSQL())


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """A place for a ledger that a test has for itself."""
    if request.param == "sqlite":
        yield Place(tmp_path)
        return
    server: PostgreSQL = request.getfixturevalue("postgresql")
    database = server.create()
    yield Place(tmp_path, server, database)
    server.drop(database)


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Certificates for a broker on the loopback, the collector, and the centers demo and other."""
    return make_certificates(tmp_path_factory.mktemp("certificates"), ["demo", "other"])


@pytest.fixture(scope="session")
def any_influx(request: pytest.FixtureRequest) -> Iterator[InfluxTarget]:
    """Each InfluxDB that is to be had, in turn."""
    if request.param == "given":
        environment = {name: os.environ.get(f"KEREGE_TEST_INFLUX_{name}", "") for name in ("URL", "TOKEN", "ORG", "BUCKET")}
        yield InfluxTarget(environment["URL"], environment["TOKEN"], environment["ORG"], environment["BUCKET"] or DATABASE)
    elif request.param in IMAGES:
        yield from _contained(request.param)
    else:
        yield request.getfixturevalue("influxd").target


def pytest_configure() -> None:
    """A shell that runs us in the background has SIGINT ignored, and every process of a test would inherit that."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Which versions there are is found out while tests are collected: an absent one is no test, hence no skip."""
    if "any_influx" in metafunc.fixturenames:
        versions = ["1.12", *(["given"] if GIVEN_INFLUX else []), *(version for version in IMAGES if _to_be_had(version))]
        metafunc.parametrize("any_influx", versions, indirect=True, scope="session")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Under CI a test that skips has failed."""
    report = yield
    if item.get_closest_marker("platform_specific") is None:
        _fail_skipped(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Under CI a file that skips itself has failed."""
    report = yield
    _fail_skipped(report)
    return report


def _fail_skipped(report: Any) -> None:
    if CI and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped under CI=true: {report.longrepr}"


def _served(server: AnyServer) -> Iterator[AnyServer]:
    try:
        server.start()
    except ServerMissingError as error:
        pytest.skip(str(error))
    with server:
        yield server


@cache
def _to_be_had(version: str) -> bool:
    # by the command: the library leaves its sockets open where no daemon answers
    return _docker("version") and (_docker("image", "inspect", IMAGES[version]) or _docker("pull", "--quiet", IMAGES[version]))


def _docker(*command: str) -> bool:
    try:
        return subprocess.run(["docker", *command], capture_output=True, timeout=DOCKER_TIMEOUT_S, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def _contained(version: str) -> Iterator[InfluxTarget]:
    container = DockerContainer(IMAGES[version])
    if version.startswith("2"):
        port = 8086
        setup = {
            "MODE": "setup",
            "USERNAME": "kerege",
            "PASSWORD": "kerege-test",
            "ORG": "kerege",
            "BUCKET": DATABASE,
            "ADMIN_TOKEN": TOKEN,
        }
        for name, value in setup.items():
            container.with_env(f"DOCKER_INFLUXDB_INIT_{name}", value)
    else:
        port = 8181
        container.with_command("influxdb3 serve --node-id test --object-store memory --without-auth")
    with container.with_exposed_ports(port):
        url = f"http://{container.get_container_host_ip()}:{container.get_exposed_port(port)}"
        target = InfluxTarget(url, TOKEN, "kerege", DATABASE)
        _wait_for(target)
        yield target


def _wait_for(target: InfluxTarget) -> None:
    deadline = time.monotonic() + CONTAINER_TIMEOUT_S
    while True:
        try:
            target.write("born here=1i")
        except ServerError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.3)
        else:
            return
