"""Timeline and explanation, over HTTP and from the command line, from one ledger."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from kerege_collector.cli import main
from kerege_collector.judge import Judge
from kerege_collector.ledger import Ledger
from kerege_collector.quality import Quality
from kerege_collector.stores import Row
from kerege_collector.witness import Witness
from kerege_wire import Body, Boot, Ping, Tick, kind_of
from tests.collector.web_house import House, get, house
from tests.places import Place

__all__ = ["house"]

T = int(datetime(2026, 11, 23, 9, tzinfo=UTC).timestamp())
UP, DOWN = Tick(result="online"), Tick(result="offline", broken="internet")

PING = Ping("quad9", 4, "datagram", 10, 9, 600.0, 620.0, 700.0, 700.0)


def fill(ledger: Ledger, house: House) -> None:
    """Ten minutes up, then a power cut of which first nothing and then the boot record tells."""
    witness, judge = Witness(ledger.runs, lambda: house.region), Judge(ledger)

    def hear(rows: list[tuple[int, int, Body]], epoch: str) -> None:
        witness.take([Row("ulan", epoch, seq, T + time_s, kind_of(body), "synced", None, body, T + time_s) for seq, time_s, body in rows])
        ledger.commit([], [], {}, T, findings=witness.findings())
        witness.committed()

    hear([(seq, seq * 60 - 60, PING if seq == 6 else UP) for seq in range(1, 12)], "A")
    judge.step(house.region, T + 3000)
    boot = Boot(cause="host", stop="unclean", last_alive=T + 600, previous_epoch="A", uptime_s=30)
    hear([(1, 3600, boot), *((seq, 3540 + seq * 60, DOWN) for seq in range(2, 12))], "B")
    judge.step(house.region, T + 4210)


def test_the_timeline_over_http(house: House) -> None:
    fill(house.ledger, house)
    status, _, body = get(house, f"/api/v1/timeline/ulan?from={T}&to=2026-11-23T12:00:00Z")
    said = json.loads(body)
    assert status == 200
    assert [(each["start_s"] - T, each["end_s"] - T, each["state"], each["cause"]) for each in said["intervals"]] == [
        (0, 630, "up", None),
        (630, 3570, "off", "power"),
        (3570, 3600, "unknown", None),
        (3600, 4200, "down", "provider"),
    ]
    assert sum(part["seconds"] for part in said["seconds_open"] + said["seconds_closed"]) == 4200
    assert said["figures"]["link_availability"] == pytest.approx(630 / 1230)
    assert said["revisions"] == 1
    quality = said["quality_open"]
    assert (quality["rtt_samples"], quality["pdv_samples"], quality["packets_sent"], quality["loss_percent"]) == (1, 1, 10, 10.0)
    assert quality["rtt_p50_ms"] == pytest.approx(620, rel=0.02)
    assert quality["pdv_p95_ms"] == pytest.approx(100, rel=0.02)
    assert said["quality_closed"] == Quality().figures()
    status, _, body = get(house, "/api/v1/timeline/ulan?from=0&to=9999-12-31T23:00Z")
    assert (status, json.loads(body)["quality_open"]) == (200, quality)


def test_an_explanation_names_every_piece_of_evidence_and_what_was_said_before(house: House) -> None:
    fill(house.ledger, house)
    said = json.loads(get(house, "/api/v1/explain/ulan?time=2026-11-23T09:30:00%2B00:00")[2])
    assert (said["verdict"]["state"], said["verdict"]["cause"], said["verdict"]["rule"]) == ("off", "power", "boot-unclean")
    words = [piece["words"] for piece in said["evidence"]]
    assert "ticks said up; run A, records 1 to 11" in words
    assert "the machine started; the run before ended: unclean; so the silence before it was off (power)" in words
    assert [part["state"] for before in said["said_before"] for part in before["said"]] == ["unknown"]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/v1/timeline/ulan?from=nonsense", 400),
        ("/api/v1/timeline/ulan?from=2026-11-02&to=2026-11-01", 400),
        ("/api/v1/timeline/NO", 400),
        ("/api/v1/explain/ulan", 400),
        ("/api/v1/explain/ulan?time=99999999999999999999", 400),
        ("/api/v1/explain/ulan?time=9999999999", 200),
        ("/api/v1/timeline/never-met", 200),
    ],
)
def test_bad_questions_are_refused_in_words(house: House, path: str, status: int) -> None:
    found, _, body = get(house, path)
    assert found == status
    assert ("error" in json.loads(body)) == (status == 400)


@pytest.fixture
def settings(place: Place, house: House) -> Path:
    ledger = Ledger(place.open())
    fill(ledger, house)
    ledger.close()
    return place.settings_file('[[center]]\nid = "ulan"\nname = "Ұлан ауылы"\n')


def test_the_commands_print_it_for_people(settings: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = [
        "timeline",
        "ulan",
        "--from",
        str(datetime.fromtimestamp(T, UTC).isoformat()),
        "--to",
        "2026-11-24",
        "--settings",
        str(settings),
    ]
    assert main(asked) == 0
    text = capsys.readouterr().out
    assert "boot-unclean" in text
    assert "link availability 51.22 %" in text
    assert "loss 10 %; of 1 pings, 10 packets" in text
    assert main(["timeline", "ulan", "--from", "2026-11-23T10:00Z", "--to", "2026-11-23T10:05Z", "--settings", str(settings)]) == 0
    assert "round trip 6" in capsys.readouterr().out
    assert main(["explain", "ulan", "2026-11-23T09:30+00:00", "--settings", str(settings)]) == 0
    text = capsys.readouterr().out
    assert "Ұлан ауылы" in text
    assert "off (power)" in text
    assert "we said unknown; changed by: " in text


def test_the_commands_print_json(settings: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["timeline", "ulan", "--from", "2026-11-23", "--to", "2026-11-24", "--json", "--settings", str(settings)]) == 0
    assert len(json.loads(capsys.readouterr().out)["intervals"]) == 4
    assert main(["explain", "ulan", "2026-11-23T09:30+00:00", "--json", "--settings", str(settings)]) == 0
    assert json.loads(capsys.readouterr().out)["verdict"]["cause"] == "power"


def test_where_there_is_no_verdict_the_commands_say_so(settings: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["timeline", "ulan", "--from", "2020-01-01", "--to", "2020-01-02", "--settings", str(settings)]) == 1
    assert "no verdict on ulan" in capsys.readouterr().err
    assert main(["explain", "ulan", "2020-01-01", "--settings", str(settings)]) == 1
    assert "no verdict (yet)" in capsys.readouterr().out
    assert main(["timeline", "ulan", "--from", "2026-01-02", "--to", "2026-01-01", "--settings", str(settings)]) == 2
