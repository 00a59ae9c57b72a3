"""Settings: every mistake at once, each with file, key and cure."""

import tomllib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import BaseModel

from kerege_collector.mistakes import read_toml
from kerege_collector.settings import Influx, PostgresqlLedger, Settings, SettingsError, Sqlite, load
from kerege_lab.certificates import Certificates, Identity
from kerege_lab.toml import toml_text

BAD = sorted((Path(__file__).parent / "bad_settings").glob("*.toml"))
EXAMPLE = Path(__file__).parents[2] / "collector" / "collector.example.toml"


def write(directory: Path, **tables: object) -> Path:
    """A settings file with a registry beside it, good unless the tables say otherwise."""
    (directory / "centers.toml").write_text("")
    path = directory / "collector.toml"
    path.write_text(toml_text({"mqtt": {"host": "127.0.0.1", "tls": False}} | tables))
    return path


def mistakes(path: Path) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load(path)
    return caught.value.mistakes


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.stem)
def test_each_mistake_is_said_with_file_key_and_cure(path: Path) -> None:
    """What a bad file says about itself in its first lines is what the collector says of it, and nothing else."""
    wanted = [f"{path}: {line[2:]}" for line in path.read_text().splitlines() if line.startswith("# ")]
    assert sorted(mistakes(path)) == sorted(wanted)


def test_the_value_of_an_unknown_key_is_not_repeated() -> None:
    """Somebody may have written a password there."""
    text = "\n".join(mistakes(Path(__file__).parent / "bad_settings" / "password_in_the_file.toml"))
    assert "hunter2" not in text


def test_least_settings_have_defaults(tmp_path: Path) -> None:
    settings = load(write(tmp_path))
    assert (settings.mqtt.port, settings.http.port, settings.clock.trust, settings.unknown_centers) == (1883, 8480, "kernel", "refuse")
    assert isinstance(settings.store, Sqlite)
    assert settings.records_path == Path("/var/lib/kerege-collector/records.db")
    assert settings.ledger_path == Path("/var/lib/kerege-collector/ledger.db")


@pytest.mark.parametrize(("mqtt", "port"), [({}, 8883), ({"tls": True}, 8883), ({"tls": False}, 1883), ({"port": 1884}, 1884)])
def test_the_usual_port_depends_on_tls(tmp_path: Path, mqtt: dict[str, object], port: int) -> None:
    assert load(write(tmp_path, mqtt={"host": "broker.example"} | mqtt)).mqtt.port == port


def test_relative_paths_count_from_the_file(tmp_path: Path) -> None:
    settings = load(write(tmp_path, state_directory="state", store={"path": "elsewhere/records.db"}))
    assert settings.state_directory == tmp_path / "state"
    assert settings.records_path == tmp_path / "elsewhere" / "records.db"
    assert settings.centers_file == tmp_path / "centers.toml"


def test_a_store_without_kind_is_the_embedded_one(tmp_path: Path) -> None:
    settings = load(write(tmp_path, store={"retention_days": 30}))
    assert isinstance(settings.store, Sqlite)
    assert settings.store.retention_days == 30


def test_the_token_comes_from_its_file_else_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEREGE_INFLUX_TOKEN", "of-the-environment\n")
    (tmp_path / "token").write_text("of-the-file\nsecond line\n")
    store = {"kind": "influx", "url": "http://127.0.0.1:8086/", "bucket": "kerege"}
    unnamed = load(write(tmp_path, store=store)).store
    assert isinstance(unnamed, Influx)
    assert (unnamed.token, unnamed.url) == ("of-the-environment", "http://127.0.0.1:8086")
    named = load(write(tmp_path, store=store | {"token_file": "token"})).store
    assert isinstance(named, Influx)
    assert named.token == "of-the-file"


@pytest.mark.parametrize(
    ("host", "sslmode"),
    [
        ("/run/postgresql", "prefer"),
        ("localhost", "prefer"),
        ("127.0.0.1", "prefer"),
        ("::1", "prefer"),
        ("db.example", "verify-full"),
        ("10.0.0.7", "verify-full"),
    ],
)
def test_a_database_on_another_machine_must_prove_who_it_is(tmp_path: Path, certificates: Certificates, host: str, sslmode: str) -> None:
    """Its certificate and its name are looked at, unless somebody has said otherwise; what does not leave the machine needs no proof."""
    ca_file = {"ca_file": certificates.ca} if sslmode == "verify-full" else {}
    ledger = load(write(tmp_path, ledger={"kind": "postgresql", "host": host} | ca_file)).ledger
    assert isinstance(ledger, PostgresqlLedger)
    assert (ledger.sslmode, ledger.port, ledger.database, ledger.user) == (sslmode, 5432, "kerege", "kerege")
    chosen = load(write(tmp_path, ledger={"kind": "postgresql", "host": host, "sslmode": "require"})).ledger
    assert isinstance(chosen, PostgresqlLedger)
    assert chosen.sslmode == "require"


def test_mistakes_of_the_ledgers_files_are_said_together(tmp_path: Path, certificates: Certificates) -> None:
    path = write(tmp_path, ledger={"kind": "postgresql", "host": "db.example", "password_file": "nowhere"})
    password, authority = mistakes(path)
    assert password == f"{path}: ledger.password_file: {tmp_path / 'nowhere'}: there is no such file"
    assert authority.startswith(f'{path}: ledger.ca_file: is missing, and sslmode is "verify-full"; name the authority')
    (tmp_path / "password").write_text("hunter2\n")
    good = load(write(tmp_path, ledger={"kind": "postgresql", "host": "/run", "password_file": "password"}))
    assert isinstance(good.ledger, PostgresqlLedger)
    assert good.ledger.password == "hunter2"
    assert "hunter2" not in repr(good)


def test_name_and_password_come_from_files(tmp_path: Path) -> None:
    (tmp_path / "name").write_text("collector\n")
    (tmp_path / "password").write_text("secret\n")
    mqtt = load(write(tmp_path, mqtt={"host": "b", "username_file": "name", "password_file": "password"})).mqtt
    assert (mqtt.username, mqtt.password) == ("collector", "secret")
    assert "secret" not in repr(mqtt)


def test_reading_by_token_without_any_and_tokens_that_are_none_are_said(tmp_path: Path) -> None:
    assert mistakes(write(tmp_path, http={"reads": "token"}))[0].endswith("name a person and a token file in the section [http.tokens]")
    assert "http.tokens.desk: " in mistakes(write(tmp_path, http={"tokens": {"desk": "nowhere"}}))[0]


def test_mistakes_of_both_files_are_said_together(tmp_path: Path) -> None:
    path = write(tmp_path, mqtt={"host": "b", "password_file": "nowhere"})
    (tmp_path / "centers.toml").write_text('[[center]]\nid = "X"\n')
    found = mistakes(path)
    assert [line.partition(": ")[0] for line in found] == [str(path), str(path), str(tmp_path / "centers.toml")]


def test_no_settings_file_names_the_cure(tmp_path: Path) -> None:
    assert "--settings" in mistakes(tmp_path / "nowhere.toml")[0]


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"\xff\xfe[mqtt]", "not UTF-8"), (b"[mqtt\n", "not TOML"), (b"a = 1\na = 2\n", "not TOML")],
)
def test_files_that_are_no_toml_are_said_so(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "collector.toml"
    path.write_bytes(content)
    assert words in mistakes(path)[0]


def test_a_directory_is_no_settings_file(tmp_path: Path) -> None:
    assert "cannot be read" in mistakes(tmp_path)[0]


def test_a_byte_order_mark_does_no_harm(tmp_path: Path) -> None:
    path = write(tmp_path)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert load(path).mqtt.host == "127.0.0.1"


def test_the_registry_may_be_absent_only_where_all_are_admitted(tmp_path: Path) -> None:
    path = write(tmp_path)
    (tmp_path / "centers.toml").unlink()
    assert 'unknown_centers = "admit"' in mistakes(path)[0]
    path.write_text('unknown_centers = "admit"\n' + path.read_text())
    assert load(path).unknown_centers == "admit"


# --- certificates -----------------------------------------------------------------------------------------------------


def tls(certificates: Certificates, **changes: object) -> dict[str, object]:
    identity = certificates.clients["collector"]
    good = {"host": "127.0.0.1", "ca_file": certificates.ca, "certificate_file": identity.certificate, "key_file": identity.key}
    return {key: value for key, value in (good | changes).items() if value is not None}


def test_good_certificates_are_taken(tmp_path: Path, certificates: Certificates) -> None:
    assert load(write(tmp_path, mqtt=tls(certificates))).mqtt.ca_file == certificates.ca


def test_a_missing_file_is_named_once(tmp_path: Path, certificates: Certificates) -> None:
    path = write(tmp_path, mqtt=tls(certificates, certificate_file=tmp_path / "gone.pem"))
    assert mistakes(path) == [f"{path}: mqtt.certificate_file: {tmp_path / 'gone.pem'}: there is no such file"]


def test_what_only_the_service_needs_is_not_looked_at_for_the_commands(tmp_path: Path, certificates: Certificates) -> None:
    path = write(tmp_path, mqtt=tls(certificates, key_file=tmp_path / "gone.key"))
    assert load(path, files=False).mqtt.key_file == tmp_path / "gone.key"


def test_an_empty_file_and_one_without_pem_are_told_apart(tmp_path: Path, certificates: Certificates) -> None:
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "der").write_bytes(b"\x30\x82\x01\x00not pem")
    found = mistakes(write(tmp_path, mqtt=tls(certificates, ca_file=tmp_path / "empty", certificate_file=tmp_path / "der")))
    assert "mqtt.ca_file" in found[0]
    assert "is empty" in found[0]
    assert "no certificate in PEM form" in found[1]


def test_a_key_that_is_a_certificate_is_told_so(tmp_path: Path, certificates: Certificates) -> None:
    found = mistakes(write(tmp_path, mqtt=tls(certificates, key_file=certificates.ca)))
    assert "no private key in PEM form" in found[0]


def test_the_key_of_another_certificate_is_said_so(tmp_path: Path, certificates: Certificates) -> None:
    found = mistakes(write(tmp_path, mqtt=tls(certificates, key_file=certificates.clients["demo"].key)))
    assert len(found) == 1
    assert "mqtt.key_file" in found[0]
    assert "does not belong to the certificate" in found[0]


@pytest.mark.parametrize(("given", "missing"), [("certificate_file", "key_file"), ("key_file", "certificate_file")])
def test_certificate_and_key_go_together(tmp_path: Path, certificates: Certificates, given: str, missing: str) -> None:
    found = mistakes(write(tmp_path, mqtt=tls(certificates, **{missing: None})))
    assert f"mqtt.{missing}: is missing; {given} is of no use without it" in found[0]


def test_certificates_without_tls_are_a_mistake(tmp_path: Path, certificates: Certificates) -> None:
    found = mistakes(write(tmp_path, mqtt=tls(certificates, tls=False)))
    assert len(found) == 3
    assert all("is of no use with tls = false" in line for line in found)


def test_a_password_without_a_name_is_a_mistake(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("x")
    assert "username_file" in mistakes(write(tmp_path, mqtt={"host": "b", "tls": False, "password_file": "password"}))[0]


def issue(directory: Path, *, begins: datetime, ends: datetime, password: bytes | None = None) -> Identity:
    """A certificate that signed itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "collector")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
    signed = builder.not_valid_before(begins).not_valid_after(ends).sign(key, hashes.SHA256())
    identity = Identity(directory / "self.pem", directory / "self.key")
    identity.certificate.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    kind = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    identity.key.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, kind))
    return identity


@pytest.mark.parametrize("year", [2001, 2024])
def test_an_expired_certificate_is_said_with_its_day(tmp_path: Path, year: int) -> None:
    identity = issue(tmp_path, begins=datetime(2000, 1, 1, tzinfo=UTC), ends=datetime(year, 5, 6, tzinfo=UTC))
    mqtt = {"host": "b", "ca_file": identity.certificate, "certificate_file": identity.certificate, "key_file": identity.key}
    found = mistakes(write(tmp_path, mqtt=mqtt))
    assert [line.partition(": mqtt.")[2].partition(":")[0] for line in found] == ["ca_file", "certificate_file"]
    assert all(f"expired on {year}-05-06" in line for line in found)


def test_a_certificate_of_the_future_points_at_the_clock(tmp_path: Path) -> None:
    begins = datetime.now(UTC) + timedelta(days=2)
    identity = issue(tmp_path, begins=begins, ends=datetime(2055, 1, 1, tzinfo=UTC))  # a GeneralizedTime (RFC 5280)
    found = mistakes(write(tmp_path, mqtt={"host": "b", "certificate_file": identity.certificate, "key_file": identity.key}))
    assert "is this machine's clock right?" in found[0]


def test_an_encrypted_key_does_not_make_anybody_type(tmp_path: Path) -> None:
    identity = issue(tmp_path, begins=datetime(2020, 1, 1, tzinfo=UTC), ends=datetime(2055, 1, 1, tzinfo=UTC), password=b"x")
    found = mistakes(write(tmp_path, mqtt={"host": "b", "certificate_file": identity.certificate, "key_file": identity.key}))
    assert "is encrypted" in found[0]
    assert "openssl pkey" in found[0]


def test_a_file_that_this_user_may_not_read_is_said_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, certificates: Certificates) -> None:
    secret = certificates.clients["collector"].key
    opened = Path.open

    def refuse(path: Path, *arguments: str, **named: str) -> object:
        if path == secret:  # root may read everything, so the mode of the file would not do
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, *arguments, **named)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", refuse)
    assert "may not be read by this user" in mistakes(write(tmp_path, mqtt=tls(certificates)))[0]


# --- the example ------------------------------------------------------------------------------------------------------


def test_the_example_is_good_and_says_every_key_with_its_default() -> None:
    """Uncommented, each line of the example is a known key; and no key is missing in it."""
    text = EXAMPLE.read_text()
    given = Settings.model_validate(tomllib.loads(text), context={"directory": Path("/etc/kerege")})
    assert given.mqtt.host == "localhost"
    shown = uncommented(text)
    influx = {key for key in shown["store"] if key not in Sqlite.model_fields}
    shown["store"] = {key: value for key, value in shown["store"].items() if key in Sqlite.model_fields}
    assert set(shown.pop("ledger")) == set(PostgresqlLedger.model_fields)
    shown["ledger"] = {"kind": given.ledger.kind}
    assert {key: set(value) if isinstance(value, dict) else None for key, value in shown.items()} == known_keys()
    assert influx | {"kind"} == set(Influx.model_fields)
    assert {name: shown[name] for name in ("http", "batch", "quarantine", "clock")} == {
        name: getattr(given, name).model_dump() for name in ("http", "batch", "quarantine", "clock")
    }
    for key in ("port", "tls", "client_id", "keepalive_s", "connect_timeout_s", "receive_maximum"):
        assert shown["mqtt"][key] == getattr(given.mqtt, key)
    assert (shown["ack_within_s"], shown["unknown_centers"]) == (given.ack_within_s, given.unknown_centers)
    assert (Path(shown["state_directory"]), Path("/etc/kerege", shown["centers_file"])) == (given.state_directory, given.centers_file)
    assert shown["store"]["retention_days"] == Sqlite().retention_days


def uncommented(text: str) -> dict[str, Any]:
    lines = [line.removeprefix("#") if line.startswith("#") and not line.startswith("# ") else line for line in text.splitlines()]
    kept = [line for line in lines if line not in {'kind = "influx"', 'kind = "postgresql"'}]  # the other kind stands in the same section
    return tomllib.loads("\n".join(kept))


def known_keys() -> dict[str, set[str] | None]:
    sections: dict[str, type[BaseModel]] = {
        name: field.annotation
        for name, field in Settings.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
    }
    found: dict[str, set[str] | None] = dict.fromkeys(Settings.model_fields)
    return (
        found
        | {name: set(section.model_fields) for name, section in sections.items()}
        | {
            "store": set(Sqlite.model_fields),
            "ledger": {"kind"},
        }
    )


def test_a_link_to_itself_is_a_mistake_not_a_crash(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(SettingsError, match="cannot be read"):
        read_toml(tmp_path / "loop")
