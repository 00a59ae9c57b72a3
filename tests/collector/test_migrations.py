"""From an older ledger to the present one (`migrations`, ``kerege-collector migrate``), on both kinds of database."""

import json
from collections.abc import Iterator
from contextlib import closing

import pytest
import sqlalchemy as sa

from kerege_collector import cli, migrate_command, migrations, schema
from kerege_collector.claim import claim
from kerege_collector.database import Database
from kerege_collector.ledger import Ledger
from kerege_collector.migrations import LedgerError, Step, migrate
from kerege_collector.settings import load
from kerege_collector.stores import RetryLater
from tests.places import Place

NEXT = schema.SCHEMA_VERSION + 1


def add_shelf(connection: sa.Connection) -> None:
    connection.execute(sa.text("CREATE TABLE shelf (book TEXT)"))
    connection.execute(sa.text("INSERT INTO shelf VALUES ('Abai zholy')"))


def add_reader(connection: sa.Connection) -> None:
    connection.execute(sa.text("ALTER TABLE shelf ADD COLUMN reader TEXT"))


def fail(connection: sa.Connection) -> None:
    connection.execute(sa.text("CREATE TABLE half (done TEXT)"))
    raise OSError("killed here")


SHELF = Step(NEXT, "a table of books", add_shelf)
READER = Step(NEXT + 1, "who has them", add_reader)


@pytest.fixture
def database(place: Place) -> Iterator[Database]:
    """With a ledger of the present version."""
    Ledger(place.open()).close()
    found = place.open()
    yield found
    found.close()


def version(database: Database) -> int:
    with database.transaction() as connection:
        return migrations.version_of(connection, database.where, newest=99)


def test_steps_are_taken_in_order_and_once(database: Database, place: Place) -> None:
    assert migrate(database, steps=[SHELF]) == (NEXT - 1, [SHELF])
    assert migrate(database, steps=[SHELF, READER]) == (NEXT, [READER])
    assert migrate(database, steps=[SHELF, READER]) == (NEXT + 1, [])
    assert place.execute("SELECT book, reader FROM shelf") == [("Abai zholy", None)]
    assert version(database) == NEXT + 1


def test_a_step_that_fails_leaves_nothing_of_itself(database: Database, place: Place) -> None:
    """Those before it are done; it can be taken again."""
    with pytest.raises(OSError, match="killed here"):
        migrate(database, steps=[SHELF, Step(NEXT + 1, "fails", fail)])
    assert version(database) == NEXT
    with pytest.raises(Exception, match="half"):
        place.execute("SELECT * FROM half")
    assert migrate(database, steps=[SHELF, READER]) == (NEXT, [READER])


def test_there_must_be_a_way(database: Database) -> None:
    with pytest.raises(LedgerError, match=f"no way leads from schema {NEXT - 1} to {NEXT + 1}"):
        migrate(database, steps=[READER])
    migrate(database, steps=[SHELF, READER])
    with pytest.raises(LedgerError, match=f"schema {NEXT + 1}, this one knows {NEXT}"):
        migrate(database, steps=[SHELF])


def test_an_older_ledger_is_refused_with_the_command_that_cures_it(
    database: Database, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the service nor a command changes it on its own: there is no way back but a backup."""
    monkeypatch.setattr(migrations, "SCHEMA_VERSION", NEXT)
    for may_make in (True, False):
        with pytest.raises(LedgerError, match=f"schema {NEXT - 1}, wanted {NEXT}.*kerege-collector migrate"):
            Ledger(place.open(), may_make=may_make)


def test_the_steps_lead_to_the_schema_of_this_version() -> None:
    versions = [step.version for step in migrations.STEPS]
    assert versions == list(range(schema.SCHEMA_VERSION - len(versions) + 1, schema.SCHEMA_VERSION + 1))


def test_the_command_says_what_it_has_done(database: Database, place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    path = place.settings_file()
    assert cli.main(["migrate", "--settings", str(path)]) == 0
    assert capsys.readouterr().out == f"{database.where}: of schema {NEXT - 1}: nothing to do\n"
    assert migrate_command.run(load(path), as_json=True, steps=[SHELF]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "ledger": database.where,
        "from": NEXT - 1,
        "to": NEXT,
        "steps": [{"to": NEXT, "what": "a table of books"}],
    }
    assert migrate_command.run(load(path), as_json=False, steps=[SHELF, READER]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{NEXT + 1}: who has them",
        f"{database.where}: brought from schema {NEXT} to {NEXT + 1}",
    ]
    assert cli.main(["migrate", "--settings", str(path)]) == 1
    assert f"this one knows {NEXT - 1}" in capsys.readouterr().err


def test_the_command_keeps_away_from_a_running_collector_and_from_nothing(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    path = place.settings_file()
    assert cli.main(["migrate", "--settings", str(path)]) == 1
    assert "there is no" in capsys.readouterr().err
    Ledger(place.open()).close()
    with claim(place.directory):
        assert cli.main(["migrate", "--settings", str(path)]) == 1
    assert "another collector" in capsys.readouterr().err


def test_two_collectors_that_begin_at_once_make_one_ledger(place: Place) -> None:
    for _ in range(2):
        with closing(place.open()) as database:
            migrations.make(database)
    Ledger(place.open(), may_make=False).close()


def test_what_is_proved_is_undone(place: Place) -> None:
    database = place.open()
    assert migrations.prove(database) == 0
    with pytest.raises(LedgerError, match="there is no ledger in it yet"):
        Ledger(place.open(), may_make=False)
    Ledger(place.open()).close()
    assert migrations.prove(database) == schema.SCHEMA_VERSION
    if place.server is not None:
        place.execute(f"ALTER DATABASE {place.name} SET default_transaction_read_only = on")
        database.close()
        with pytest.raises(RetryLater, match="read-only"):
            migrations.prove(database)
    database.close()
