"""A collector that takes in, stores and acknowledges, and judges nothing: what `verdicts_ratio` compares the whole one with.

python -m kerege_lab.bench.without_verdicts run --settings FILE
"""

import sys
from collections.abc import Iterable

from kerege_collector import cli
from kerege_collector.clerk import Clerk
from kerege_collector.postman import Postman
from kerege_collector.witness import Witness


def _wait(self: Clerk | Postman) -> None:
    """A thread that lives and has nothing to do."""
    self._stopping.wait()


def _ignore(self: Witness, found: Iterable[object]) -> None:
    """No evidence."""


def main() -> int:
    """The collector's own command line, without the clerk's, the postman's and the witness's work."""
    Clerk.run = Postman.run = _wait  # type: ignore[method-assign]
    Witness.take = _ignore  # type: ignore[method-assign,assignment]
    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
