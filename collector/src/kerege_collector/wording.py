"""What the board's codes mean, in sentences for a librarian and for IT staff; translated by the caller's gettext. Pure.

A code that is not in the tables (a later version's, an agent's own reason for a goodbye) is shown as it stands.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

from kerege_collector.admit import (
    BAD_TOPIC,
    HELD,
    KEPT,
    OWN_CLOCK,
    QUARANTINE_FULL,
    TOO_MANY_EPOCHS,
    UNKNOWN_CENTER,
    UNREADABLE,
    WRONG_CENTER,
    WRONG_CLOCK,
)
from kerege_collector.figures import Say
from kerege_collector.sightings import AWAITING, COULD_NOT, NEVER_SEEN, NO_LIVE_TICK, SILENT
from kerege_collector.trouble import CLOCK, HANGS, INBOX_DEAD, LEDGER, NO_BROKER, QUARANTINE, STORE, VERDICTS


def N_(text: str) -> str:  # noqa: N802 - gettext's own name for a text that is translated where it is shown
    """Marks a text for the catalogs."""
    return text


STATES: Final[Mapping[str, str]] = {"up": N_("works"), "down": N_("no Internet"), "unknown": N_("not known"), "off": N_("switched off")}

CAUSES: Final[Mapping[str, str]] = {
    "lan": N_("in the library: cable, router or Wi-Fi"),
    "terminal": N_("the satellite terminal does not answer"),
    "provider": N_("beyond the library: the provider"),
    "dns": N_("names cannot be resolved (DNS)"),
    "portal": N_("a login page stands in the way (captive portal)"),
    SILENT: N_("nothing is heard from it"),
    NEVER_SEEN: N_("has never reported"),
    AWAITING: N_("no measurement yet"),
    NO_LIVE_TICK: N_("only old measurements arrive"),
    COULD_NOT: N_("could not be measured"),
    "shutdown": N_("the computer was shut down"),
    "upgrade": N_("the agent is being upgraded"),
    "stop": N_("the agent was stopped"),
}
"""Causes of `down` and of `unknown`, and why an agent said goodbye."""

LINKS: Final[Mapping[str, str]] = {
    "geo": N_("geostationary satellite"),
    "meo": N_("medium-orbit satellite"),
    "leo": N_("low-orbit satellite"),
    "fiber": N_("fibre"),
    "dsl": N_("DSL"),
    "cellular": N_("mobile network"),
    "wireless": N_("radio link"),
}

REASONS: Final[Mapping[tuple[str, str | None], str]] = {
    (HELD, UNKNOWN_CENTER): N_("Its reports wait at the center: this id is not in centers.toml."),
    (HELD, TOO_MANY_EPOCHS): N_("Its reports wait at the center: the agent there starts again and again."),
    (HELD, WRONG_CLOCK): N_("Its reports wait at the center: the clock of this server is wrong."),
    (KEPT, QUARANTINE_FULL): N_("What cannot be stored stays at the center: the quarantine is full."),
    (KEPT, OWN_CLOCK): N_("Records from the future stay at the center: the clock of this server is in doubt."),
    (HELD, None): N_("Its reports wait at the center."),
    (KEPT, None): N_("Some of its records stay at the center."),
    (UNREADABLE, None): N_("A message could not be read; it is in quarantine."),
    (WRONG_CENTER, None): N_("A message names another center."),
    (BAD_TOPIC, None): N_("A message came under a wrong topic."),
}
"""Outcome and reason of a message that was not taken → what is the matter."""

TROUBLES: Final[Mapping[str, str]] = {
    NO_BROKER: N_("The collector is not connected to the broker: nothing arrives, the centers keep everything."),
    STORE: N_("The database takes nothing at present; nothing is lost, the centers keep everything."),
    LEDGER: N_("The ledger cannot be written at present; nothing is lost, the centers keep everything."),
    QUARANTINE: N_("The quarantine is full: what cannot be stored stays at the centers."),
    INBOX_DEAD: N_("A part of the collector has died (inbox); it is about to be started again."),
    HANGS: N_("The collector hangs; it is about to be started again."),
    VERDICTS: N_("Verdicts cannot be written at present; they are made up for as soon as they can."),
    CLOCK: N_("The clock of this server is not known to be right. It is everybody's time: all records are marked unsynced until it is."),
}
"""What is wrong with the collector itself."""


class Sentence(NamedTuple):
    """What to say, and the technical words behind it, where there are any."""

    text: str
    detail: str | None = None


def word(table: Mapping[str, str], code: str | None, _: Say) -> str:
    """A code of one of the tables; empty for none, the code itself where it is not known."""
    return "" if code is None else _(table[code]) if code in table else code


def reason(trouble: str, _: Say) -> Sentence:
    """Of ``outcome: reason``, as the board has it."""
    outcome, _colon, why = trouble.partition(": ")
    text = REASONS.get((outcome, why)) or REASONS.get((outcome, None))
    return Sentence(_(text), trouble) if text else Sentence(trouble)


def own(trouble: str, _: Say) -> Sentence:
    """Of ``kind: detail``, as the service has it (see `trouble`)."""
    kind, _colon, detail = trouble.partition(": ")
    return Sentence(_(TROUBLES[kind]), detail or None) if kind in TROUBLES else Sentence(trouble)
