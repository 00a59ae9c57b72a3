"""``kerege-collector check``: is everything as the collector needs it; each line says what was looked at, how it is, and the cure."""

import json
import os
import shutil
import ssl
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode
from urllib.request import ProxyHandler, Request, build_opener

from kerege_collector import centers
from kerege_collector.listening import CannotListenError, listen, url_of
from kerege_collector.opening import LEDGER_CURES, ledger_database
from kerege_collector.settings import Influx, PostgresqlLedger, Settings
from kerege_collector.status import NotRunningError, ask
from kerege_collector.stores import RetryLater
from kerege_collector.timekeeping import CURE, look
from kerege_collector.trouble import NO_BROKER

LEDGER_ROOM_BYTES: Final = 200_000_000
"""Free room that the ledger and its quarantine should have."""

STORE_ROOM_BYTES: Final = 2_000_000_000
"""... and the embedded store: about two months of 50 centers."""

_open: Final = build_opener(ProxyHandler({})).open

_WRITABLE: Final = frozenset({204, 400})
"""400: "nothing to write", said after token and bucket were looked at."""

_ANSWERS: Final = {
    401: ("refuses the token", "store.token_file must hold a token (InfluxDB 1.x: user:password) that may write to the bucket"),
    403: ("refuses the token", "the token must be allowed to write to the bucket"),
    404: ("knows no such bucket", "create it (InfluxDB 1.x: CREATE DATABASE), or correct store.bucket and store.organisation"),
}


@dataclass(frozen=True, slots=True)
class Line:
    """One thing that was looked at. ``cure`` where it is not well."""

    check: str
    ok: bool
    why: str
    cure: str | None = None


def show(settings: Settings, *, as_json: bool) -> int:
    """Print one line a check as it is made; 0 where all is well, else 1."""
    well = True
    for line in lines(settings):
        well = well and line.ok
        sys.stdout.write(f"{json.dumps(asdict(line), ensure_ascii=False) if as_json else _text(line)}\n")
        sys.stdout.flush()
    return 0 if well else 1


def _text(line: Line) -> str:
    head = f"{'ok' if line.ok else 'NOT OK':6}  {line.check:15}  {line.why}"
    return head if line.cure is None else f"{head}\n{'':25}cure: {line.cure}"


def lines(settings: Settings) -> Iterator[Line]:
    """All checks, in the order in which they build on each other. The settings themselves have been checked by being loaded."""
    yield Line("settings", ok=True, why="no mistake found; certificates, keys and secrets can be read")
    checks: tuple[Callable[[Settings], Line], ...] = (_centers, _directory, _ledger, _store, _broker, _http, _clock)
    for check in checks:
        yield check(settings)


def _centers(settings: Settings) -> Line:
    registry = centers.load(settings.centers_file, may_be_absent=True)
    others = "others are admitted too" if settings.unknown_centers == "admit" else "others are refused"
    if registry or settings.unknown_centers == "admit":
        return Line("centers", ok=True, why=f"{len(registry)} in {settings.centers_file}; {others}")
    cure = "list them there (an example is collector/centers.example.toml)"
    return Line("centers", ok=False, why=f"none in {settings.centers_file}, and {others}", cure=cure)


def _directory(settings: Settings) -> Line:
    return _writable("state directory", settings.state_directory, LEDGER_ROOM_BYTES, "state_directory")


def _writable(check: str, directory: Path, needed_bytes: int, key: str) -> Line:
    place = next(path for path in (directory, *directory.absolute().parents) if _is_there(path))
    try:
        with tempfile.TemporaryFile(dir=place):
            free_bytes = shutil.disk_usage(place).free
    except OSError as error:
        cure = f"create it and give it to user {os.geteuid()}, or name another as {key}"
        return Line(check, ok=False, why=f"{directory}: {error.strerror or error}", cure=cure)
    why = f"{directory} {'is writable' if place == directory else 'can be made'}, {free_bytes / 1e6:.0f} MB free"
    if free_bytes < needed_bytes:
        return Line(check, ok=False, why=why, cure=f"free {needed_bytes / 1e6:.0f} MB, or name another place as {key}")
    return Line(check, ok=True, why=why)


def _is_there(path: Path) -> bool:
    """Is it there, or hidden behind a directory that may not be entered? What is tried there next says so in words."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def _store(settings: Settings) -> Line:
    if not isinstance(settings.store, Influx):
        return _writable("store", settings.records_path.parent, STORE_ROOM_BYTES, "store.path")
    from kerege_collector.stores.influx import is_marked  # noqa: PLC0415 - it takes a second to load

    store = settings.store
    where = f"{store.url}, bucket {store.bucket},"
    query = urlencode({"org": store.organisation, "bucket": store.bucket, "precision": "s"})
    request = Request(f"{store.url}/api/v2/write?{query}", b"", {"Authorization": f"Token {store.token}"})  # noqa: S310 - checked
    try:
        status, marked = _asked(request, store.timeout_s, is_marked)
        marked = marked or (status in _WRITABLE and _asked(_ping(store), store.timeout_s, is_marked)[1])
    except (URLError, OSError) as error:
        cure = "is InfluxDB running, and does a firewall let us through?"
        return Line("store", ok=False, why=f"{store.url}: {getattr(error, 'reason', error)}", cure=cure)
    if status in _WRITABLE and not marked:
        cure = "is this an InfluxDB? Correct store.url; a proxy in front of it must let its X-Influxdb-Version pass"
        return Line("store", ok=False, why=f"{where} what answers there does not say that it is an InfluxDB", cure=cure)
    if status in _WRITABLE:
        return Line("store", ok=True, why=f"{where} may be written")
    why, cure = _ANSWERS.get(status, (f"answers with status {status}", "is this an InfluxDB? Its log tells more"))
    return Line("store", ok=False, why=f"{where} {why}", cure=cure)


def _ledger(settings: Settings) -> Line:
    """Something is written to it, and undone."""
    from kerege_collector import migrations  # noqa: PLC0415 - as the store's

    database = ledger_database(settings)
    try:
        if not isinstance(settings.ledger, PostgresqlLedger) and not settings.ledger_path.exists():
            return Line("ledger", ok=True, why=f"{settings.ledger_path} will be made")
        version = migrations.prove(database)
    except migrations.LedgerError as error:
        why, _, cure = str(error).rpartition(": ")
        return Line("ledger", ok=False, why=why, cure=cure)
    except RetryLater as trouble:
        return Line("ledger", ok=False, why=str(trouble), cure=LEDGER_CURES.get(trouble.reason, "its own log tells more"))
    finally:
        database.close()
    empty = "" if version else "; it is empty, and the collector will make its tables"
    return Line("ledger", ok=True, why=f"{database.where} may be written{empty}")


def _ping(store: Influx) -> Request:
    return Request(f"{store.url}/ping", headers={"Authorization": f"Token {store.token}"})  # noqa: S310 - checked


def _asked(request: Request, timeout_s: float, is_marked: Callable[[Iterable[str]], bool]) -> tuple[int, bool]:
    """Status of the answer, and does InfluxDB show itself in its headers. Raises URLError and OSError."""
    try:
        with _open(request, timeout=timeout_s) as answer:
            return answer.status, is_marked(answer.headers)
    except HTTPError as error:
        with error:
            return error.code, is_marked(error.headers)


def _broker(settings: Settings) -> Line:
    from kerege_collector.mqtt import RefusedError, connect_once  # noqa: PLC0415 - only here

    where = f"{settings.mqtt.host}:{settings.mqtt.port}"
    with suppress(NotRunningError):
        connected = NO_BROKER not in ask(settings, "/healthz").get("trouble", ())
        why = f"the collector runs, and is {'' if connected else 'not '}connected to the broker of the settings that it was started with"
        return Line("broker", ok=connected, why=why, cure=None if connected else "its log tells why; stop it to have the broker asked here")
    try:
        version = connect_once(settings.mqtt)
    except RefusedError as error:
        cure = "compare certificate, or user name and password, with the broker's rules; is mqtt.port right?"
        return Line("broker", ok=False, why=f"{where}: {error}", cure=cure)
    except ssl.SSLError as error:
        return Line("broker", ok=False, why=f"{where}: TLS: {error}", cure=_tls_cure(error))
    except (OSError, ValueError) as error:
        return Line(
            "broker", ok=False, why=f"{where}: {error}", cure="is the broker running, is mqtt.host right, does a firewall let us through?"
        )
    return Line("broker", ok=True, why=f"{where} lets us in, MQTT {version}{' over TLS' if settings.mqtt.tls else ''}")


def _tls_cure(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return "mqtt.ca_file must be the authority that signed the broker's certificate, and mqtt.host a name that stands in it"
    if error.reason == "WRONG_VERSION_NUMBER":
        return "that port speaks no TLS: correct mqtt.port, or set mqtt.tls = false"
    return "does the broker know our certificate's authority? Is mqtt.port right?"


def _http(settings: Settings) -> Line:
    url = url_of(settings.http)
    try:
        version = ask(settings, "/api/v1/centers").get("version")
    except NotRunningError:
        try:
            listen(settings.http).close()
        except CannotListenError as error:
            return Line("page", ok=False, why=str(error), cure="see above")
        return Line("page", ok=True, why=f"nobody listens at {url}: it is free")
    return Line("page", ok=True, why=f"{url}: a collector runs, version {version}")


def _clock(settings: Settings) -> Line:
    state = look(settings.clock.trust)
    return Line("clock", ok=bool(state.synchronised), why=state.detail, cure=None if state.synchronised else CURE)
