"""Records out of the raw pages of a broken SQLite file or write-ahead log, whatever its tree, header or index say.

File format: https://www.sqlite.org/fileformat2.html (b-tree leaf pages 1.6, records 2.1, the log 4). A row is believed only where its own
checksum agrees, so garbage yields nothing. A row that was deleted long ago may come back: its identity lets the collector see the repeat.
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from kerege_agent.rows import Row, Span, row_from, span_from

LOG_HEADER_BYTES: Final = 32
FRAME_HEADER_BYTES: Final = 24
TORN_FRAMES: Final = 8
"""Frames that a power cut may leave torn at the end of the log: acknowledgements are written there without waiting for the medium."""

_LOG_MAGIC: Final = 0x377F0682  # the lowest bit tells the byte order of the checksums
_LEAF_TABLE: Final = 0x0D
_FIRST_PAGE_HEADER_BYTES: Final = 100
_FIXED_BYTES: Final = {0: 0, 1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8, 7: 8, 8: 0, 9: 0}
_ROW_COLUMNS: Final = 10
_SPAN_COLUMNS: Final = 12

Found = Row | Span


def carve_file(path: Path, page_bytes: int) -> Iterator[Found]:
    """Every row and span in the pages of a database file."""
    with path.open("rb") as file:
        offset = _FIRST_PAGE_HEADER_BYTES
        while page := file.read(page_bytes):
            yield from carve_page(page, offset)
            offset = 0


def carve_log(log: bytes, page_bytes: int) -> Iterator[Found]:
    """Every row and span in the frames of a write-ahead log, oldest first, those behind a damaged frame too."""
    for start in range(LOG_HEADER_BYTES, len(log), FRAME_HEADER_BYTES + page_bytes):
        yield from carve_page(log[start + FRAME_HEADER_BYTES : start + FRAME_HEADER_BYTES + page_bytes], 0)


def log_is_damaged(log: bytes, page_bytes: int) -> bool:
    """Would SQLite silently leave out frames of this log that had reached the medium?"""
    if len(log) <= LOG_HEADER_BYTES:
        return False
    magic, _, size, _, salt_1, salt_2, sum_1, sum_2 = struct.unpack(">8I", log[:LOG_HEADER_BYTES])
    order = ">" if magic & 1 else "<"
    if magic & ~1 != _LOG_MAGIC or size != page_bytes or _checksum(order, (0, 0), log[:24]) != (sum_1, sum_2):
        return True
    sums = (sum_1, sum_2)
    sound, orphans = True, 0
    for start in range(LOG_HEADER_BYTES, len(log) - FRAME_HEADER_BYTES - page_bytes + 1, FRAME_HEADER_BYTES + page_bytes):
        frame = log[start : start + FRAME_HEADER_BYTES + page_bytes]
        ours = struct.unpack(">2I", frame[8:16]) == (salt_1, salt_2)
        if sound:
            sums = _checksum(order, _checksum(order, sums, frame[:8]), frame[FRAME_HEADER_BYTES:])
            sound = ours and sums == struct.unpack(">2I", frame[16:24])
        orphans += ours and not sound
    return orphans > TORN_FRAMES


def _checksum(order: str, sums: tuple[int, int], data: bytes) -> tuple[int, int]:
    first, second = sums
    words = struct.unpack(f"{order}{len(data) // 4}I", data)
    for even, odd in zip(words[::2], words[1::2], strict=True):
        first = (first + even + second) & 0xFFFFFFFF
        second = (second + odd + first) & 0xFFFFFFFF
    return first, second


def carve_page(page: bytes, offset: int) -> Iterator[Found]:
    """Every row and span whose cell lies in a leaf page of a table; nothing from any other page."""
    if len(page) < offset + 8 or page[offset] != _LEAF_TABLE:
        return
    cells = min(int.from_bytes(page[offset + 3 : offset + 5], "big"), (len(page) - offset - 8) // 2)
    for index in range(cells):
        at = offset + 8 + 2 * index
        found = _cell(page, int.from_bytes(page[at : at + 2], "big"))
        if found is not None:
            yield found


def _cell(page: bytes, at: int) -> Found | None:
    try:
        size, at = _varint(page, at)
        key, at = _varint(page, at)
        values = _values(page[at : at + size]) if at + size <= len(page) else []  # else the rest is on an overflow page
    except (IndexError, KeyError, UnicodeDecodeError, struct.error):
        return None
    if len(values) == _ROW_COLUMNS:
        return row_from((key, *values[1:]))
    return span_from((key, *values[1:])) if len(values) == _SPAN_COLUMNS else None


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for index in range(8):
        value = value << 7 | data[at + index] & 0x7F
        if data[at + index] < 0x80:
            return value, at + index + 1
    return value << 8 | data[at + 8], at + 9


def _values(record: bytes) -> list[Any]:
    header_bytes, at = _varint(record, 0)
    body = header_bytes
    values: list[Any] = []
    while at < header_bytes:
        code, at = _varint(record, at)
        length = _FIXED_BYTES[code] if code < 12 else (code - 12) // 2
        values.append(_value(code, record[body : body + length]))
        body += length
    return values


def _value(code: int, raw: bytes) -> Any:
    if code == 0:
        return None
    if code <= 6:
        return int.from_bytes(raw, "big", signed=True)
    if code == 7:
        return struct.unpack(">d", raw)[0]
    if code <= 9:
        return code - 8
    return raw.decode() if code % 2 else raw
