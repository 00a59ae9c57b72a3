"""``status`` and ``centers``: what the running collector says, asked over its own HTTP."""

import json
import sys
from http.client import HTTPException
from typing import Any, Final
from urllib.error import HTTPError, URLError
from urllib.request import ProxyHandler, Request, build_opener

from kerege_collector import centers as registry
from kerege_collector.figures import number, span
from kerege_collector.listening import url_of
from kerege_collector.settings import Settings
from kerege_collector.tables import print_json, print_table
from kerege_collector.tokens import first_readable
from kerege_collector.wording import own

TIMEOUT_S: Final = 10.0

_open: Final = build_opener(ProxyHandler({})).open  # the collector is on this machine or next to it, whatever the environment says


class NotRunningError(Exception):
    """Nobody answers where the collector's page should be. The text is for people."""


class NotToldError(NotRunningError):
    """It runs, and tells us nothing as we have no token."""


def ask(settings: Settings, path: str) -> dict[str, Any]:
    """What the collector answers, with whatever status. Raises NotRunningError."""
    url = url_of(settings.http)
    token = first_readable(settings.http.tokens)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        with _open(Request(f"{url}{path}", headers=headers), timeout=TIMEOUT_S) as answer:  # noqa: S310 - a URL of ours
            said = json.load(answer)
    except HTTPError as error:
        with error:
            said = _json(error.read())
        if error.code in {401, 429}:
            raise NotToldError(f"{url} tells nothing without a token: run this as a user who may read one of [http.tokens]") from error
    except ValueError:
        said = None
    except (URLError, OSError, HTTPException) as error:
        raise NotRunningError(f"no collector answers at {url}: {getattr(error, 'reason', error)}") from error
    if not isinstance(said, dict):
        raise NotRunningError(f"what answers at {url} is no collector: is http.port right?")
    return said


def show(settings: Settings, *, as_json: bool) -> int:
    """Print how the collector is. 0: it runs and is well; 1 otherwise."""
    try:
        health, board = ask(settings, "/healthz"), ask(settings, "/api/v1/centers")
    except NotRunningError as error:
        if as_json:
            print_json({"running": isinstance(error, NotToldError), "well": False, "trouble": [str(error)]})
        else:
            sys.stdout.write(f"{error}\n")
        return 1
    well = health.get("status") == "well"
    if as_json:
        print_json({"running": True, "well": well} | {key: board[key] for key in ("version", "trouble", "clock", "counts")})
        return 0 if well else 1
    sys.stdout.write(f"collector {board['version']} runs at {url_of(settings.http)}, store {settings.store.kind}\n")
    for text in health["trouble"]:
        said = own(text, str)
        sys.stdout.write(f"TROUBLE   {said.text}{f' ({said.detail})' if said.detail else ''}\n")
    sys.stdout.write(f"clock     {board['clock']['detail']}{_within(board['clock'])}\n")
    sys.stdout.write(f"centers   {', '.join(f'{count} {state}' for state, count in board['counts'].items())}\n")
    return 0 if well else 1


def show_centers(settings: Settings, *, as_json: bool) -> int:
    """Print every center with its state; 0, or 1 where no collector answers and only the registry is known."""
    try:
        said = ask(settings, "/api/v1/centers")
    except NotRunningError as error:
        sys.stderr.write(f"kerege-collector: {error}; the states of now are not known\n")
        _print_registry(settings, as_json=as_json)
        return 1
    if as_json:
        for center in said["centers"]:
            print_json(center)
    else:
        headings = ("center", "name", "district", "state", "cause", "for", "last seen", "rtt ms", "loss %", "waiting", "notes")
        print_table(headings, (_cells(center, said["now_s"]) for center in said["centers"]))
    return 0


def _cells(center: dict[str, Any], now_s: int) -> list[object]:
    return [
        center["center"],
        center["name"],
        center["district"],
        center["state"],
        center["cause"],
        None if center["since_s"] is None else span(now_s - center["since_s"]),
        "never" if center["last_seen_s"] is None else f"{span(now_s - center['last_seen_s'])} ago",
        None if center["rtt_ms"] is None else number(center["rtt_ms"]),
        None if center["loss_percent"] is None else number(center["loss_percent"]),
        center["spool_records"],
        ", ".join(_notes(center)),
    ]


def _notes(center: dict[str, Any]) -> list[str]:
    notes = {
        "two agents": center["two_agents_since_s"] is not None,
        str(center["trouble"]): bool(center["trouble"]),
        "not registered": not center["registered"],
        "connection lost": center["connection"] == "lost",
        f"{center['gaps']} missing": bool(center["gaps"]),
    }
    return [note for note, applies in notes.items() if applies]


def _print_registry(settings: Settings, *, as_json: bool) -> None:
    known = registry.load(settings.centers_file, may_be_absent=True)
    if as_json:
        for center in known.values():
            entry = {"center": center.id, "name": center.name, "district": center.district, "provider": center.provider}
            print_json(entry | {"link": center.link_kind, "registered": True, "state": None})
        return
    rows = ((center.id, center.name, center.district, center.link_kind, center.provider) for center in known.values())
    print_table(("center", "name", "district", "link", "provider"), rows)


def _within(clock: dict[str, Any]) -> str:
    error_ms = clock["max_error_ms"]
    return f", at most {error_ms:.1f} ms off" if clock["synchronised"] and error_ms is not None and error_ms < 1000 else ""


def _json(content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError:
        return None
