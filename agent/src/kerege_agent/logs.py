"""Log lines of the agent: a constant event and its fields, one line each, to stderr.

``log.warning("spool.disk_full", extra={"fields": {"path": path}})`` becomes ``WARNING spool.disk_full path=/var/lib/...``, or with the
format `json` one object a line. The time is added where nobody else does it: journald stamps by itself.
"""

import json
import logging
import os
import sys
import time
from typing import Any, Final, Literal

LogFormat = Literal["text", "json"]
FORMATS: Final[tuple[LogFormat, ...]] = ("text", "json")

_BARE: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+.:/@%")


class TextFormatter(logging.Formatter):
    """``LEVEL event key=value key="value with spaces"``."""

    def __init__(self, *, stamped: bool) -> None:
        super().__init__()
        self._stamped = stamped

    def format(self, record: logging.LogRecord) -> str:
        parts = [_utc(record.created)] if self._stamped else []
        parts += [record.levelname, record.getMessage()]
        parts += [f"{name}={_bare(value)}" for name, value in fields_of(record).items()]
        return " ".join(parts) + (f"\n{self.formatException(record.exc_info)}" if record.exc_info else "")


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        members = {"time": _utc(record.created), "level": record.levelname.lower(), "event": record.getMessage(), "logger": record.name}
        members |= fields_of(record)
        if record.exc_info:
            members["exception"] = self.formatException(record.exc_info)
        return json.dumps(members, ensure_ascii=False, default=str)


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    """The fields that a log line was given."""
    found = getattr(record, "fields", {})
    return found if isinstance(found, dict) else {}


def _utc(created_s: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(created_s)) + f".{int(created_s * 1000) % 1000:03d}Z"


def _bare(value: object) -> str:
    text = str(value)
    return text if text and _BARE.issuperset(text) else json.dumps(text, ensure_ascii=False)


def set_up(log_format: LogFormat = "text", level: int = logging.INFO) -> None:
    """Send the log of this process to stderr; calling it again changes format and level."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter(stamped="JOURNAL_STREAM" not in os.environ))
    logging.basicConfig(level=level, handlers=[handler], force=True)
