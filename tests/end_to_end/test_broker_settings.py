"""The broker's settings in deploy/mosquitto, in a real Mosquitto: who may do what, and under which name."""

import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from kerege_lab.certificates import Certificates
from kerege_lab.servers import HOUSE_ACL, Mosquitto

DEPLOY: Final = Path(__file__).parents[2] / "deploy" / "mosquitto"
TIMEOUT_S: Final = 20.0
PLACES: Final = frozenset({"listener", "cafile", "certfile", "keyfile", "acl_file"})
"""Settings that name a port or a file: here they are others."""


def settings_of(text: str) -> dict[str, str]:
    lines = (line.strip() for line in text.splitlines())
    return dict(line.split(maxsplit=1) for line in lines if line and not line.startswith("#"))


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory, certificates: Certificates) -> Iterator[Mosquitto]:
    """A Mosquitto with all that deploy/mosquitto/kerege.conf says and the access rules beside it."""
    given = settings_of((DEPLOY / "kerege.conf").read_text())
    lines = [f"{key} {value}" for key, value in given.items() if key not in PLACES | {"require_certificate", "allow_anonymous"}]
    lines = [line for line in lines if not line.startswith(("use_", "persistence"))]
    acl = (DEPLOY / "kerege.acl").read_text()
    with Mosquitto(tmp_path_factory.mktemp("broker"), tls=certificates, acl=acl, lines=[*lines, "log_type all"]) as running:
        mine = settings_of((running.directory / "mosquitto.conf").read_text())
        assert {key: mine.get(key) for key in given if key not in PLACES | {"persistence"}} == {
            key: value for key, value in given.items() if key not in PLACES | {"persistence"}
        }
        yield running


def command(broker: Mosquitto, certificates: Certificates, program: str, who: str, *options: str) -> list[str]:
    identity = certificates.clients[who]
    keys = ["--cafile", certificates.ca, "--cert", identity.certificate, "--key", identity.key]
    return list(map(str, [program, "-V", "5", "-q", "1", "-h", "localhost", "-p", broker.port, *keys, *options]))


def denied(broker: Mosquitto, certificates: Certificates, who: str, topic: str) -> bool:
    """Does the broker refuse a message under this topic? By its PUBACK (reason code 135), which mosquitto_pub says."""
    published = command(broker, certificates, "mosquitto_pub", who, "-t", topic, "-m", "x")
    done = subprocess.run(published, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    return "Not authorized" in done.stderr + done.stdout


MAY_WRITE: Final = {
    "demo": {"kerege/v1/demo/report", "kerege/v1/demo/presence"},
    "collector": {"kerege/v1/demo/ack", "kerege/v1/other/ack", "kerege/v1/collector/state", "kerege/v1/collector/report"},
}
"""The last is a consequence of the pattern, and harmless: no center is called collector."""

TOPICS: Final = (
    "kerege/v1/demo/report",
    "kerege/v1/demo/presence",
    "kerege/v1/demo/ack",
    "kerege/v1/other/report",
    "kerege/v1/other/presence",
    "kerege/v1/other/ack",
    "kerege/v1/collector/state",
    "kerege/v1/collector/report",
    "kerege/v2/demo/report",
    "other",
)


@pytest.mark.parametrize("who", MAY_WRITE)
def test_each_may_write_what_is_its_own_and_nothing_else(broker: Mosquitto, certificates: Certificates, who: str) -> None:
    allowed = {topic for topic in TOPICS if not denied(broker, certificates, who, topic)}
    assert allowed == MAY_WRITE[who]


@pytest.mark.parametrize(
    "case",
    [
        ("demo", "collector", "kerege/v1/demo/ack", True),
        ("demo", "collector", "kerege/v1/other/ack", False),
        ("demo", "collector", "kerege/v1/collector/state", True),
        ("demo", "other", "kerege/v1/other/report", False),
        ("demo", "other", "kerege/v1/other/presence", False),
        ("collector", "other", "kerege/v1/other/report", True),
        ("collector", "other", "kerege/v1/other/presence", True),
    ],
)
def test_each_hears_what_is_its_own_and_nothing_else(
    broker: Mosquitto, certificates: Certificates, case: tuple[str, str, str, bool]
) -> None:
    """Mosquitto grants a subscription to everything, and delivers what the rules allow."""
    who, writer, topic, heard = case
    listening = command(broker, certificates, "mosquitto_sub", who, "-t", "#", "-F", "%t")
    with subprocess.Popen(listening, stdout=subprocess.PIPE, text=True) as listener:
        deadline = time.monotonic() + TIMEOUT_S
        while f"Sending SUBACK to {who}" not in broker.last_log_lines(5):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        subprocess.run(command(broker, certificates, "mosquitto_pub", writer, "-t", topic, "-m", "x"), check=True, timeout=TIMEOUT_S)
        subprocess.run(["sleep", "0.2"], check=True)
        listener.terminate()
        assert listener.stdout is not None
        assert (topic in listener.stdout.read().splitlines()) == heard


def test_no_center_can_take_another_ones_connection(broker: Mosquitto, certificates: Certificates) -> None:
    """Its client id is the name in its certificate, whatever it says."""
    listening = command(broker, certificates, "mosquitto_sub", "demo", "-i", "demo", "-t", "kerege/v1/demo/ack")
    with subprocess.Popen(listening, stdout=subprocess.PIPE, text=True) as listener:
        published = command(broker, certificates, "mosquitto_pub", "other", "-i", "demo", "-t", "kerege/v1/other/report", "-m", "x")
        subprocess.run(published, check=True, timeout=TIMEOUT_S)
        assert listener.poll() is None
        listener.terminate()
    assert re.search(r"New client connected from \S+ as other \(", broker.last_log_lines(50))


def test_the_lab_and_make_up_use_the_same_rules() -> None:
    lines = [line for line in (DEPLOY / "kerege.acl").read_text().splitlines() if line and not line.startswith("#")]
    assert lines == [line for line in HOUSE_ACL.splitlines() if line]
