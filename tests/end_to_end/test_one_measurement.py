"""The path of a measurement through real processes: agent, broker, collector, store, acknowledgement, and out of the spool."""

import json
import os
import re
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from kerege_lab.certificates import Certificates
from kerege_lab.chaos.clocks import WallClock
from kerege_lab.house import influx_store, merged
from kerege_lab.postgresql import PostgreSQL
from kerege_lab.servers import HOUSE_ACL, EmbeddedBroker, Influxd, Mosquitto
from tests.end_to_end.houses import CENTER, DEADLINE_S, Build, House, wait_until

YEAR_S = 365 * 86_400
ROOT = Path(__file__).parents[2]


def follow_everything(house: House) -> None:
    """Everything made is stored exactly once with the right time, and leaves the spool."""
    house.start()
    house.await_records(5)
    quiet = {"probes": {kind: {"enabled": False} for kind in ("boot", "tick", "ping", "dns", "http", "traffic", "host")}}
    house.agent.stop()
    house.agent.settings = merged(house.agent.settings, quiet)
    house.agent.start()
    house.await_delivery()
    wait_until(lambda: spool_of(house)["records"] == 0, "an empty spool", house=house)
    account = house.audit()
    assert account.sound, account
    assert account.stored == account.records >= 5
    assert set(account.clocks) == {"synced"}


def spool_of(house: House) -> dict[str, Any]:
    return next(house.agent.json_lines("spool"))


def test_a_measurement_arrives_in_sqlite_and_leaves_the_spool(build: Build) -> None:
    house = build()
    follow_everything(house)
    records = house.stored()
    assert {record["kind"] for record in records} >= {"boot", "tick"}
    tick = next(record for record in records if record["kind"] == "tick")
    assert tick["fields"]["result"] == "online"


def test_a_measurement_arrives_in_influxdb_and_leaves_the_spool(build: Build, influxd: Influxd, tmp_path: Path) -> None:
    influxd.empty()
    house = build(store=influx_store(influxd.target, tmp_path / "collector"))
    follow_everything(house)
    ticks = influxd.query("SELECT * FROM tick")
    assert ticks
    assert {(row["center"], row["result"]) for row in ticks} == {(CENTER, "online")}


def test_a_measurement_is_promised_by_a_ledger_in_postgresql(build: Build, postgresql: PostgreSQL, tmp_path: Path) -> None:
    """Agent, Mosquitto, collector and PostgreSQL are real; what left the spool is in the ledger, and commands read it there."""
    database = postgresql.create()
    house = build(ledger=postgresql.ledger(database, tmp_path / "ledger.password"))
    follow_everything(house)
    made = house.identities()
    house.collector.stop()
    rows = postgresql.execute("SELECT center, epoch, ranges FROM accepted", database=database)
    promised = {(center, epoch, seq) for center, epoch, text in rows for first, last in json.loads(text) for seq in range(first, last + 1)}
    assert promised == made
    timeline = house.collector.ask("timeline", CENTER, "--json")
    assert timeline.returncode == 0 or "there is no verdict" in timeline.stderr  # when a minute has not ended yet
    assert house.collector.ask("incidents").returncode == 0
    assert house.collector.ask("quarantine", "list").returncode == 0
    assert not list((tmp_path / "collector").glob("ledger.db*"))
    postgresql.drop(database)


def test_the_page_and_the_api_show_the_center_up(build: Build) -> None:
    house = build().start()
    house.await_records(2)

    def mine() -> dict[str, Any] | None:
        rows = {row["center"]: row for row in house.collector.get("/api/v1/centers")["centers"]}
        assert rows["other"]["state"] == "unknown"
        return rows[CENTER] if rows[CENTER]["state"] == "up" else None

    assert wait_until(mine, "the center is up", house=house)["name"] == CENTER


def test_over_tls_every_center_is_confined_to_its_own_topics(build: Build, certificates: Certificates, tmp_path: Path) -> None:
    house = build(Mosquitto(tmp_path / "broker", tls=certificates, acl=HOUSE_ACL, lines=["log_type all"]), certificates)
    follow_everything(house)
    assert "not authorised" not in house.agent.last_log_lines()
    forged = publish(house, certificates, as_center="other", topic=f"kerege/v1/{CENTER}/report")
    assert "Denied PUBLISH from other" in forged


def publish(house: House, certificates: Certificates, *, as_center: str, topic: str) -> str:
    """Publish a report on a topic, as a center; returns what the broker wrote about it."""
    identity = certificates.clients[as_center]
    keys = ["--cafile", certificates.ca, "--cert", identity.certificate, "--key", identity.key]
    report = json.dumps({"epoch": "forgery1", "seq": 1, "time": 1_795_465_800, "records": [{"kind": "tick"}]})
    command = [
        "mosquitto_pub",
        "-V",
        "5",
        "-q",
        "1",
        "-i",
        as_center,
        "-h",
        "localhost",
        "-p",
        str(house.broker.port),
        *keys,
        "-t",
        topic,
        "-m",
        report,
    ]
    subprocess.run(list(map(str, command)), check=False, capture_output=True, timeout=20)
    return house.broker.last_log_lines(200)


def test_where_the_broker_speaks_only_version_3_1_1_everything_works_too(build: Build, tmp_path: Path) -> None:
    follow_everything(build(EmbeddedBroker(tmp_path / "broker")))


SNIPPET = re.compile(r"```sh\n(.*?)```", re.DOTALL)


def test_the_hand_made_report_of_the_documentation_is_stored_and_acknowledged(build: Build) -> None:
    house = build()
    for part in (house.broker, house.collector):
        house.stack.enter_context(part)
    wait_until(lambda: house.collector.healthy, "the collector is connected", house=house)
    (script,) = [found for found in SNIPPET.findall((ROOT / "docs" / "wire.md").read_text()) if "mosquitto_sub" in found]
    script = re.sub(r"(mosquitto_[ps]ub)", rf"\1 -p {house.broker.port}", script) + "\nwait\n"
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    said = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True, timeout=30, env=os.environ | {"PATH": path})
    assert json.loads(said.stdout)["stored"] == [[1, 1]], said
    assert [(record["epoch"], record["seq"], record["fields"]["rtt_ms"]) for record in house.stored()] == [("handmade", 1, 612)]


FAKETIME = next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))), None)

SLEEP = "import select, time; time.sleep = lambda seconds: select.select([], [], [], seconds)"
"""libfaketime 0.9.10 makes ``time.sleep`` of Python 3.11 fail with EINVAL when it is told to leave the monotonic clock alone."""


@pytest.mark.skipif(FAKETIME is None, reason="libfaketime is not installed: run scripts/install-servers")
def test_a_machine_whose_clock_is_ten_years_slow_gets_through_tls_and_gives_true_times(
    build: Build, certificates: Certificates, tmp_path: Path
) -> None:
    house = build(Mosquitto(tmp_path / "broker", tls=certificates, acl=HOUSE_ACL), certificates)
    (tmp_path / "sitecustomize.py").write_text(SLEEP)
    house.agent.wrapper = ("env", f"LD_PRELOAD={FAKETIME}", "FAKETIME=-10y", "DONT_FAKE_MONOTONIC=1", f"PYTHONPATH={tmp_path}")
    house.start()
    house.await_records(5)
    times = [(record["time"] - time.time(), record["clock"]) for record in house.stored()]
    assert all(-DEADLINE_S <= ago_s <= 1 and clock == "synced" for ago_s, clock in times), times


def test_a_wall_clock_that_jumps_ten_years_while_the_agent_runs_moves_no_record(build: Build, tmp_path: Path) -> None:
    house = build(probes={"host": {"interval_s": 1.0}})
    clock = WallClock(tmp_path / "offset")
    house.agent.wrapper = clock.wrapper
    house.start()
    house.await_records(3)
    for years in (-10, 10):
        clock.set(years * YEAR_S)
        expected = pytest.approx(years * YEAR_S, rel=0.005)  # told with three significant digits
        wait_until(partial(wall_clock_is, house, expected), "the jump is noticed", house=house)
    account = house.audit()
    assert account.sound, account
    assert account.clocks["synced"] == account.clocks.total()


def wall_clock_is(house: House, expected: object) -> bool:
    """Does the agent's latest host record say so of its machine's wall clock, in seconds from the truth?"""
    told = [record["fields"].get("wall_clock_error_s") for record in house.stored() if record["kind"] == "host"]
    return bool(told) and told[-1] == expected


def test_what_was_measured_becomes_a_verdict_and_a_state_point(build: Build, influxd: Influxd, tmp_path: Path) -> None:
    """Within two minutes the API explains the verdict on the first tick, and InfluxDB has the point of each registered center."""
    influxd.empty()
    house = build(store=influx_store(influxd.target, tmp_path / "collector")).start()
    house.await_records(3)

    def states() -> set[tuple[str, str]]:
        return {(row["center"], row["state_text"]) for row in influxd.query("SELECT * FROM state")}

    patient_s = 2 * DEADLINE_S
    wait_until(lambda: states() >= {(CENTER, "up"), ("other", "unknown")}, "points of both", house=house, deadline_s=patient_s)
    path = f"/api/v1/timeline/{CENTER}"
    wait_until(lambda: house.collector.get(path)["intervals"], "a verdict", house=house, deadline_s=patient_s)
    first = house.collector.get(f"/api/v1/timeline/{CENTER}")["intervals"][0]
    said = house.collector.get(f"/api/v1/explain/{CENTER}?time={first['start_s']}")
    assert said["verdict"]["state"] in {"up", "unknown"}
    assert any(piece["words"].startswith("ticks said up") for piece in said["evidence"])
