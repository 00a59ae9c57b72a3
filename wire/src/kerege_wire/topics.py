"""MQTT topic names of version 1. The center fills a whole level, so that a broker's access rule is one pattern line."""

import re
from typing import Final

PREFIX: Final = "kerege/v1"
COLLECTOR_STATE: Final = f"{PREFIX}/collector/state"
"""Retained; ``collector`` can therefore be no center's id."""

CENTER_PATTERN: Final = "[a-z0-9][a-z0-9-]{1,31}"
RESERVED_CENTER: Final = "collector"
LEAVES: Final = ("report", "presence", "ack")

_CENTER: Final = re.compile(CENTER_PATTERN)


def is_center_id(text: str) -> bool:
    """May this string name a center?"""
    return _CENTER.fullmatch(text) is not None and text != RESERVED_CENTER


def topic(center: str, leaf: str) -> str:
    """``kerege/v1/<center>/<leaf>``; ``center`` may be ``+`` to subscribe to all."""
    if leaf not in LEAVES or not (center == "+" or is_center_id(center)):
        raise ValueError(f"no topic for center {center!r} and leaf {leaf!r}")
    return f"{PREFIX}/{center}/{leaf}"


def center_of(name: str, leaf: str) -> str | None:
    """The center that a topic belongs to, None where it is not a ``leaf`` topic of a valid center."""
    head, _, tail = name.rpartition("/")
    prefix, _, center = head.rpartition("/")
    return center if tail == leaf and prefix == PREFIX and is_center_id(center) else None
