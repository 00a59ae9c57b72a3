"""``kerege-agent``: run | check | probe KIND | status | spool.

Exit status: 0 well, 1 what was asked about is not well, 2 wrong usage or settings. Each command imports only what it needs.
"""

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from kerege_agent.logs import FORMATS, LogFormat, set_up
from kerege_agent.resident import become
from kerege_agent.settings import Settings, SettingsError, checked_json, from_json
from kerege_agent.version import VERSION
from kerege_wire import KINDS

DEFAULT_SETTINGS: Final = Path("/etc/kerege/agent.toml")
LOOKING: Final = ("status", "spool")
"""Commands that read what the agent has written, and need no certificate or key."""

PROBE_KINDS: Final = tuple(kind for kind in KINDS if kind != "drop")


def parser() -> argparse.ArgumentParser:
    """What may stand on the command line; the common options before or after the command."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--settings", type=Path, metavar="FILE", default=argparse.SUPPRESS, help=f"settings file (default: {DEFAULT_SETTINGS})"
    )
    common.add_argument("--log-format", choices=FORMATS, default=argparse.SUPPRESS, help="how log lines look on stderr (default: text)")
    common.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print JSON instead of a table for people")
    top = argparse.ArgumentParser(
        prog="kerege-agent", description="Measures this machine's Internet link, and loses nothing.", parents=[common]
    )
    top.add_argument("--version", action="version", version=f"kerege-agent {VERSION}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("run", parents=[common], help="measure and send, until stopped")
    commands.add_parser("check", parents=[common], help="are settings, certificates, names, broker, disk and ICMP as they should be")
    probe = commands.add_parser("probe", parents=[common], help="run one probe once, and show its log, its record and its stored line")
    probe.add_argument("kind", choices=PROBE_KINDS, metavar="KIND", help=", ".join(PROBE_KINDS))
    commands.add_parser("status", parents=[common], help="what the running agent is doing")
    spool = commands.add_parser("spool", parents=[common], help="what waits to be sent")
    spool.add_argument(
        "action", nargs="?", choices=("summary", "list"), default="summary", help="how much of what, or each record with its identity"
    )
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    options = parser().parse_args(arguments)
    log_format: LogFormat = getattr(options, "log_format", "text")
    set_up(log_format, logging.DEBUG if options.command == "probe" else logging.INFO)
    try:
        text = checked_json(getattr(options, "settings", DEFAULT_SETTINGS), files=options.command not in LOOKING)
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    if options.command == "run":
        become(text, log_format)
    try:
        status = _command(options, from_json(text), as_json=getattr(options, "json", False))
        sys.stdout.flush()
    except KeyboardInterrupt:
        return 130  # as a shell reports SIGINT
    except BrokenPipeError:  # `kerege-agent spool list | head`: nobody is reading any more, and Python must not try again at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return status


def _command(options: argparse.Namespace, settings: Settings, *, as_json: bool) -> int:
    if options.command == "run":
        from kerege_agent import service

        return service.run(settings)
    if options.command == "check":
        from kerege_agent import check

        return check.show(settings, as_json=as_json)
    if options.command == "probe":
        from kerege_agent import probe_command

        return probe_command.show(settings, options.kind, as_json=as_json)
    if options.command == "status":
        from kerege_agent import status

        return status.show(settings, as_json=as_json)
    from kerege_agent import spool_command

    return spool_command.show(settings, as_json=as_json, listing=options.action == "list")
