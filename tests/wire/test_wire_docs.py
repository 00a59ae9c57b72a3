"""docs/wire.md says what the code does: its examples, its tables, its numbers."""

import json
import re
import subprocess
import sys
import zlib
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from kerege_collector import admit, stores
from kerege_wire import (
    MAX_INFLATED_BYTES,
    MAX_PAYLOAD_BYTES,
    Ack,
    CollectorState,
    Presence,
    Report,
    decode_ack,
    decode_report,
    encode_ack,
    encode_report,
    errors,
)
from kerege_wire.codec import expand
from kerege_wire.dictionary import DICTIONARY_1
from kerege_wire.fields import MAX_TEXT, MAX_UNKNOWN_DEPTH
from kerege_wire.messages import MAX_RANGES, MAX_RECORDS
from kerege_wire.records import RUNG_MARKS, RUNGS
from kerege_wire.reports import MAX_FIELDS
from kerege_wire.schema import kinds_markdown
from kerege_wire.topics import CENTER_PATTERN, COLLECTOR_STATE, LEAVES, topic

TEXT = (Path(__file__).parents[2] / "docs" / "wire.md").read_text(encoding="utf-8")
BLOCKS: dict[str, str] = dict(re.findall(r"^```(\w[^\n]*)\n(.*?)\n```$", TEXT, re.MULTILINE | re.DOTALL))
"""Info string → content. The examples have info strings of their own."""


def section(heading: str) -> str:
    """From a heading to the next one of any level."""
    found = re.search(rf"^#+ {re.escape(heading)}$(.*?)(?=^#+ |\Z)", TEXT, re.MULTILINE | re.DOTALL)
    assert found is not None, heading
    return found[1]


def table(text: str) -> list[list[str]]:
    """The rows of a table without its head."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip()[1:-1].split("|")] for line in lines[2:]]


def quoted(cell: str) -> list[str]:
    return re.findall("`([^`]+)`", cell)


REPORT = bytes.fromhex(BLOCKS["hex report"])
ACK = bytes.fromhex(BLOCKS["hex ack"])


def test_the_three_forms_of_the_report_are_the_same_report() -> None:
    """The object, the bytes, and what they inflate to."""
    report = decode_report(REPORT)
    assert expand(REPORT).decode() == BLOCKS["json report row"]
    assert decode_report(BLOCKS["json report object"].encode()) == report == decode_report(BLOCKS["json report row"].encode())
    assert encode_report(report, "json").decode() == BLOCKS["json report object"]
    assert expand(encode_report(report)).decode() == BLOCKS["json report row"]
    [record] = report.records
    assert (report.epoch, record.seq, record.time) == ("Zk3q9w2a", 7, 1795465800)


def test_the_sizes_of_the_example_are_as_stated() -> None:
    """Both in bytes."""
    stated = re.search(r"named record \((\d+) bytes\).*?with a row \((\d+) bytes", TEXT, re.DOTALL)
    assert stated is not None
    assert (int(stated[1]), int(stated[2])) == (len(BLOCKS["json report object"].encode()), len(REPORT))


def test_the_ack_of_the_example_is_what_its_bytes_say() -> None:
    """And acknowledges the report above it."""
    ack = decode_ack(ACK)
    assert expand(ACK).decode() == BLOCKS["json ack"] == encode_ack(ack, "json").decode()
    assert expand(encode_ack(ack)) == expand(ACK)
    assert (ack.epoch, ack.sent, ack.stored) == ("Zk3q9w2a", decode_report(REPORT).sent, ((1, 7),))


def test_the_example_of_steps_gives_the_numbers_and_times_that_it_names() -> None:
    """Records 7, 8 and 11; a minute after, and 5 s before that."""
    members = re.search(r'`("seq":7,"time":1795465800,"records":\[\[.*?\]\])`', TEXT)
    assert members is not None
    report = decode_report(f'{{"epoch":"Zk3q9w2a",{members[1]}}}'.encode())
    assert [(record.seq, record.time - 1795465800) for record in report.records] == [(7, 0), (8, 60), (11, 55)]


def test_the_message_published_by_hand_is_a_report() -> None:
    """As the shell hands it over."""
    found = re.findall(r' -m "(.*)"(?: \||)$', TEXT, re.MULTILINE)
    assert len(found) == 2
    for text in found:
        message = subprocess.run(["/bin/sh", "-c", f'printf %s "{text}"'], capture_output=True, check=True).stdout
        report = decode_report(message)
        assert (report.refused, len(report.records), report.prompt) == ((), 1, True)


def test_the_dictionary_is_the_codes() -> None:
    """To the letter, with its length and checksum."""
    assert BLOCKS["text dictionary"].encode() == DICTIONARY_1
    assert f"{len(DICTIONARY_1)} bytes, CRC-32 `{zlib.crc32(DICTIONARY_1):08x}`" in TEXT


def test_the_python_recipe_reads_and_writes() -> None:
    """Without any of our code, in a process of its own."""
    script = BLOCKS["python"] + (
        f"\nmessage = decode(bytes.fromhex('{REPORT.hex()}'), {DICTIONARY_1!r})"
        f"\nassert decode(encode(message, {DICTIONARY_1!r}), {DICTIONARY_1!r}) == message"
        f"\nprint(json.dumps(message), encode(message, {DICTIONARY_1!r}).hex(), sep='\\n')"
    )
    said = subprocess.run([sys.executable, "-I", "-S", "-c", script], capture_output=True, check=True, text=True).stdout.splitlines()
    assert json.loads(said[0]) == json.loads(BLOCKS["json report row"])
    assert decode_report(bytes.fromhex(said[1])) == decode_report(REPORT)


def test_the_kinds_are_the_codes() -> None:
    """Written by `kerege-wire schema --markdown`."""
    part = re.search(r"<!-- kinds: .*? -->\n\n(.*)\n<!-- end of kinds -->", TEXT, re.DOTALL)
    assert part is not None
    assert part[1] == kinds_markdown()


@pytest.mark.parametrize(
    ("heading", "declared", "besides"),
    [
        ("Report", Report, {"seq", "time"}),
        ("Ack", Ack, set()),
        ("Presence", Presence, set()),
        ("Collector state", CollectorState, set()),
    ],
)
def test_the_table_of_a_message_has_its_members(heading: str, declared: Any, besides: set[str]) -> None:
    """All of them, and which must be there."""
    rows = table(section(heading))
    names = {name for row in rows for name in quoted(row[0])}
    assert names == {item.name for item in fields(declared)} - ({"refused"} if declared is Report else set()) | besides
    required = {name for row in rows for name in quoted(row[0]) if "required" in row[1] and "required with" not in row[1]}
    assert required == {item.name for item in fields(declared) if repr(item.default).startswith("<dataclasses._MISSING")}


def test_the_limits_are_the_codes() -> None:
    """In the order of the table."""
    rows = table("| limit |" + section("Bytes").partition("| limit |")[2])
    stated = [int(re.sub("[, a-z]", "", row[1])) for row in rows if row[1][0].isdigit()]
    assert stated == [MAX_PAYLOAD_BYTES, MAX_INFLATED_BYTES, MAX_RECORDS, MAX_FIELDS, MAX_UNKNOWN_DEPTH, MAX_RANGES]
    assert f"at most {MAX_TEXT} characters" in section("Bytes")


def test_every_reason_of_the_code_is_in_the_table_and_none_other() -> None:
    """Those of the wire's readers, of admission, and of the stores."""
    rows = table(section("What happens to what"))
    told = {name for row in rows for name in quoted(row[2])}
    known = {value for name, value in vars(errors).items() if name.isupper()}
    known |= {admit.TIME_FUTURE, admit.TIME_BEFORE_2020, admit.TOO_MANY_GAPS, admit.TWO_AGENTS, stores.INTERNAL, stores.STORE_REFUSED}
    known |= {admit.UNKNOWN_CENTER, admit.TOO_MANY_EPOCHS, admit.WRONG_CLOCK, admit.OWN_CLOCK, admit.QUARANTINE_FULL}
    assert told == known | {admit.WRONG_CENTER, admit.BAD_TOPIC, "repeat"}


def test_topics_and_rungs_are_the_codes() -> None:
    """Names of topics, the pattern of centers, the marks of the ladder."""
    told = {cell.replace("<center>", "demo") for row in table(section("Topics")) for cell in quoted(row[0])}
    assert told == {topic("demo", leaf) for leaf in LEAVES} | {COLLECTOR_STATE}
    assert f"`{CENTER_PATTERN}`" in section("Topics")
    ladder = re.search(r"^`rungs` of a tick has.*", TEXT, re.MULTILINE | re.DOTALL)
    assert ladder is not None
    assert f"each of: {', '.join(RUNGS)}." in ladder[0]
    assert set(RUNG_MARKS) <= set(quoted(ladder[0]))


def test_links_within_the_page_lead_somewhere() -> None:
    """Headings and files."""
    anchors = {re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in re.findall(r"^#+ (.*)$", TEXT, re.MULTILINE)}
    for target in re.findall(r"\]\(([^)]+)\)", TEXT):
        name, _, anchor = target.partition("#")
        assert not name or (Path(__file__).parents[2] / "docs" / name).is_file(), target
        assert not anchor or name or anchor in anchors, target
