"""The ledger in PostgreSQL when the server is killed, hangs, is read-only, refuses us: real servers, real collector processes."""

import random
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
import sqlalchemy as sa

from kerege_collector import database_postgresql, evidence_tables
from kerege_collector.books import Book
from kerege_collector.database_postgresql import Access, PostgresqlDatabase
from kerege_collector.ledger import Ledger, LedgerError, Quarantined
from kerege_collector.quality import Quality
from kerege_collector.stores import RetryLater
from kerege_collector.witness import Findings
from kerege_lab.certificates import Certificates, make_certificates
from kerege_lab.house import Access as BrokerAccess
from kerege_lab.house import Center, Collector, Table, collector_settings, merged
from kerege_lab.postgresql import PASSWORD, USER, PostgreSQL
from kerege_lab.servers import HOST, Mosquitto, ServerMissingError, free_port
from kerege_wire import Ping
from kerege_wire.ranges import RangeSet
from tests.collector.test_collector_service import Sender, wait

NOW_S = 1_795_465_800
COUNT = 1500


@pytest.fixture(scope="module")
def server() -> Iterator[PostgreSQL]:
    """One of our own, to be killed."""
    found = PostgreSQL()
    try:
        found.start()
    except ServerMissingError as error:
        pytest.skip(str(error))
    yield found
    found.close()


@pytest.fixture
def running(server: PostgreSQL) -> Iterator[PostgreSQL]:
    yield server
    if server.running:
        server.resume()
    else:
        server.start()


@pytest.fixture
def access(running: PostgreSQL) -> Iterator[Access]:
    name = running.create()
    yield Access(HOST, running.port, name, USER, lambda: PASSWORD, "disable")
    if running.running:
        running.resume()
        running.drop(name)


@pytest.fixture
def ledger(access: Access) -> Iterator[Ledger]:
    found = Ledger(PostgresqlDatabase(access))
    yield found
    found.close()


def reason(work: Callable[[], object]) -> str:
    with pytest.raises(RetryLater) as caught:
        work()
    assert PASSWORD not in str(caught.value)
    return caught.value.reason


def opening(access: Access) -> Callable[[], Ledger]:
    return lambda: Ledger(PostgresqlDatabase(access))


def kept(seq: int) -> Quarantined:
    return Quarantined("demo", "epoch-01", seq, NOW_S, NOW_S, "bad-field", "in words", b"{}")


# --- trouble has a name -----------------------------------------------------------------------------------------------


def test_what_keeps_us_out_is_said_without_the_password(access: Access, running: PostgreSQL) -> None:
    """All of it may be cured while the collector waits."""

    def unreadable() -> str:
        raise PermissionError(13, "Permission denied")

    assert reason(opening(replace(access, password=lambda: "hunter2"))) == "unreachable"
    assert reason(opening(replace(access, database="nowhere"))) == "unreachable"
    assert reason(opening(replace(access, port=free_port()))) == "unreachable"
    assert reason(opening(replace(access, sslmode="require"))) == "unreachable"
    assert reason(opening(replace(access, password=unreadable))) == "no-password"
    with pytest.raises(RetryLater, match='password authentication failed for user "kerege"') as caught:
        opening(replace(access, password=lambda: "hunter2"))()
    assert "hunter2" not in str(caught.value)


def test_a_unix_socket_is_a_way_in_too(access: Access, running: PostgreSQL) -> None:
    opening(replace(access, host=str(running.directory)))().close()


def test_over_tls_the_server_must_prove_who_it_is(certificates: Certificates, tmp_path: Path) -> None:
    """verify-full: its certificate is of our authority, and has the name by which it was called."""
    other = make_certificates(tmp_path, []).ca
    with PostgreSQL(tls=certificates) as server:
        there = Access(HOST, server.port, server.create(), USER, lambda: PASSWORD, "verify-full", certificates.ca)
        opening(there)().close()
        opening(replace(there, host="localhost"))().close()
        assert reason(opening(replace(there, ca_file=other))) == "unreachable"
        assert reason(opening(replace(there, host="127.0.0.2"))) == "unreachable"


def test_a_password_that_is_corrected_is_used_at_once(access: Access) -> None:
    """It is read at each connect."""
    passwords = ["wrong", PASSWORD]
    database = PostgresqlDatabase(replace(access, password=lambda: passwords.pop(0) if len(passwords) > 1 else passwords[0]))
    with pytest.raises(RetryLater), database.transaction():
        pass
    Ledger(database).close()


def test_a_read_only_database_is_tried_again(ledger: Ledger, access: Access, running: PostgreSQL) -> None:
    """A standby, or a server that somebody has set so: reading goes on."""
    running.execute(f"ALTER DATABASE {access.database} SET default_transaction_read_only = on")
    with closing(Ledger(PostgresqlDatabase(access))) as late:
        assert reason(lambda: late.commit([], [kept(1)], {}, NOW_S)) == "read-only"
        running.execute(f"ALTER DATABASE {access.database} RESET default_transaction_read_only")
        late.commit([], [kept(1)], {}, NOW_S)
    assert len(ledger.quarantined()) == 1


def test_a_writer_that_takes_long_is_waited_for_and_then_tried_again(
    access: Access, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(database_postgresql._SETTINGS, "lock_timeout", "100ms")
    with closing(Ledger(PostgresqlDatabase(access))) as quick:
        with ledger.writing():
            assert reason(lambda: quick.commit([], [kept(1)], {}, NOW_S)) == "locked"
        quick.commit([], [kept(1)], {}, NOW_S)


def test_a_statement_that_takes_too_long_ends(access: Access, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(database_postgresql._SETTINGS, "statement_timeout", "100ms")
    database = PostgresqlDatabase(access)

    def sleep() -> None:
        with database.transaction() as connection:
            connection.exec_driver_sql("SELECT pg_sleep(30)")

    assert reason(sleep) == "too-slow"
    database.close()
    with closing(PostgresqlDatabase(access, patient=True)) as patient, patient.transaction() as connection:
        connection.exec_driver_sql("SELECT pg_sleep(0.3)")


def test_a_server_that_hangs_is_not_waited_for_for_ever(
    access: Access, ledger: Ledger, running: PostgreSQL, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel confirms every packet, and nobody answers: neither a session that is open nor a new one blocks the worker."""
    monkeypatch.setattr(database_postgresql, "ANSWER_TIMEOUT_S", 0.5)
    monkeypatch.setattr(database_postgresql, "CONNECT_TIMEOUT_S", 2)
    running.pause()
    began_s = time.monotonic()
    assert reason(lambda: ledger.commit([], [kept(1)], {}, NOW_S)) == "unreachable"
    assert reason(lambda: ledger.commit([], [kept(1)], {}, NOW_S)) == "unreachable"
    assert time.monotonic() - began_s < 20
    running.resume()
    monkeypatch.setattr(database_postgresql, "ANSWER_TIMEOUT_S", 30)
    ledger.commit([], [kept(1)], {}, NOW_S)
    assert len(ledger.quarantined()) == 1


def test_sessions_that_the_server_has_lost_are_replaced(ledger: Ledger, running: PostgreSQL) -> None:
    """After a restart the first batch does not fail, and in the midst of a transaction it is tried again."""
    ledger.commit([], [kept(1)], {}, NOW_S)
    running.restart()
    ledger.commit([], [kept(2)], {}, NOW_S)

    def killed() -> None:
        with ledger.writing() as connection:
            running.kill()
            connection.execute(sa.text("SELECT 1"))

    assert reason(killed) == "unreachable"
    assert reason(lambda: ledger.commit([], [kept(3)], {}, NOW_S)) == "unreachable"
    running.start()
    ledger.commit([], [kept(3)], {}, NOW_S)
    assert [row.what.seq for row in ledger.quarantined()] == [1, 2, 3]


def test_a_server_without_room_is_tried_again(ledger: Ledger, running: PostgreSQL) -> None:
    """What the server says of a full disk (SQLSTATE 53100) is no mistake of ours."""
    running.execute(
        "CREATE FUNCTION fails() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no space left' USING ERRCODE = '53100'; END $$",
        database=(name := database_of(ledger)),
    )
    running.execute("CREATE TRIGGER fails BEFORE INSERT ON quarantine FOR EACH ROW EXECUTE FUNCTION fails()", database=name)
    assert reason(lambda: ledger.commit([], [kept(1)], {}, NOW_S)) == "disk-full"
    running.execute("DROP TRIGGER fails ON quarantine", database=name)
    ledger.commit([], [kept(1)], {}, NOW_S)


def database_of(ledger: Ledger) -> str:
    assert isinstance(ledger._database, PostgresqlDatabase)
    return ledger._database._access.database


def test_a_command_does_not_make_a_ledger(access: Access) -> None:
    with pytest.raises(LedgerError, match="there is no ledger in it yet"):
        Ledger(PostgresqlDatabase(access), may_make=False)


# --- two writers ------------------------------------------------------------------------------------------------------


def test_ranges_of_one_epoch_from_two_collectors_are_joined(access: Access, ledger: Ledger) -> None:
    """Each has its own book in memory, and they take turns."""
    with closing(Ledger(PostgresqlDatabase(access))) as other:
        mine, theirs = Book("demo", "epoch-01"), Book("demo", "epoch-01")
        for seq in range(1, 40, 2):
            mine.store([seq])
            ledger.commit([mine], [], {}, NOW_S)
            theirs.store([seq + 1])
            other.commit([theirs], [], {}, NOW_S)
        found = ledger.book("demo", "epoch-01")
    assert found is not None
    assert list(found.accepted) == [(1, 40)]
    assert list(theirs.accepted) == [(1, 40)]


def test_who_is_alone_does_not_read_its_books_again(access: Access, ledger: Ledger) -> None:
    """A batch of thousands of centers is written with one statement."""
    book = Book("demo", "epoch-01")
    ledger.commit([book], [], {}, NOW_S)
    state = book.as_of
    for seq in range(1, 5):
        book.store([seq])
        ledger.commit([book], [], {}, NOW_S)
    assert book.as_of == state


# --- a commit whose answer never came ---------------------------------------------------------------------------------


class Unanswered(PostgresqlDatabase):
    """Commits, and loses the connection before the answer has come, or before the question was heard."""

    heard = True
    armed = False

    def mark(self, connection: sa.Connection) -> str:
        if self.armed:
            self.armed = False
            session = connection.connection.driver_connection
            assert session is not None

            def lose(_: sa.Connection) -> None:
                if self.heard:
                    session.commit()
                session.close()

            sa.event.listen(connection, "commit", lose)
        return super().mark(connection)


@pytest.mark.parametrize("heard", [True, False])
def test_what_is_added_to_what_is_there_is_added_once(access: Access, heard: bool) -> None:
    """Whether the server had committed is asked, and not guessed."""
    database = Unanswered(access)
    ledger = Ledger(database)
    quality = Quality()
    quality.add(Ping("google", sent=10, received=9, rtt_p50_ms=600.0))
    findings = Findings(quality={("demo", date(2026, 11, 23), True): quality})
    findings.touch("demo", NOW_S, NOW_S + 1, "ping")
    book = Book("demo", "epoch-01", RangeSet())
    book.store([1])
    database.heard, database.armed = heard, True
    assert reason(lambda: ledger.commit([book], [], {}, NOW_S, findings=findings)) == "unreachable"
    assert book.dirty
    ledger.commit([book], [], {}, NOW_S, findings=findings)
    with ledger.transaction() as connection:
        (row,) = connection.execute(sa.select(evidence_tables.quality)).all()
    assert Quality.from_json(row.sketch) == quality
    assert list(book.accepted) == [(1, 1)]
    ledger.close()


# --- the collector as a process ---------------------------------------------------------------------------------------


@pytest.fixture
def collector(mosquitto: Mosquitto, running: PostgreSQL, tmp_path: Path) -> Iterator[Collector]:
    directory = tmp_path / "collector"
    directory.mkdir()
    name = running.create()
    settings = collector_settings(BrokerAccess(mosquitto.port), directory, port=free_port())
    quick: Table = {"batch": {"wait_s": 0.02}, "clock": {"trust": "always"}, "ack_within_s": 1}
    quick["ledger"] = running.ledger(name, directory / "password")
    found = Collector(directory, merged(settings, quick), [Center("demo"), Center("other")])
    yield found
    found.stop()


def trouble(collector: Collector) -> str:
    """The worker's; that of the verdicts ends with the next minute."""
    return " ".join(text for text in collector.get("/api/v1/centers")["trouble"] if text.startswith("ledger"))


def test_a_server_killed_at_random_moments_loses_and_doubles_nothing(
    collector: Collector, mosquitto: Mosquitto, running: PostgreSQL
) -> None:
    """Every record is acked in the end, and what is acked is in store and ledger, once; the collector lives on."""
    collector.start()
    pid = collector.pid
    epochs = {center: f"{center}-{random.randrange(10**8):08d}"[-8:] for center in ("demo", "other")}
    agents = [Sender(mosquitto.port, center, epoch, COUNT) for center, epoch in epochs.items()]
    for _ in range(4):
        until_s = time.monotonic() + random.uniform(0.2, 1.0)
        while time.monotonic() < until_s:
            for agent in agents:
                agent.send_what_is_due()
            time.sleep(0.01)
        running.kill()
        acked = [agent.acked.count for agent in agents]
        for agent in agents:
            agent.send_what_is_due()
        wait(lambda: "ledger" in trouble(collector) or all(agent.done for agent in agents), collector)
        time.sleep(0.3)
        settled = [agent.acked.count for agent in agents]
        time.sleep(0.5)
        assert [agent.acked.count for agent in agents] == settled >= acked
        running.start()

    def all_acked() -> bool:
        for agent in agents:
            agent.send_what_is_due()
        return all(agent.done for agent in agents)

    wait(all_acked, collector)
    wait(lambda: not trouble(collector), collector)
    for agent in agents:
        agent.close()
    stored = [(line["center"], line["seq"]) for line in collector.json_lines("records")]
    assert len(stored) == len(set(stored)) == 2 * COUNT
    assert collector.pid == pid
    collector.stop()
    name = collector.settings["ledger"]["database"]
    ranges = dict(running.execute("SELECT epoch, ranges FROM accepted", database=name))
    assert ranges == dict.fromkeys(epochs.values(), f"[[1,{COUNT}]]")
    runs = running.execute("SELECT epoch, sum(last_seq - first_seq + 1)::int FROM run GROUP BY epoch", database=name)
    assert dict(runs) == dict.fromkeys(epochs.values(), COUNT)
    assert PASSWORD not in collector.log.read_text()


def test_while_the_server_is_away_at_the_start_it_waits_and_says_so(collector: Collector, running: PostgreSQL) -> None:
    """Its log names the cure; when the server is there it goes on by itself."""
    running.stop()
    collector._ready = lambda: "ledger.cannot_open" in collector.last_log_lines()  # type: ignore[method-assign]
    collector.start()
    wait(lambda: "ledger.cannot_open" in collector.last_log_lines(), collector)
    assert "does the server run" in collector.last_log_lines()
    running.start()
    wait(lambda: collector.healthy, collector)


@pytest.mark.parametrize("wrong", ["password", "database"])
def test_wrong_settings_are_said_by_check_and_cured_while_it_waits(collector: Collector, running: PostgreSQL, wrong: str) -> None:
    secret = Path(collector.settings["ledger"]["password_file"])
    name = collector.settings["ledger"]["database"]
    if wrong == "password":
        secret.write_text("hunter2\n")
    else:
        running.drop(name)
    collector._prepare()
    said = collector.ask("check").stdout
    assert "NOT OK  ledger" in said
    assert "hunter2" not in said
    collector._ready = lambda: True  # type: ignore[method-assign]
    collector.start()
    wait(lambda: "ledger.cannot_open" in collector.last_log_lines(), collector)
    assert "hunter2" not in collector.log.read_text()
    if wrong == "password":
        secret.write_text(PASSWORD + "\n")
    else:
        running.create(name)
    wait(lambda: collector.healthy, collector)
    assert "ok      ledger" in collector.ask("check").stdout


def test_a_ledger_of_a_newer_version_is_refused(collector: Collector, running: PostgreSQL) -> None:
    collector.start()
    collector.stop()
    running.execute("UPDATE meta SET value = '99' WHERE name = 'schema'", database=collector.settings["ledger"]["database"])
    refused = collector.ask("run")
    assert refused.returncode == 2
    assert "schema 99, this one knows" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_the_ledger_becomes_read_only_for_a_while(collector: Collector, mosquitto: Mosquitto, running: PostgreSQL) -> None:
    """As at a failover: no ack, said as trouble, and over by itself."""
    collector.start()
    wait(lambda: collector.healthy, collector)  # its page is there before it is subscribed, and what is sent between is nobody's
    name = collector.settings["ledger"]["database"]
    running.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    running.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
    agent = Sender(mosquitto.port, "demo", "epochAAA", 5)
    agent.send_what_is_due()
    wait(lambda: "read-only" in trouble(collector), collector)
    assert agent.acked.count == 0
    running.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")

    def resent() -> bool:
        agent.send_what_is_due()
        return agent.done

    wait(resent, collector)
    agent.close()
    wait(lambda: not trouble(collector), collector)
