"""What a run comes to: the ledger that the collector has left, read and measured against the truth."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
from rich.console import Console
from rich.table import Table

from kerege_agent.probes import ping
from kerege_collector import verdict_tables as tables
from kerege_collector import verdicts
from kerege_collector.incident import OWN
from kerege_lab.simulate.accuracy import NONE, Accuracy, accuracy
from kerege_lab.simulate.alarms import Alarms, Event, Told, alarms, stays, told
from kerege_lab.simulate.driver import Ran
from kerege_lab.simulate.truth import Fact
from kerege_lab.simulate.world import BEGIN_S, World

RIGHT_SHARE: Final = 0.99
HEARTBEAT_S: Final = 66
"""One with its jitter: an ``up`` that was down may last no longer."""

NOTICE_S: Final = 90


@dataclass(frozen=True, slots=True)
class Report:
    """All figures of one run. own_incidents: those about the collector itself."""

    ran: Ran
    accuracy: Accuracy
    alarms: Alarms
    commons: Sequence[Told]
    incidents: int
    own_incidents: int
    notices: int

    @property
    def right_state_share(self) -> float:
        return self.accuracy.right_state_s / max(self.accuracy.seconds, 1)

    @property
    def right_share(self) -> float:
        """In the right state for the right cause."""
        return self.accuracy.right_s / max(self.accuracy.seconds, 1)

    @property
    def broken(self) -> list[str]:
        """The promises that were not kept, in words."""
        promises = {
            f"{RIGHT_SHARE:.0%} of all seconds in the right state for the right cause": self.right_share >= RIGHT_SHARE,
            "each second has one verdict": not self.accuracy.gaps_s and not self.accuracy.overlaps_s,
            f"no `up` that was really down for more than {HEARTBEAT_S} s": self.accuracy.longest_false_up_s <= HEARTBEAT_S,
            "no false alert": not self.alarms.false_offline,
            "no missed alert": not self.alarms.missed_offline and not self.alarms.untold,
            f"told within {NOTICE_S} s of the cut, of a hundred outages 95": (percentile(self.alarms.cut_to_notice_s, 95) or 0) <= NOTICE_S,
            "what many have in common is told as one": all(common.as_one for common in self.commons),
            "every record acknowledged": not self.ran.left,
        }
        return [promise for promise, is_kept in promises.items() if not is_kept]


def measure(connection: sa.Connection, world: World, facts: Mapping[str, Sequence[Fact]], ran: Ran) -> Report:
    """Read the ledger, and compare."""
    total = NONE
    for center, found in facts.items():
        total += accuracy(found, verdicts.read(connection, center, BEGIN_S, world.end_s))
    events = _events(connection)
    notice, incident = tables.notice.c, tables.incident.c
    rows = connection.execute(sa.select(notice.incident, notice.kind, notice.made_s, notice.sent_s).where(notice.sent_s.is_not(None))).all()
    sent: dict[int, list[tuple[int, int]]] = {}
    for row in rows:
        sent.setdefault(row.incident, []).append((row.made_s, row.sent_s))
    first = [(row.incident, row.made_s) for row in rows if row.kind in {"opened", "unstable"}]
    scopes = list(connection.execute(sa.select(incident.scope)).scalars())
    own = sum(scope == OWN for scope in scopes)
    return Report(
        ran=ran,
        accuracy=total,
        alarms=alarms(world, facts, stays(events), sent),
        commons=[told(common, facts, world, events, first) for common in world.commons],
        incidents=len(scopes) - own,
        own_incidents=own,
        notices=len(rows),
    )


def _events(connection: sa.Connection) -> list[Event]:
    event = tables.incident_event
    rows = connection.execute(sa.select(event).order_by(event.c.id))
    return [Event(row.incident, row.time_s, row.what, frozenset(json.loads(row.centers))) for row in rows]


def percentile(values: Sequence[int], percent: int) -> int | None:
    """The nearest-rank percentile; None of none."""
    return ping.percentile(values, percent) if values else None


def as_json(report: Report) -> dict[str, Any]:
    """The figures as one object; shares of 1, times in seconds."""
    alarms_, delays = report.alarms, report.alarms.cut_to_notice_s
    return {
        "seconds": report.accuracy.seconds,
        "right_state_share": round(report.right_state_share, 6),
        "right_cause_share": round(report.right_share, 6),
        "gaps_s": report.accuracy.gaps_s,
        "overlaps_s": report.accuracy.overlaps_s,
        "false_offline": len(alarms_.false_offline),
        "missed_offline": len(alarms_.missed_offline) + len(alarms_.untold),
        "cut_to_notice_p50_s": percentile(delays, 50),
        "cut_to_notice_p95_s": percentile(delays, 95),
        "cut_to_notice_max_s": delays[-1] if delays else None,
        "notices": report.notices,
        "outages": alarms_.outages,
        "incidents": report.incidents,
        "own_incidents": report.own_incidents,
        "notices_per_incident": round(report.notices / max(report.incidents + report.own_incidents, 1), 2),
        "longest_false_up_s": report.accuracy.longest_false_up_s,
        "common_outages": len(report.commons),
        "common_told_as_one": sum(common.as_one for common in report.commons),
        "records": report.ran.records,
        "records_left": report.ran.left,
        "took_s": round(report.ran.seconds),
        "broken": report.broken,
    }


def show(report: Report, console: Console) -> None:
    """The figures for people, what went wrong one by one, and the promises that were not kept."""
    table = Table("figure", "value", title="truth against verdict", title_justify="left")
    for name, value in as_json(report).items():
        if name != "broken":
            table.add_row(name, str(value))
    console.print(table)
    for stay in report.alarms.false_offline:
        console.print(f"false alert: {stay.center}, incident {stay.incident}, at {stay.start_s}")
    for outage in report.alarms.missed_offline:
        console.print(f"missed: {outage.center}, from {outage.start_s} to {outage.end_s}")
    for stay in report.alarms.untold:
        console.print(f"untold: {stay.center}, incident {stay.incident}, at {stay.start_s}")
    for common in report.commons:
        told_of = f"{common.together} of {common.centers} libraries in one of {common.incidents} incidents, {common.first_notices} notices"
        console.print(f"{common.scope} {common.name}: {told_of}")
    for promise in report.broken:
        console.print(f"[red]broken:[/red] {promise}")
