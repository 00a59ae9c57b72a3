"""The two ways in which the wire can go wrong, kept apart.

WireError      their bytes are bad: raised by everything that reads what came over the network
MisuseError    our own call is wrong: raised by everything that writes; a bug
"""


class WireError(ValueError):
    """Bytes from the network that are not a message of this version.

    ``reason`` is one of the constants below: it is counted, stored beside what is quarantined, and named in
    acknowledgements. ``detail`` says in words what was wrong and where.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class MisuseError(ValueError):
    """A message that our own code built and that the wire cannot carry."""


EMPTY = "empty"
TOO_LARGE = "too-large"
UNKNOWN_CODEC = "unknown-codec"
NOT_DEFLATE = "not-deflate"
NOT_JSON = "not-json"
BAD_MESSAGE = "bad-message"
BAD_FIELD = "bad-field"
UNKNOWN_KIND = "unknown-kind"
"""Reasons given by the codec and the readers of this package. ``docs/wire.md`` lists the outcome of each."""
