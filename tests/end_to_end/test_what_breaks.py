"""Parts are killed and come back; no record is lost, none is stored twice."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kerege_lab.proxy import Workshop
from kerege_lab.servers import Mosquitto
from tests.end_to_end.houses import Build, House, wait_until

FLOW_AGAIN_S = 30.0
"""How soon records must flow after the way is open again. The agents of these tests wait at most a second between two attempts."""


def sound(house: House) -> None:
    account = house.audit()
    assert account.sound, account
    assert account.records == account.stored + account.unwritten


def await_more(house: House, count: int = 5) -> None:
    """Wait until the agent has made so many records more."""
    before = len(house.made())
    wait_until(lambda: len(house.made()) >= before + count, f"{count} records made", house=house)


def test_records_survive_a_broker_that_is_killed_and_remembers_nothing(build: Build) -> None:
    house = build().start()
    house.await_records(3)
    house.broker.kill()
    await_more(house)
    house.broker.start()
    sound(house)


def test_records_survive_a_collector_that_is_killed_mid_stream(build: Build) -> None:
    house = build().start()
    house.await_records(3)
    for _ in range(3):
        house.collector.kill()
        await_more(house, 3)
        house.collector.start()
        await_more(house, 3)
    sound(house)


def test_records_survive_an_agent_that_is_killed_while_the_broker_is_away(build: Build) -> None:
    house = build().start()
    house.await_records(3)
    house.broker.kill()
    for _ in range(2):
        await_more(house)
        house.kill_agent()
        house.agent.start()
    await_more(house)
    house.broker.start()
    sound(house)
    boots = [record["fields"] for record in house.stored() if record["kind"] == "boot"]
    assert [boot["stop"] for boot in boots] == ["first", "unclean", "unclean"]


def test_a_start_without_a_broker_is_an_ordinary_start_and_records_flow_seconds_after_it_appears(build: Build) -> None:
    house = build()
    house.collector.start()
    house.stack.callback(house.collector.stop)
    house.stack.enter_context(house.agent)
    wait_until(lambda: len(house.made()) >= 10, "records made without a broker", house=house)
    house.stack.callback(house.broker.stop)
    house.broker.start()
    opened_s = time.time()
    wait_until(lambda: any(record["time"] >= opened_s for record in house.stored()), "a live record", deadline_s=FLOW_AGAIN_S, house=house)
    sound(house)


@pytest.mark.parametrize("how", ["reset", "blackhole"])
def test_records_flow_seconds_after_a_cut_link_is_back(build: Build, tmp_path: Path, how: str) -> None:
    with Workshop() as workshop:
        broker = Mosquitto(tmp_path / "broker")
        link = workshop.link(broker.port)
        house = build(broker, mqtt={"port": link.port, "keepalive_s": 5}).start()
        house.await_records(3)
        link.cut("reset" if how == "reset" else "blackhole")
        await_more(house, 10)
        link.restore()
        opened_s = time.time()
        wait_until(
            lambda: any(record["time"] >= opened_s for record in house.stored()), "a live record", deadline_s=FLOW_AGAIN_S, house=house
        )
        sound(house)
        house.agent.stop()


def test_a_small_chaos_loses_nothing_and_stores_nothing_twice() -> None:
    command = [sys.executable, "-m", "kerege_lab", "chaos", "--records", "600", "--faults", "6", "--seed", "4467", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=220)
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    assert figures["records"] >= 600
    assert (figures["faults"], figures["lost"], figures["duplicated"]) == (6, 0, 0)
    assert sum(figures["faults_by_kind"].values()) == 6
