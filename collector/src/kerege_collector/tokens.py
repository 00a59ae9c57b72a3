"""Who may act over HTTP, and where reading is closed, who may read: ``[http.tokens]``, a person's name → the file that holds the token.

A token is as good as that person's name in the audit. In memory there are only digests; they are compared in constant time.
"""

import hashlib
import hmac
import secrets
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from kerege_collector.certificates import file_mistake
from kerege_collector.mistakes import SettingsError

MIN_CHARACTERS: Final = 32
"""Shortest token: 128 bits in hexadecimal digits. Nobody guesses that, be it behind a proxy that hides who tries."""

MAX_BYTES: Final = 4096

CURE: Final = "make one with: (umask 077; openssl rand -hex 32 > FILE)"


class Tokens:
    """The tokens in these files, as they were read last. Raises SettingsError where one cannot be used."""

    def __init__(self, files: Mapping[str, Path]) -> None:
        self._files = files
        self._digests: dict[str, bytes] = {}
        self.reload()

    def __bool__(self) -> bool:
        return bool(self._digests)

    def reload(self) -> None:
        """Read the files again. Raises SettingsError; then those that were known before still hold."""
        if found := list(token_mistakes(self._files)):
            raise SettingsError([f"http.{line}" for line in found])
        self._digests = {name: _digest(_read(path)) for name, path in self._files.items()}

    def who(self, token: str) -> str | None:
        """Whose token this is; None where it is nobody's."""
        given = _digest(token)
        found = None
        for name, digest in self._digests.items():  # all of them, so that the time tells nothing
            if hmac.compare_digest(given, digest):
                found = name
        return found


def token_mistakes(files: Mapping[str, Path]) -> Iterator[str]:
    """What is wrong with the files, each as ``tokens.NAME: what``."""
    owners: dict[str, str] = {}
    for name, path in files.items():
        if trouble := file_mistake(path) or _unfit(path):
            yield f"tokens.{name}: {trouble}"
            continue
        other = owners.setdefault(_read(path), name)
        if other != name:
            yield f'tokens.{name}: {path} holds the token of "{other}" too; each has one of their own, or nobody knows who acted'


def first_readable(files: Mapping[str, Path]) -> str | None:
    """A token that this user may read: for commands, which ask as whoever they are."""
    for path in files.values():
        try:
            if token := _read(path):
                return token
        except OSError:
            continue
    return None


def _unfit(path: Path) -> str | None:
    if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        return f"{path}: others than its owner may use it: chmod 600 {path}"
    token = _read(path)
    if len(token) < MIN_CHARACTERS or not token.isascii() or not token.isprintable() or " " in token:
        return f"{path}: wanted a token of at least {MIN_CHARACTERS} letters and digits in its first line; {CURE}"
    return None


def _read(path: Path) -> str:
    with path.open("rb") as file:
        return file.read(MAX_BYTES).decode("latin-1").partition("\n")[0].strip()


_KEY: Final = secrets.token_bytes(32)


def _digest(token: str) -> bytes:
    return hmac.digest(_KEY, token.encode("utf-8", "surrogatepass"), hashlib.sha256)
