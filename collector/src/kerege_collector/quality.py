"""How good a link was over a day: round-trip time, delay variation and loss, kept as counts that can be added up. Pure.

Percentiles come from buckets that grow by a constant factor (as in DDSketch: Masson, Rim, Lee, VLDB 2019), each within 2 % of the sample;
adding is exact, so the order in which samples come does not matter.
"""

import json
import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from kerege_wire import Ping

ACCURACY: Final = 0.02
GAMMA: Final = (1 + ACCURACY) / (1 - ACCURACY)
LOG_GAMMA: Final = math.log(GAMMA)
SMALLEST: Final = 0.01
"""Milliseconds; smaller ones count as this."""


@dataclass(slots=True)
class Sketch:
    """Positive samples, as bucket → count."""

    buckets: Counter[int] = field(default_factory=Counter)

    def add(self, value: float) -> None:
        self.buckets[math.ceil(math.log(max(value, SMALLEST)) / LOG_GAMMA)] += 1

    def merge(self, other: "Sketch") -> None:
        self.buckets.update(other.buckets)

    @property
    def count(self) -> int:
        """How many samples."""
        return self.buckets.total()

    def percentile(self, share: float) -> float | None:
        """The sample below which ``share`` (0 to 1) of all lie, within `ACCURACY`; None without samples."""
        if not self.buckets:
            return None
        left = share * (self.count - 1)
        for bucket in sorted(self.buckets):
            left -= self.buckets[bucket]
            if left < 0:
                break
        return float(f"{2 * GAMMA**bucket / (1 + GAMMA):.4g}")


@dataclass(slots=True)
class Quality:
    """rtt: medians of ping records, in ms. pdv: their 95th percentiles of delay variation (RFC 5481), in ms. sent, received: packets."""

    rtt: Sketch = field(default_factory=Sketch)
    pdv: Sketch = field(default_factory=Sketch)
    sent: int = 0
    received: int = 0

    def add(self, ping: Ping) -> None:
        """One ping record. Where nothing came back at all the target is dead, or the link, and neither is a figure of quality."""
        if not ping.sent or not ping.received:
            return
        self.sent += ping.sent
        self.received += min(ping.received, ping.sent)
        if ping.rtt_p50_ms is not None:
            self.rtt.add(ping.rtt_p50_ms)
        if ping.rtt_p95_ms is not None and ping.rtt_min_ms is not None:
            self.pdv.add(ping.rtt_p95_ms - ping.rtt_min_ms)

    def merge(self, other: "Quality") -> None:
        self.rtt.merge(other.rtt)
        self.pdv.merge(other.pdv)
        self.sent += other.sent
        self.received += other.received

    @property
    def loss_percent(self) -> float | None:
        """Packets lost of those sent (RFC 6673)."""
        return round(100.0 * (self.sent - self.received) / self.sent, 3) if self.sent else None

    def figures(self) -> dict[str, float | int | None]:
        """Percentiles with how many samples they are of (pings), loss with how many packets; None without any."""
        return {
            "rtt_p50_ms": self.rtt.percentile(0.5),
            "rtt_p95_ms": self.rtt.percentile(0.95),
            "rtt_samples": self.rtt.count,
            "pdv_p50_ms": self.pdv.percentile(0.5),
            "pdv_p95_ms": self.pdv.percentile(0.95),
            "pdv_samples": self.pdv.count,
            "loss_percent": self.loss_percent,
            "packets_sent": self.sent,
        }

    def to_json(self) -> str:
        return json.dumps(
            [sorted(self.rtt.buckets.items()), sorted(self.pdv.buckets.items()), self.sent, self.received], separators=(",", ":")
        )

    @classmethod
    def from_json(cls, text: str) -> "Quality":
        """The reverse of `to_json`."""
        rtt, pdv, sent, received = json.loads(text)
        return cls(Sketch(Counter(dict(rtt))), Sketch(Counter(dict(pdv))), sent, received)
