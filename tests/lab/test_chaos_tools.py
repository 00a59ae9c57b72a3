"""What breaks an agent's world in a chaos run: its clock, its disk; and how its journal is read."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kerege_lab.chaos.clocks import WallClock
from kerege_lab.chaos.watch import AckWatch, Journals
from kerege_lab.servers import Mosquitto
from kerege_wire import Ack, encode_ack
from tests.end_to_end.houses import wait_until

YEAR_S = 365 * 86_400

FILL = """
import os, sys
from pathlib import Path
from kerege_lab.chaos.disks import Disk, private_mounts
assert private_mounts() is None
disk = Disk(Path(sys.argv[1]), mb=1)
(disk.path / "kept").write_bytes(b"x")
disk.fill()
try:
    (disk.path / "more").write_bytes(bytes(4096))
except OSError as error:
    print("full:", error.strerror)
disk.free()
(disk.path / "more").write_bytes(bytes(4096))
print("kept:", (disk.path / "kept").read_bytes())
"""

LOOK = "import time; print(time.time(), time.time_ns(), time.monotonic())"


@pytest.mark.platform_specific("mounting takes root")
@pytest.mark.skipif(os.geteuid() != 0, reason="mounting takes root")
def test_a_disk_is_filled_to_the_brim_freed_and_leaves_nothing_behind(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", FILL, str(tmp_path / "disk")], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout.splitlines() == ["full: No space left on device", "kept: b'x'"]
    assert list((tmp_path / "disk").iterdir()) == []


@pytest.mark.parametrize("offset_s", [None, -10 * YEAR_S, 10 * YEAR_S])
def test_a_wall_clock_is_wrong_by_what_was_set_and_the_monotonic_one_is_not(tmp_path: Path, offset_s: int | None) -> None:
    clock = WallClock(tmp_path / "offset")
    if offset_s is not None:
        clock.set(offset_s)
    done = subprocess.run([*clock.wrapper, sys.executable, "-c", LOOK], capture_output=True, text=True, check=True, timeout=30)
    wall_s, wall_ns, steady_s = map(float, done.stdout.split())
    assert wall_s - time.time() == pytest.approx(offset_s or 0, abs=10)
    assert wall_ns / 1e9 == pytest.approx(wall_s, abs=1)
    assert steady_s == pytest.approx(time.monotonic(), abs=10)


def test_a_journal_is_read_as_it_grows_line_by_line(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    journals = Journals({"demo": path})
    assert journals.poll() == 0
    made = json.dumps({"epoch": "Zk3q9w2a", "seq": 1, "kind": "tick", "time": None, "mono_ms": 5}) + "\n"
    kept = json.dumps({"epoch": "Zk3q9w2a", "seq": 1, "kept": True}) + "\n"
    path.write_text(made + kept[:10])
    assert journals.poll() == 1
    assert not journals.journal.made["demo", "Zk3q9w2a", 1].kept
    path.write_text(made + kept)
    assert journals.poll() == 1
    assert journals.journal.made["demo", "Zk3q9w2a", 1].kept


def test_acknowledgements_are_seen_with_their_moment_also_after_the_broker_was_killed(mosquitto: Mosquitto) -> None:
    def publish(seq: int) -> bool:
        (mosquitto.directory / "ack").write_bytes(encode_ack(Ack(epoch="Zk3q9w2a", stored=((seq, seq),))))
        command = ["mosquitto_pub", "-p", str(mosquitto.port), "-t", "kerege/v1/demo/ack", "-f", str(mosquitto.directory / "ack")]
        subprocess.run(command, check=True, timeout=10)
        return any(seen.stored == ((seq, seq),) for seen in watch.seen)

    began_s = time.clock_gettime(time.CLOCK_BOOTTIME)
    with AckWatch(mosquitto.port) as watch:
        wait_until(lambda: publish(1), "the first is seen")
        mosquitto.kill()
        mosquitto.start()
        wait_until(lambda: publish(2), "the second is seen")
    assert {seen.center for seen in watch.seen} == {"demo"}
    assert all(began_s <= seen.at_s <= time.clock_gettime(time.CLOCK_BOOTTIME) for seen in watch.seen)
