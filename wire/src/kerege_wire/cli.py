"""``kerege-wire``: payloads for people.

Exit status: 0 well; 1 the input is no message (the reason is said), or a report in which records are refused; 2 wrong usage, or a file that
cannot be used. A reader that closes its pipe early is nobody's fault.
"""

import argparse
import json
import os
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any, Final

from kerege_wire.acks import decode_ack, encode_ack
from kerege_wire.codec import CODECS, expand, pack, parse
from kerege_wire.dictionary import DICTIONARY_1
from kerege_wire.errors import BAD_MESSAGE, NOT_DEFLATE, MisuseError, WireError
from kerege_wire.messages import Message, Report
from kerege_wire.reports import decode_report, encode_report
from kerege_wire.retained import decode_presence, decode_state, encode_presence, encode_state
from kerege_wire.schema import MESSAGES, kinds_markdown, message_schema
from kerege_wire.view import guess, unknown, view

MAX_INPUT_BYTES: Final = 1 << 20
"""Most that is read: several times what any message has, in hex and with spaces."""

_UNSAFE: Final = re.compile("[\x7f-\x9f\ud800-\udfff]")
"""What JSON allows unescaped, or Python holds, and a terminal should not see."""

_DECODE: Final[dict[str, Callable[[bytes], Message]]] = {
    "report": decode_report,
    "ack": decode_ack,
    "presence": decode_presence,
    "state": decode_state,
}
_ENCODE: Final[dict[str, Callable[[Any, str], bytes]]] = {
    "report": encode_report,
    "ack": encode_ack,
    "presence": encode_presence,
    "state": encode_state,
}


class UsageError(Exception):
    """The arguments or a file cannot be used; the text says which and why."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit status."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except (WireError, MisuseError) as error:
        return _fail(options, str(error), 1)
    except UsageError as error:
        return _fail(options, str(error), 2)
    except BrokenPipeError:
        return 0
    except KeyboardInterrupt:
        return 1


def _fail(options: argparse.Namespace, problem: str, status: int) -> int:
    print(f"kerege-wire {options.command}: {problem}", file=sys.stderr)
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="kerege-wire", description="Payloads of Kerege's wire, version 1, for people (docs/wire.md).")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    decode = commands.add_parser("decode", help="print a payload as JSON, each record with its own number and time")
    decode.add_argument("--raw", action="store_true", help="print the JSON text as it travelled")
    decode.add_argument("--hex", action="store_true", help="the input is hex digits; spaces and line ends between them do not matter")
    decode.set_defaults(run=_decode)

    encode = commands.add_parser("encode", help="check a message written as JSON, and write its payload")
    encode.add_argument("--codec", choices=CODECS, default="deflate", help="how to write it (default: deflate)")
    encode.add_argument("--hex", action="store_true", help="write hex digits")
    encode.set_defaults(run=_encode)

    for command in (decode, encode):
        command.add_argument("--as", dest="message", choices=MESSAGES, help="which message it is (default: guessed from its members)")
        command.add_argument("file", nargs="?", default="-", metavar="FILE", help="- or nothing: standard input")

    schema = commands.add_parser("schema", help="print the JSON Schema of one message, or of all")
    what = schema.add_mutually_exclusive_group()
    what.add_argument("message", nargs="?", choices=MESSAGES, metavar="|".join(MESSAGES), help="which (default: all, in one object)")
    what.add_argument("--markdown", action="store_true", help="the record kinds as Markdown tables, as in docs/wire.md")
    what.add_argument("--dictionary", action="store_true", help="the preset dictionary of codec 0x01, as it is")
    schema.set_defaults(run=_schema)
    return parser


def _decode(options: argparse.Namespace) -> int:
    payload = _read(options.file)
    if options.hex:
        payload = _from_hex(payload, options.file)
    try:
        text = expand(payload)
    except WireError as error:
        if error.reason == NOT_DEFLATE and payload.endswith(b"\n"):
            raise WireError(error.reason, f"{error.detail} (mosquitto_sub adds a line end, unless called with -N)") from error
        raise
    members = parse(text)
    message = _DECODE[_name(options, members)](payload)
    _write(text.rstrip() + b"\n" if options.raw else _json(view(message)))
    return _judge(options, message)


def _encode(options: argparse.Namespace) -> int:
    members = parse(_read(options.file))
    name = _name(options, members)
    message = _DECODE[name](pack(members))
    status = _judge(options, message)
    if status == 0:
        for stray in unknown(name, members):
            status = _fail(options, str(stray), 1)
    if status == 0:
        payload = _ENCODE[name](message, options.codec)
        _write(payload.hex(" ").encode() + b"\n" if options.hex else payload)
    return status


def _schema(options: argparse.Namespace) -> int:
    if options.dictionary:
        _write(DICTIONARY_1)
    elif options.markdown:
        _write(kinds_markdown().encode())
    elif options.message:
        _write(_json(message_schema(options.message)))
    else:
        _write(_json({name: message_schema(name) for name in MESSAGES}))
    return 0


def _name(options: argparse.Namespace, members: dict[str, Any]) -> str:
    name: str | None = options.message or guess(members)
    if name is None:
        raise WireError(BAD_MESSAGE, f"has no member by which it could be one of {', '.join(MESSAGES)}; say which with --as")
    return name


def _judge(options: argparse.Namespace, message: Message) -> int:
    status = 0
    for item in message.refused if isinstance(message, Report) else ():
        status = _fail(options, f"record {item.seq} would be refused: {item.reason}: {item.detail}", 1)
    return status


def _from_hex(text: bytes, file: str) -> bytes:
    try:
        return bytes.fromhex(text.decode("ascii"))
    except ValueError as error:
        raise UsageError(f"{_called(file)}: not hex digits: {error}") from error


def _called(file: str) -> str:
    return "standard input" if file == "-" else file


def _read(file: str) -> bytes:
    try:
        with open(0 if file == "-" else file, "rb", closefd=file != "-") as stream:
            content = stream.read(MAX_INPUT_BYTES + 1)
    except OSError as error:
        raise UsageError(f"{_called(file)}: {error.strerror}") from error
    if len(content) > MAX_INPUT_BYTES:
        raise UsageError(f"{_called(file)}: more than {MAX_INPUT_BYTES} bytes, so no message")
    return content


def _json(value: object) -> bytes:
    text = json.dumps(value, ensure_ascii=False, indent=2)
    return _UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", text).encode() + b"\n"


def _write(content: bytes) -> None:
    try:
        with os.fdopen(1, "wb", closefd=False) as stream:
            stream.write(content)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise UsageError(f"standard output: {error.strerror}") from error
