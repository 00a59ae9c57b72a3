"""Records as lines (`points`), and the page that lists their fields (`metrics_doc`)."""

import re
from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerege_collector.metrics_doc import metrics_markdown, with_tables
from kerege_collector.points import FIELDS, TAGS, center_tags, line
from kerege_collector.stores import Row
from kerege_lab.servers import InfluxTarget
from kerege_wire import KINDS, Body, Boot, Dns, Drop, Host, Http, Ping, Tick, Traffic, kind_of

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"
TIME = 1_795_465_800
TAGS_OF_DEMO = center_tags("demo", district="Abai", link="geo", provider="KazSat")


def row(body: Body, *, clock: str = "synced", within_s: int | None = None, seq: int = 7, time: int = TIME) -> Row:
    return Row("demo", "Zk3q9w2a", seq, time, kind_of(body), clock, within_s, body, time + 1)


GOLDEN: list[tuple[Body, str]] = [
    (
        Tick("online", None, "++.+==+", "cloudflare", "datagram", 612.0, 0.73),
        (
            'tick,center=demo,district=Abai,link=geo,provider=KazSat epoch="Zk3q9w2a",seq=7i,clock="synced",result="online",'
            'rungs="++.+==+",target="cloudflare",via="datagram",rtt_ms=612.0,gateway_rtt_ms=0.73,online=1i 1795465800'
        ),
    ),
    (
        Tick("offline", broken="gateway", error="timeout"),
        (
            'tick,center=demo,district=Abai,link=geo,provider=KazSat epoch="Zk3q9w2a",seq=7i,clock="synced",result="offline",'
            'broken="gateway",error="timeout",online=0i 1795465800'
        ),
    ),
    (
        Ping("google", family=4, via="raw", sent=10, received=9, rtt_min_ms=540.0, rtt_p95_ms=700.5),
        (
            'ping,center=demo,district=Abai,link=geo,provider=KazSat,target=google epoch="Zk3q9w2a",seq=7i,clock="synced",family=4i,'
            'via="raw",sent=10i,received=9i,rtt_min_ms=540.0,rtt_p95_ms=700.5,loss_percent=10.0,pdv_p95_ms=160.5 1795465800'
        ),
    ),
    (
        Dns("system", error="no reply"),
        (
            'dns,center=demo,district=Abai,link=geo,provider=KazSat,target=system epoch="Zk3q9w2a",seq=7i,clock="synced",error="no reply" '
            "1795465800"
        ),
    ),
    (
        Http("page", status=200, portal=False, first_byte_ms=0.5),
        (
            'http,center=demo,district=Abai,link=geo,provider=KazSat,target=page epoch="Zk3q9w2a",seq=7i,clock="synced",first_byte_ms=0.5,'
            "status=200i,portal=false 1795465800"
        ),
    ),
    (
        Traffic("eth0", 300.0, 3_000_000, 0),
        (
            'traffic,center=demo,district=Abai,link=geo,provider=KazSat epoch="Zk3q9w2a",seq=7i,clock="synced",interface="eth0",'
            "interval_s=300.0,received_bytes=3000000i,sent_bytes=0i,received_mean_kbps=80.0,sent_mean_kbps=0.0 1795465800"
        ),
    ),
    (
        Drop("Zk3q9w2a", "3-7,12", "ping", 6),
        (
            'drop,center=demo,district=Abai,link=geo,provider=KazSat epoch="Zk3q9w2a",seq=7i,clock="synced",dropped_epoch="Zk3q9w2a",'
            'dropped_seqs="3-7,12",dropped_kind="ping",count=6i 1795465800'
        ),
    ),
]


@pytest.mark.parametrize(("body", "wanted"), GOLDEN, ids=[kind_of(body) for body, _ in GOLDEN])
def test_lines_are_as_written_here(body: Body, wanted: str) -> None:
    """A record becomes this line and no other: what is stored never changes its name or type."""
    assert line(row(body), TAGS_OF_DEMO) == wanted


def test_an_estimated_time_carries_its_error() -> None:
    """clock and within_s of the report stand in each of its points."""
    assert ',clock="estimated",within_s=3600i,' in line(row(Tick("online"), clock="estimated", within_s=3600), TAGS_OF_DEMO)


def test_a_record_without_any_number_is_a_point_all_the_same() -> None:
    """An empty line would be lost: epoch and seq are always there."""
    assert line(row(Host()), "") == 'host epoch="Zk3q9w2a",seq=7i,clock="synced" 1795465800'


@pytest.mark.parametrize(
    ("ping", "loss", "pdv"),
    [
        (Ping("a", sent=0, received=0), None, None),
        (Ping("a", sent=10), None, None),
        (Ping("a", sent=3, received=1), "66.66666666666667", None),
        (Ping("a", sent=1, received=3), "0.0", None),  # duplicates are not less than no loss
        (Ping("a", rtt_min_ms=0.1, rtt_p95_ms=0.3), None, "0.2"),
    ],
)
def test_what_cannot_be_computed_is_absent(ping: Ping, loss: str | None, pdv: str | None) -> None:
    """Loss needs packets that were sent, delay variation needs both delays; else there is no field."""
    text = line(row(ping), "")
    assert (f"loss_percent={loss} " in text + " ") if loss else ("loss_percent" not in text)
    assert (f"pdv_p95_ms={pdv} " in text) if pdv else ("pdv_p95_ms" not in text)


def test_absent_tags_are_left_out() -> None:
    """A tag without a value would make the line unreadable."""
    assert center_tags("demo") == ",center=demo"
    assert center_tags("demo", district=" ", provider="A, B=C") == r",center=demo,provider=A\,\ B\=C"


def test_whole_floats_stay_floats() -> None:
    """612 ms and 612.5 ms are of one type, and very small and large numbers are written as InfluxDB reads them."""
    assert "rtt_ms=612.0" in line(row(Tick(rtt_ms=612.0)), "")
    assert "agent_cpu_percent=1e-05" in line(row(Host(agent_cpu_percent=0.00001)), "")


NASTY = ["plain", 'say "hi"', "back\\slash", "end\\", 'both\\"', "a,b=c d", "Өскемен", "🦊", "x'y", "tab-less", "#hash", "=", ","]


def test_influxdb_reads_back_what_was_written(any_influx: InfluxTarget) -> None:
    """Strings of any kind, as tags and as fields, come back the same; only a backslash that ends a tag becomes a slash."""
    rows = [row(Http(text, error=text), seq=number + 1, time=TIME + number) for number, text in enumerate(NASTY)]
    any_influx.write("\n".join(line(item, center_tags("nasty-points", district=item.body.error)) for item in rows))
    found = any_influx.query("SELECT error, seq, target, district FROM http WHERE center = 'nasty-points' ORDER BY time")
    assert [item["error"] for item in found] == NASTY
    assert [item["target"] for item in found] == [text.replace("end\\", "end/") for text in NASTY]
    assert [item["district"] for item in found] == [text.replace("end\\", "end/") for text in NASTY]


@given(st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=256))
def test_no_text_breaks_out_of_its_place(text: str) -> None:
    """Unescaped quotes and separators of a text never reach the line: taking the escapes away gives the text back."""
    written = line(row(Tick(error=text)), "")
    match = re.fullmatch(r'tick epoch="Zk3q9w2a",seq=7i,clock="synced",error="((?:[^"\\]|\\["\\])*)" 1795465800', written, re.DOTALL)
    assert match is not None
    assert re.sub(r"\\([\"\\])", r"\1", match[1]) == text


def test_every_declared_field_is_stored() -> None:
    """What the wire knows of a record stands in the table: as a field, or the target as a tag."""
    stored = {(item.measurement, item.name) for item in FIELDS}
    for kind, declared in KINDS.items():
        for item in fields(declared):
            assert (kind, item.name) in stored or (item.name == "target" and item.name in TAGS)


def test_every_field_of_a_line_is_in_the_table_with_its_type() -> None:
    """Lines of full records have the fields of the table, all of them, in these types."""
    full: list[Body] = [
        Tick("offline", "dns", "++.+---", "a", "tcp", 1.0, 1.0, 1.0, "e"),
        Ping("a", 4, "raw", 1, 1, 1.0, 1.0, 1.0, 1.0, 1.0, "e"),
        Dns("a", "udp", "n", 1.0, "NOERROR", "e"),
        Http("a", 4, 1.0, 1.0, 1.0, 1.0, 200, True, "e"),
        Traffic("a", 1.0, 1, 1, 1.0, 1.0, 1.0, "e"),
        Host(1.0, 1.0, 1.0, 1.0, 1, 1.0, 1.0, 1, 1.0, "disk", 1.0, "e"),
        Boot("host", "clean", "w", 1, "Zk3q9w2a", 1, 1, "v", "s", "kept", 1, "e"),
        Drop("Zk3q9w2a", "1", "ping", 1, "r", "e"),
    ]
    types = {"f": "float", "i": "integer", "s": "string", "b": "boolean"}
    written = set()
    for body in full:
        _, text, _ = line(row(body, clock="estimated", within_s=1), "").split(" ")
        for part in text.split(","):
            name, value = part.split("=")
            letter = "s" if value[0] == '"' else "b" if value in {"true", "false"} else "i" if value[-1] == "i" else "f"
            written.add((kind_of(body), name, types[letter]))
    assert written == {(item.measurement, item.name, item.type) for item in FIELDS}


def test_the_page_lists_what_is_stored() -> None:
    """docs/metrics.md agrees with the code; `python -m kerege_collector.metrics_doc docs/metrics.md` makes it so."""
    page = PAGE.read_text(encoding="utf-8")
    assert with_tables(page) == page
    assert metrics_markdown() in page
