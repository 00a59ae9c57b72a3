"""``kerege-collector migrate``: the ledger from an older version to this one, or the word that there is nothing to do."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager

from kerege_collector.claim import LOCK_FILE, ClaimedError, claim
from kerege_collector.migrations import STEPS, LedgerError, Step, migrate
from kerege_collector.opening import NothingThereError, existing_database
from kerege_collector.settings import Settings
from kerege_collector.stores import RetryLater
from kerege_collector.tables import print_json


def run(settings: Settings, *, as_json: bool, steps: Sequence[Step] = STEPS) -> int:
    """Take the steps that are still to be taken, and say which; 0, or 1 where it cannot be done."""
    try:
        database = existing_database(settings, patient=True)
        with closing(database), _alone(settings):
            before, done = migrate(database, steps=steps)
    except (NothingThereError, ClaimedError, LedgerError, RetryLater) as error:
        sys.stderr.write(f"kerege-collector migrate: {error}\n")
        return 1
    after = done[-1].version if done else before
    if as_json:
        taken = [{"to": step.version, "what": step.what} for step in done]
        print_json({"ledger": database.where, "from": before, "to": after, "steps": taken})
        return 0
    for step in done:
        sys.stdout.write(f"{step.version}: {step.what}\n")
    outcome = f"brought from schema {before} to {after}" if done else f"of schema {before}: nothing to do"
    sys.stdout.write(f"{database.where}: {outcome}\n")
    return 0


@contextmanager
def _alone(settings: Settings) -> Iterator[None]:
    """While no collector runs on this state directory. Those elsewhere that share a database are for people to stop."""
    if not (settings.state_directory / LOCK_FILE).exists():  # made by us it would belong to the wrong user
        yield
        return
    with claim(settings.state_directory):
        yield
