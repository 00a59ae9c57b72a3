"""Numbers as they travel: three significant digits, half a percent at worst, below what one sample of a network means.

Two where even that says more than is known: each digit costs half a byte of every record (`kerege-lab bench wire`).
"""

import math
from typing import Final

SIGNIFICANT_DIGITS: Final = 3
FEW_DIGITS: Final = 2
"""For what is itself an estimate, or differs more from one moment to the next: jitter, a round trip within the house, CPU shares."""


def significant(value: float, digits: int = SIGNIFICANT_DIGITS) -> float:
    """The number with so many significant digits: 0.73149 becomes 0.731, 61234.5 becomes 61200."""
    if value == 0 or not math.isfinite(value):
        return value
    return round(value, digits - 1 - math.floor(math.log10(abs(value))))


def significant_ms(duration_ns: int, digits: int = SIGNIFICANT_DIGITS) -> float:
    """A duration in milliseconds with so many significant digits."""
    return significant(duration_ns / 1e6, digits)
