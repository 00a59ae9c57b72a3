"""``kerege-collector timeline`` and ``explain``: read from the ledger, beside the service or without it."""

import sys
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa

from kerege_collector import centers, verdict_views
from kerege_collector.centers import Region
from kerege_collector.figures import span
from kerege_collector.ledger import LedgerError
from kerege_collector.opening import NothingThereError, open_ledger
from kerege_collector.settings import Settings
from kerege_collector.stores import RetryLater
from kerege_collector.tables import local_time, print_json, print_table


def show_timeline(settings: Settings, center: str, start_s: int, end_s: int, *, as_json: bool) -> int:
    """Print the verdicts on a span; 0, or 1 where there is none."""
    said = _ask(settings, lambda connection, region: verdict_views.timeline(connection, region, center, start_s, end_s))
    if said is None:
        return 1
    if not said["intervals"]:
        sys.stderr.write(f"kerege-collector timeline: there is no verdict on {center} in this time\n")
        return 1
    if as_json:
        print_json(said)
        return 0
    print_table(("from", "to", "for", "state", "cause", "rule"), map(_cells, said["intervals"]))
    figures = said["figures"]
    shares = {"link availability": "link_availability", "service availability": "service_availability", "coverage": "coverage"}
    words = [f"{name} {_share(figures[key])}" for name, key in shares.items()]
    sys.stdout.write(f"in opening hours ({span(figures['open_s'])}): {', '.join(words)}; revised {said['revisions']} times\n")
    sys.stdout.write(f"{_quality(said['quality_open'])}\n")
    return 0


def show_explanation(settings: Settings, center: str, time_s: int, *, as_json: bool) -> int:
    """Print why a second has the verdict that it has; 0, or 1 where it has none."""
    said = _ask(settings, lambda connection, region: verdict_views.explain(connection, region, center, time_s))
    if said is None:
        return 1
    if as_json:
        print_json(said)
        return 0 if said["verdict"] else 1
    verdict = said["verdict"]
    hours = "in opening hours" if said["open"] else "outside opening hours"
    sys.stdout.write(f"{said['name'] or center}, {local_time(time_s)}, {hours}\n")
    if verdict is None:
        sys.stdout.write("no verdict (yet)\n")
    else:
        cause = f" ({verdict['cause']})" if verdict["cause"] else ""
        times = f"{local_time(verdict['start_s'])} to {local_time(verdict['end_s'])}"
        sys.stdout.write(f"{verdict['state']}{cause}, from {times}: {verdict['why']} [{verdict['rule']}]\n")
    for piece in said["evidence"]:
        until = "" if piece["to_s"] == piece["from_s"] else f" to {local_time(piece['to_s'])}"
        sys.stdout.write(f"  {local_time(piece['from_s'])}{until}  {piece['words']}\n")
    for each in said["said_before"]:
        states = ", ".join(f"{part['state']}{' (' + part['cause'] + ')' if part['cause'] else ''}" for part in each["said"])
        words = f"we said {states}" if states else "its day was accounted for by other opening hours"
        sys.stdout.write(f"  until {local_time(each['until_s'])} {words}; changed by: {each['changed_by']}\n")
    return 0 if verdict else 1


def _cells(each: dict[str, Any]) -> tuple[object, ...]:
    first, last = each["start_s"], each["end_s"]
    return local_time(first), local_time(last), span(last - first), each["state"], each["cause"], each["rule"]


def _ask(settings: Settings, question: Callable[[sa.Connection, Region], dict[str, Any]]) -> dict[str, Any] | None:
    region = centers.load_region(settings.centers_file, may_be_absent=True)
    try:
        ledger = open_ledger(settings)
        try:
            with ledger.transaction() as connection:
                return question(connection, region)
        finally:
            ledger.close()
    except (NothingThereError, LedgerError, RetryLater) as error:
        sys.stderr.write(f"kerege-collector: {error}\n")
        return None


def _quality(figures: dict[str, Any]) -> str:
    if not figures["packets_sent"]:
        return "the link's quality was not measured in opening hours"
    rtt = (
        f"round trip {figures['rtt_p50_ms']:g} ms (95th percentile {figures['rtt_p95_ms']:g})"
        if figures["rtt_samples"]
        else "no round trip"
    )
    pdv = f", delay variation {figures['pdv_p50_ms']:g} ms (95th {figures['pdv_p95_ms']:g})" if figures["pdv_samples"] else ""
    of = f"{figures['rtt_samples']} pings, {figures['packets_sent']} packets"
    return f"in opening hours of these dates: {rtt}{pdv}, loss {figures['loss_percent']:g} %; of {of}"


def _share(value: float | None) -> str:
    return "insufficient data" if value is None else f"{100 * value:.2f} %"
