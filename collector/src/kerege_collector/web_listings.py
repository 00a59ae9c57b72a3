"""The API's counterparts of the commands that list: ``status``, ``records``, ``quarantine list`` and ``quarantine show``.

/api/v1/status
/api/v1/records?center=&kind=&since=&until=&limit=    in the order of the store; of the last hour where nothing is asked for
/api/v1/quarantine?all=1&after=N
/api/v1/quarantine/N

400 and 404 with ``error``, 503 where ledger or store cannot be read now.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from kerege_collector.incidents import MAX_NUMBER
from kerege_collector.ledger import Ledger
from kerege_collector.quarantine_command import content_of, members_of
from kerege_collector.records import Reader, ReadError, Wanted
from kerege_collector.stores import RetryLater
from kerege_collector.web_actions import RefusedError
from kerege_collector.web_verdicts import time_asked
from kerege_wire import KINDS
from kerege_wire.topics import is_center_id

HOUR_S: Final = 3600
MAX_ITEMS: Final = 1000
MAX_DIGITS: Final = 19


@dataclass(frozen=True, slots=True)
class Shelves:
    """Where lists are read from. view: what ``/api/v1/centers`` says."""

    ledger: Callable[[], Ledger]
    reader: Callable[[], Reader]
    view: Callable[[], Mapping[str, Any]]
    now_s: Callable[[], float]
    headers: Mapping[str, str]


def listing_routes(shelves: Shelves) -> list[Route]:
    """The routes, over what is there at the moment."""
    paths = {"/status": _status, "/records": _records, "/quarantine": _quarantine, "/quarantine/{number:int}": _quarantined}
    return [Route(f"/api/v1{path}", _endpoint(shelves, answer)) for path, answer in paths.items()]


def _endpoint(shelves: Shelves, answer: Callable[[Shelves, Request], Mapping[str, Any]]) -> Callable[[Request], Response]:
    def endpoint(request: Request) -> Response:
        try:
            return JSONResponse(answer(shelves, request), headers=shelves.headers)
        except RefusedError as refused:
            return JSONResponse({"error": str(refused)}, status_code=refused.status, headers=shelves.headers)
        except (RetryLater, ReadError) as error:
            return JSONResponse({"error": f"cannot be read now: {error}"}, status_code=503, headers=shelves.headers)

    return endpoint


def _status(shelves: Shelves, _: Request) -> Mapping[str, Any]:
    said = shelves.view()
    return {"running": True, "well": not said["trouble"]} | {key: said[key] for key in ("version", "trouble", "clock", "counts")}


def _records(shelves: Shelves, request: Request) -> Mapping[str, Any]:
    center, kind = request.query_params.get("center"), request.query_params.get("kind")
    if center is not None and not is_center_id(center):
        raise RefusedError(400, f'center: "{center[:60]}" cannot be a center\'s id')
    if kind is not None and kind not in KINDS:
        raise RefusedError(400, f"kind: wanted one of {', '.join(KINDS)}")
    now_s = shelves.now_s()
    since_s = time_asked(request, "since", now_s, lambda: int(now_s) - HOUR_S)
    until_s = time_asked(request, "until", now_s, lambda: int(now_s) + HOUR_S)
    if since_s is None or until_s is None or since_s >= until_s:
        raise RefusedError(
            400, "since and until: wanted times such as 2026-11-01T10:00Z, 2h (ago) or seconds since 1970, since before until"
        )
    limit = _number(request, "limit", MAX_ITEMS)
    found = list(islice(shelves.reader().read(Wanted(center, kind, since_s, until_s)), min(limit, MAX_ITEMS) + 1))
    return {"records": found[: min(limit, MAX_ITEMS)], "more": len(found) > min(limit, MAX_ITEMS)}


def _quarantine(shelves: Shelves, request: Request) -> Mapping[str, Any]:
    waiting_only, after = request.query_params.get("all") != "1", _number(request, "after", 0)
    rows = shelves.ledger().quarantined(waiting_only=waiting_only, after_id=after, limit=MAX_ITEMS + 1)
    return {"items": [members_of(row) for row in rows[:MAX_ITEMS]], "more": len(rows) > MAX_ITEMS}


def _quarantined(shelves: Shelves, request: Request) -> Mapping[str, Any]:
    number = request.path_params["number"]
    row = shelves.ledger().quarantine_item(number) if number <= MAX_NUMBER else None
    if row is None:
        raise RefusedError(404, f"there is no item {number}; GET /api/v1/quarantine lists them")
    return members_of(row) | {"content": content_of(row.what.payload), "hex": row.what.payload.hex(" ")}


def _number(request: Request, name: str, default: int) -> int:
    text = request.query_params.get(name, str(default))
    if not (text.isascii() and text.isdecimal() and len(text) < MAX_DIGITS):
        raise RefusedError(400, f'{name}: wanted a whole number, got "{text[:60]}"')
    return int(text)
