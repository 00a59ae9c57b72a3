"""The collector's settings: ``collector.toml``, checked as a whole before anything starts.

`load` reports every mistake at once, each with file, key and cure (`mistakes`). All keys with their defaults and what they
mean: ``collector/collector.example.toml``. Relative paths count from the directory of the file. Secrets are never in it: it
names files, which are read when they are needed, and InfluxDB's token may come from the environment.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from kerege_collector import centers
from kerege_collector.certificates import certificate_mistakes, file_mistake
from kerege_collector.mistakes import SettingsError, read_model, read_toml
from kerege_collector.quarantine_room import Bounds
from kerege_collector.tokens import token_mistakes

__all__ = [
    "Batch",
    "Clock",
    "Http",
    "Influx",
    "Mqtt",
    "PostgresqlLedger",
    "Quarantine",
    "Settings",
    "SettingsError",
    "Sqlite",
    "SqliteLedger",
    "load",
]

MQTT_TLS_PORT: Final = 8883
MQTT_PORT: Final = 1883
"""The ports that IANA assigned to MQTT over TLS and without."""

INFLUX_TOKEN: Final = "KEREGE_INFLUX_TOKEN"  # noqa: S105 - the variable's name
"""The environment variable that InfluxDB's token is read from where no file is named."""

LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})

MEGABYTE: Final = 1_000_000

RECORDS_FILE: Final = "records.db"
LEDGER_FILE: Final = "ledger.db"
"""Their names in the state directory."""


def _from_directory(path: Path, info: ValidationInfo) -> Path:
    if "\0" in str(path):
        raise ValueError("wanted a path, got one with a zero byte in it")
    directory: Path = (info.context or {}).get("directory", Path())
    return directory / path


def _host(text: str) -> str:
    if not 0 < len(text) <= 253 or any(character.isspace() or character in "/@" for character in text):
        raise ValueError(f'wanted a host name or an address, got "{text[:60]}"')
    return text


def _url(text: str) -> str:
    wrong = ValueError(f'wanted a URL such as "http://127.0.0.1:8086", got "{text[:60]}"')
    try:
        parts = urlsplit(text)
        good = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0 and text.isascii() and text.isprintable()
    except ValueError:
        raise wrong from None
    if parts.username or parts.password:
        raise ValueError("wanted a URL without a password in it: name a token_file")
    if not good or parts.query or parts.fragment:
        raise wrong
    return text.rstrip("/")


def _word(text: str) -> str:
    if not 0 < len(text) <= 64 or not text.isprintable() or any(character in "/+#$" for character in text):
        raise ValueError(f'wanted 1 to 64 printable characters other than / + # $, got "{text[:60]}"')
    return text


def _database_host(text: str) -> str:
    if text.startswith("/"):
        if "\0" in text or "," in text:
            raise ValueError(f'wanted the directory of one Unix socket, got "{text[:60]}"')
        return text
    if "," in text:
        raise ValueError(f'wanted one host, got "{text[:60]}"')
    return _host(text)


def _database_name(text: str) -> str:
    if not 0 < len(text.encode()) <= 63 or not text.isprintable():
        raise ValueError(f'wanted 1 to 63 printable characters, got "{text[:60]}"')
    return text


def _is_near(host: object) -> bool:
    """Does a connection to this host never leave the machine?"""
    return isinstance(host, str) and (host.startswith("/") or host in LOOPBACK)


def _person(text: str) -> str:
    if not text.strip() or len(text) > 60 or not text.isprintable():
        raise ValueError(f'wanted the name of a person, 1 to 60 printable characters, got "{text[:60]}"')
    return text


FilePath = Annotated[Path, Field(strict=False), AfterValidator(_from_directory)]
Host = Annotated[str, AfterValidator(_host)]
DatabaseHost = Annotated[str, AfterValidator(_database_host)]
DatabaseName = Annotated[str, AfterValidator(_database_name)]
Url = Annotated[str, AfterValidator(_url)]
Word = Annotated[str, AfterValidator(_word)]
PersonName = Annotated[str, AfterValidator(_person)]
Port = Annotated[int, Field(ge=1, le=65535)]
Timeout = Annotated[float, Field(ge=0.1, le=600)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Mqtt(_Section):
    """The way to the broker. ``port`` 0 in the class, never in a file: the usual one."""

    host: Host = Field(description="the broker's host name or address")
    port: Port = 0
    tls: bool = True
    ca_file: FilePath | None = None
    certificate_file: FilePath | None = None
    key_file: FilePath | None = None
    username_file: FilePath | None = None
    password_file: FilePath | None = None
    client_id: Word = "collector"
    keepalive_s: Annotated[int, Field(ge=5, le=3600)] = 90
    connect_timeout_s: Timeout = 30.0
    receive_maximum: Annotated[int, Field(ge=1, le=65535)] = 2000
    shared_group: Word | None = None

    @model_validator(mode="before")
    @classmethod
    def _usual_port(cls, members: Any) -> Any:
        if isinstance(members, dict) and "port" not in members:
            return members | {"port": MQTT_TLS_PORT if members.get("tls", True) else MQTT_PORT}
        return members

    @property
    def username(self) -> str | None:
        """The first line of its file. Raises OSError."""
        return secret(self.username_file)

    @property
    def password(self) -> str | None:
        """The first line of its file. Raises OSError."""
        return secret(self.password_file)


class Sqlite(_Section):
    """The embedded store. ``path`` None: records.db in the state directory."""

    kind: Literal["sqlite"] = "sqlite"
    path: FilePath | None = None
    retention_days: Annotated[int, Field(ge=1, le=36_500)] = 400


class SqliteLedger(_Section):
    """The ledger in a file: ledger.db in the state directory."""

    kind: Literal["sqlite"] = "sqlite"


class PostgresqlLedger(_Section):
    """The ledger in PostgreSQL 15 or newer. ``sslmode`` is never empty in what was read from a file."""

    kind: Literal["postgresql"] = "postgresql"
    host: DatabaseHost = Field(description="its host name or address, or the directory of its Unix socket")
    port: Port = 5432
    database: DatabaseName = "kerege"
    user: DatabaseName = "kerege"
    password_file: FilePath | None = None
    sslmode: Literal["", "disable", "prefer", "require", "verify-ca", "verify-full"] = ""
    ca_file: FilePath | None = None

    @model_validator(mode="before")
    @classmethod
    def _usual_sslmode(cls, members: Any) -> Any:
        if isinstance(members, dict) and "sslmode" not in members:
            return members | {"sslmode": "prefer" if _is_near(members.get("host")) else "verify-full"}
        return members

    @property
    def password(self) -> str | None:
        """The first line of its file. Raises OSError."""
        return secret(self.password_file)


class Influx(_Section):
    """InfluxDB 1.8 or newer. ``organisation`` is for version 2 only; ``bucket`` is 1.x's database."""

    kind: Literal["influx"] = "influx"
    url: Url = Field(description='its URL, such as "http://127.0.0.1:8086"')
    organisation: str = ""
    bucket: Annotated[str, Field(min_length=1)] = Field(description="the bucket's name (InfluxDB 1.x: the database's)")
    token_file: FilePath | None = None
    timeout_s: Timeout = 10.0

    @property
    def token(self) -> str:
        """The first line of its file, else the environment's; empty where there is neither. Raises OSError."""
        return secret(self.token_file) or os.environ.get(INFLUX_TOKEN, "").strip()


class Http(_Section):
    """Where the page, the API and the metrics are, who may act there, and whether reading needs a token too (`tokens`)."""

    host: Host = "127.0.0.1"
    port: Port = 8480
    reads: Literal["open", "token"] = "open"
    tokens: dict[PersonName, FilePath] = {}


class Batch(_Section):
    """How many reports are stored together, and how long the first may wait for the others."""

    max_reports: Annotated[int, Field(ge=1, le=100_000)] = 2000
    wait_s: Annotated[float, Field(ge=0, le=10)] = 0.2


class Quarantine(_Section):
    """Bounds of what could not be stored; a tenth of each for one center."""

    max_rows: Annotated[int, Field(ge=1, le=100_000_000)] = 100_000
    max_mb: Annotated[int, Field(ge=1, le=1_000_000)] = 500

    @property
    def bounds(self) -> Bounds:
        return Bounds(self.max_rows, self.max_mb * MEGABYTE)


class Clock(_Section):
    """Whom to ask whether this machine's clock is right: the ``kernel``, or nobody (``always``: something else keeps it)."""

    trust: Literal["kernel", "always"] = "kernel"


class Watcher(_Section):
    """Who watches the watcher: a URL that is asked for every few minutes while all is well. Without a file: nobody."""

    url_file: FilePath | None = None
    every_min: Annotated[float, Field(ge=0.1, le=1440)] = 5.0


class Settings(_Section):
    """Everything that a person can set."""

    mqtt: Mqtt = Field(description="the section [mqtt] with at least the broker's host")
    store: Annotated[Sqlite | Influx, Field(discriminator="kind")] = Sqlite()
    ledger: Annotated[SqliteLedger | PostgresqlLedger, Field(discriminator="kind")] = SqliteLedger()
    http: Http = Http()
    batch: Batch = Batch()
    quarantine: Quarantine = Quarantine()
    clock: Clock = Clock()
    heartbeat: Watcher = Watcher()
    state_directory: FilePath = Path("/var/lib/kerege-collector")
    centers_file: FilePath = Field(default=Path("centers.toml"), validate_default=True)
    unknown_centers: Literal["refuse", "admit"] = "refuse"
    ack_within_s: Annotated[int, Field(ge=1, le=3600)] = 300

    @field_validator("store", mode="before")
    @classmethod
    def _usual_store(cls, members: Any) -> Any:
        return members | {"kind": "sqlite"} if isinstance(members, dict) and members.keys() <= {"path", "retention_days"} else members

    @field_validator("ledger", mode="before")
    @classmethod
    def _usual_ledger(cls, members: Any) -> Any:
        return {"kind": "sqlite"} if members == {} else members

    @property
    def records_path(self) -> Path:
        """Where the embedded store keeps, or would keep, its records."""
        chosen = self.store.path if isinstance(self.store, Sqlite) else None
        return chosen or self.state_directory / RECORDS_FILE

    @property
    def ledger_path(self) -> Path:
        """Where the ledger is, if it is in a file."""
        return self.state_directory / LEDGER_FILE


def secret(path: Path | None) -> str | None:
    """The first line of a file that holds a name or a password, None without a file. Raises OSError."""
    if path is None:
        return None
    with path.open(encoding="utf-8") as file:
        return file.readline().strip()


def load(path: Path, *, files: bool = True) -> Settings:
    """The settings in ``path``, checked together with the registry of centers that they name.

    files: also check that certificates, keys and secrets can be used, as only the service must. Raises SettingsError.
    """
    cure = "name the right one with --settings; an example is collector/collector.example.toml"
    settings = read_model(Settings, read_toml(path, cure=cure), path)
    found = [f"{path}: {mistake}" for mistake in _file_mistakes(settings)] if files else []
    try:
        centers.load(settings.centers_file, may_be_absent=settings.unknown_centers == "admit")
    except SettingsError as error:
        found += error.mistakes
    if found:
        raise SettingsError(found)
    return settings


def read_influx(members: dict[str, str]) -> Influx:
    """An InfluxDB as a command line names it. Raises SettingsError."""
    return read_model(Influx, members, Path("the command line"))


def _file_mistakes(settings: Settings) -> Iterator[str]:
    mqtt = settings.mqtt
    for mistake in certificate_mistakes(mqtt.ca_file, mqtt.certificate_file, mqtt.key_file, tls=mqtt.tls):
        yield f"mqtt.{mistake}"
    for name, path in (("username_file", mqtt.username_file), ("password_file", mqtt.password_file)):
        if trouble := file_mistake(path):
            yield f"mqtt.{name}: {trouble}"
    if mqtt.password_file is not None and mqtt.username_file is None:
        yield "mqtt.password_file: is of no use without a username_file"
    yield from (f"http.{line}" for line in token_mistakes(settings.http.tokens))
    if settings.http.reads == "token" and not settings.http.tokens:
        yield "http.reads: nobody could read anything: name a person and a token file in the section [http.tokens]"
    if trouble := file_mistake(settings.heartbeat.url_file):
        yield f"heartbeat.url_file: {trouble}"
    yield from (f"ledger.{mistake}" for mistake in _ledger_mistakes(settings.ledger))
    if isinstance(settings.store, Influx) and (trouble := file_mistake(settings.store.token_file)):
        yield f"store.token_file: {trouble}"


def _ledger_mistakes(ledger: SqliteLedger | PostgresqlLedger) -> Iterator[str]:
    if isinstance(ledger, SqliteLedger):
        return
    for name, path in (("password_file", ledger.password_file), ("ca_file", ledger.ca_file)):
        if trouble := file_mistake(path):
            yield f"{name}: {trouble}"
    if ledger.sslmode.startswith("verify-") and ledger.ca_file is None:
        cure = "name the authority that signed the server's certificate (of the system: /etc/ssl/certs/ca-certificates.crt)"
        yield f'ca_file: is missing, and sslmode is "{ledger.sslmode}"; {cure}'
    if ledger.host.startswith("/") and ledger.ca_file is not None:
        yield "ca_file: is of no use with a Unix socket"
