"""``kerege-collector``: run | check | status | centers | records | quarantine | timeline | explain | incidents | ack |
snooze | resolve | maintain | notify | migrate | export.

Exit status: 0 well, 1 what was asked about is not well, 2 wrong usage or settings. Each command imports only what it needs.
"""

import argparse
import io
import os
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from kerege_collector.logs import FORMATS, set_up
from kerege_collector.mistakes import SettingsError
from kerege_collector.settings import Influx, Settings, load, read_influx
from kerege_wire import KINDS
from kerege_wire.topics import is_center_id

DEFAULT_SETTINGS: Final = Path("/etc/kerege/collector.toml")
NEEDS_FILES: Final = frozenset({"run", "check"})
"""Commands that use certificates, keys and secrets: the others may be run by somebody who may not read them."""

_REASONS: Final = ("lan", "terminal", "provider", "dns", "portal", "power", "shutdown", "agent", "unknown")
"""As `incidents.REASONS`, without loading it for every command; a test keeps them the same."""

WEEK_S: Final = 7 * 86_400
INTERRUPTED: Final = 130
"""As a shell reports SIGINT."""


class UsageError(Exception):
    """The command line cannot be meant so. The text is for people."""


def parser() -> argparse.ArgumentParser:
    """What may stand on the command line; the common options before or after the command."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--settings", type=Path, metavar="FILE", default=argparse.SUPPRESS, help=f"settings file (default: {DEFAULT_SETTINGS})"
    )
    common.add_argument("--log-format", choices=FORMATS, default=argparse.SUPPRESS, help="how log lines look on stderr (default: text)")
    common.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print JSON lines instead of a table for people")
    top = argparse.ArgumentParser(
        prog="kerege-collector", description="Takes in what the agents measured, keeps it, and shows it.", parents=[common]
    )
    top.add_argument("--version", action="version", version=f"kerege-collector {version('kerege-collector')}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, text: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, parents=[common], help=text, description=text)

    add("run", "collect, until stopped; SIGHUP reads centers.toml again")
    add("check", "are settings, centers, store, broker, page and clock as they should be")
    add("status", "how the running collector is")
    add("centers", "each center with its state now")
    _add_records(add("records", "what is stored, each record with its identity"))
    _add_quarantine(add("quarantine", "what could not be stored"), common)
    _add_timeline(add("timeline", "the verdicts on a center: in what state it was, and by which evidence"))
    explanation = add("explain", "why a center has the verdict that it has at a moment: every piece of evidence")
    explanation.add_argument("center", type=_checked(_center))
    explanation.add_argument("time", type=_checked(_time), help="2026-11-01T10:00+05:00, 2h (ago); UTC without a zone")
    add("incidents", "what is wrong now").add_argument("--all", action="store_true", dest="everything", help="also what is over")
    add("ack", "say that somebody looks after an incident").add_argument("incident", type=int)
    pause = add("snooze", "no reminders of an incident for a while")
    pause.add_argument("incident", type=int)
    pause.add_argument("until", type=_checked(_time_ahead), help="2026-11-01T10:00+05:00, 2h (from now); UTC without a zone")
    outcome = add("resolve", "say what the cause of an incident was: its centers' timelines are corrected")
    outcome.add_argument("incident", type=int)
    outcome.add_argument("--reason", required=True, choices=_REASONS)
    outcome.add_argument("--again", action="store_true", help="what was said of it before was wrong")
    work = add("maintain", "plan work: no incidents of what it breaks")
    work.add_argument("scope", choices=("center", "satellite", "provider", "district"))
    work.add_argument("name")
    work.add_argument("--from", type=_checked(_time), dest="since", metavar="TIME", help="2026-11-01T10:00+05:00 (default: now)")
    work.add_argument("--to", type=_checked(_time_ahead), dest="until", metavar="TIME", required=True, help="likewise, or 2h (from now)")
    work.add_argument("--why", default="", help="for those who look at it later")
    notify = add("notify", "send a test message to every contact, or to one")
    notify.add_argument("--test", action="store_true", required=True, help="the only thing that it does: notices go out by themselves")
    notify.add_argument("--contact", metavar="ID", help="to this one only")
    add("migrate", "bring the ledger of an older version up to this one; make a backup before")
    _add_export(add("export", "copy the embedded store's records into InfluxDB; run again, it goes on where it stopped"))
    return top


def _add_records(command: argparse.ArgumentParser) -> None:
    command.add_argument("--center", type=_checked(_center), help="of this center only")
    command.add_argument("--kind", choices=tuple(KINDS), help="of this kind only")
    command.add_argument("--since", type=_checked(_time), metavar="TIME", help="measured at this time or later: 2026-11-01, 2h (ago); UTC")
    command.add_argument("--until", type=_checked(_time), metavar="TIME", help="measured before this time")
    command.add_argument("--follow", action="store_true", help="show what is stored from now on, until Ctrl-C")


def _add_timeline(command: argparse.ArgumentParser) -> None:
    command.add_argument("center", type=_checked(_center))
    command.add_argument("--from", type=_checked(_time), dest="since", metavar="TIME", help="2026-11-01, 2h (ago); UTC (default: 7d)")
    command.add_argument("--to", type=_checked(_time), dest="until", metavar="TIME", help="before this time (default: now)")


def _add_quarantine(command: argparse.ArgumentParser, common: argparse.ArgumentParser) -> None:
    actions = command.add_subparsers(dest="action", required=True, metavar="ACTION")
    listing = actions.add_parser("list", parents=[common], help="what waits there, in the order of arrival")
    listing.add_argument("--all", action="store_true", dest="everything", help="also what was readmitted or dropped")
    item = actions.add_parser("show", parents=[common], help="one item with what it holds")
    item.add_argument("id", type=int)
    for name, text in (("readmit", "try items again, after a fix"), ("drop", "let items go: their records are given up")):
        action = actions.add_parser(name, parents=[common], help=text)
        action.add_argument("ids", nargs="*", type=int, metavar="ID")
        action.add_argument("--reason", help="all items of this reason, such as unknown-kind")


def _add_export(command: argparse.ArgumentParser) -> None:
    command.add_argument("--to", choices=("influx",), default="influx", help="where to")
    command.add_argument("--from", type=Path, dest="source", metavar="FILE", help="records.db to export (default: that of the settings)")
    command.add_argument("--url", help="the InfluxDB (default, with all that follows: [store] where its kind is influx)")
    command.add_argument("--organisation", default="", help="InfluxDB 2.x")
    command.add_argument("--bucket", default="kerege", help="bucket, or InfluxDB 1.x's database (default: kerege)")
    command.add_argument("--token-file", metavar="FILE", help="file with the token (default: KEREGE_INFLUX_TOKEN in the environment)")


def _checked(read: Callable[[str], Any]) -> Callable[[str], Any]:
    """argparse shows a text of ours only from its own kind of error."""

    def checked(text: str) -> Any:
        try:
            return read(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return checked


def _center(text: str) -> str:
    if not is_center_id(text):
        raise ValueError(f'"{text}" cannot be a center\'s id')
    return text


def _time(text: str) -> int:
    from kerege_collector.records import time_of

    return time_of(text, time.time())


def _time_ahead(text: str) -> int:
    from kerege_collector.records import time_of

    return time_of(text, time.time(), ahead=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    options = parser().parse_args(arguments)
    set_up(getattr(options, "log_format", "text"))
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names are Kazakh, and a terminal may not know the letters
    try:
        settings = load(getattr(options, "settings", DEFAULT_SETTINGS), files=options.command in NEEDS_FILES)
        status = _COMMANDS[options.command](options, settings, as_json=getattr(options, "json", False))
        sys.stdout.flush()
        return status
    except (SettingsError, UsageError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # `records | head`: nobody reads any more, nor at exit
        return 0


def _run(_: argparse.Namespace, settings: Settings, *, as_json: bool) -> int:
    del as_json  # a service says everything in its log
    from kerege_collector import service

    return service.run(settings)


def _check(_: argparse.Namespace, settings: Settings, *, as_json: bool) -> int:
    from kerege_collector import check

    return check.show(settings, as_json=as_json)


def _status(_: argparse.Namespace, settings: Settings, *, as_json: bool) -> int:
    from kerege_collector import status

    return status.show(settings, as_json=as_json)


def _centers(_: argparse.Namespace, settings: Settings, *, as_json: bool) -> int:
    from kerege_collector import status

    return status.show_centers(settings, as_json=as_json)


def _records(options: argparse.Namespace, settings: Settings, *, as_json: bool) -> int:
    from kerege_collector import records

    bounds = {name: value for name, value in (("since_s", options.since), ("until_s", options.until)) if value is not None}
    wanted = records.Wanted(options.center, options.kind, **bounds)
    try:
        return records.show(settings, wanted, as_json=as_json, follow=options.follow)
    except records.ReadError as error:
        sys.stderr.write(f"kerege-collector records: {error}\n")
        return 1


def _quarantine(options: argparse.Namespace, settings: Settings, *, as_json: bool) -> int:
    from kerege_collector import quarantine_command as command

    if options.action == "list":
        return command.show_list(settings, as_json=as_json, everything=options.everything)
    if options.action == "show":
        return command.show_item(settings, options.id, as_json=as_json)
    if bool(options.ids) == bool(options.reason):
        raise UsageError(f"quarantine {options.action}: name items by their ids (see quarantine list), or all of one --reason")
    work = command.readmit if options.action == "readmit" else command.drop
    return work(settings, options.ids, reason=options.reason, as_json=as_json)


def _timeline(options: argparse.Namespace, settings: Settings, *, as_json: bool) -> int:
    from kerege_collector import verdict_commands

    until_s = int(time.time()) if options.until is None else options.until
    since_s = until_s - WEEK_S if options.since is None else options.since
    if since_s >= until_s:
        raise UsageError("timeline: --from must be before --to")
    return verdict_commands.show_timeline(settings, options.center, since_s, until_s, as_json=as_json)


def _explain(options: argparse.Namespace, settings: Settings, *, as_json: bool) -> int:
    from kerege_collector import verdict_commands

    return verdict_commands.show_explanation(settings, options.center, options.time, as_json=as_json)


def _incidents(options: argparse.Namespace, settings: Settings, *, as_json: bool) -> int:
    from kerege_collector import incident_commands

    return incident_commands.show_list(settings, as_json=as_json, everything=options.everything)


def _ack(options: argparse.Namespace, settings: Settings, *, as_json: bool) -> int:
    from kerege_collector import incident_commands, incidents

    return incident_commands.act(settings, lambda at, who, now_s: incidents.acknowledge(at, options.incident, who, now_s), as_json=as_json)


def _snooze(options: argparse.Namespace, settings: Settings, *, as_json: bool) -> int:
    from kerege_collector import incident_commands, incidents

    return incident_commands.act(
        settings, lambda at, who, now_s: incidents.snooze(at, options.incident, options.until, who, now_s), as_json=as_json
    )


def _resolve(options: argparse.Namespace, settings: Settings, *, as_json: bool) -> int:
    from kerege_collector import incident_commands, incidents

    number, reason, again = options.incident, options.reason, options.again
    return incident_commands.act(
        settings, lambda at, who, now_s: incidents.resolve(at, number, reason, who=who, now_s=now_s, again=again), as_json=as_json
    )


def _maintain(options: argparse.Namespace, settings: Settings, *, as_json: bool) -> int:
    from kerege_collector import centers, incident_commands, incidents

    since_s = int(time.time()) if options.since is None else options.since
    if since_s >= options.until:
        raise UsageError("maintain: --to must be after --from")
    region = centers.load_region(settings.centers_file, may_be_absent=True)
    if trouble := incidents.not_in_registry(region, options.scope, options.name):
        raise UsageError(f"maintain: {trouble}")
    scope, span = (options.scope, options.name), (since_s, options.until)
    return incident_commands.act(
        settings, lambda at, who, now_s: incidents.maintain(at, scope, span, why=options.why, who=who, now_s=now_s), as_json=as_json
    )


def _notify(options: argparse.Namespace, settings: Settings, *, as_json: bool) -> int:
    from kerege_collector import notify_command

    return notify_command.test(settings, options.contact, as_json=as_json)


def _migrate(_: argparse.Namespace, settings: Settings, *, as_json: bool) -> int:
    from kerege_collector import migrate_command

    return migrate_command.run(settings, as_json=as_json)


def _export(options: argparse.Namespace, settings: Settings, *, as_json: bool) -> int:
    from kerege_collector import centers, export
    from kerege_collector.opening import open_influx

    if options.url is not None:
        named = {"url": options.url, "organisation": options.organisation, "bucket": options.bucket}
        target = read_influx(named | ({"token_file": options.token_file} if options.token_file else {}))
    elif isinstance(settings.store, Influx):
        target = settings.store
    else:
        raise UsageError('export: where to? Name the InfluxDB with --url and --bucket, or in [store] with kind = "influx"')
    name = f"{target.url} {target.bucket}"
    source = options.source or settings.records_path
    store = open_influx(target, centers.load(settings.centers_file, may_be_absent=True))
    return export.show(source, store, export.ProgressFile(settings.state_directory, name), name=name, as_json=as_json)


_COMMANDS: Final[dict[str, Callable[..., int]]] = {
    "run": _run,
    "check": _check,
    "status": _status,
    "centers": _centers,
    "records": _records,
    "quarantine": _quarantine,
    "timeline": _timeline,
    "explain": _explain,
    "incidents": _incidents,
    "ack": _ack,
    "snooze": _snooze,
    "resolve": _resolve,
    "maintain": _maintain,
    "notify": _notify,
    "migrate": _migrate,
    "export": _export,
}
