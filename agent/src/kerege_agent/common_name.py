"""The common name in a certificate's subject, read from its DER (X.690) without a library for it. Pure.

Enough of X.509 (RFC 5280 section 4.1) to tell whose certificate a file is; whether it is valid is TLS's to say.
"""

import ssl
from collections.abc import Iterator
from typing import Final, NamedTuple

_SEQUENCE: Final = 0x30
_OBJECT_IDENTIFIER: Final = 0x06
_VERSION: Final = 0xA0
_COMMON_NAME: Final = b"\x55\x04\x03"
"""2.5.4.3"""

_CODINGS: Final = {0x0C: "utf-8", 0x13: "ascii", 0x14: "latin-1", 0x16: "ascii", 0x1E: "utf-16-be"}
"""Tags of the string types that names come in."""

_BEFORE_SUBJECT: Final = 4
"""serialNumber, signature, issuer, validity"""


class _Item(NamedTuple):
    tag: int
    content: bytes


def common_name(pem: str) -> str | None:
    """The subject's common name, None where there is none or the text holds no certificate that we can read."""
    try:
        [certificate] = _items(ssl.PEM_cert_to_DER_cert(pem[pem.index("-----BEGIN CERTIFICATE-----") : _end(pem)]))
        fields = list(_items(next(_items(certificate.content)).content))
        subject = fields[_BEFORE_SUBJECT + (fields[0].tag == _VERSION)]
        for part in _items(subject.content):
            [kind, value] = _items(next(_items(part.content)).content)
            if kind == (_OBJECT_IDENTIFIER, _COMMON_NAME):
                return value.content.decode(_CODINGS[value.tag])
    except (ValueError, IndexError, KeyError, StopIteration):
        return None
    return None


def _end(pem: str) -> int:
    end = "-----END CERTIFICATE-----"
    return pem.index(end) + len(end)


def _items(content: bytes) -> Iterator[_Item]:
    at = 0
    while at < len(content):
        tag, length, at = content[at], content[at + 1], at + 2
        if length & 0x80:
            digits = length & 0x7F
            length, at = int.from_bytes(content[at : at + digits]), at + digits
        if at + length > len(content):
            raise ValueError("cut short")
        yield _Item(tag, content[at : at + length])
        at += length
