"""Settings: each mistake is named with its key and its cure; what is right arrives whole in the process that stays."""

import subprocess
import sys
import tomllib
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Final

import pytest

from kerege_agent.settings import Mqtt, Settings, SettingsError, Target, load
from kerege_agent.settings_check import checked, to_json
from tests.agent.probe_world import bare_environment, settings_file

BAD: Final = Path(__file__).parent / "bad_settings"
EXAMPLE: Final = Path(__file__).parents[2] / "agent" / "agent.example.toml"
REQUIRED: Final = {"center", "mqtt.host"}


@pytest.mark.parametrize("name", sorted(path.stem for path in BAD.glob("*.toml")))
def test_every_mistake_is_named_with_its_key_and_its_cure(name: str) -> None:
    """Each file of bad_settings says in its first lines what is to be said about it; ``...`` stands for words of Python's own."""
    path = BAD / f"{name}.toml"
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    wanted = [line.removeprefix("# ").replace("DIRECTORY", str(BAD)) for line in lines if line.startswith("# ")]
    with pytest.raises(SettingsError) as caught:
        checked(path)
    said = [line.removeprefix(f"{path}: ") for line in str(caught.value).splitlines()]
    assert len(said) == len(wanted), said
    for line, expected in zip(said, wanted, strict=True):
        assert line.startswith(expected.removesuffix("...")) if expected.endswith("...") else line == expected


def test_the_example_is_loaded_by_the_way_that_the_agent_takes() -> None:
    """A copy of the example, filled in, is a working settings file."""
    settings = load(EXAMPLE)
    assert settings == Settings(center="ulan-bozanbay", mqtt=Mqtt(host="kerege.example.kz"))
    assert settings.mqtt.port == 8883
    assert settings.portal_url == "http://kerege.example.kz/generate_204"


def test_the_example_names_every_setting_and_its_default(tmp_path: Path) -> None:
    """Without its comment signs the example shows each key that there is, and each default as it is."""
    text = "\n".join(line.removeprefix("#") if line[1:2] not in {"", " "} else line for line in EXAMPLE.read_text().splitlines())
    for name in ("ca.pem", "center.pem", "center.key"):
        text = text.replace(f"/etc/kerege/pki/{name}", str(tmp_path / name))
    path = tmp_path / "agent.toml"
    path.write_text(text)
    with pytest.raises(SettingsError) as caught:
        checked(path)
    assert all("there is no file" in line for line in str(caught.value).splitlines())
    shown = _flat(tomllib.loads(text))
    defaults = _flat(to_json(Settings(center="-", mqtt=Mqtt(host="-")), Path("/")))
    assert shown.keys() == defaults.keys() | {"http.targets.0.name", "http.targets.0.url"}
    assert {key: shown[key] for key, default in defaults.items() if default is not None and key not in REQUIRED} == {
        key: default for key, default in defaults.items() if default is not None and key not in REQUIRED
    }


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(value, dict):
        pairs = [(str(key), item) for key, item in value.items()]
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        pairs = [(str(index), item) for index, item in enumerate(value)]
    else:
        return {} if value == [] else {prefix.removesuffix("."): value}
    return {key: item for name, part in pairs for key, item in _flat(part, f"{prefix}{name}.").items()}


def test_all_settings_survive_the_way_between_the_two_processes(tmp_path: Path) -> None:
    """What the checking process read is what the staying process has, each type as declared, paths from the file's own directory."""
    more = (
        '[link]\nkind = "leo"\nterminal = "192.168.100.1"\n[[http.targets]]\nname = "page"\nurl = "https://[::1]:8443/x?y=1"\n'
        '[probes.ping]\ncount = 3\nspacing_s = 0.5\n[traffic]\ninterface = "wlan0"\n[uplink]\nbacklog_reports_per_s = 1\n'
    )
    settings = load(settings_file(tmp_path, more))
    assert settings.state_directory == tmp_path / "state"
    assert settings.mqtt == Mqtt(host="127.0.0.1", port=9, tls=False)
    assert settings.targets == (Target(name="lo", address="127.0.0.1", tcp_port=9),)
    assert (settings.link.kind, settings.link.terminal, settings.link.gateway) == ("leo", "192.168.100.1", None)
    assert (settings.probes.ping.count, settings.probes.ping.spacing_s, settings.probes.ping.interval_s) == (3, 0.5, 300)
    assert settings.http.targets[0].url == "https://[::1]:8443/x?y=1"
    assert settings == checked_with_absolute_paths(tmp_path)


def checked_with_absolute_paths(directory: Path) -> Settings:
    settings, _ = checked(directory / "agent.toml")
    return replace(settings, state_directory=directory / settings.state_directory)


def test_the_port_follows_tls() -> None:
    """Without a port in the file it is 8883 with TLS and 1883 without."""
    assert Mqtt(host="broker").port == 8883
    assert Mqtt(host="broker", tls=False).port == 1883
    assert Mqtt(host="broker", port=1).port == 1


def test_a_broker_by_its_ipv6_address_gives_a_portal_url() -> None:
    """An IPv6 address stands in brackets in a URL."""
    assert Settings(center="demo", mqtt=Mqtt(host="::1")).portal_url == "http://[::1]/generate_204"


def test_a_missing_file_is_an_error_with_a_cure(tmp_path: Path) -> None:
    """A settings file that is not there is named, with what to do."""
    with pytest.raises(SettingsError, match=r"nothing\.toml: there is no such file: copy agent\.example\.toml there"):
        load(tmp_path / "nothing.toml")


def test_a_check_that_cannot_be_started_or_does_not_end_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And is said like any other, with the file's name."""
    path = settings_file(tmp_path)
    monkeypatch.setattr("kerege_agent.settings.CHECK_TIMEOUT_S", 0.001)
    with pytest.raises(SettingsError, match=r"agent\.toml: could not be checked: .*timed out"):
        load(path)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no-python"))
    with pytest.raises(SettingsError, match=r"agent\.toml: could not be checked: .*No such file"):
        load(path)


def test_a_directory_is_no_settings_file(tmp_path: Path) -> None:
    """A path that leads to a directory is said to."""
    with pytest.raises(SettingsError, match="cannot be read: Is a directory"):
        checked(tmp_path)


def test_a_file_without_an_end_is_no_settings_file() -> None:
    """A path that leads to a device is not read until the memory is full."""
    with pytest.raises(SettingsError, match="this is no settings file"):
        checked(Path("/dev/zero"))


def test_the_process_that_stays_has_not_loaded_what_only_checking_needs(tmp_path: Path) -> None:
    """Loading settings leaves neither pydantic nor tomllib nor asyncio in the process, and the probes add none of them."""
    code = (
        "import sys; from pathlib import Path; import kerege_agent.measure; from kerege_agent.settings import load\n"
        "load(Path(sys.argv[1])); print(sorted({'pydantic', 'tomllib', 'asyncio', 'http.server'} & sys.modules.keys()))"
    )
    command = [sys.executable, "-c", code, str(settings_file(tmp_path))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=bare_environment())
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


def test_every_section_is_frozen() -> None:
    """Settings cannot be changed by whoever holds them."""
    settings = Settings(center="demo", mqtt=Mqtt(host="broker"))
    sections = [getattr(settings, item.name) for item in fields(settings)]
    for section in [settings, *filter(is_dataclass, sections)]:
        with pytest.raises(AttributeError):
            setattr(section, fields(section)[0].name, "other")
