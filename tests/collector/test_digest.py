"""What can wait is one message a day: which it is, what it says, and that a crash neither loses nor doubles it."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest
import sqlalchemy as sa

from kerege_collector import digest, incidents, outbox, verdict_tables
from kerege_collector.contacts import Contact
from kerege_collector.incident import CENTER, CHANGED, CLOSED, OPENED, OWN, Change, Incident
from kerege_collector.languages import LANGUAGES
from kerege_collector.notice_digest import DIGEST, can_wait, compose
from kerege_collector.notice_facts import from_text, to_text
from kerege_collector.notice_text import Facts, Library
from kerege_collector.schema import put
from kerege_collector.sender import MAX_TRIES
from kerege_lab.hook import Hook
from tests.collector.receivers import Mailbox
from tests.collector.test_incidents import T
from tests.collector.test_outbox import Desk
from tests.places import Place

HALF_PAST_EIGHT: Final = 1_795_491_000
"""On the morning after `T`, which is at half past one of the same local day."""

NOW_S: Final = 1_795_668_000
ULAN: Final = Library("ulan", "Бозанбай кітапханасы", "Ұлан", "Asia/Almaty")
ABSENT: Final = Facts("opened", 17, (ULAN,), "absent", None, None, NOW_S - 4500, None, NOW_S)
GONE_BY: Final = replace(ABSENT, kind="closed", until_s=NOW_S - 600)


@pytest.fixture
def desk(place: Place, hook: Hook) -> Iterator[Desk]:
    made = Desk(place)
    made.employ(made.contact("desk", hook.url(), digest="08:30"))
    yield made
    made.store.close()
    made.ledger.close()


def happen(desk: Desk, what: str, incident: Incident) -> Incident:
    """In the ledger and told of, as the clerk does it."""
    with desk.ledger.writing() as connection:
        put(connection, verdict_tables.incident, [incidents._values(incident)])
        outbox.tell(connection, desk.region, [Change(what, incident)], desk.now_s)
    return incident


def absent(number: int, center: str, since_s: int) -> Incident:
    return Incident(number, (CENTER, center), "absent", None, {center: since_s}, since_s, since_s)


def closed(incident: Incident, at_s: int) -> Incident:
    return replace(incident, closed_s=at_s)


def states(desk: Desk) -> list[tuple[str, str]]:
    return [(kind, state) for _, kind, state in desk.notices()]


def test_what_waits_is_one_message_at_its_time(desk: Desk, hook: Hook, mailbox: Mailbox) -> None:
    """By webhook and mail; each library with its state and since when; what came and went meanwhile is one line."""
    desk.employ(desk.contact("desk", hook.url() + "\n" + mailbox.url(), digest="08:30"))
    happen(desk, OPENED, absent(1, "aa", T))
    gone_by = happen(desk, OPENED, absent(2, "bb", T + 60))
    happen(desk, CLOSED, closed(gone_by, T + 3660))
    desk.deliver()
    desk.now_s = HALF_PAST_EIGHT - 1
    desk.deliver()
    assert (states(desk), hook.bodies) == ([("opened", "waiting"), ("opened", "waiting"), ("closed", "waiting")], [])
    desk.now_s += 1
    desk.deliver()
    desk.deliver()
    assert states(desk) == [("opened", "folded"), ("opened", "folded"), ("closed", "folded"), (DIGEST, "sent")]
    (body,), (mail,) = hook.bodies, mailbox.mails
    assert body["title"] == mail["subject"] == "Daily summary: 1 fault lasts, 1 fault is over"
    lines = body["message"].splitlines()
    assert lines == [
        "What could wait until now (03:30): 1 fault lasts, 1 fault is over.",
        "",
        "What lasts:",
        "• aa: did not come on line after opening time; nothing has been heard since 20:30 on 23 November, for 7 hours.",
        "",
        "What is over:",
        "• bb: on line since 21:31 on 23 November. Nothing had been heard for 1 hour (from 20:31 on 23 November).",
    ]


def test_what_cannot_wait_does_not(desk: Desk, hook: Hook) -> None:
    """Silence is told at once; that it is over can wait."""
    silent = happen(desk, OPENED, replace(absent(1, "aa", T), kind="silent"))
    desk.deliver()
    assert states(desk) == [("opened", "sent")]
    happen(desk, CLOSED, closed(silent, T + 600))
    desk.deliver()
    assert states(desk)[1:] == [("closed", "waiting")]
    desk.now_s = HALF_PAST_EIGHT
    desk.deliver()
    assert [body["title"] for body in hook.bodies] == ["aa: nothing is heard (no. 1)", "Daily summary: 1 fault is over"]


def test_what_becomes_worse_waits_no_longer(desk: Desk, hook: Hook) -> None:
    incident = happen(desk, OPENED, absent(1, "aa", T))
    happen(desk, CHANGED, replace(incident, kind="down", cause="provider"))
    desk.deliver()
    assert states(desk) == [("opened", "sent")]
    assert hook.bodies[0]["title"] == "aa: no Internet (no. 1)"
    desk.now_s = HALF_PAST_EIGHT
    desk.deliver()
    assert len(hook.bodies) == 1


def test_a_digest_waits_for_what_must_be_told_before_it(desk: Desk, hook: Hook, mailbox: Mailbox) -> None:
    """A beginning of which one address does not know yet: its end is not told first."""
    desk.employ(desk.contact("desk", hook.url() + "\n" + mailbox.url(), digest="08:30"))
    hook.status = 503
    silent = happen(desk, OPENED, replace(absent(1, "aa", T), kind="silent"))
    desk.now_s = HALF_PAST_EIGHT
    desk.deliver()
    happen(desk, CLOSED, closed(silent, T + 600))
    desk.now_s += 90_000
    desk.deliver()
    assert [kind for kind, _ in states(desk)] == ["opened", "closed"]
    hook.status = 200
    desk.now_s += 1000
    for _ in range(2):
        desk.deliver()
    assert states(desk) == [("opened", "sent"), ("closed", "folded"), (DIGEST, "sent")]


def test_nobody_who_waits_gets_it_twice_or_never_after_a_crash(desk: Desk, hook: Hook, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut off in the middle of the making there is no digest, and all waits; the next look makes it."""
    happen(desk, OPENED, absent(1, "aa", T))
    desk.now_s = HALF_PAST_EIGHT

    def killed(*_: object, **__: object) -> None:
        raise OSError("killed here")

    with monkeypatch.context() as patch:
        patch.setattr(digest, "_set", killed)
        desk.deliver()
    assert (states(desk), hook.bodies) == ([("opened", "waiting")], [])
    desk.deliver()
    assert (states(desk), len(hook.bodies)) == ([("opened", "folded"), (DIGEST, "sent")], 1)


def test_a_digest_whose_sending_died_half_way_says_that_it_may_be_a_repetition(desk: Desk, hook: Hook) -> None:
    happen(desk, OPENED, absent(1, "aa", T))
    desk.now_s = HALF_PAST_EIGHT
    hook.status = 503
    desk.deliver()
    with desk.ledger.writing() as connection:  # as kill -9 would leave it
        connection.execute(sa.update(verdict_tables.notice).where(verdict_tables.notice.c.kind == DIGEST).values(state="sending"))
    hook.status = 200
    desk.now_s += 1000
    desk.deliver()
    assert "You may have received this message before" in hook.bodies[0]["message"]


def fail(desk: Desk) -> None:
    for _ in range(MAX_TRIES):
        desk.deliver()
        desk.now_s += 1000


def test_a_digest_that_cannot_be_handed_over_goes_into_the_next(desk: Desk, hook: Hook) -> None:
    happen(desk, OPENED, absent(1, "aa", T))
    desk.now_s = HALF_PAST_EIGHT
    hook.status = 503
    fail(desk)
    assert states(desk) == [("opened", "waiting"), (DIGEST, "given-up")]
    hook.status = 200
    desk.now_s = HALF_PAST_EIGHT + 86_400
    desk.deliver()
    assert len(hook.bodies) == 1


def test_or_to_the_next_level_where_there_is_one(desk: Desk, hook: Hook, mailbox: Mailbox) -> None:
    desk.employ(desk.contact("desk", hook.url(), digest="08:30"), desk.contact("chief", mailbox.url(), level=2))
    happen(desk, OPENED, absent(1, "aa", T))
    desk.now_s = HALF_PAST_EIGHT
    hook.status = 503
    fail(desk)
    desk.deliver()
    assert mailbox.mails[0]["subject"] == "Daily summary: 1 fault lasts"


def test_who_waits_for_the_digest_is_given_time_before_others_are_told(desk: Desk, mailbox: Mailbox) -> None:
    """It is escalated half an hour after the digest, not in the night."""
    desk.employ(*desk.region.contacts, desk.contact("chief", mailbox.url(), level=2))
    happen(desk, OPENED, absent(1, "aa", T))
    for now_s, kinds in ((T + 3600, ["opened"]), (HALF_PAST_EIGHT + 1700, ["opened", "reminder"]), (HALF_PAST_EIGHT + 1800, ["escalated"])):
        desk.now_s = now_s
        with desk.ledger.writing() as connection:
            outbox.remind(connection, desk.region, now_s)
        assert [kind for kind, _ in states(desk)][-len(kinds) :] == kinds


@pytest.mark.parametrize(
    ("digest_at", "quiet", "now_s", "wanted_s"),
    [
        ("08:30", None, T, HALF_PAST_EIGHT),
        ("08:30", None, HALF_PAST_EIGHT, HALF_PAST_EIGHT + 86_400),
        ("01:30", None, T, T + 86_400),
        ("06:30", "22:00-08:30", T, HALF_PAST_EIGHT),
    ],
)
def test_the_next_digest(digest_at: str, quiet: str | None, now_s: int, wanted_s: int) -> None:
    contact = Contact(id="desk", addresses_file=Path("x"), digest=digest_at, quiet=quiet)
    assert contact.digest_s(now_s) == wanted_s


@pytest.mark.parametrize("text", ["8:30", "24:00", "08:60", "morning"])
def test_a_time_of_day_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match='wanted a time of day such as "08:30"'):
        Contact(id="desk", addresses_file=Path("x"), digest=text)


@pytest.mark.parametrize(
    ("kind", "state", "cause", "wanted"),
    [
        ("opened", "silent", None, False),
        ("opened", "down", "provider", False),
        ("opened", "absent", None, True),
        ("opened", "degraded", None, True),
        ("opened", "silent", "agent", True),
        ("reminder", "absent", None, True),
        ("reminder", "down", "lan", False),
        ("escalated", "absent", None, False),
        ("unstable", "absent", None, False),
        ("closed", "down", "lan", True),
        ("own", OWN, "no connection to the broker", False),
        ("own-over", OWN, None, True),
    ],
)
def test_what_can_wait(kind: str, state: str, cause: str | None, wanted: bool) -> None:
    assert can_wait(kind, state, cause) is wanted


# --- the text -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("number", [1, 2, 5, 21, 400])
def test_every_digest_is_whole(language: str, number: int) -> None:
    """One line of subject, a body that a messenger takes, nothing left in English, and each library counted."""
    common = replace(GONE_BY, scope=("provider", "Жұлдыз"), libraries=tuple(replace(ULAN, name=f"Кітапхана {n}") for n in range(60)))
    parts = (replace(ABSENT, kind="unstable"), common, replace(GONE_BY, kind="own-over", libraries=()), *(GONE_BY,) * number)
    facts = replace(ABSENT, kind=DIGEST, parts=parts, libraries=(), may_repeat=True, page_url="https://kerege.example/")
    text = compose(facts, language)
    assert text.subject.isprintable()
    assert len(text.subject) + len(text.body) < 4096
    assert "%" not in text.subject + text.body
    if language != "en":
        assert set(re.findall(r"[A-Za-z]{3,}", text.subject + text.body)) <= {"Kerege", "https", "kerege", "example"}
    shown = text.body.count("\n• ")
    assert shown == number + 3 or str(number + 3 - shown) in text.body


@pytest.mark.parametrize(
    ("language", "forms"),
    [
        ("en", ("1 fault lasts, 2 faults are over", "2 faults last, 5 faults are over", "21 faults last, 1 fault is over")),
        (
            "ru",
            (
                "1 сбой продолжается, 2 сбоя завершились",
                "2 сбоя продолжаются, 5 сбоев завершились",
                "21 сбой продолжается, 1 сбой завершился",
            ),
        ),
        (
            "kk",
            (
                "1 ақау жалғасып жатыр, 2 ақау аяқталды",
                "2 ақау жалғасып жатыр, 5 ақау аяқталды",
                "21 ақау жалғасып жатыр, 1 ақау аяқталды",
            ),
        ),
    ],
)
def test_the_first_sentence_counts_in_right_forms(language: str, forms: tuple[str, ...]) -> None:
    for (lasting, over), wanted in zip(((1, 2), (2, 5), (21, 1)), forms, strict=True):
        facts = replace(ABSENT, kind=DIGEST, libraries=(), parts=(ABSENT,) * lasting + (GONE_BY,) * over)
        text = compose(facts, language)
        assert wanted in text.subject
        assert wanted in text.body.splitlines()[0]


def test_a_digest_is_read_back_from_the_ledger_as_it_was_written() -> None:
    facts = replace(ABSENT, kind=DIGEST, parts=(ABSENT, replace(GONE_BY, scope=("provider", "p"))))
    assert from_text(to_text(facts, notices=[1, 2])) == facts
