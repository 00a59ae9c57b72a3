"""What a certificate file says of itself, read from its DER (X.690): the ssl module tells it of a peer only. Pure.

Enough of RFC 5280 section 4.1 for two questions; whether a certificate is any good is TLS's to say.
"""

import ssl
from datetime import UTC, datetime
from typing import Final, NamedTuple

_SEQUENCE: Final = 0x30
_VERSION: Final = 0xA0
_UTC_TIME: Final = 0x17
_COMMON_NAME: Final = (0x06, b"\x55\x04\x03")
"""The object identifier 2.5.4.3."""

_CODINGS: Final = {0x0C: "utf-8", 0x13: "ascii", 0x14: "latin-1", 0x16: "ascii", 0x1E: "utf-16-be"}
"""Tags of the string types that names come in."""

_VALIDITY: Final = 3
_SUBJECT: Final = 4
"""Places after the version: serial number, signature algorithm, issuer, validity, subject."""


class _Element(NamedTuple):
    tag: int
    content: bytes


def validity(pem: str) -> tuple[datetime, datetime]:
    """(not before, not after) of the first certificate in a text. Raises ValueError or IndexError where there is none."""
    tag, content = _fields(pem)[_VALIDITY]
    if tag != _SEQUENCE:
        raise ValueError("not a certificate")
    begins, ends = (_time(*element) for element in _elements(content))
    return begins, ends


def common_name(pem: str) -> str | None:
    """The common name in the subject of the first certificate in a text; None where there is none that can be read."""
    try:
        for part in _elements(_fields(pem)[_SUBJECT].content):
            [kind, value] = _elements(_elements(part.content)[0].content)
            if kind == _COMMON_NAME:
                return value.content.decode(_CODINGS[value.tag])
    except (ValueError, IndexError, KeyError):
        return None
    return None


def _fields(pem: str) -> list[_Element]:
    begin, end = pem.index("-----BEGIN CERTIFICATE-----"), pem.index("-----END CERTIFICATE-----")
    der = ssl.PEM_cert_to_DER_cert(pem[begin:end] + "-----END CERTIFICATE-----")
    to_be_signed = _elements(_elements(der)[0].content)[0].content
    return [element for element in _elements(to_be_signed) if element.tag != _VERSION]


def _elements(der: bytes) -> list[_Element]:
    found, at = [], 0
    while at < len(der):
        tag, length, start = der[at], der[at + 1], at + 2
        if length & 0x80:
            start += length & 0x7F
            length = int.from_bytes(der[at + 2 : start])
        at = start + length
        if at > len(der):
            raise ValueError("cut short")
        found.append(_Element(tag, der[start:at]))
    return found


def _time(tag: int, content: bytes) -> datetime:
    text = content.decode("ascii")
    if tag == _UTC_TIME:  # RFC 5280: a year from 50 on belongs to the last century
        text = ("19" if text >= "50" else "20") + text
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)
