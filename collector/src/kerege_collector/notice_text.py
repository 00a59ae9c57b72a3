"""An incident as a message to people: `compose`. Pure: nothing is read, sent or remembered, and now is an argument.

The first sentence says who, what and since when; then what is known of the cause, what to do, and which libraries. What is not
known is said to be not known: a silent library may have lost its power or its Internet.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from gettext import NullTranslations
from typing import Final

from kerege_collector import notice_words as words
from kerege_collector import wording
from kerege_collector.figures import MINUTE_S
from kerege_collector.languages import DEFAULT, LANGUAGES, translations
from kerege_collector.notice_times import Place, duration

MAX_NAMED: Final = 40
"""Libraries that are named in one message; the others are counted."""

MAX_LIST_CHARACTERS: Final = 2400
"""Longest list of names: with all the rest a message stays below Telegram's 4096 characters."""

MAX_NAME: Final = 100
"""Longest name of a library that centers.toml admits; what comes from elsewhere is cut."""

OWN: Final = frozenset({"own", "own-over", "test"})
"""Kinds that are about Kerege and not about a library."""


@dataclass(frozen=True, slots=True)
class Library:
    """One library, as it is named to people; ``zone`` is its IANA time zone."""

    id: str
    name: str
    district: str | None
    zone: str


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of an incident at the moment of telling. Times are UTC seconds; ``until_s`` None: it lasts.

    kind: opened, closed, reminder, escalated, unstable, changed (other libraries in a common incident), own, own-over, test, digest
    state: silent (power or Internet, not known yet), down, absent (did not come on after opening time), degraded
    cause: lan, terminal, provider, dns, portal, power, agent, shutdown or None; for own a code of `trouble`, None where nobody is heard
    scope: what a common cause has hit: ``provider``, ``satellite`` or ``district``, and its name
    may_repeat: nobody knows whether this message has gone out before
    parts: of a digest, what it is made of: one for each incident
    """

    kind: str
    incident: int | None
    libraries: tuple[Library, ...]
    state: str
    cause: str | None
    scope: tuple[str, str] | None
    since_s: int
    until_s: int | None
    now_s: int
    may_repeat: bool = False
    page_url: str | None = None
    parts: tuple["Facts", ...] = ()


@dataclass(frozen=True, slots=True)
class Text:
    """Plain text; the subject is one line."""

    subject: str
    body: str


def compose(facts: Facts, language: str) -> Text:
    """The message in a language of `LANGUAGES`; in that of the state where it is another one."""
    writer = _Writer(facts, language if language in LANGUAGES else DEFAULT)
    parts = [writer.first(), writer.why(), _numbered(writer.heading(), writer.steps()), writer.names(), writer.last()]
    return Text(writer.subject(), "\n\n".join(part for part in parts if part))


def sentences(facts: Facts, language: str) -> str:
    """The shortest account: who, what, since when, and of the cause what is known."""
    writer = _Writer(facts, language)
    return f"{writer.first()} {writer.cause()}" if facts.cause is not None and facts.kind not in OWN else writer.first()


def names(facts: Facts, language: str, *, longest: int) -> str:
    """The libraries of a common incident in one line, as many as there is room for; nothing where there is one only."""
    if len(facts.libraries) < 2:
        return ""
    several = len({library.district for library in facts.libraries}) > 1
    all_names = [_named(library, with_district=several) for library in facts.libraries]
    named = 0
    while named < len(all_names) and sum(map(len, all_names[: named + 1])) + 2 * named <= longest:
        named += 1
    left = len(all_names) - named
    return " ".join(part for part in (", ".join(all_names[:named]), _Writer(facts, language).more(left) if left else "") if part)


def closing(facts: Facts, language: str) -> str:
    """Where to look, and whether this may be a repetition."""
    return _Writer(facts, language).last()


class _Writer:
    """The parts of one message, in the order in which they stand."""

    def __init__(self, facts: Facts, language: str) -> None:
        self._facts = facts
        self._catalog: NullTranslations = translations(language)
        self._place = Place((library.zone for library in facts.libraries), facts.now_s, language)
        self._own = facts.kind in OWN
        self._over = facts.kind in {"closed", "own-over"}
        self._common = facts.scope is not None or len(facts.libraries) != 1
        self._aspect = "unstable" if facts.kind == "unstable" else facts.state if facts.state in words.NOT_KNOWN else "silent"

    def subject(self) -> str:
        _ = self._catalog.gettext
        if self._own:
            text = {
                "own": _("Kerege itself is in trouble"),
                "own-over": _("Kerege works again"),
                "test": _("Test message of Kerege"),
            }[self._facts.kind]
        else:
            what = _(words.SUBJECTS["closed" if self._over else self._aspect])
            who = self._who() if self._common else one_line(self._facts.libraries[0].name)
            text = self._begun(f"{who}: {what}")
        if self._facts.incident is not None:
            text = _("%(text)s (no. %(number)d)") % {"text": text, "number": self._facts.incident}
        return one_line(text, longest=200)

    def first(self) -> str:
        """The sentence that says it all to somebody who reads no further."""
        _, facts = self._catalog.gettext, self._facts
        if facts.kind == "test":
            text = _("This is a test message of the Kerege monitoring. Sent: %(time)s. It means no fault; there is nothing to do.")
            return text % {"time": self._place.at(facts.now_s)}
        until_s = facts.now_s if facts.until_s is None else facts.until_s
        values = {
            "time": self._place.since(facts.since_s),
            "until": self._place.since(until_s),
            "span": duration(_as_clocks_show(until_s if self._over else facts.now_s) - _as_clocks_show(facts.since_s), self._catalog),
        }
        if self._own:
            return self._own_sentence() % values
        table = words.OVER if self._over else words.SINCE
        return _(table[self._aspect]) % (values | {"who": self._who(with_district=True)})

    def _own_sentence(self) -> str:
        _ = self._catalog.gettext
        if self._over:
            return _("The Kerege monitoring has been working again since %(until)s. It was in trouble for %(span)s (from %(time)s).")
        if self._facts.cause is None:
            return _("The Kerege monitoring has heard none of the libraries since %(time)s, for %(span)s.")
        return _("The Kerege monitoring itself has been in trouble since %(time)s, for %(span)s.")

    def why(self) -> str:
        """Whose it is likely to be, and whatever else has to be known before anything is done."""
        _, facts = self._catalog.gettext, self._facts
        if facts.kind == "own":
            return "\n".join([self._own_cause(), _("Until this is put right, messages about libraries may come late or not at all.")])
        if self._own:
            return ""
        found = [self.cause()]
        if facts.kind == "escalated":
            found.append(_("You get this message because the fault lasts, or because those who are told first could not be reached."))
        return "\n".join(found)

    def cause(self) -> str:
        _, cause = self._catalog.gettext, self._facts.cause
        if cause is not None:
            return _("Most likely cause: %(cause)s.") % {"cause": wording.word(words.CAUSES, one_line(cause), _)}
        if self._over:
            return _("The cause has not become known.")
        return _(words.NOT_KNOWN["down" if self._aspect == "unstable" else self._aspect])

    def _own_cause(self) -> str:
        _, cause = self._catalog.gettext, self._facts.cause
        if cause is None:
            return _(words.NOBODY_HEARD)
        sentence = wording.own(one_line(cause), _)
        return f"{sentence.text.removesuffix('.')} ({sentence.detail})." if sentence.detail else sentence.text

    def heading(self) -> str:
        return self._catalog.gettext("What to do:")

    def steps(self) -> Sequence[str]:
        """What to do, in order; nothing where it is over."""
        facts = self._facts
        if facts.kind == "own":
            found: tuple[str, ...] = words.OWN_STEPS
        elif self._own or self._over:
            found = ()
        elif facts.scope is not None and facts.cause in {None, "provider"}:
            found = self._steps_together(facts.scope[0])
        elif facts.cause is not None:
            found = words.STEPS.get(facts.cause, ())
        else:
            found = words.STEPS_NOT_KNOWN.get(self._aspect, words.STEPS_NOT_KNOWN["silent"])
        return [self._catalog.gettext(step) for step in found]

    def _steps_together(self, scope: str) -> tuple[str, ...]:
        if scope == "district" and self._facts.cause is None:
            return words.STEPS_TOGETHER["district"]
        power_first = (words.ASK_POWER_FIRST,) if self._facts.cause is None and self._aspect in {"silent", "absent"} else ()
        return power_first + words.STEPS_TOGETHER["provider"]

    def names(self) -> str:
        """The libraries of a common incident, by district, each on a line of its own, in the order in which they were given."""
        if self._own or not self._common or not self._facts.libraries:
            return ""
        _ = self._catalog.gettext
        lines: list[str] = []
        named = length = 0
        districts = self._by_district()
        for district, names in districts.items():
            title = one_line(district) if district else _("District not given")
            heading = [f"{title}:"] if len(districts) > 1 else []
            if lines:
                heading.insert(0, "")
            for name in names:
                length += len(name) + sum(map(len, heading)) + 4
                if named == MAX_NAMED or length > MAX_LIST_CHARACTERS:
                    return "\n".join([*lines, self.more(len(self._facts.libraries) - named)])
                lines += [*heading, f"• {name}"]
                heading = []
                named += 1
        return "\n".join(lines)

    def _by_district(self) -> dict[str | None, list[str]]:
        districts: dict[str | None, list[str]] = {}
        for library in self._facts.libraries:
            districts.setdefault(library.district, []).append(one_line(library.name))
        return districts

    def more(self, number: int) -> str:
        return self._catalog.ngettext("and %(n)d more library", "and %(n)d more libraries", number) % {"n": number}

    def last(self) -> str:
        _, facts = self._catalog.gettext, self._facts
        found = []
        if facts.page_url is not None:
            found.append(_("State of all libraries: %(url)s") % {"url": facts.page_url})
        if facts.may_repeat:
            found.append(_("You may have received this message before: it is not known whether it went out."))
        return "\n".join(found)

    def _begun(self, text: str) -> str:
        prefix = words.PREFIXES.get(self._facts.kind)
        return self._catalog.gettext(prefix) % {"text": text} if prefix else text

    def _who(self, *, with_district: bool = False) -> str:
        """``Provider Sputnik, 12 libraries``, or one library; in its district, where the reader is to find it."""
        if self._common:
            return ", ".join([*self._scope(), self._count()])
        return _named(self._facts.libraries[0], with_district=with_district)

    def _scope(self) -> Iterator[str]:
        _ = self._catalog.gettext
        if self._facts.scope is not None:
            kind, name = self._facts.scope
            forms = {"provider": _("Provider %(name)s"), "satellite": _("Satellite %(name)s")}
            yield forms.get(kind, "%(name)s") % {"name": one_line(name)}

    def _count(self) -> str:
        number = len(self._facts.libraries)
        return self._catalog.ngettext("%(n)d library", "%(n)d libraries", number) % {"n": number}


def _named(library: Library, *, with_district: bool) -> str:
    name = one_line(library.name)
    return f"{name} ({one_line(library.district)})" if with_district and library.district else name


def _numbered(heading: str, steps: Sequence[str]) -> str:
    if len(steps) == 1:
        return f"{heading} {steps[0]}"
    return "\n".join([heading, *(f"{number}. {step}" for number, step in enumerate(steps, start=1))]) if steps else ""


def _as_clocks_show(time_s: int) -> int:
    """Whole minutes: who subtracts the times in the text gets the duration in the text."""
    return time_s - time_s % MINUTE_S


def one_line(text: str, *, longest: int = MAX_NAME) -> str:
    """Without line ends, which would make headers of a mail or items of a list."""
    text = " ".join(text.split())
    return text if len(text) <= longest else f"{text[: longest - 1]}…"
