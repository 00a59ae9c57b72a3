"""Reads and judges a settings file in a process of its own, which ends: pydantic's ten megabytes end with it (decision 4).

``python -m kerege_agent.settings_check FILE`` prints the whole settings as JSON and exits 0, with doubts on stderr; or it exits 2 with
every mistake on stderr, one a line: ``FILE: key: what is wrong and how to mend it``.
"""

import json
import re
import sys
import tomllib
from collections import Counter
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config

from kerege_agent.settings import Settings, SettingsError
from kerege_agent.settings_files import Finding, file_doubts, file_mistakes
from kerege_agent.settings_mistakes import said

MAX_FILE_BYTES: Final = 1 << 20
"""No settings file is longer; a wrong path may lead to something that is."""

PORTAL: Final = "portal"

WITHOUT_FILES: Final = "--without-files"

_PLACE: Final = re.compile(r"(.*?) \(at (?:line (\d+), column (\d+)|end of document)\)$", re.DOTALL)
_STRICT: Final = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
_ADAPTER: Final = TypeAdapter(with_config(_STRICT)(Settings))
"""Sections have no configuration of their own, so they take this one."""


def checked(path: Path, *, files: bool = True) -> tuple[Settings, list[str]]:
    """(settings with absolute paths, doubts) of a file. Raises SettingsError with all its mistakes.

    ``files``: look at certificates, keys and secrets too; who asks how the agent is need not be allowed to read them.
    """
    document = _read(path)
    base = path.absolute().parent
    section = document.get("mqtt")
    mqtt: Mapping[str, Any] = section if isinstance(section, dict) else {}
    found: list[Finding] = []
    settings = None
    try:
        # as JSON, where strict types still allow a list for a tuple and a string for a path
        settings = _ADAPTER.validate_json(json.dumps(document, default=str))
    except ValidationError as error:
        found += [said(mistake) for mistake in error.errors(include_url=False, include_context=False)]
    if files:
        found += [(f"mqtt.{key}", text) for key, text in file_mistakes(mqtt, base)]
    found += _doubled(document, "targets")
    found += _doubled(document.get("http"), "targets", "http.", reserved=PORTAL)
    if settings is not None:
        found += _contradictions(settings)
    if found or settings is None:
        raise SettingsError("\n".join(f"{path}: {key}: {text}" for key, text in found))
    return settings, [f"{path}: mqtt.{key}: {text}" for key, text in file_doubts(mqtt, base)] if files else []


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
        if len(content) > MAX_FILE_BYTES:
            raise SettingsError(f"{path}: longer than {MAX_FILE_BYTES} bytes: this is no settings file")
        return tomllib.loads(content.decode())
    except FileNotFoundError:
        raise SettingsError(f"{path}: there is no such file: copy agent.example.toml there, or name another with --settings") from None
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path}: byte {error.start + 1} is not UTF-8: save the file as UTF-8") from error
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path}: {_syntax(str(error))}") from error


def _syntax(text: str) -> str:
    place = _PLACE.match(text)
    if place is None:
        return f"not TOML: {text}"
    what, line, column = place.groups()
    return f"line {line}, column {column}: {what}" if line else f"the end of the file: {what}"


def _doubled(section: Any, key: str, prefix: str = "", *, reserved: str | None = None) -> list[Finding]:
    entries = section.get(key) if isinstance(section, dict) else None
    listed = entries if isinstance(entries, list) else []
    names = Counter(name for entry in listed if isinstance(entry, dict) and isinstance(name := entry.get("name"), str))
    found = [
        (prefix + key, f'{count} entries are named "{name}": give each a name of its own') for name, count in names.items() if count > 1
    ]
    if reserved in names:
        found.append((prefix + key, f'"{reserved}" is the portal check\'s name: choose another'))
    return found


def _contradictions(settings: Settings) -> list[Finding]:
    ping, uplink = settings.probes.ping, settings.uplink
    found = []
    longest_s = (ping.count - 1) * ping.spacing_s + ping.loss_timeout_s
    if longest_s >= ping.timeout_s:
        text = f"wanted more than {longest_s:g}, the time of count, spacing_s and loss_timeout_s together, got {ping.timeout_s:g}"
        found.append(("probes.ping.timeout_s", text))
    if uplink.reconnect_min_s > uplink.reconnect_max_s:
        text = f"wanted at least reconnect_min_s, {uplink.reconnect_min_s:g}, got {uplink.reconnect_max_s:g}"
        found.append(("uplink.reconnect_max_s", text))
    return found


def to_json(value: Any, base: Path) -> Any:
    """Settings as JSON values for `kerege_agent.settings.build`; relative paths start at ``base``."""
    if is_dataclass(value):
        return {item.name: to_json(getattr(value, item.name), base) for item in fields(value)}
    if isinstance(value, tuple):
        return [to_json(item, base) for item in value]
    return str(base / value) if isinstance(value, Path) else value


def main() -> int:
    """The command; see above."""
    arguments = sys.argv[1:]
    files = WITHOUT_FILES not in arguments
    if len(arguments) != 2 - files:
        sys.stderr.write(f"usage: python -m kerege_agent.settings_check FILE [{WITHOUT_FILES}]\n")
        return 2
    path = Path(arguments[0])
    try:
        settings, doubts = checked(path, files=files)
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stderr.writelines(f"{doubt}\n" for doubt in doubts)
    sys.stdout.write(json.dumps(to_json(settings, path.absolute().parent)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
