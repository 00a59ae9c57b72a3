"""Log lines: a constant event and its fields, for people and for machines."""

import json
import logging
from collections.abc import Iterator

import pytest

from kerege_agent.logs import JsonFormatter, TextFormatter, set_up


def record(fields: dict[str, object]) -> logging.LogRecord:
    made = logging.LogRecord("kerege_agent.spool", logging.WARNING, __file__, 1, "spool.disk_full", None, None)
    made.fields = fields
    made.created = 1_794_000_000.25
    return made


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({}, "WARNING spool.disk_full"),
        ({"path": "/var/lib/kerege-agent", "free": 0}, "WARNING spool.disk_full path=/var/lib/kerege-agent free=0"),
        ({"error": "No space left"}, 'WARNING spool.disk_full error="No space left"'),
        ({"error": 'a "b"\n'}, 'WARNING spool.disk_full error="a \\"b\\"\\n"'),
        ({"name": ""}, 'WARNING spool.disk_full name=""'),
        ({"name": "кітапхана"}, 'WARNING spool.disk_full name="кітапхана"'),
    ],
)
def test_a_line_is_an_event_and_its_fields(fields: dict[str, object], line: str) -> None:
    """Whatever a field holds, the line stays one line and can be taken apart again."""
    assert TextFormatter(stamped=False).format(record(fields)) == line


def test_a_line_has_its_time_where_nobody_else_adds_it() -> None:
    """UTC, to the millisecond."""
    assert TextFormatter(stamped=True).format(record({})) == "2026-11-06T21:20:00.250Z WARNING spool.disk_full"


def test_json_lines_have_the_same_in_members() -> None:
    """One object, with the fields as they are."""
    made = json.loads(JsonFormatter().format(record({"path": "/x", "free": 0})))
    assert made == {
        "time": "2026-11-06T21:20:00.250Z",
        "level": "warning",
        "event": "spool.disk_full",
        "logger": "kerege_agent.spool",
        "path": "/x",
        "free": 0,
    }


def test_an_exception_is_in_both() -> None:
    """With its class and text."""
    made = record({})
    made.exc_info = (ZeroDivisionError, ZeroDivisionError("of nothing"), None)
    assert TextFormatter(stamped=False).format(made).endswith("ZeroDivisionError: of nothing")
    assert json.loads(JsonFormatter().format(made))["exception"].endswith("ZeroDivisionError: of nothing")


@pytest.fixture
def own_logging() -> Iterator[None]:
    """Gives the handlers of the test run back."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.mark.usefixtures("own_logging")
def test_journald_stamps_by_itself(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Under systemd no time is added; what is below the level is not written; JSON on request."""
    monkeypatch.setenv("JOURNAL_STREAM", "8:1")
    set_up("text", logging.INFO)
    logging.getLogger("kerege_agent.x").info("agent.started", extra={"fields": {"center": "demo"}})
    logging.getLogger("kerege_agent.x").debug("agent.detail")
    set_up("json", logging.INFO)
    logging.getLogger("kerege_agent.x").info("agent.started")
    text, line = capsys.readouterr().err.splitlines()
    assert text == "INFO agent.started center=demo"
    assert json.loads(line)["event"] == "agent.started"
