"""Can the certificate files that the settings name be used? Looked at before anything starts, so that the cure can be said."""

import re
import ssl
from base64 import b64decode
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

_PEM: Final = re.compile(rb"-----BEGIN CERTIFICATE-----(.+?)-----END CERTIFICATE-----", re.DOTALL)

_VERSION_TAG: Final = 0xA0
_UTC_TIME: Final = 0x17
_GENERALIZED_TIME: Final = 0x18
"""DER tags that matter on the way to a certificate's dates (RFC 5280 section 4.1)."""


def certificate_mistakes(
    ca_file: Path | None, certificate_file: Path | None, key_file: Path | None, *, tls: bool, now: datetime | None = None
) -> Iterator[str]:
    """What is wrong with the files, each as ``key: what``, ready to stand behind the section's name."""
    named = {"ca_file": ca_file, "certificate_file": certificate_file, "key_file": key_file}
    if not tls:
        yield from (f"{key}: is of no use with tls = false" for key, path in named.items() if path is not None)
        return
    broken = {key: mistake for key, path in named.items() if (mistake := file_mistake(path))}
    yield from (f"{key}: {mistake}" for key, mistake in broken.items())
    now = now or datetime.now(UTC)
    if ca_file is not None and "ca_file" not in broken:
        yield from (f"ca_file: {mistake}" for mistake in _authority_mistakes(ca_file, now))
    if (certificate_file is None) != (key_file is None):
        present, absent = ("certificate_file", "key_file") if key_file is None else ("key_file", "certificate_file")
        yield f"{absent}: is missing; {present} is of no use without it"
    elif certificate_file is not None and key_file is not None and not {"certificate_file", "key_file"} & broken.keys():
        yield from _pair_mistakes(certificate_file, key_file, now)


def file_mistake(path: Path | None) -> str | None:
    """Why this file cannot be read, None where it can or none is named."""
    if path is None:
        return None
    try:
        with path.open("rb") as file:
            return None if file.read(1) else f"{path} is empty"
    except FileNotFoundError:
        return f"{path}: there is no such file"
    except PermissionError:
        return f"{path}: may not be read by this user; change its owner or mode"
    except OSError as error:
        return f"{path}: cannot be read: {error.strerror}"


def _authority_mistakes(path: Path, now: datetime) -> Iterator[str]:
    if not (dates := _dates(path)):
        yield f"{path}: no certificate in PEM form (-----BEGIN CERTIFICATE-----) in it"
        return
    try:
        ssl.create_default_context(cafile=str(path))
    except (OSError, ValueError) as error:
        yield f"{path}: cannot be used: {error}"
        return
    if all(not begins <= now <= ends for begins, ends in dates):
        yield f"{path}: {_when(*dates[0], now)}"


def _pair_mistakes(certificate: Path, key: Path, now: datetime) -> Iterator[str]:
    if not (dates := _dates(certificate)):
        yield f"certificate_file: {certificate}: no certificate in PEM form (-----BEGIN CERTIFICATE-----) in it"
        return
    if b"PRIVATE KEY-----" not in key.read_bytes():
        yield f"key_file: {key}: no private key in PEM form (-----BEGIN ... PRIVATE KEY-----) in it"
        return
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(certificate, key, password=_no_password)
    except (OSError, ValueError) as error:
        yield f"key_file: {_pair_trouble(certificate, key, error)}"
        return
    if not dates[0][0] <= now <= dates[0][1]:
        yield f"certificate_file: {certificate}: {_when(*dates[0], now)}"


class _EncryptedError(ValueError):
    """The key wants a password, and nobody is there to type one."""


def _no_password() -> str:
    raise _EncryptedError


def _pair_trouble(certificate: Path, key: Path, error: Exception) -> str:
    if isinstance(error, _EncryptedError):
        return f"{key}: is encrypted; store it without a password (openssl pkey -in {key.name} -out NEW), readable for the service only"
    if isinstance(error, ssl.SSLError) and error.reason == "KEY_VALUES_MISMATCH":
        return f"{key}: does not belong to the certificate {certificate}; name the key that it was made with"
    return f"{key}: cannot be used with {certificate}: {error}"


def _when(begins: datetime, ends: datetime, now: datetime) -> str:
    if now > ends:
        return f"expired on {ends:%Y-%m-%d}; have a new one signed"
    return f"is valid only from {begins:%Y-%m-%d %H:%MZ}; is this machine's clock right?"


def _dates(path: Path) -> list[tuple[datetime, datetime]]:
    """The first and last moment of validity of each certificate in a PEM file, as far as they can be read."""
    found = []
    for armoured in _PEM.findall(path.read_bytes()):
        try:
            found.append(_validity(b64decode(armoured)))
        except (ValueError, IndexError):
            continue
    return found


def _validity(der: bytes) -> tuple[datetime, datetime]:
    """From the DER of a certificate. The standard library shows these dates only for the peer of a connection."""
    _, certificate, _ = _element(der)
    _, rest, _ = _element(certificate)
    tag, _, after = _element(rest)
    if tag == _VERSION_TAG:
        rest = after
    for _ in ("serial number", "signature", "issuer"):
        _, _, rest = _element(rest)
    _, validity, _ = _element(rest)
    begin_tag, begins, rest = _element(validity)
    end_tag, ends, _ = _element(rest)
    return _time(begin_tag, begins), _time(end_tag, ends)


def _element(der: bytes) -> tuple[int, bytes, bytes]:
    """(tag, content, what follows) of the first element."""
    length, start = der[1], 2
    if length & 0x80:
        start = 2 + (length & 0x7F)
        length = int.from_bytes(der[2:start], "big")
    if len(der) < start + length:
        raise ValueError("cut short")
    return der[0], der[start : start + length], der[start + length :]


def _time(tag: int, content: bytes) -> datetime:
    if tag not in {_UTC_TIME, _GENERALIZED_TIME}:
        raise ValueError("not a time")
    text = content.decode("ascii")
    if tag == _UTC_TIME:  # two digits of the year: 50 to 99 are the 1900s (RFC 5280 section 4.1.2.5.1)
        text = ("19" if text >= "5" else "20") + text
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)
