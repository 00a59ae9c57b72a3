"""What people are told: complete in each language, honest about what is not known, in right forms."""

import re
from dataclasses import replace
from itertools import product
from typing import Final

import pytest

from kerege_collector import notice_words, wording
from kerege_collector.languages import LANGUAGES, translations
from kerege_collector.notice_text import MAX_NAMED, Facts, Library, compose
from kerege_collector.notice_times import Place, duration

ALMATY: Final = "Asia/Almaty"
NOW_S: Final = 1_795_668_000  # 2026-11-26 04:40 UTC, 09:40 in Almaty
KINDS: Final = ("opened", "closed", "reminder", "escalated", "unstable", "changed", "own", "own-over", "test")
STATES: Final = ("silent", "down", "absent", "degraded")
CAUSES: Final = (None, *notice_words.CAUSES)
SCOPES: Final = (None, ("provider", "Жұлдыз"), ("satellite", "Жұлдыз"), ("district", "Ұлан"))
TELEGRAM_LONGEST: Final = 4096
TECHNICAL: Final = {
    "Kerege",
    "DNS",
    "captive",
    "portal",
    "kerege",
    "collector",
    "status",
    "docs",
    "operations",
    "UTC",
    "inbox",
    "unsynced",
    "https",
}

ULAN: Final = Library("ulan", "Бозанбай кітапханасы", "Ұлан", ALMATY)
ONE: Final = Facts("opened", 17, (ULAN,), "silent", None, None, NOW_S - 1500, None, NOW_S)


def libraries(number: int, *, name: str = "Кітапхана", zone: str = ALMATY) -> tuple[Library, ...]:
    return tuple(Library(f"l{place}", f"{name} {place}", ("Ұлан", "Күршім", None)[place % 3], zone) for place in range(number))


@pytest.mark.parametrize(("language", "kind", "state"), list(product(LANGUAGES, KINDS, STATES)))
def test_every_message_is_whole(language: str, kind: str, state: str) -> None:
    """One line of subject, a body that a messenger takes, no placeholder left, and no English in another language."""
    for cause, scope, number in product(CAUSES, SCOPES, (1, 2, 30)):
        facts = replace(ONE, kind=kind, state=state, cause=cause, scope=scope, libraries=libraries(number), may_repeat=True)
        text = compose(replace(facts, until_s=NOW_S - 60 if kind in {"closed", "own-over"} else None), language)
        assert text.subject.strip() == text.subject != ""
        assert text.subject.isprintable()
        assert len(text.subject) + len(text.body) < TELEGRAM_LONGEST
        assert "%" not in text.subject + text.body
        assert "\n\n\n" not in text.body
        if language != "en" and kind != "own":  # for `own` these causes are unknown codes, shown as they are
            latin = set(re.findall(r"[A-Za-z]{3,}", text.subject + text.body))
            assert latin <= TECHNICAL


@pytest.mark.parametrize(("language", "code"), list(product(LANGUAGES, wording.TROUBLES)))
def test_its_own_trouble_is_said_in_sentences_with_the_technical_words_behind(language: str, code: str) -> None:
    body = compose(replace(ONE, kind="own", libraries=(), cause=f"{code}: errno 28"), language).body
    assert translations(language).gettext(wording.TROUBLES[code]).removesuffix(".") + " (errno 28)." in body
    assert "kerege-collector status" in body


@pytest.mark.parametrize(
    ("language", "words"),
    [
        ("en", ("power or the Internet", "nothing has been heard since 09:15, for 25 minutes")),
        ("ru", ("электричество или интернет", "данные не поступают с 09:15, уже 25 минут")),
        ("kk", ("Электр қуаты өшті ме, әлде интернет үзілді ме", "сағат 09:15-тен бері, 25 минут бойы деректер келмей тұр")),
    ],
)
def test_of_a_silent_library_it_is_said_that_it_may_be_power_or_internet(language: str, words: tuple[str, ...]) -> None:
    """And nothing is said of a cause."""
    body = compose(ONE, language).body
    assert body.startswith("Бозанбай кітапханасы (Ұлан): ")
    for text in words:
        assert text in body
    assert translations(language).gettext("Most likely cause: %(cause)s.").partition("%")[0] not in body


def test_the_librarians_list_for_a_fault_inside_the_library() -> None:
    body = compose(replace(ONE, state="down", cause="lan"), "ru").body
    assert "Вероятная причина: внутренняя сеть библиотеки (кабель, роутер или Wi-Fi)." in body
    assert re.findall(r"^\d\. .*роутер.*$", body, re.MULTILINE)
    assert "5. Если это не помогло, позвоните ответственному ИТ-специалисту." in body


@pytest.mark.parametrize(
    ("language", "minutes", "hours", "days", "counts", "more"),
    [
        (
            "ru",
            ("1 минуту", "2 минуты", "5 минут", "21 минуту", "30 минут"),
            ("1 час", "2 часа", "5 часов", "21 час"),
            ("1 день", "2 дня", "5 дней", "21 день", "30 дней"),
            ("1 библиотека", "2 библиотеки", "5 библиотек", "21 библиотека", "30 библиотек"),
            ("и ещё 1 библиотека", "и ещё 2 библиотеки", "и ещё 5 библиотек", "и ещё 21 библиотека", "и ещё 30 библиотек"),
        ),
        (
            "kk",
            ("1 минут", "2 минут", "5 минут", "21 минут", "30 минут"),
            ("1 сағат", "2 сағат", "5 сағат", "21 сағат"),
            ("1 күн", "2 күн", "5 күн", "21 күн", "30 күн"),
            ("1 кітапхана", "2 кітапхана", "5 кітапхана", "21 кітапхана", "30 кітапхана"),
            ("және тағы 1 кітапхана", "және тағы 2 кітапхана", "және тағы 5 кітапхана", "және тағы 21 кітапхана", "және тағы 30 кітапхана"),
        ),
        (
            "en",
            ("1 minute", "2 minutes", "5 minutes", "21 minutes", "30 minutes"),
            ("1 hour", "2 hours", "5 hours", "21 hours"),
            ("1 day", "2 days", "5 days", "21 days", "30 days"),
            ("1 library", "2 libraries", "5 libraries", "21 libraries", "30 libraries"),
            ("and 1 more library", "and 2 more libraries", "and 5 more libraries", "and 21 more libraries", "and 30 more libraries"),
        ),
    ],
)
def test_plural_forms(
    *,
    language: str,
    minutes: tuple[str, ...],
    hours: tuple[str, ...],
    days: tuple[str, ...],
    counts: tuple[str, ...],
    more: tuple[str, ...],
) -> None:
    catalog = translations(language)
    numbers = (1, 2, 5, 21, 30)
    assert tuple(duration(60 * number, catalog) for number in numbers) == minutes
    assert tuple(duration(3600 * number, catalog) for number in numbers[:4]) == hours
    assert tuple(duration(86_400 * number, catalog) for number in numbers) == days
    common = replace(ONE, state="down", cause="provider", scope=("provider", "Жұлдыз"))
    for number, count, rest in zip(numbers, counts, more, strict=True):
        assert f", {count}: " in compose(replace(common, libraries=libraries(number)), language).subject
        assert compose(replace(common, libraries=libraries(MAX_NAMED + number)), language).body.endswith(f"\n{rest}")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "less than a minute"),
        (59, "less than a minute"),
        (3599, "59 minutes"),
        (7500, "2 hours 5 minutes"),
        (7200, "2 hours"),
        (90_000, "1 day 1 hour"),
        (86_400, "1 day"),
    ],
)
def test_durations_have_two_units_at_most(seconds: int, text: str) -> None:
    assert duration(seconds, translations("en")) == text


def test_a_common_cause_is_one_sentence_and_a_list_by_district() -> None:
    facts = replace(ONE, state="down", cause="provider", scope=("provider", "Жұлдыз"), libraries=libraries(4))
    text = compose(facts, "kk")
    assert text.subject == "Жұлдыз провайдері, 4 кітапхана: интернет жоқ (№ 17)"
    assert text.body.startswith("Жұлдыз провайдері, 4 кітапхана: сағат 09:15-тен бері, 25 минут бойы интернет жоқ.")
    listed = "\n\nҰлан:\n• Кітапхана 0\n• Кітапхана 3\n\nКүршім:\n• Кітапхана 1\n\nАудан көрсетілмеген:\n• Кітапхана 2"
    assert text.body.endswith(listed)


def test_long_names_leave_room_for_the_rest() -> None:
    """What is not named is counted, all together within what Telegram takes."""
    facts = replace(
        ONE, scope=("satellite", "С" * 300), libraries=libraries(400, name="Ұзын " * 18), may_repeat=True, page_url="https://" + "a" * 90
    )
    text = compose(facts, "kk")
    named = text.body.count("• ")
    assert 0 < named < MAX_NAMED
    assert f"және тағы {400 - named} кітапхана" in text.body
    assert len(text.subject) + len(text.body) < TELEGRAM_LONGEST


def test_the_times_in_a_text_differ_by_the_duration_in_it() -> None:
    """06:36:40 to 09:38:00: a reader sees 06:36 and 09:38, and three hours and two minutes."""
    facts = replace(ONE, kind="closed", state="down", since_s=NOW_S - 11_000, until_s=NOW_S - 120)
    assert "since 09:38. There was none for 3 hours 2 minutes (from 06:36)." in compose(facts, "en").body


def test_what_is_over_says_when_and_how_long_and_asks_for_nothing() -> None:
    body = compose(replace(ONE, kind="closed", state="down", cause="power", since_s=NOW_S - 90_000, until_s=NOW_S - 60), "ru").body
    first = "Бозанбай кітапханасы (Ұлан): интернет снова работает с 09:39. Перерыв длился 1 день (с 08:40 25 ноября)."
    assert body == f"{first}\n\nВероятная причина: отключение электричества."


def test_a_message_that_may_have_gone_out_before_says_so() -> None:
    assert "Возможно, вы уже получали это сообщение" in compose(replace(ONE, may_repeat=True), "ru").body
    assert "Возможно" not in compose(ONE, "ru").body


def test_line_ends_in_names_cannot_make_headers_or_items() -> None:
    evil = replace(ULAN, name="Ұлан\r\nBcc: a@example.org\n• x", district="a\nb")
    for facts in (replace(ONE, libraries=(evil,)), replace(ONE, libraries=(evil, ULAN), scope=("district", "c\nd"))):
        text = compose(facts, "kk")
        assert "\n" not in text.subject
        assert "\nBcc" not in text.body
        assert "\n• x" not in text.body


def test_an_unknown_language_cause_and_state_are_told_all_the_same() -> None:
    """A later version's code is shown as it stands; the language is that of the state."""
    text = compose(replace(ONE, cause="meteor", state="molten"), "tlh")
    assert "Ықтимал себебі: meteor." in text.body


# --- times --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("minute", "ending"),
    [
        (0, "ден"),
        (1, "ден"),
        (3, "тен"),
        (6, "дан"),
        (9, "дан"),
        (10, "нан"),
        (20, "дан"),
        (30, "дан"),
        (40, "тан"),
        (50, "ден"),
        (45, "тен"),
    ],
)
def test_a_kazakh_time_has_the_ending_of_its_last_numeral(minute: int, ending: str) -> None:
    at_s = NOW_S - 40 * 60 + minute * 60
    assert Place([ALMATY], NOW_S, "kk").since(at_s) == f"сағат 09:{minute:02d}-{ending}"


@pytest.mark.parametrize(
    ("language", "today", "yesterday", "last_year"),
    [
        ("en", "09:40", "09:40 on 25 November", "09:40 on 26 November 2025"),
        ("ru", "09:40", "09:40 25 ноября", "09:40 26 ноября 2025 года"),
        ("kk", "сағат 09:40-тан", "25 қараша, сағат 09:40-тан", "2025 ж. 26 қараша, сағат 09:40-тан"),
    ],
)
def test_the_day_is_named_where_it_is_not_today(language: str, today: str, yesterday: str, last_year: str) -> None:
    place = Place([ALMATY], NOW_S, language)
    assert [place.since(NOW_S - 86_400 * days) for days in (0, 1, 365)] == [today, yesterday, last_year]


@pytest.mark.parametrize(
    ("zones", "text"),
    [
        ([ALMATY], "09:40"),
        ([ALMATY, "Asia/Qyzylorda"], "09:40"),
        (["Asia/Omsk", ALMATY], "10:40 (UTC+06:00)"),
        ([], "04:40 (UTC)"),
        (["Mars/Olympus", "../../etc/passwd", ""], "04:40 (UTC)"),
    ],
)
def test_times_are_the_librarys_and_the_offset_is_said_where_there_is_doubt(zones: list[str], text: str) -> None:
    """A zone that nobody knows keeps no message back."""
    assert Place(zones, NOW_S, "en").at(NOW_S) == text
