"""How much may wait in quarantine, in all and of one center, so that one broken agent takes no other's place. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

CENTER_PART: Final = 10
"""One center may fill one part in so many."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """The most rows and the most bytes of payloads."""

    rows: int = 100_000
    payload_bytes: int = 500_000_000


DEFAULT_BOUNDS: Final = Bounds()


class Room:
    """The room that is left. used: center → rows and payload bytes that wait."""

    def __init__(self, bounds: Bounds, used: Mapping[str, tuple[int, int]]) -> None:
        self._bounds = bounds
        self._used = dict(used)
        self._rows = sum(rows for rows, _ in used.values())
        self._bytes = sum(size for _, size in used.values())

    def take(self, center: str, payload_bytes: int) -> bool:
        """Room for one more row of a center; False where there is none."""
        rows, size = self._used.get(center, (0, 0))
        rows, size = rows + 1, size + payload_bytes
        bounds = self._bounds
        if self._rows >= bounds.rows or self._bytes + payload_bytes > bounds.payload_bytes:
            return False
        if rows > max(bounds.rows // CENTER_PART, 1) or size > bounds.payload_bytes // CENTER_PART:
            return False
        self._used[center] = rows, size
        self._rows += 1
        self._bytes += payload_bytes
        return True
