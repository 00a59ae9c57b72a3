"""What could wait, as one message a day: first how much it is, then a line for each incident. Pure, as `notice_text`."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from kerege_collector.languages import DEFAULT, LANGUAGES, translations
from kerege_collector.notice_text import MAX_LIST_CHARACTERS, OWN, Facts, Text, closing, names, sentences
from kerege_collector.notice_text import compose as compose_one
from kerege_collector.notice_times import Place

DIGEST: Final = "digest"

MAX_NAMES_CHARACTERS: Final = 300
"""Longest list of names of one common incident."""


def can_wait(kind: str, state: str, cause: str | None) -> bool:
    """May this be told tomorrow? An end, and what is no outage: nobody came, a poor link, only the agent. Never what was passed on."""
    if kind in {"closed", "own-over"}:
        return True
    return kind in {"opened", "reminder", "changed"} and (state in {"absent", "degraded"} or cause == "agent")


def compose(facts: Facts, language: str) -> Text:
    """The message of any kind, in a language of `LANGUAGES`; in that of the state where it is another one."""
    language = language if language in LANGUAGES else DEFAULT
    return _digest(facts, language) if facts.kind == DIGEST else compose_one(facts, language)


def _digest(facts: Facts, language: str) -> Text:
    catalog = translations(language)
    _ = catalog.gettext
    over = [part for part in facts.parts if part.until_s is not None]
    lasting = [part for part in facts.parts if part.until_s is None]
    counts = []
    if lasting:
        counts.append(catalog.ngettext("%(n)d fault lasts", "%(n)d faults last", len(lasting)) % {"n": len(lasting)})
    if over:
        counts.append(catalog.ngettext("%(n)d fault is over", "%(n)d faults are over", len(over)) % {"n": len(over)})
    what = ", ".join(counts)
    place = Place((library.zone for part in facts.parts for library in part.libraries), facts.now_s, language)
    first = _("What could wait until now (%(time)s): %(what)s.") % {"time": place.at(facts.now_s), "what": what}
    lines = [*_section(_("What lasts:"), lasting, facts, language), *_section(_("What is over:"), over, facts, language)]
    body = [first, *_within(lines, language), closing(replace(facts, kind="test"), language)]
    return Text(_("Daily summary: %(what)s") % {"what": what}, "\n\n".join(part for part in body if part))


def _section(heading: str, parts: Sequence[Facts], facts: Facts, language: str) -> list[str]:
    """Its first entry with the heading above it; the longest trouble first."""
    entries = []
    libraries = next((part.libraries for part in facts.parts if part.libraries), ())
    for part in sorted(parts, key=lambda each: each.since_s):
        told = replace(part, now_s=facts.now_s, libraries=part.libraries or libraries)  # its times by the same clock as all others
        listed = "" if part.kind in OWN else names(told, language, longest=MAX_NAMES_CHARACTERS)
        entries.append("\n".join(line for line in (f"• {sentences(told, language)}", listed) if line))
    return [f"{heading}\n{entries[0]}", *entries[1:]] if entries else []


def _within(entries: Sequence[str], language: str) -> list[str]:
    """As many as a messenger takes; the others are counted."""
    length, shown = 0, 0
    while shown < len(entries) and length + len(entries[shown]) <= MAX_LIST_CHARACTERS:
        length += len(entries[shown]) + 2
        shown += 1
    left = len(entries) - shown
    more = translations(language).ngettext("and %(n)d more fault", "and %(n)d more faults", left) % {"n": left}
    return [*entries[:shown], more] if left else list(entries)
