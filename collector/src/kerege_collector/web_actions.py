"""What people do, over HTTP: the same as the commands of the same names, by whoever the token names.

POST /api/v1/incidents/N/ack
POST /api/v1/incidents/N/snooze     {"until": TIME}
POST /api/v1/incidents/N/resolve    {"reason": "power", "again": false}
POST /api/v1/maintenance            {"scope": "provider", "name": "Sputnik", "from": TIME, "to": TIME, "why": "dish"}

TIME: "2026-11-01T10:00+05:00", "2h" (from now), or seconds since 1970. The answer is what the command says with ``--json``; or ``error``,
which names the place and the cure: 400 the body, 401 and 403 the token, 404 the incident, 408 and 413 too slow and too long, 409 done
already, 503 the ledger.
"""

import asyncio
import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, TypeVar

import sqlalchemy as sa
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from kerege_collector import incidents
from kerege_collector.centers import Region
from kerege_collector.incidents import AlreadyResolvedError, Done, NoSuchIncidentError
from kerege_collector.ledger import Ledger
from kerege_collector.mistakes import lines
from kerege_collector.records import MAX_TIME_S, time_of
from kerege_collector.stores import RetryLater
from kerege_collector.web_guard import Guard

MAX_BODY_BYTES: Final = 16_384
BODY_S: Final = 20.0
"""How long a body may take to come."""

MAX_WHY: Final = 500

log = logging.getLogger(__name__)

Asked = TypeVar("Asked", bound=BaseModel)


class RefusedError(Exception):
    """The request cannot be done, and why: for the person who asked."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why.encode("utf-8", "backslashreplace").decode())  # half a surrogate pair cannot be said
        self.status = status


def _moment(value: object) -> object:
    """Seconds or a text → seconds. Bad numbers are left to pydantic's own words."""
    if isinstance(value, str):
        value = time_of(value, time.time(), ahead=True)
    if isinstance(value, int) and not isinstance(value, bool) and not 0 <= value < MAX_TIME_S:
        raise ValueError(f"wanted a time from 1970 on such as 2026-11-01T10:00+05:00, got {value}")
    return value


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("wanted printable characters only, in one line")
    return text


Moment = Annotated[int, BeforeValidator(_moment)]
Line = Annotated[str, Field(max_length=MAX_WHY), AfterValidator(_printable)]


class _Body(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Ack(_Body):
    """Nothing to say."""


class Snooze(_Body):
    """No reminders until then."""

    until: Moment = Field(description='a time such as "2026-11-01T10:00+05:00" or "2h" (from now)')


class Resolve(_Body):
    """again: what was said of it before was wrong."""

    reason: Literal["lan", "terminal", "provider", "dns", "portal", "power", "shutdown", "agent", "unknown"] = Field(
        description='the cause, such as "power"'
    )
    again: bool = False


class Maintenance(_Body):
    """Without ``from``: from now on."""

    scope: Literal["center", "satellite", "provider", "district"] = Field(description='"center", "satellite", "provider" or "district"')
    name: Line = Field(description="the id of the center, or the name as centers.toml has it")
    since: Moment | None = Field(default=None, alias="from")
    to: Moment = Field(description='a time such as "2026-11-01T10:00+05:00" or "2h" (from now)')
    why: Line = ""


@dataclass(frozen=True, slots=True)
class Office:
    """What an action needs to be done."""

    ledger: Callable[[], Ledger]
    region: Callable[[], Region]
    guard: Guard
    now_s: Callable[[], float]
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Order:
    """What is asked for, of which incident (0: of none), by whom, when."""

    number: int
    body: Any
    who: str
    now_s: int
    region: Region


def action_routes(office: Office) -> list[Route]:
    """The routes, over the ledger and the registry of the moment."""
    paths: dict[str, tuple[type[BaseModel], Callable[[sa.Connection, Order], Done]]] = {
        "/api/v1/incidents/{number:int}/ack": (Ack, _ack),
        "/api/v1/incidents/{number:int}/snooze": (Snooze, _snooze),
        "/api/v1/incidents/{number:int}/resolve": (Resolve, _resolve),
        "/api/v1/maintenance": (Maintenance, _maintain),
    }
    return [Route(path, _endpoint(office, asked, work), methods=["POST"]) for path, (asked, work) in paths.items()]


def _endpoint(office: Office, asked: type[BaseModel], work: Callable[[sa.Connection, Order], Done]) -> Callable[[Request], Any]:
    async def endpoint(request: Request) -> Response:
        who = office.guard.writer(request)
        if isinstance(who, Response):
            return who
        try:
            body = read(asked, await _body(request))
            order = Order(request.path_params.get("number", 0), body, who, int(office.now_s()), office.region())
            done = await run_in_threadpool(_do, office.ledger(), work, order)
        except RefusedError as refused:
            return JSONResponse({"error": str(refused)}, status_code=refused.status, headers=office.headers)
        log.info("web.acted", extra={"fields": {"who": who, "what": done["done"], "incident": order.number or None}})
        return JSONResponse(done, headers=office.headers)

    return endpoint


def read(asked: type[Asked], content: bytes) -> Asked:
    """A body as what it should be; an empty one is ``{}``. Raises RefusedError with every mistake."""
    try:
        members = json.loads(content or b"{}")
    except (ValueError, RecursionError) as error:
        raise RefusedError(400, f"the body is no JSON: {error}") from error
    if not isinstance(members, dict):
        raise RefusedError(400, f"the body: wanted an object with {_names(asked)}")
    try:
        return asked.model_validate(members)
    except ValidationError as error:
        raise RefusedError(400, "; ".join(lines(asked, error))) from error


def _names(asked: type[BaseModel]) -> str:
    return ", ".join(field.alias or name for name, field in asked.model_fields.items()) or "nothing in it"


async def _body(request: Request) -> bytes:
    content = b""
    try:
        async with asyncio.timeout(BODY_S):
            async for part in request.stream():
                content += part
                if len(content) > MAX_BODY_BYTES:
                    raise RefusedError(413, f"the body is longer than {MAX_BODY_BYTES} bytes: no action needs so many")
    except (TimeoutError, ClientDisconnect) as error:
        raise RefusedError(408, f"the body has not come within {BODY_S:g} s") from error
    return content


def _do(ledger: Ledger, work: Callable[[sa.Connection, Order], Done], order: Order) -> Done:
    try:
        with ledger.writing() as connection:
            return work(connection, order)
    except NoSuchIncidentError as error:
        raise RefusedError(404, f"{error}; GET /api/v1/incidents lists them") from error
    except AlreadyResolvedError as error:
        raise RefusedError(409, f"{error}: true") from error
    except RetryLater as error:
        raise RefusedError(503, f"the ledger cannot be written now: {error}; try again") from error


def _ack(connection: sa.Connection, order: Order) -> Done:
    return incidents.acknowledge(connection, order.number, order.who, order.now_s)


def _snooze(connection: sa.Connection, order: Order) -> Done:
    return incidents.snooze(connection, order.number, order.body.until, order.who, order.now_s)


def _resolve(connection: sa.Connection, order: Order) -> Done:
    body = order.body
    return incidents.resolve(connection, order.number, body.reason, who=order.who, now_s=order.now_s, again=body.again)


def _maintain(connection: sa.Connection, order: Order) -> Done:
    body = order.body
    since_s = order.now_s if body.since is None else body.since
    if since_s >= body.to:
        raise RefusedError(400, "to: must be after from (where it is not given: after now)")
    if trouble := incidents.not_in_registry(order.region, body.scope, body.name):
        raise RefusedError(400, f"name: {trouble}")
    span = (since_s, body.to)
    return incidents.maintain(connection, (body.scope, body.name), span, why=body.why, who=order.who, now_s=order.now_s)
