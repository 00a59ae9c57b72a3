"""Time zones from the data that the agent ships, never the system's: Kazakhstan's change of 2024 is missing from many an old PC."""

import os
from functools import cache
from importlib.util import find_spec
from pathlib import Path

# else zoneinfo loads Python's build settings, 0.3 MB that stay, to learn where the system's data is
os.environ.setdefault("PYTHONTZPATH", "")
from zoneinfo import ZoneInfo


@cache
def zone(name: str) -> ZoneInfo:
    """A zone by its name, such as Asia/Almaty. Raises OSError or ValueError where there is no such zone."""
    parts = name.split("/")
    if any(part in {"", ".", ".."} or "\\" in part for part in parts):
        raise ValueError(f"{name!r} is no name of a time zone")
    with _directory().joinpath(*parts).open("rb") as data:
        return ZoneInfo.from_file(data, key=name)


def _directory() -> Path:
    found = find_spec("tzdata")
    if found is None or found.origin is None:
        raise OSError("the distribution tzdata is not installed")
    return Path(found.origin).parent / "zoneinfo"
