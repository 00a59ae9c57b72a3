"""Whose matter a broken rung of the ladder is."""

from collections.abc import Mapping
from typing import Final

CAUSES: Final[Mapping[str, str]] = {
    "route": "lan",
    "gateway": "lan",
    "terminal": "terminal",
    "internet": "provider",
    "dns": "dns",
    "portal": "portal",
}
"""First broken rung of a tick → whose matter it is."""
