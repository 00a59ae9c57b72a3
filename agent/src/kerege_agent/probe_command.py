"""``kerege-agent probe KIND``: one probe, run now and without the spool; its log, its record and its stored line together."""

import json
import logging
import sys
import time
from typing import Any, Final

from kerege_agent import clock
from kerege_agent.probes import PROBES, Context, failed
from kerege_agent.probes.words import words_of
from kerege_agent.settings import Settings
from kerege_wire import Body, Record, Report, encode_report, kind_of
from kerege_wire.fields import write_fields
from kerege_wire.reports import report_members

EPOCH_SHOWN: Final = "--------"
"""Stands for the epoch: a record that never went through the spool has no identity."""

log = logging.getLogger(__name__)


def show(settings: Settings, kind: str, *, as_json: bool) -> int:
    """Run it and print what it found. Returns 0 where it measured, 1 where a record says why it could not (or that the link is down)."""
    context = Context(settings=settings, read=clock.read)
    log.info("probe.begins", extra={"fields": {"kind": kind}})
    began_s = time.monotonic()
    try:
        bodies = list(PROBES[kind](context))
    except Exception as error:
        log.warning("probe.failed", exc_info=True, extra={"fields": {"kind": kind}})
        bodies = failed(kind, context, words_of(error))
    log.info("probe.ended", extra={"fields": {"kind": kind, "seconds": f"{time.monotonic() - began_s:.3f}", "records": len(bodies)}})
    sys.stderr.flush()
    for body in bodies:
        _print(body, as_json=as_json)
    return 0 if bodies and all(_is_well(body) for body in bodies) else 1


def _is_well(body: Body) -> bool:
    return body.error is None and getattr(body, "result", "online") == "online"


def _print(body: Body, *, as_json: bool) -> None:
    """The record with its names, and the row that is stored and sent, with the size of a payload that carries it alone."""
    members: dict[str, Any] = {"kind": kind_of(body)} | write_fields(body)
    reading = clock.read()
    report = Report(epoch=EPOCH_SHOWN, sent=reading.mono_ms, records=(Record(1, reading.wall_ms // 1000, body),))
    payload = encode_report(report)
    row = report_members(report, rows=True)["records"][0]
    if as_json:
        sys.stdout.write(json.dumps({"record": members, "row": row, "payload_bytes": len(payload)}, ensure_ascii=False) + "\n")
        return
    width = max(len(name) for name in members)
    lines = [f"  {name:{width}}  {value}" for name, value in members.items()]
    line = json.dumps(row, ensure_ascii=False, separators=(",", ":"))
    sys.stdout.write("\n".join(("record", *lines, f"stored line ({len(payload)} bytes as a payload of its own)", f"  {line}", "")))
