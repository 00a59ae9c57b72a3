"""The format is pinned by pairs of files: bytes that were once sent, and what they say. Pairs are only ever added.

``golden/NAME.hex`` is a payload. ``golden/NAME.json`` says what it is `about`, which `message` it is, and either the `reason` for which no
reader takes it, or the JSON `text` that travels in it and what a reader is `expected` to see (as `kerege-wire decode` prints it). With a
`writer` (a codec) our own writer must write the same text. To add a pair: `cd golden && sha256sum NAME.* >> SHA256SUMS`.
"""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kerege_wire import (
    KINDS,
    Ack,
    CollectorState,
    Presence,
    Record,
    Report,
    WireError,
    decode_ack,
    decode_presence,
    decode_report,
    decode_state,
    encode_ack,
    encode_presence,
    encode_report,
    encode_state,
    errors,
)
from kerege_wire.codec import CODECS, expand
from kerege_wire.view import view

GOLDEN = Path(__file__).parent / "golden"
PAIRS: dict[str, dict[str, Any]] = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(GOLDEN.glob("*.json"))}
GOOD = [name for name, pair in PAIRS.items() if "reason" not in pair]
BAD = [name for name, pair in PAIRS.items() if "reason" in pair]
WRITTEN = [name for name, pair in PAIRS.items() if "writer" in pair]

READERS: dict[str, Callable[[bytes], Any]] = {
    "report": decode_report,
    "ack": decode_ack,
    "presence": decode_presence,
    "state": decode_state,
}
WRITERS: dict[str, Callable[..., bytes]] = {
    "report": encode_report,
    "ack": encode_ack,
    "presence": encode_presence,
    "state": encode_state,
}


def payload(name: str) -> bytes:
    return bytes.fromhex((GOLDEN / f"{name}.hex").read_text(encoding="ascii"))


def built(pair: dict[str, Any]) -> Any:
    """The message that a pair expects, made by hand and not by the reader."""
    members = {name: value for name, value in pair["expected"].items() if name not in {"message", "records", "stored", "refused"}}
    expected = pair["expected"]
    match pair["message"]:
        case "report":
            return Report(**members, records=tuple(_record(record) for record in expected["records"]))
        case "ack":
            lists: dict[str, Any] = {
                name: tuple(tuple(item) for item in expected[name]) for name in ("stored", "refused") if name in expected
            }
            return Ack(**members, **lists)
        case "presence":
            return Presence(**members)
    return CollectorState(**members)


def _record(seen: dict[str, Any]) -> Record:
    fields = {name: value for name, value in seen.items() if name not in {"seq", "time", "utc", "kind"}}
    return Record(seen["seq"], seen["time"], KINDS[seen["kind"]](**fields))


@pytest.mark.parametrize("name", GOOD)
def test_the_reader_sees_what_was_once_said(name: str) -> None:
    """Every payload that was ever right stays right."""
    message = READERS[PAIRS[name]["message"]](payload(name))
    assert json.loads(json.dumps(view(message))) == PAIRS[name]["expected"]
    assert expand(payload(name)).decode() == PAIRS[name]["text"]
    assert isinstance(message, Report) or message == built(PAIRS[name])


@pytest.mark.parametrize("name", WRITTEN)
def test_the_writer_writes_what_was_once_written(name: str) -> None:
    """The text to the letter; the deflated bits are the compressor's choice."""
    pair = PAIRS[name]
    again = WRITERS[pair["message"]](built(pair), pair["writer"])
    assert expand(again).decode() == pair["text"]
    assert again[0] == payload(name)[0]


@pytest.mark.parametrize("name", BAD)
def test_the_reader_refuses_what_was_once_refused(name: str) -> None:
    """For the same reason."""
    with pytest.raises(WireError) as caught:
        READERS[PAIRS[name]["message"]](payload(name))
    assert caught.value.reason == PAIRS[name]["reason"]


def test_no_pair_was_ever_edited() -> None:
    """The hashes that each file had when it was added."""
    lines = (GOLDEN / "SHA256SUMS").read_text(encoding="ascii").splitlines()
    noted = {name: digest for digest, name in (line.split(maxsplit=1) for line in lines)}
    there = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in GOLDEN.iterdir()
        if path.is_file() and path.name != "SHA256SUMS"
    }
    assert len(noted) == len(lines)
    assert there == noted


def test_the_pairs_cover_the_wire() -> None:
    """Every kind in both forms, every message in both codecs, every reason."""
    texts = [(pair["message"], pair["writer"], json.loads(pair["text"])) for pair in PAIRS.values() if "writer" in pair]
    for kind in KINDS:
        forms = {
            type(record)
            for _, _, text in texts
            for record in text.get("records", [])
            if (record["kind"] if isinstance(record, dict) else record[1]) == kind
        }
        assert forms == {list, dict}, kind
    assert {(message, codec) for message, codec, _ in texts} == {(message, codec) for message in READERS for codec in CODECS}
    reasons = {value for name, value in vars(errors).items() if name.isupper()}
    refused = {item["reason"] for pair in PAIRS.values() for item in pair.get("expected", {}).get("refused", []) if isinstance(item, dict)}
    assert {pair["reason"] for pair in PAIRS.values() if "reason" in pair} | refused == reasons
