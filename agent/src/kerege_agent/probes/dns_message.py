"""One question to a name server and its answer, as bytes (RFC 1035 section 4). Pure."""

from struct import pack, unpack_from
from typing import Final

RECURSION_DESIRED: Final = 0x0100
IS_ANSWER: Final = 0x8000
RCODE: Final = 0x000F
TYPE_A: Final = 1
CLASS_IN: Final = 1
HEADER_BYTES: Final = 12

RCODES: Final = ("NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED")
"""Names of the response codes 0 to 5; the rest are dynamic updates' and read RCODE6 and so on."""


def query(identifier: int, name: str) -> bytes:
    """A recursive question for the IPv4 address of ``name``. Raises ValueError where that cannot be asked."""
    return pack("!6H", identifier, RECURSION_DESIRED, 1, 0, 0, 0) + _question(name)


def _question(name: str) -> bytes:
    labels = name.rstrip(".").encode("idna").split(b".")
    if not all(0 < len(label) < 64 for label in labels) or sum(len(label) + 1 for label in labels) > 254:
        raise ValueError(f"{name!r} is no domain name")
    return b"".join(bytes((len(label),)) + label for label in labels) + b"\0" + pack("!2H", TYPE_A, CLASS_IN)


def rcode_of(answer: bytes, *, identifier: int, name: str) -> str | None:
    """The response code of an answer to exactly this question, None where the bytes are anything else.

    An answer that was cut short (TC) is an answer. A server that repeats no question in an error is believed by its identifier.
    """
    if len(answer) < HEADER_BYTES:
        return None
    answered, flags, questions = unpack_from("!3H", answer)
    if answered != identifier or not flags & IS_ANSWER:
        return None
    code = flags & RCODE
    question = _question(name)
    repeated = answer[HEADER_BYTES : HEADER_BYTES + len(question)]
    if repeated.lower() != question.lower() and not (questions == 0 and code != 0):
        return None
    return RCODES[code] if code < len(RCODES) else f"RCODE{code}"
