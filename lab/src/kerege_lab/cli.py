"""``kerege-lab``: everything on one machine, broken on purpose, or measured.

Exit status: 0 well; 1 a promise is broken; 2 wrong usage, or something that is needed is missing.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from kerege_lab.servers import ServerError, ServerMissingError

Run = Callable[[argparse.Namespace], int]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit status."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except ServerMissingError as error:
        print(f"kerege-lab {options.command}: {error}", file=sys.stderr)
        return 2
    except ServerError as error:
        print(f"kerege-lab {options.command}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"kerege-lab {options.command}: stopped", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="kerege-lab", description="Kerege on one machine: alive, broken on purpose, or measured.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _up(commands.add_parser("up", help="run broker, collector and an agent of this machine, until Ctrl-C"))
    _chaos(commands.add_parser("chaos", help="break everything at random moments, then audit every record"))
    _simulate(
        commands.add_parser("simulate", help="a month of a scripted region in minutes, and the collector's account of it against the truth")
    )
    benches = commands.add_parser("bench", help="measure what things cost").add_subparsers(dest="bench", required=True, metavar="NAME")
    _bench_wire(benches.add_parser("wire", help="bytes of a heartbeat and of a batch, and the time to write and read them"))
    _bench_ingest(benches.add_parser("ingest", help="reports a second from broker to store, and what they cost the collector"))
    _bench_agent(benches.add_parser("agent", help="memory, CPU and disk writes of a steady agent"))
    _bench_verdicts(benches.add_parser("verdicts", help="the ledger of a year, and the time to revise it by a backlog of three weeks"))
    _bench_ratio(benches.add_parser("verdicts-ratio", help="the collector's CPU time with verdicts and without, under the same load"))
    _fuzz(commands.add_parser("fuzz", help="feed the readers and the admission damaged messages for a while"))
    return parser


def _with_json(parser: argparse.ArgumentParser, run: Run) -> None:
    parser.add_argument("--json", action="store_true", help="print the figures as one JSON object, in the last line")
    parser.set_defaults(run=run)


def _up(parser: argparse.ArgumentParser) -> None:
    directory, port = Path(".kerege"), 8480
    parser.add_argument("--directory", type=Path, default=directory, metavar="DIR", help="where everything is kept (default: %(default)s)")
    parser.add_argument("--port", type=int, default=port, help="TCP port of the page on 127.0.0.1 (default: %(default)s)")
    parser.add_argument("--internet", action="store_true", help="measure the agent's default public targets instead of the loopback")

    def run(options: argparse.Namespace) -> int:
        from kerege_lab.up import run

        return run(options)

    parser.set_defaults(run=run)


def _chaos(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--records", type=int, default=2000, metavar="N", help="go on until so many are made (default: %(default)s)")
    parser.add_argument("--faults", type=int, default=20, metavar="M", help="break things so often meanwhile (default: %(default)s)")
    parser.add_argument("--store", choices=("sqlite", "influx"), default="sqlite", help="what keeps the records (default: %(default)s)")
    parser.add_argument("--ledger", choices=("sqlite", "postgresql"), default="sqlite", help="what keeps the ledger (default: %(default)s)")
    parser.add_argument("--seed", type=int, help="repeat the plan of an earlier run (default: a random one, which is shown)")
    parser.add_argument("--agents", type=int, default=8, metavar="K", help="how many centers (default: %(default)s)")
    parser.add_argument("--keep", action="store_true", help="keep the run's directory; after a broken promise it is kept anyway")

    def run(options: argparse.Namespace) -> int:
        from kerege_lab.chaos.command import run

        return run(options)

    _with_json(parser, run)


def _simulate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--centers", type=int, default=45, metavar="N", help="how many libraries (default: %(default)s)")
    parser.add_argument("--days", type=int, default=30, metavar="N", help="how long, each some 70 s with 45 (default: %(default)s)")
    parser.add_argument("--seed", type=int, help="repeat a world (default: a random one, which is shown)")
    parser.add_argument("--truth", type=Path, metavar="FILE", help="write what was really so, JSON lines")
    parser.add_argument("--keep", action="store_true", help="keep the collector's directory, with its ledger")

    def run(options: argparse.Namespace) -> int:
        from kerege_lab.simulate.command import run

        return run(options)

    _with_json(parser, run)


def _bench_agent(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=float, default=300.0, help="how long to measure (default: %(default)s)")
    parser.add_argument("--warm-up", type=float, default=60.0, metavar="SECONDS", help="how long to wait before (default: %(default)s)")

    def run(options: argparse.Namespace) -> int:
        from kerege_lab.bench.agent import run

        return run(seconds=options.seconds, warm_up_s=options.warm_up, as_json=options.json)

    _with_json(parser, run)


def _bench_wire(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--qos", action="store_true", help="also what a report costs on the network with QoS 0 and 1 (Mosquitto, TLS)")

    def run(options: argparse.Namespace) -> int:
        from kerege_lab.bench.wire import run

        return run(as_json=options.json, qos=options.qos)

    _with_json(parser, run)


def _bench_ingest(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--store", choices=("sqlite", "influx"), default="influx", help="what keeps the records (default: %(default)s)")
    parser.add_argument("--reports", type=int, default=100_000, metavar="N", help="how many are published (default: %(default)s)")
    parser.add_argument("--seconds", type=float, help="publish for so long instead")

    def run(options: argparse.Namespace) -> int:
        from kerege_lab.bench.ingest import run

        return run(options.store, options.reports, options.seconds, as_json=options.json)

    _with_json(parser, run)


def _bench_verdicts(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--centers", type=int, default=45, metavar="N", help="how many centers (default: %(default)s)")
    parser.add_argument("--days", type=int, default=365, metavar="N", help="how long their year is (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="what happens in it (default: %(default)s)")

    def run(options: argparse.Namespace) -> int:
        from kerege_lab.bench.verdicts import run

        return run(centers=options.centers, days=options.days, seed=options.seed, as_json=options.json)

    _with_json(parser, run)


def _bench_ratio(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--reports", type=int, default=50_000, metavar="N", help="of each flood (default: %(default)s)")
    parser.add_argument("--pairs", type=int, default=3, metavar="N", help="how many floods of each kind (default: %(default)s)")
    parser.add_argument("--minutes", type=float, default=5.0, metavar="M", help="how long the steady load (default: %(default)s)")

    def run(options: argparse.Namespace) -> int:
        from kerege_lab.bench.verdicts_ratio import run

        return run(reports=options.reports, pairs=options.pairs, minutes=options.minutes, as_json=options.json)

    _with_json(parser, run)


def _fuzz(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=float, default=300.0, help="how long (default: %(default)s)")
    parser.add_argument("--seed", type=int, help="repeat an earlier run (default: a random one, which is shown)")

    def run(options: argparse.Namespace) -> int:
        from kerege_lab.fuzz import TARGETS, run
        from kerege_lab.fuzz_collector import admission

        return run(options.seconds, as_json=options.json, seed=options.seed, targets=[*TARGETS, admission()])

    _with_json(parser, run)
