"""The command kerege-agent: usage, exit status, `probe` and `check` against real brokers."""

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest
from paho.mqtt.enums import MQTTProtocolVersion

from kerege_agent import check, cli, probe_command
from kerege_agent.mqtt_hello import NotMqttError, hello
from kerege_agent.probes import PROBES
from kerege_agent.service import Agent
from kerege_agent.settings import Dns, Mqtt, Portal, Settings, SpoolSettings
from kerege_agent.x509 import common_name
from kerege_lab.certificates import Certificates
from kerege_lab.servers import EmbeddedBroker, Mosquitto
from kerege_wire import Tick
from tests.agent.collector_double import CollectorDouble, until
from tests.agent.probe_world import NO_CONTENT, OWN_GATEWAY, answering, loopback_settings, serving, settings_file

TIMEOUT_S: Final = 60.0


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "kerege_agent", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)


def test_wrong_usage_is_status_2_and_settings_are_not_even_read() -> None:
    """No command, an unknown one, an unknown probe, an unknown option."""
    for arguments in ((), ("measure",), ("probe", "drop"), ("probe",), ("run", "--fast"), ("run", "--log-format", "xml")):
        with pytest.raises(SystemExit) as caught:
            cli.main(arguments)
        assert caught.value.code == 2


def test_bad_settings_are_status_2_with_every_mistake_and_no_traceback(tmp_path: Path) -> None:
    """As a person sees them, whichever command was asked for."""
    path = settings_file(tmp_path, '[link]\nkimd = "geo"\n[plan]\nreset_day = 0\n')
    for command in (("run",), ("check",), ("probe", "tick"), ("status",), ("spool",)):
        done = run(*command, "--settings", str(path))
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.splitlines() == [
            f'{path}: link.kimd: unknown key; did you mean "kind"?',
            f"{path}: plan.reset_day: wanted an integer from 1 to 31, got 0",
        ]


def test_a_settings_file_that_is_not_there_is_status_2(tmp_path: Path) -> None:
    """With the cure."""
    done = run("check", "--settings", str(tmp_path / "agent.toml"))
    assert done.returncode == 2
    assert "there is no such file: copy agent.example.toml there" in done.stderr


def test_options_may_stand_before_or_after_the_command(tmp_path: Path) -> None:
    """And the last one counts."""
    before = cli.parser().parse_args(["--json", "--settings", "a", "probe", "tick"])
    after = cli.parser().parse_args(["probe", "tick", "--settings", "a", "--json"])
    assert vars(before) == vars(after)
    assert cli.parser().parse_args(["--settings", "a", "run", "--settings", "b"]).settings == Path("b")


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """As every command does."""
    with pytest.raises(SystemExit) as caught:
        cli.main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out.startswith("kerege-agent ")


@pytest.mark.parametrize("kind", sorted(PROBES))
def test_each_probe_can_be_run_by_hand(kind: str, tmp_path: Path) -> None:
    """Its log on stderr; record, stored line and size on stdout; nothing is spooled, and the state directory is not even made."""
    with serving(answering(NO_CONTENT)) as port:
        path = settings_file(tmp_path, OWN_GATEWAY + '[traffic]\ninterface = "lo"\n[probes.ping]\ncount = 2\nspacing_s = 0.01\n')
        path.write_text(path.read_text().replace("127.0.0.1:9/", f"127.0.0.1:{port}/"))
        done = run("probe", kind, "--settings", str(path), "--json")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert lines, done.stderr
    for line in lines:
        assert line["record"]["kind"] == line["row"][1] == kind
        assert 10 < line["payload_bytes"] < 200
    assert done.returncode == (1 if kind == "dns" else 0)  # no name server listens at port 9
    assert "probe.begins" in done.stderr
    assert "probe.ended" in done.stderr
    assert not (tmp_path / "state").exists()


def test_a_person_sees_record_and_stored_line(tmp_path: Path) -> None:
    """With the log of just this probe, down to its details."""
    done = run("probe", "tick", "--settings", str(settings_file(tmp_path)))
    assert done.returncode == 0
    record, _, stored = done.stdout.partition("stored line (")
    assert [line.split() for line in record.splitlines()[:3]] == [["record"], ["kind", "tick"], ["result", "online"]]
    assert stored.splitlines()[1].startswith('  [0,"tick",0,"online",null,"+')
    assert "DEBUG tick.portal" in done.stderr


def test_a_probe_that_raises_shows_its_record_and_where(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """As the agent would store it; status 1."""

    def broken(context: Any) -> list[Any]:
        raise ZeroDivisionError("of nothing")

    monkeypatch.setitem(PROBES, "tick", broken)
    assert probe_command.show(loopback_settings(), "tick", as_json=True) == 1
    assert json.loads(capsys.readouterr().out)["record"] == {"kind": "tick", "error": "ZeroDivisionError: of nothing"}


def test_a_dead_link_is_status_1(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The tick was measured well, but what was asked about is not well."""
    monkeypatch.setitem(PROBES, "tick", lambda context: [Tick(result="offline", broken="internet")])
    assert probe_command.show(loopback_settings(), "tick", as_json=False) == 1
    assert "offline" in capsys.readouterr().out


def found(settings: Settings) -> dict[str, check.Line]:
    return {line.check: line for line in check.lines(settings)}


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no collector is there, none answers however long one waits."""
    monkeypatch.setattr("kerege_agent.trial.ANSWER_S", 1.0)


def settings_for(broker: Mosquitto, directory: Path, **mqtt: Any) -> Settings:
    given: dict[str, Any] = {"host": "127.0.0.1", "port": broker.port, "tls": False}
    way = Mqtt(**(given | mqtt))
    return loopback_settings(mqtt=way, state_directory=directory, spool=SpoolSettings(max_bytes=1 << 20))


def test_all_is_well(mosquitto: Mosquitto, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A line for each thing that was looked at; status 0. The collector has answered a report of ours, and there is no trace of it."""
    with CollectorDouble(mosquitto.port) as collector, serving(answering(NO_CONTENT)) as port:
        settings = replace(settings_for(mosquitto, tmp_path), portal=Portal(url=f"http://127.0.0.1:{port}/generate_204"))
        assert check.show(settings, as_json=False) == 0
    assert [(report.records, report.center) for report in collector.reports] == [((), "demo")]
    assert [presence for presence in collector.presences if presence.epoch == collector.reports[0].epoch] == []
    lines = capsys.readouterr().out.splitlines()
    assert all(line.startswith("ok ") for line in lines)
    assert [line[8:23].strip() for line in lines] == [
        "settings",
        "certificates",
        "broker's name",
        "broker",
        "collector",
        "dns.names",
        "portal.url",
        "state directory",
        "ping",
    ]


def test_the_brokers_answer_is_read(mosquitto: Mosquitto) -> None:
    """By two at once: without a client id nobody is in the other's way."""
    with socket.create_connection(("127.0.0.1", mosquitto.port)) as one, socket.create_connection(("127.0.0.1", mosquitto.port)) as other:
        assert hello(one, username=None, password=None) == 0
        assert hello(other, username=None, password=None) == 0


def test_a_collector_that_does_not_answer_or_holds_us_is_told(mosquitto: Mosquitto, tmp_path: Path) -> None:
    """A broker that takes everything proves nothing; each case has its own words and cure."""
    settings = settings_for(mosquitto, tmp_path)
    nobody = found(settings)["collector"]
    with CollectorDouble(mosquitto.port) as collector:
        collector.silent = True
        silent = found(settings)["collector"]
        collector.silent, collector.hold = False, "unknown center"
        held = found(settings)["collector"]
    assert [line.ok for line in (nobody, silent, held)] == [False] * 3
    assert nobody.why == "no answer to a report; it has never announced itself"
    assert silent.why == "no answer to a report; it has said that it is ready"
    assert (held.why, held.cure) == (
        "answers, and holds this center: unknown center",
        "have this center added to the collector's centers.toml",
    )


def test_where_the_broker_speaks_only_3_1_1_the_collector_is_asked_in_that(tmp_path: Path) -> None:
    """As the agent does itself."""
    with EmbeddedBroker(tmp_path) as broker, CollectorDouble(broker.port, protocol=MQTTProtocolVersion.MQTTv311):
        settings = loopback_settings(mqtt=Mqtt(host="127.0.0.1", port=broker.port, tls=False), state_directory=tmp_path / "state")
        lines = found(settings)
    assert lines["collector"].ok, lines


def test_a_running_agent_keeps_its_connection_and_is_asked_instead(mosquitto: Mosquitto, tmp_path: Path) -> None:
    """Whoever connects under its name ends its connection."""
    settings = settings_for(mosquitto, tmp_path)
    with CollectorDouble(mosquitto.port) as collector:
        agent = Agent(settings)
        thread = threading.Thread(target=agent.run)
        thread.start()
        try:
            until(lambda: agent.uplink.session.last_ack_mono_ms)
            until(lambda: found(settings)["broker"].ok)
            line = found(settings)["broker"]
            births = [presence for presence in collector.presences if presence.state == "online"]
        finally:
            agent.ask_to_stop("stop")
            thread.join(TIMEOUT_S)
    assert line.why.startswith(f"the agent runs, and is connected to 127.0.0.1:{mosquitto.port}")
    assert len(births) == 1


def test_another_centers_certificate_is_told(certificates: Certificates, tmp_path: Path) -> None:
    """The broker would let us in, and drop every report."""
    other = certificates.clients["other"]
    way = Mqtt(host="127.0.0.1", port=9, ca_file=certificates.ca, certificate_file=other.certificate, key_file=other.key)
    line = found(loopback_settings(mqtt=way, state_directory=tmp_path))["certificates"]
    assert (line.ok, line.why) == (False, "mqtt.certificate_file is that of other, and center is demo")


def test_a_common_name_is_read_from_a_certificate(certificates: Certificates) -> None:
    """In each coding that OpenSSL writes; from what is no certificate, nothing."""
    pem = certificates.clients["demo"].certificate.read_text()
    assert common_name(f"some words before\n{pem}and after") == "demo"
    for subject in ("/CN=ulan-bozanbay", "/C=KZ/O=Library/CN=Ұлан/OU=after"):
        command = [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-utf8",
            "-keyout",
            "/dev/null",
        ]
        made = subprocess.run([*command, "-subj", subject], capture_output=True, text=True, check=True, timeout=TIMEOUT_S).stdout
        assert common_name(made) == subject.partition("CN=")[2].partition("/")[0]
    middle = pem.splitlines()
    for bad in ("", "words", pem[:200], "\n".join([middle[0], "AAAA", middle[-1]]), "\n".join([middle[0], *middle[3:]])):
        assert common_name(bad) is None


def test_what_is_not_well_is_said_with_its_cure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No broker there: status 1, one JSON object a line."""
    settings = loopback_settings(mqtt=Mqtt(host="127.0.0.1", port=9, tls=False), state_directory=tmp_path)
    assert check.show(settings, as_json=True) == 1
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    [bad, portal] = [line for line in lines if not line["ok"]]
    assert portal["check"] == "portal.url"
    assert bad == {
        "check": "broker",
        "ok": False,
        "why": "127.0.0.1:9: refused",
        "cure": "is the broker running, and does a firewall let us through?",
    }


@pytest.fixture
def secured(tmp_path: Path, certificates: Certificates) -> Iterator[Mosquitto]:
    """A broker that wants client certificates."""
    with Mosquitto(tmp_path / "broker", tls=certificates) as broker:
        yield broker


def test_a_broker_with_tls(secured: Mosquitto, certificates: Certificates, tmp_path: Path) -> None:
    """With our certificate it is well; each thing that is wrong with it has its own cure."""
    demo = certificates.clients["demo"]
    ours: dict[str, Any] = {
        "host": "localhost",
        "tls": True,
        "ca_file": certificates.ca,
        "certificate_file": demo.certificate,
        "key_file": demo.key,
    }
    well = found(settings_for(secured, tmp_path, **ours))
    assert well["broker"] == check.Line("broker", ok=True, why=f"localhost:{secured.port} speaks MQTT over TLS")
    assert well["certificates"].ok

    stranger = found(settings_for(secured, tmp_path, **(ours | {"ca_file": None})))["broker"]
    assert not stranger.ok
    assert stranger.cure is not None
    assert stranger.cure.startswith("mqtt.ca_file must be the authority")

    without = found(settings_for(secured, tmp_path, **(ours | {"certificate_file": None, "key_file": None})))["broker"]
    assert not without.ok

    other_name = found(settings_for(secured, tmp_path, **(ours | {"host": "127.0.0.2"})))["broker"]
    assert not other_name.ok

    plain = found(settings_for(secured, tmp_path))["broker"]
    assert not plain.ok
    assert plain.cure == "is this a TLS listener? Correct mqtt.port or mqtt.tls"


def test_tls_where_the_broker_speaks_none(mosquitto: Mosquitto, tmp_path: Path) -> None:
    """The port is the plain one."""
    line = found(settings_for(mosquitto, tmp_path, tls=True))["broker"]
    assert not line.ok


def test_a_wrong_password_is_told(tmp_path: Path) -> None:
    """The broker's answer in words."""
    passwords = tmp_path / "passwords"
    subprocess.run(["mosquitto_passwd", "-b", "-c", str(passwords), "demo", "right"], check=True, capture_output=True, timeout=TIMEOUT_S)
    (tmp_path / "name").write_text("demo\n")
    (tmp_path / "good").write_text("right\n")
    (tmp_path / "bad").write_text("wrong\n")
    with Mosquitto(tmp_path / "broker", password_file=passwords) as broker:
        good = found(settings_for(broker, tmp_path, username_file=tmp_path / "name", password_file=tmp_path / "good"))["broker"]
        bad = found(settings_for(broker, tmp_path, username_file=tmp_path / "name", password_file=tmp_path / "bad"))["broker"]
    assert good.ok
    assert not bad.ok
    assert "refuses" in bad.why


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x20\x02", b""])
def test_what_does_not_speak_mqtt_is_told(answer: bytes) -> None:
    """A web server, a babbler, somebody who hangs up."""

    def babble(connection: socket.socket) -> None:
        connection.recv(64)
        connection.sendall(answer)

    with serving(babble) as port, socket.create_connection(("127.0.0.1", port), timeout=5) as connection, pytest.raises(NotMqttError):
        hello(connection, username="name", password="word")


def test_an_expired_certificate_is_not_well(certificates: Certificates, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By this machine's clock; the agent itself would start."""
    demo = certificates.clients["demo"]
    later_s = time.time() + 5000 * 86_400
    monkeypatch.setattr(time, "time", lambda: later_s)
    way = Mqtt(host="127.0.0.1", port=9, ca_file=certificates.ca, certificate_file=demo.certificate, key_file=demo.key)
    found_lines = [line for line in check.lines(loopback_settings(mqtt=way, state_directory=tmp_path)) if line.check == "certificates"]
    assert [line.ok for line in found_lines] == [False, False]
    assert "expired on" in found_lines[0].why


def test_a_state_directory_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    """Here because its place is taken by a file."""
    (tmp_path / "state").write_text("in the way")
    line = found(loopback_settings(mqtt=Mqtt(host="127.0.0.1", port=9, tls=False), state_directory=tmp_path / "state"))["state directory"]
    assert not line.ok
    assert line.cure is not None
    assert "state_directory" in line.cure


def test_a_disk_without_room_for_the_spool_is_told(tmp_path: Path) -> None:
    """The check comes before the night in which it fills."""
    settings = loopback_settings(mqtt=Mqtt(host="127.0.0.1", port=9, tls=False), state_directory=tmp_path)
    line = found(replace(settings, spool=SpoolSettings(max_bytes=1 << 50)))["state directory"]
    assert not line.ok
    assert "less than a full spool needs" in line.why


def test_a_state_directory_that_is_not_there_yet_is_not_made(tmp_path: Path) -> None:
    """Checking as root must not leave a directory that the agent cannot write."""
    directory = tmp_path / "a" / "b"
    settings = loopback_settings(mqtt=Mqtt(host="127.0.0.1", port=9, tls=False), state_directory=directory)
    line = found(replace(settings, spool=SpoolSettings(max_bytes=1 << 20)))["state directory"]
    assert line.ok
    assert "can be made" in line.why
    assert not directory.parent.exists()


def test_a_name_that_does_not_resolve_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For the broker and for the names of the ladder alike."""

    def unknown(*arguments: object, **names: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    lines = found(loopback_settings(mqtt=Mqtt(host="broker.invalid", tls=False), dns=Dns(names=("x.invalid",)), state_directory=tmp_path))
    assert lines["broker's name"].why == "broker.invalid: name not known"
    assert lines["dns.names"].why == "x.invalid: name not known"
    assert not lines["broker"].ok


def test_tls_errors_have_their_cures() -> None:
    """A clock that is wrong, an authority that is not ours, a port that speaks no TLS."""

    def verification(code: int) -> ssl.SSLCertVerificationError:
        error = ssl.SSLCertVerificationError(1, "x")
        error.verify_code, error.verify_message = code, "x"
        return error

    assert "set this machine's clock" in check._tls_cure(verification(10))
    assert "mqtt.ca_file" in check._tls_cure(verification(20))
    no_tls = ssl.SSLError(1, "x")
    no_tls.reason = "WRONG_VERSION_NUMBER"
    assert "speaks no TLS" in check._tls_cure(no_tls)


def test_a_reader_that_has_gone_is_no_error(tmp_path: Path) -> None:
    """`kerege-agent probe host | true`."""
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "kerege_agent", "probe", "host", "--settings", str(settings_file(tmp_path))]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, timeout=TIMEOUT_S, check=False)
    os.close(write)
    assert done.returncode == 0
    assert "Broken" not in done.stderr


def test_the_other_commands_reach_theirs(tmp_path: Path) -> None:
    """No agent runs and there is no spool: status 1, a word, no traceback. A check through the command is a check."""
    path = settings_file(tmp_path)
    for command in (("status",), ("spool",), ("spool", "list"), ("check",)):
        done = run(*command, "--settings", str(path))
        assert done.returncode == 1, done.stderr
        assert done.stdout or done.stderr
        assert "Traceback" not in done.stderr


def test_who_asks_how_the_agent_is_needs_no_key(tmp_path: Path) -> None:
    """`status` and `spool` read what the agent wrote; `check` and `run` need the files."""
    path = settings_file(tmp_path)
    path.write_text(path.read_text().replace("tls = false", 'ca_file = "ca.pem"\ncertificate_file = "no.pem"\nkey_file = "no.key"'))
    assert [run(command, "--settings", str(path)).returncode for command in ("status", "spool", "check", "run")] == [1, 1, 2, 2]


@pytest.mark.skipif(sys.platform == "win32", reason="has no SIGTERM")
@pytest.mark.platform_specific("has no SIGTERM")
@pytest.mark.parametrize(("number", "pages"), [(signal.SIGTERM, 0), (signal.SIGINT, 0), (signal.SIGTERM, 40)])
def test_run_runs_until_it_is_asked_to_stop(tmp_path: Path, number: signal.Signals, pages: int) -> None:
    """With no broker there: an ordinary start, an ordinary stop, status 0; also with more settings than a pipe holds."""
    url = f"http://127.0.0.1:9/{'x' * 2000}"
    path = settings_file(tmp_path, "".join(f'[[http.targets]]\nname = "{page}"\nurl = "{url}"\n' for page in range(pages)))
    command = [sys.executable, "-m", "kerege_agent", "run", "--settings", str(path), "--log-format", "json"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as running:
        assert running.stderr is not None
        try:
            for line in running.stderr:
                if json.loads(line)["event"] == "agent.started":
                    break
            running.send_signal(number)
            assert running.wait(TIMEOUT_S) == 0
        finally:
            running.kill()
