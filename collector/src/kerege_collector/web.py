"""The page, the API and what machines ask for, over HTTP; in a thread of its own.

/                  each center's state now, for people
/api/v1/centers    the same as JSON
/api/v1/timeline/CENTER?from=&to=      its verdicts (docs/verdicts.md), as `verdict_views` makes them
/api/v1/explain/CENTER?time=           why one of them is as it is
/api/v1/status, records, quarantine    what the commands of these names list: `web_listings`
/api/v1/incidents                      what is wrong now; what people do about it: `web_actions`
/healthz           200, or 503 with the reasons
/metrics           for Prometheus
/generate_204      the agents' portal check: nothing, in as few bytes as HTTP has

CannotListenError (a SettingsError)    the address or the port cannot be had
"""

import asyncio
import json
import logging
import math
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from importlib.metadata import version
from typing import Any, Final, Protocol

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from kerege_collector.board import Board, CenterRow, counts
from kerege_collector.centers import Region
from kerege_collector.languages import preferred
from kerege_collector.ledger import Ledger
from kerege_collector.listening import listen, url_of
from kerege_collector.metrics import CONTENT_TYPE, Metrics
from kerege_collector.mistakes import SettingsError
from kerege_collector.page import Page
from kerege_collector.records import Reader
from kerege_collector.settings import Http
from kerege_collector.timekeeping import Timekeeper
from kerege_collector.tokens import Tokens
from kerege_collector.web_actions import Office, action_routes
from kerege_collector.web_guard import ClosedToStrangers, Guard
from kerege_collector.web_listings import Shelves, listing_routes
from kerege_collector.web_verdicts import verdict_routes

log = logging.getLogger(__name__)

VIEW_S: Final = 1.0
"""How long one view of the board serves all who ask."""

START_S: Final = 10.0
STOP_S: Final = 5.0

MAX_CONNECTIONS: Final = 500
"""Beyond, requests get 503 at once: many that hang on a bad link must not take the collector's memory."""

HEAD_S: Final = 20
"""How long a caller may take for the head of a request: so many that connect and say nothing must not keep others out."""

READ_S: Final = 60
"""How long a caller may take to read what is left of an answer, before it is cut off."""

SPARE_CONNECTIONS: Final = 50
"""Beyond MAX_CONNECTIONS, for those who are told 503; who comes after them is hung up on, as descriptors have an end too."""

COOKIE: Final = "lang"
COOKIE_S: Final = 365 * 86_400
"""The language that a reader has chosen."""

MIN_COMPRESSED_BYTES: Final = 1_000
"""A page of 45 centers is some 40 kB, and 4 kB compressed: librarians look at it over the links that it tells about."""

KEEP_ALIVE_S: Final = 15
"""Longer than the page's own interval, so that it keeps one connection."""

URGENCY: Final = {"down": 0, "unknown": 1, "off": 2, "up": 3}
"""First what somebody should look at."""

HEADERS: Final = {"cache-control": "no-store", "x-content-type-options": "nosniff", "referrer-policy": "no-referrer"}
"""With all that people and browsers read."""

MS_PER_S: Final = 1000.0


class House(Protocol):
    """What the pages tell about. reader: of the store. trouble: what is not well (see `trouble`); empty where all is."""

    @property
    def board(self) -> Board: ...

    @property
    def metrics(self) -> Metrics: ...

    @property
    def timekeeper(self) -> Timekeeper: ...

    @property
    def ledger(self) -> Ledger: ...

    @property
    def region(self) -> Region: ...

    def reader(self) -> Reader: ...

    def trouble(self) -> list[str]: ...


class View:
    """The board as the API tells it, made at most once in `VIEW_S`."""

    def __init__(self, house: House, now_s: Callable[[], float]) -> None:
        self._house = house
        self._now_s = now_s
        self._lock = threading.Lock()
        self._made_s = -math.inf
        self._content: dict[str, Any] = {}
        self._encoded = b""

    def content(self) -> dict[str, Any]:
        """What ``/api/v1/centers`` answers, as docs/operations.md describes it."""
        with self._lock:
            self._renew()
            return self._content

    def encoded(self) -> bytes:
        """The same, as JSON."""
        with self._lock:
            self._renew()
            self._encoded = self._encoded or json.dumps(self._content, ensure_ascii=False, separators=(",", ":")).encode()
            return self._encoded

    def _renew(self) -> None:
        now_s = self._now_s()
        if not 0 <= now_s - self._made_s < VIEW_S:
            self._content, self._encoded, self._made_s = self._make(int(now_s)), b"", now_s

    def _make(self, now_s: int) -> dict[str, Any]:
        rows = self._house.board.rows(now_s)
        return {
            "now_s": now_s,
            "version": version("kerege-collector"),
            "trouble": self._house.trouble(),
            "clock": asdict(self._house.timekeeper.state()),
            "counts": counts(rows),
            "centers": [asdict(row) for row in sorted(rows, key=_urgency)],
        }


def _urgency(row: CenterRow) -> tuple[int, bool]:
    return URGENCY[row.state], row.last_seen_s is None  # sorted by name before, and it stays so within


def application(house: House, guard: Guard, *, now_s: Callable[[], float] = time.time) -> Starlette:
    """The pages of a house."""
    view, page = View(house, now_s), Page()

    def index(request: Request) -> Response:
        asked = request.query_params.get("lang")
        language = preferred(asked, request.cookies.get(COOKIE), accept=request.headers.get("accept-language", ""))
        answer = HTMLResponse(page.render(view.content(), language), headers=HEADERS | page.headers | {"vary": "accept-language, cookie"})
        if asked == language and request.headers.get("sec-fetch-mode", "navigate") == "navigate":  # the script's fetch is no choice
            answer.set_cookie(COOKIE, language, max_age=COOKIE_S, samesite="lax", httponly=True)
        return answer

    def centers(_: Request) -> Response:
        return Response(view.encoded(), media_type="application/json", headers=HEADERS)

    def health(request: Request) -> Response:
        trouble = house.trouble()
        content: dict[str, Any] = {"status": "unwell" if trouble else "well"}
        if not isinstance(guard.reader(request), Response):
            content |= {"trouble": trouble, "clock": asdict(house.timekeeper.state())}
        return JSONResponse(content, status_code=503 if trouble else 200, headers=HEADERS)

    def metrics(_: Request) -> Response:
        return Response(house.metrics.text(), headers={"content-type": CONTENT_TYPE})

    async def nothing(_: Request) -> Response:
        return Response(status_code=204)

    _watch(house, view)
    routes = {
        "/": index,
        "/api/v1/centers": centers,
        "/healthz": health,
        "/metrics": metrics,
        "/generate_204": nothing,
    }
    judged = verdict_routes(lambda: house.ledger, lambda: house.region, now_s=now_s, headers=HEADERS)
    actions = action_routes(Office(lambda: house.ledger, lambda: house.region, guard, now_s, HEADERS))
    listings = listing_routes(Shelves(lambda: house.ledger, house.reader, view.content, now_s, HEADERS))
    return Starlette(
        routes=[*(Route(path, endpoint) for path, endpoint in routes.items()), *judged, *listings, *actions],
        middleware=[Middleware(ClosedToStrangers, guard=guard), Middleware(GZipMiddleware, minimum_size=MIN_COMPRESSED_BYTES)],
        exception_handlers={HTTPException: _no_such_way, Exception: _our_mistake},
    )


def _no_such_way(request: Request, error: Exception) -> Response:
    """404 and 405 of the router."""
    assert isinstance(error, HTTPException)
    headers = dict(error.headers or {})
    if error.status_code == 405:
        why = f"{request.method} is not for this path; {headers.get('Allow', '')} is"
    else:
        why = "there is no such path; docs/operations.md lists those that there are"
    return JSONResponse({"error": why}, status_code=error.status_code, headers=dict(HEADERS) | headers)


def _our_mistake(_: Request, __: Exception) -> Response:
    return JSONResponse({"error": "a mistake of the collector's own: its log says more"}, status_code=500, headers=HEADERS)


def _watch(house: House, view: View) -> None:
    def synchronised() -> float:
        said = house.timekeeper.state().synchronised
        return math.nan if said is None else float(said)

    def max_error_s() -> float:
        said = house.timekeeper.state().max_error_ms
        return math.nan if said is None else said / MS_PER_S

    watch = house.metrics.watch
    house.metrics.watch_together("kerege_centers", "Centers by their state now", "state", lambda: view.content()["counts"])
    watch("kerege_clock_synchronised", "Is this machine's clock synchronised (1), not (0), or not known (NaN)", synchronised)
    watch("kerege_clock_max_error_seconds", "Largest error of this machine's clock, as the kernel reckons", max_error_s)


class ImpatientProtocol(H11Protocol):
    """HTTP/1.1 that gives up on a caller whose request has not begun in `HEAD_S`."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > MAX_CONNECTIONS + SPARE_CONNECTIONS:
            transport.abort()
        self._await_head(None)

    def on_response_complete(self) -> None:
        answered = self.cycle
        super().on_response_complete()  # may begin with the next request, if it is there already
        self._await_head(answered)

    def _await_head(self, before: RequestResponseCycle | None) -> None:
        self.loop.call_later(HEAD_S, self._give_up, before)

    def _give_up(self, before: RequestResponseCycle | None) -> None:
        if self.cycle is before and not self.transport.is_closing():
            self.transport.close()
            self.loop.call_later(READ_S, self.transport.abort)  # what was answered last may still be on its way over a slow link


class WebServer:
    """`application` of a house, served from `start` to `stop`. Raises SettingsError where a token cannot be used."""

    def __init__(self, http: Http, house: House) -> None:
        self._http = http
        self._tokens = Tokens(http.tokens)
        config = uvicorn.Config(
            application(house, Guard(self._tokens, closed=http.reads == "token", headers=HEADERS)),
            http=ImpatientProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,  # /generate_204 crosses metered links
            date_header=False,
            proxy_headers=False,
            limit_concurrency=MAX_CONNECTIONS,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=round(STOP_S / 2),
        )
        for name in ("uvicorn", "uvicorn.error"):
            logging.getLogger(name).setLevel(logging.ERROR)  # who sends us bad HTTP is not our concern
        self._server = uvicorn.Server(config)
        self._thread: threading.Thread | None = None
        self._socket: socket.socket | None = None

    @property
    def alive(self) -> bool:
        """Does it serve?"""
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> None:
        """Listen, and serve from now on. Raises CannotListenError."""
        self._socket = listen(self._http)
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],), name="web", daemon=True)
        self._thread.start()
        deadline = time.monotonic() + START_S
        while not self._server.started and self._thread.is_alive() and time.monotonic() < deadline:
            time.sleep(0.01)
        log.info("web.listening", extra={"fields": {"url": url_of(self._http)}})

    def reload(self) -> None:
        """Read the tokens again. Where one cannot be used all stay as they were, and that is said."""
        try:
            self._tokens.reload()
        except SettingsError as error:
            log.error("tokens.not_reloaded", extra={"fields": {"mistakes": "; ".join(error.mistakes)}})  # noqa: TRY400 - the text says it all

    def stop(self) -> None:
        """Finish what is being answered, and end."""
        self._server.should_exit = True
        if self._thread is not None:
            self._thread.join(STOP_S)
        if self._socket is not None:
            self._socket.close()
