"""InfluxDB 1.8+, 2.x and 3 through ``/api/v2/write``, with the client's synchronous service: our batches, our retries.

What the server says decides (DESIGN: own batches and retries; the client's batching mode loses data on error and at exit):

    204                          written, if it is an InfluxDB that says so: a portal, a proxy or our own /generate_204 can answer 204 too
    400, 422 about points        1.x keeps the good lines, 2.x rejects the batch: halve until the bad lines stand alone; these are rejected,
                                 the good ones are written again, which overwrites them with themselves
    413                          halve
    401, 403, 404, 429, 5xx, other answers, timeouts, broken connections
                                 RetryLater: nothing is written as far as anybody may rely on
"""

import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from influxdb_client.client.influxdb_client import InfluxDBClient
from influxdb_client.rest import ApiException
from influxdb_client.service.ping_service import PingService
from influxdb_client.service.write_service import WriteService
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError
from urllib3.exceptions import TimeoutError as HttpTimeoutError

from kerege_collector.points import line
from kerege_collector.stages import Stages
from kerege_collector.state_points import StatePoint
from kerege_collector.state_points import line as state_line
from kerege_collector.stores import Rejected, RetryLater, Row

MAX_LINES: Final = 5000
"""Most lines of one request: what InfluxData recommends (docs, "optimize writes"), some 1 MB."""

CLASSES: Final = {401: "unauthorized", 403: "forbidden", 404: "not-found", 408: "timeout", 429: "throttled"}
"""Status → class of RetryLater; 5xx is ``server-error``, what is no answer of an InfluxDB at all ``unexpected-answer``."""

ABOUT_POINTS: Final = (
    "partial write",
    "parse",
    "line protocol",
    "field type",
    "conflict",
    "retention",
    "out of range",
    "max-series",
    "max-values",
)
"""Words by which the versions say that lines are bad, rather than the request (a missing organisation, an invalid bucket)."""

TRUSTED_FOR_S: Final = 3600.0
"""A server that has taken lines within the last hour means the line when it refuses one in words that we do not know."""

MAX_DETAIL: Final = 500

WRITTEN: Final = 204

MARKS: Final = ("x-influxdb-version", "x-influxdb-build")
"""Headers by which InfluxDB is known: 1.x and 2.x send them with every answer, 3 with that to ``/ping``."""

KNOWN_FOR_S: Final = 60.0
"""How long a server that has shown its mark at ``/ping`` only is believed without asking again."""


@dataclass(frozen=True, slots=True)
class InfluxAccess:
    """Where the server is, and where in it the points go.

    For 1.x: token is ``user:password``, bucket ``database`` or ``database/retention policy``; the organisation is ignored.
    """

    url: str
    bucket: str
    organisation: str = ""
    token: str = field(default="", repr=False)
    timeout_s: float = 10.0
    gzip: bool = False


class InfluxStore:
    """Points in InfluxDB. tags: the tags of a center as they stand in a line (`points.center_tags`). Used by one thread."""

    def __init__(self, access: InfluxAccess, tags: Callable[[str], str], stages: Stages) -> None:
        self._access = access
        self._tags = tags
        self._stages = stages
        self._client = InfluxDBClient(
            url=access.url, token=access.token, org=access.organisation, timeout=round(access.timeout_s * 1000), enable_gzip=access.gzip
        )
        self._service = WriteService(self._client.api_client)  # type: ignore[no-untyped-call]
        self._written_s: float | None = None
        self._known_until_s = 0.0

    def write(self, rows: Sequence[Row]) -> list[Rejected]:
        """Write the rows; return those that the server can never take. Raises RetryLater."""
        rejected: list[Rejected] = []
        for start in range(0, len(rows), MAX_LINES):
            part = rows[start : start + MAX_LINES]
            with self._stages.turn, self._stages.measure("points"):
                tags = self._tags
                lines = [line(row, tags(row.center)) for row in part]
            rejected += self._write(part, lines)
        return rejected

    def write_states(self, points: Sequence[StatePoint]) -> None:
        """Write ``state`` points. InfluxDB 1.x and 2.x put the fields of a repeat over those that are there. Raises RetryLater."""
        if not points:
            return
        try:
            self._post("\n".join([state_line(point, self._tags(point.center)) for point in points]).encode())
        except ApiException as error:
            self._answered([], [], error)
        except (HTTPError, OSError) as error:
            raise RetryLater("unreachable", str(error)) from error

    def tidy(self, now_s: int) -> None:
        """The server forgets by its own retention policy."""

    def close(self) -> None:
        self._client.close()  # type: ignore[no-untyped-call]

    def _write(self, rows: Sequence[Row], lines: Sequence[str]) -> list[Rejected]:
        try:
            self._post("\n".join(lines).encode())
        except ApiException as error:
            return self._answered(rows, lines, error)
        except HttpTimeoutError as error:
            reason = "unreachable" if isinstance(error, ConnectTimeoutError | NewConnectionError) else "timeout"
            raise RetryLater(reason, str(error)) from error
        except (HTTPError, OSError) as error:
            raise RetryLater("unreachable", str(error)) from error
        self._written_s = time.monotonic()
        return []

    def _post(self, body: bytes) -> None:
        access = self._access
        _, status, headers = self._service.post_write_with_http_info(  # type: ignore[no-untyped-call]
            access.organisation,
            access.bucket,
            body,
            precision="s",
            content_type="text/plain; charset=utf-8",
        )
        if status != WRITTEN:  # a web server, or a portal, that happily takes anything
            raise RetryLater("unexpected-answer", f"status {status} instead of {WRITTEN}: is this an InfluxDB?")
        if not (is_marked(headers) or self._is_known()):
            raise RetryLater("unexpected-answer", f"status {WRITTEN} without {MARKS[0]}, nor has /ping one: is this an InfluxDB?")

    def _is_known(self) -> bool:
        """Does ``/ping`` show the mark? Asked after the write, so that what answers it is what has answered the write."""
        now_s = time.monotonic()
        if now_s >= self._known_until_s:
            try:
                _, _, headers = PingService(self._client.api_client).get_ping_with_http_info()  # type: ignore[no-untyped-call]
            except ApiException as error:
                headers = error.headers or {}
                if not is_marked(headers) and error.status not in (400, 404, 405):
                    raise  # it may be one, and cannot say so now
            if is_marked(headers):
                self._known_until_s = now_s + KNOWN_FOR_S
        return now_s < self._known_until_s

    def _answered(self, rows: Sequence[Row], lines: Sequence[str], error: ApiException) -> list[Rejected]:
        status, said = error.status or 0, _words(error)
        if status in (400, 422) and _is_influx(error) and rows:
            return self._refused(rows, lines, status, said)
        if status == 413 and len(rows) > 1:
            return self._halve(rows, lines)
        if status == 413 and rows:
            return [Rejected(rows[0], f"413: {said}")]
        if status == 0:  # the client's word for a TLS failure
            raise RetryLater("unreachable", str(error.reason)) from error
        reason = "server-error" if status >= 500 else CLASSES.get(status, "unexpected-answer")
        raise RetryLater(reason, f"{status}: {said}", retry_after_s=_seconds(error.retry_after)) from error

    def _refused(self, rows: Sequence[Row], lines: Sequence[str], status: int, said: str) -> list[Rejected]:
        if len(rows) > 1:
            return self._halve(rows, lines)
        if any(word in said for word in ABOUT_POINTS) or self._has_written_lately():
            return [Rejected(rows[0], f"{status}: {said}")]
        raise RetryLater("bad-request", f"{status}: {said}")

    def _halve(self, rows: Sequence[Row], lines: Sequence[str]) -> list[Rejected]:
        middle = len(rows) // 2
        return self._write(rows[:middle], lines[:middle]) + self._write(rows[middle:], lines[middle:])

    def _has_written_lately(self) -> bool:
        return self._written_s is not None and time.monotonic() - self._written_s < TRUSTED_FOR_S


def is_marked(headers: Iterable[str]) -> bool:
    """Are these the names of an InfluxDB's headers?"""
    return any(name.lower() in MARKS for name in headers)


def _is_influx(error: ApiException) -> bool:
    """Is this an answer of InfluxDB itself? All versions speak JSON; a gateway in between has a page, and knows nothing of points."""
    try:
        return isinstance(json.loads(error.body or ""), dict)
    except ValueError:
        return False


def _words(error: ApiException) -> str:
    """What the server said: 1.x and 2.x have ``message``, 3 ``error`` and more in ``data``; a proxy has a page."""
    text = error.body or error.reason or ""
    try:
        members = json.loads(text)
    except ValueError:
        return str(text)[:MAX_DETAIL]
    if not isinstance(members, dict):
        return str(text)[:MAX_DETAIL]
    said = members.get("message") or members.get("error") or text
    more = members.get("data")
    if isinstance(more, list) and more and isinstance(more[0], dict):
        said = f"{said}: {more[0].get('error_message', '')}"
    return str(said)[:MAX_DETAIL]


def _seconds(text: str | None) -> float | None:
    """A Retry-After in seconds; its other form, a date, is not worth a clock."""
    try:
        seconds = float(text) if text is not None else None
    except ValueError:
        return None
    return seconds if seconds is not None and 0 < seconds < 86_400 else None
