"""Who asks over HTTP: by a token in the header ``Authorization``, and by nothing else.

There are no cookies that would speak for anybody, and no other site may set this header: a page elsewhere can write nothing.
A browser can send a token only as a password (``Basic``); it then does so by itself, so for writing that is not taken.
"""

import base64
import binascii
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from kerege_collector.alarm import Alarm
from kerege_collector.tokens import Tokens

ALWAYS_OPEN: Final = frozenset({"/generate_204", "/healthz"})
"""The agents have no token; whoever watches the watcher needs none to learn whether all is well, and is told no more than that."""

WRONG_EACH_MINUTE: Final = 10
"""So many wrong tokens of one address are answered as such. A right one always counts: behind a proxy all have one address."""

MINUTE_S: Final = 60.0
MAX_ADDRESSES: Final = 1000

NOBODY_WRITES: Final = (
    "nobody may write over HTTP: name a person and a file with that person's token in the section [http.tokens] of collector.toml"
)
NOTHING_GIVEN: Final = "wanted the header Authorization: Bearer TOKEN; tokens are given out by whoever runs the collector ([http.tokens])"
NOBODYS: Final = "this token is nobody's; ask whoever runs the collector"
TOO_MANY: Final = "too many wrong tokens from this address; try again in a minute"

BEARER: Final = 'Bearer realm="Kerege"'
BASIC: Final = 'Basic realm="Kerege", charset="UTF-8"'
"""Challenges (RFC 6750, RFC 7617)."""

log = logging.getLogger(__name__)


class Guard:
    """``closed``: reading needs a token too."""

    def __init__(self, tokens: Tokens, *, closed: bool, headers: Mapping[str, str], now_s: Callable[[], float] = time.monotonic) -> None:
        self.tokens = tokens
        self.closed = closed
        self._headers = dict(headers)
        self._now_s = now_s
        self._wrong: OrderedDict[str, list[float]] = OrderedDict()
        self._alarm = Alarm(again_s=MINUTE_S)

    def reader(self, request: Request) -> str | Response | None:
        """Who reads; None where anybody may; else the refusal."""
        if not self.closed:
            return None
        given = _bearer(request) or _basic(request)
        return self._who(request, given, (BASIC, BEARER))

    def writer(self, request: Request) -> str | Response:
        """Who writes, or the refusal."""
        if not self.tokens:
            return JSONResponse({"error": NOBODY_WRITES}, status_code=403, headers=self._headers)
        return self._who(request, _bearer(request), (BEARER,))

    def _who(self, request: Request, given: str | None, challenges: Sequence[str]) -> str | Response:
        if given is None:
            return self._refused(401, NOTHING_GIVEN, challenges)
        who = self.tokens.who(given)
        if who is not None:
            return who
        address = request.client.host if request.client else "?"
        if self._alarm.due(address, self._now_s()):
            log.warning("web.wrong_token", extra={"fields": {"address": address, "path": request.url.path}})
        if self._is_tiresome(address):
            answer = self._refused(429, TOO_MANY)
            answer.headers["retry-after"] = str(round(MINUTE_S))
            return answer
        return self._refused(401, NOBODYS, [f'{each}, error="invalid_token"' if each == BEARER else each for each in challenges])

    def _is_tiresome(self, address: str) -> bool:
        now_s = self._now_s()
        lately = [at_s for at_s in self._wrong.pop(address, []) if now_s - at_s < MINUTE_S][-WRONG_EACH_MINUTE:]
        self._wrong[address] = [*lately, now_s]
        while len(self._wrong) > MAX_ADDRESSES:
            self._wrong.popitem(last=False)
        return len(lately) >= WRONG_EACH_MINUTE

    def _refused(self, status: int, why: str, challenges: Sequence[str] = ()) -> Response:
        answer = JSONResponse({"error": why}, status_code=status, headers=self._headers)
        for challenge in challenges:  # each in a line of its own: not every browser takes a list apart
            answer.headers.append("www-authenticate", challenge)
        return answer


class ClosedToStrangers:
    """Middleware: nothing is read without a token where the guard is closed. Writing asks for its own."""

    def __init__(self, app: ASGIApp, guard: Guard) -> None:
        self._app = app
        self._guard = guard

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._guard.closed and scope["type"] == "http" and scope["method"] != "POST" and scope["path"] not in ALWAYS_OPEN:
            answer = self._guard.reader(Request(scope))
            if isinstance(answer, Response):
                await answer(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _bearer(request: Request) -> str | None:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None


def _basic(request: Request) -> str | None:
    """The password (RFC 7617); who has put the name there is not asked."""
    scheme, _, text = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        return base64.b64decode(text.strip(), validate=True).decode().partition(":")[2] or None
    except (binascii.Error, ValueError):
        return None
