"""The API's answers about verdicts (see `verdict_views`) and incidents.

/api/v1/timeline/CENTER?from=&to=
/api/v1/explain/CENTER?time=
/api/v1/incidents?all=1

400 with ``error`` where the question cannot be meant so, 503 where the ledger cannot be read now.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

import sqlalchemy as sa
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from kerege_collector import incidents, verdict_views
from kerege_collector.centers import Region
from kerege_collector.ledger import Ledger
from kerege_collector.records import time_of
from kerege_collector.stores import RetryLater
from kerege_wire.topics import is_center_id

WEEK_S: Final = 7 * 86_400
"""What is told where no beginning is asked for."""

MAX_TIME_DIGITS: Final = 11

Answer = Callable[[sa.Connection, Region, str], dict[str, Any]]


def verdict_routes(
    ledger: Callable[[], Ledger], region: Callable[[], Region], *, now_s: Callable[[], float], headers: Mapping[str, str]
) -> list[Route]:
    """The routes, over the ledger and the registry of the moment."""

    def asked(answer: Callable[[sa.Connection], dict[str, Any]]) -> Response:
        try:
            with ledger().transaction() as connection:
                return JSONResponse(answer(connection), headers=headers)
        except RetryLater as error:
            return JSONResponse({"error": f"the ledger cannot be read now: {error}"}, status_code=503, headers=headers)

    def judged(request: Request, answer: Answer) -> Response:
        center = request.path_params["center"]
        if not is_center_id(center):
            return _refused(f'"{center[:60]}" cannot be a center\'s id', headers)
        return asked(lambda connection: answer(connection, region(), center))

    def timeline(request: Request) -> Response:
        span = _span(request, now_s())
        if span is None:
            return _refused("from and to: wanted times such as 2026-11-01T10:00Z or seconds since 1970, from before to", headers)
        return judged(request, lambda connection, known, center: verdict_views.timeline(connection, known, center, *span))

    def explain(request: Request) -> Response:
        time_s = time_asked(request, "time", now_s(), lambda: None)
        if time_s is None:
            return _refused("time: wanted one such as 2026-11-01T10:00Z, or seconds since 1970", headers)
        return judged(request, lambda connection, known, center: verdict_views.explain(connection, known, center, time_s))

    def list_incidents(request: Request) -> Response:
        everything = request.query_params.get("all") == "1"
        return asked(lambda connection: {"incidents": incidents.listing(connection, everything=everything)})

    paths = {"/api/v1/timeline/{center}": timeline, "/api/v1/explain/{center}": explain, "/api/v1/incidents": list_incidents}
    return [Route(path, endpoint) for path, endpoint in paths.items()]


def _refused(why: str, headers: Mapping[str, str]) -> Response:
    return JSONResponse({"error": why}, status_code=400, headers=headers)


def _span(request: Request, now_s: float) -> tuple[int, int] | None:
    """From and to of the query; None where they are none."""
    until_s = time_asked(request, "to", now_s, lambda: int(now_s))
    since_s = time_asked(request, "from", now_s, lambda: None if until_s is None else until_s - WEEK_S)
    return None if since_s is None or until_s is None or since_s >= until_s else (since_s, until_s)


def time_asked(request: Request, name: str, now_s: float, default: Callable[[], int | None]) -> int | None:
    """A time of the query, ``default`` where it is not given; None where it is none."""
    text = request.query_params.get(name)
    if text is None:
        return default()
    if text.isascii() and text.isdecimal() and len(text) <= MAX_TIME_DIGITS:
        return int(text)
    try:
        return time_of(text.replace(" ", "+"), now_s)  # a + that nobody has escaped arrives as a space
    except (ValueError, OverflowError):
        return None
