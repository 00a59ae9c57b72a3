"""Are the files that the settings name there, readable, and what they should be: certificates, keys, secrets.

Nothing is refused by the wall clock: a PC with a dead clock battery must start, so dates that are past or to come are only doubts.
"""

import os
import re
import ssl
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from kerege_agent.x509 import validity

_CERTIFICATE: Final = b"-----BEGIN CERTIFICATE-----"
_KEY: Final = re.compile(rb"-----BEGIN ([A-Z0-9]+ )*PRIVATE KEY-----")
_TLS_FILES: Final = ("ca_file", "certificate_file", "key_file")
_SECRET_FILES: Final = ("username_file", "password_file")
_PAIRS: Final = (("certificate_file", "key_file"), ("key_file", "certificate_file"), ("password_file", "username_file"))

Finding = tuple[str, str]
"""(key, what is wrong with it and how to cure it)."""


def file_mistakes(mqtt: Mapping[str, Any], base: Path) -> list[Finding]:
    """What is wrong with the files of the ``[mqtt]`` section as it was read; relative names start at ``base``."""
    files = {key: base / value for key in (*_TLS_FILES, *_SECRET_FILES) if isinstance(value := mqtt.get(key), str)}
    found = [(key, text) for key, path in files.items() if (text := _mistake(key, path)) is not None]
    if not found and {"certificate_file", "key_file"} <= files.keys():
        found += _pair_mistake(files["certificate_file"], files["key_file"])
    found += [(key, f"given without {other}: both belong together") for key, other in _PAIRS if key in files and other not in files]
    if mqtt.get("tls") is False:
        found += [(key, "would not be used, because tls = false: set tls = true or remove it") for key in _TLS_FILES if key in files]
    return found


def _mistake(key: str, path: Path) -> str | None:
    try:
        content = path.read_bytes()
    except OSError as error:
        return _unreadable(path, error)
    if key in _SECRET_FILES:
        return None if content.split(b"\n")[0].strip() else f"{path} is empty: its first line must be the {key.removesuffix('_file')}"
    if key == "key_file":
        return _key_mistake(path, content)
    if _CERTIFICATE not in content:
        return f"{path} is no certificate in PEM: it must hold a block that begins with {_CERTIFICATE.decode()}"
    return _loading_mistake(path)


def _unreadable(path: Path, error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return f"there is no file {path}: put it there, or correct the path (relative ones start at the settings file)"
    if isinstance(error, PermissionError):
        user = f" (user {os.getuid()})" if hasattr(os, "getuid") else ""
        return f"{path} may not be read by the agent{user}: make it readable for it with chown or chmod"
    return f"{path} cannot be read: {error.strerror or error}"


def _key_mistake(path: Path, content: bytes) -> str | None:
    if not _KEY.search(content):
        return f"{path} is no private key in PEM: it must hold a block that ends with PRIVATE KEY-----"
    if b"ENCRYPTED" in content:
        return f"{path} is locked with a pass phrase, which nobody can type at boot: write it without one (openssl pkey -in ... -out ...)"
    return None


def _loading_mistake(path: Path) -> str | None:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except ssl.SSLError as error:
        return f"{path} holds a damaged certificate ({error.reason or error}): copy it here again"
    return None


def _pair_mistake(certificate: Path, key: Path) -> list[Finding]:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(certificate, key, password="")
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            return [("key_file", f"{key} is not the key of the certificate {certificate}: copy both from the same place again")]
        return [("key_file", f"{key} and {certificate} cannot be used ({error.reason or error}): copy both here again")]
    return []


def file_doubts(mqtt: Mapping[str, Any], base: Path, *, now_s: float | None = None) -> list[Finding]:
    """Certificates that are expired or not yet valid, if this machine's clock is right; ``now_s``: seconds since 1970."""
    now = datetime.fromtimestamp(time.time() if now_s is None else now_s, UTC)
    return [
        (key, text)
        for key in ("ca_file", "certificate_file")
        if isinstance(value := mqtt.get(key), str) and (text := _doubt(base / value, now)) is not None
    ]


def _doubt(path: Path, now: datetime) -> str | None:
    try:
        begins, ends = validity(path.read_text(encoding="ascii", errors="replace"))
    except (OSError, ValueError, IndexError):
        return None  # a mistake, and told as one
    if now > ends:
        return f"{path} expired on {ends:%Y-%m-%d}: have a new one signed (or set this machine's clock, which says {now:%Y-%m-%d})"
    if now < begins:
        return f"{path} is valid from {begins:%Y-%m-%d} only, and this machine's clock says {now:%Y-%m-%d}: set the clock"
    return None
