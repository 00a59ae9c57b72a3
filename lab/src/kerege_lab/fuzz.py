"""Bytes that nobody should send, for a while: whatever comes, only the expected exception may come out.

Cases are numbered; a case depends on nothing but its number and the seed, so that any of them can be made again. Most are valid messages
that were damaged: in their bytes, in their JSON text, or in one value of it, so that they come deep into the readers.
"""

import json
import random
import time
import traceback
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from kerege_lab.bench.mix import LINKS, lone_tick, mixed_report
from kerege_wire import (
    Ack,
    Boot,
    CollectorState,
    Drop,
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
)
from kerege_wire.codec import CODECS, DEFLATE_1, MAX_PAYLOAD_BYTES, expand
from kerege_wire.dictionary import DICTIONARY_1
from kerege_wire.messages import Message
from kerege_wire.view import view

MAX_CRASHES: Final = 20
"""After so many different ones there is enough to do."""

DEEPEST: Final = 3000
"""Nesting beyond what Python's own reader takes."""

STRANGE_VALUES: Final[tuple[Any, ...]] = (
    *(None, True, False, 0, -1, 1, 0.5, -0.0, 7.0, 2**31, 2**53 - 1, 2**53, -(2**53), 2**64, 10**400, 1e308, 1e16, -1e-320),
    *("", "0", "now", "tick", "ping", "Zk3q9w2a", "x" * 256, "x" * 257, "\x00", "\x85", "\u2028", "\ud800", "é", "3-1", "1-2,5", "\u0663"),
    *([], {}, [[]], [None], [0, "tick", 0], {"kind": "tick"}, {"kind": []}, [1, 2], [2, 1]),
)

STRANGE_TEXTS: Final = (
    "1e999",
    "-1e999",
    "NaN",
    "Infinity",
    "1" * 5000,
    "-0",
    "1.0",
    "1e2",
    "[" * 40 + "]" * 40,
    '"\\ud800"',
    '"\\u0000"',
    "\ufeff",
)
"""JSON, or nearly, that Python's writer would not write."""


@dataclass(frozen=True, slots=True)
class Target:
    """What is fed: ``call`` takes a payload and may raise the ``expected`` exceptions, nothing else."""

    name: str
    call: Callable[[bytes], object]
    expected: tuple[type[Exception], ...] = (WireError,)


@dataclass(frozen=True, slots=True)
class Crash:
    """An exception that should not have come out."""

    target: str
    case: int
    payload: bytes
    error: str


@dataclass(slots=True)
class Outcome:
    """What a run came to. ``outcomes``: target → how often it took the payload, and how often it refused it for which reason."""

    seed: int
    cases: int = 0
    calls: int = 0
    crashes: list[Crash] = field(default_factory=list)
    outcomes: dict[str, Counter[str]] = field(default_factory=dict)


def _again(decode: Callable[[bytes], Any], encode: Callable[[Any, str], bytes]) -> Callable[[bytes], object]:
    """Reads; what it has read can be shown to a person, and be written and read again as the same."""

    def call(payload: bytes) -> object:
        message: Message = decode(payload)
        json.dumps(view(message), allow_nan=False)
        for codec in CODECS:
            bare = message if not isinstance(message, Report) else _without_refused(message)
            if decode(encode(bare, codec)) != bare:
                raise AssertionError(f"written as {codec} and read again it is another message")
        return message

    return call


def _without_refused(report: Report) -> Report:
    header = {name: getattr(report, name) for name in ("epoch", "sent", "center", "waiting", "ack", "clock", "within_s")}
    return Report(**header, records=report.records)


TARGETS: Final[list[Target]] = [
    Target("report", _again(decode_report, encode_report)),
    Target("ack", _again(decode_ack, encode_ack)),
    Target("presence", _again(decode_presence, encode_presence)),
    Target("state", _again(decode_state, encode_state)),
]
"""What is fed by default; other readers of payloads are added here."""


def run(seconds: float, *, as_json: bool, seed: int | None = None, targets: Sequence[Target] = TARGETS) -> int:
    """Feed the targets for so long and print. 0: nothing but expected exceptions; 1: a crash."""
    outcome = fuzz(seconds, seed=random.randrange(10**9) if seed is None else seed, targets=targets)
    if as_json:
        print(json.dumps(_figures(outcome, seconds)))
    else:
        _show(outcome)
    return 1 if outcome.crashes else 0


def fuzz(seconds: float, *, seed: int, targets: Sequence[Target] = TARGETS, cases: int | None = None) -> Outcome:
    """Feed every target every case until the time is over, ``cases`` are done, or there are enough crashes."""
    outcome = Outcome(seed, outcomes={target.name: Counter() for target in targets})
    corpus = list(valid_payloads(seed))
    deadline_s = time.monotonic() + seconds
    while time.monotonic() < deadline_s and outcome.cases != cases and len(outcome.crashes) < MAX_CRASHES:
        payload = case(seed, outcome.cases, corpus)
        for target in targets:
            crash = _feed(target, payload, outcome)
            if crash is not None and not any(known.error == crash.error and known.target == crash.target for known in outcome.crashes):
                outcome.crashes.append(crash)
        outcome.cases += 1
    return outcome


def _feed(target: Target, payload: bytes, outcome: Outcome) -> Crash | None:
    outcome.calls += 1
    try:
        target.call(payload)
    except target.expected as error:
        outcome.outcomes[target.name][getattr(error, "reason", type(error).__name__)] += 1
    except Exception as error:  # noqa: BLE001 - this is what is looked for
        outcome.outcomes[target.name]["crash"] += 1
        where = traceback.extract_tb(error.__traceback__)[-1]
        return Crash(target.name, outcome.cases, payload, f"{type(error).__name__}: {str(error)[:200]} ({where.name}, line {where.lineno})")
    else:
        outcome.outcomes[target.name]["taken"] += 1
    return None


def valid_payloads(seed: int) -> Iterator[bytes]:
    """Messages of every kind, in both codecs: what the cases are made of."""
    chance = random.Random(f"corpus {seed}")
    reports = [
        Report("Zk3q9w2a", sent=5, center="demo", waiting=3, ack="now"),
        *(lone_tick(chance.randrange(10**6), link=link) for link in LINKS),
        *(mixed_report(chance.randrange(10**6), link=link, count=chance.randrange(2, 26)) for link in LINKS),
        Report(
            "Zk3q9w2a",
            sent=86_400_123,
            clock="estimated",
            within_s=30,
            records=(
                Record(1, 1_795_465_800, Boot("host", "unclean", last_alive=1_795_460_000, previous_epoch="AAAAAAAA", previous_seq=99)),
                Record(4, 1_795_465_700, Drop("AAAAAAAA", "3-7,12", dropped_kind="host", count=6, reason="spool full")),
            ),
        ),
    ]
    acks = [
        Ack(
            "Zk3q9w2a", sent=1, received=1_795_465_801_042, replied=1_795_465_801_088, stored=((1, 7), (9, 12)), refused=((8, "bad-field"),)
        ),
        Ack(hold="unknown center", clock="unsynced", received=1, replied=2),
        Ack(unreadable="0123abcd", reason="not-json"),
    ]
    presences = [Presence(state, "Zk3q9w2a", 3, why="upgrade", agent="0.1.0", center="demo") for state in ("online", "goodbye", "lost")]
    states = [CollectorState("ready", ack_within_s=60, time=1_795_465_800), CollectorState("away")]
    for codec in CODECS:
        yield from (encode_report(report, codec) for report in reports)
        yield from (encode_ack(ack, codec) for ack in acks)
        yield from (encode_presence(presence, codec) for presence in presences)
        yield from (encode_state(state, codec) for state in states)


def case(seed: int, number: int, corpus: Sequence[bytes]) -> bytes:
    """The payload of one case."""
    chance = random.Random(f"{seed} {number}")
    payload = chance.choice(corpus)
    for _ in range(chance.choice((1, 1, 1, 2, 5))):
        payload = chance.choice(_DAMAGES)(chance, payload)
    return payload


def _bytes_damaged(chance: random.Random, payload: bytes) -> bytes:
    damaged = bytearray(payload)
    start = chance.randrange(len(damaged) + 1)
    end = min(len(damaged), start + chance.choice((1, 1, 2, 8, 64)))
    match chance.randrange(5):
        case 0:
            damaged[start:end] = chance.randbytes(chance.randrange(5))
        case 1:
            damaged[start:start] = damaged[start:end]
        case 2:
            del damaged[start:]
        case 3:
            damaged += chance.randbytes(chance.choice((1, 16, MAX_PAYLOAD_BYTES)))
        case _:
            damaged[start:end] = bytes(byte ^ (1 << chance.randrange(8)) for byte in damaged[start:end])
    return bytes(damaged)


def _text_damaged(chance: random.Random, payload: bytes) -> bytes:
    return _packed(chance, _bytes_damaged(chance, _text(payload)))


def _strange_text(chance: random.Random, payload: bytes) -> bytes:
    """One number or string of the JSON text replaced by something that a JSON writer would not write."""
    text = _text(payload).decode(errors="replace")
    places = [place for place, letter in enumerate(text) if letter in ",:["]
    if not places:
        return payload
    start = chance.choice(places) + 1
    end = next((place for place in range(start, len(text)) if text[place] in ",]}"), len(text))
    return _packed(chance, (text[:start] + chance.choice(STRANGE_TEXTS) + text[end:]).encode(errors="replace"))


def _value_damaged(chance: random.Random, payload: bytes) -> bytes:
    try:
        return _packed(chance, json.dumps(_changed(chance, json.loads(_text(payload))), separators=(",", ":")).encode())
    except (ValueError, RecursionError):  # damaged before, so that it is no JSON any more, or too deep for Python's writer
        return payload


def _changed(chance: random.Random, root: Any) -> Any:
    """A JSON value with one value within it taken away, renamed, doubled, replaced by another of it, or by a strange one."""
    holder = [root]
    spots = list(_spots(holder))
    parent, place = chance.choice(spots)
    match chance.randrange(5):
        case 0:
            del parent[place]
        case 1 if isinstance(parent, dict):
            parent[chance.choice(("", "x", "after", "skip", "kind", "\ud800", "error"))] = parent.pop(place)
        case 1:
            parent.insert(place, parent[place])
        case 2:
            other, where = chance.choice(spots)
            parent[place] = json.loads(json.dumps(other[where]))
        case _:
            parent[place] = chance.choice(STRANGE_VALUES)
    return holder[0] if holder else None


def _spots(value: Any) -> Iterator[tuple[Any, Any]]:
    """(container, key or index) of every value within a value."""
    for key, child in list(value.items() if isinstance(value, dict) else enumerate(value)):
        yield value, key
        if isinstance(child, dict | list):
            yield from _spots(child)


def _nested(chance: random.Random, payload: bytes) -> bytes:
    """One value wrapped into many arrays or objects."""
    depth = chance.choice((7, 8, 9, 10, 50, chance.randrange(900, 1000), DEEPEST))
    opening, closing = chance.choice((("[", "]"), ('{"x":', "}")))
    text = _text(payload).decode(errors="replace")
    places = [place for place, letter in enumerate(text) if letter in ",:["]
    if not places:
        return payload
    start = chance.choice(places) + 1
    end = next((place for place in range(start, len(text)) if text[place] in ",]}"), start)
    return _packed(chance, (text[:start] + opening * depth + (text[start:end] or "0") + closing * depth + text[end:]).encode())


def _bloated(chance: random.Random, payload: bytes) -> bytes:
    """A text that inflates to far more than it was: spaces, or one of its own parts over and over."""
    text = _text(payload)
    start = chance.randrange(len(text) + 1)
    part = chance.choice((b" ", text[start : start + 20]))
    return _packed(chance, text[:start] + part * chance.choice((100, 20_000, 1_000_000 // (len(part) or 1))) + text[start:])


_DAMAGES: Final[tuple[Callable[[random.Random, bytes], bytes], ...]] = (
    *(_bytes_damaged, _text_damaged, _strange_text, _strange_text, _nested),
    *(_value_damaged,) * 6,
    *(_bloated,),
)


def _text(payload: bytes) -> bytes:
    """The JSON text in a payload, or the bytes themselves where there is none."""
    try:
        return expand(payload)
    except WireError:
        return payload


def _packed(chance: random.Random, text: bytes) -> bytes:
    """A text as a payload of either codec, without any check."""
    if chance.random() < 0.3:
        return text
    deflater = zlib.compressobj(chance.choice((1, 9)), zlib.DEFLATED, -zlib.MAX_WBITS, zdict=DICTIONARY_1)
    return bytes((DEFLATE_1,)) + deflater.compress(text) + deflater.flush()


def _figures(outcome: Outcome, seconds: float) -> dict[str, Any]:
    return {
        "cases": outcome.cases,
        "calls": outcome.calls,
        "crashes": len(outcome.crashes),
        "seed": outcome.seed,
        "seconds": seconds,
        "outcomes": {name: dict(counted.most_common()) for name, counted in outcome.outcomes.items()},
        "found": [
            {"target": crash.target, "case": crash.case, "error": crash.error, "payload": crash.payload.hex()} for crash in outcome.crashes
        ],
    }


def _show(outcome: Outcome) -> None:
    print(f"{outcome.cases} cases, {outcome.calls} calls, {len(outcome.crashes)} crashes (seed {outcome.seed})")
    for name, counted in outcome.outcomes.items():
        print(f"  {name}: " + ", ".join(f"{reason} {count}" for reason, count in counted.most_common()))
    for crash in outcome.crashes:
        print(f"crash in {crash.target}, case {crash.case}: {crash.error}\n  payload {crash.payload.hex()}")
