"""The page in three languages: as it is served, and in a real browser."""

import hashlib
import re
import shutil
import subprocess
import time
from base64 import b64encode
from html import unescape
from pathlib import Path
from typing import Any, Final

import pytest

from kerege_collector.board import CenterRow
from kerege_collector.centers import Center
from kerege_collector.figures import clock, number, span, utc
from kerege_collector.languages import LANGUAGES, preferred, translations
from kerege_collector.page import Page
from kerege_collector.timekeeping import ClockState
from kerege_lab.servers import HOST
from kerege_wire import Presence
from scripts import catalogs
from tests.collector.web_house import House, api, get, house, served

__all__ = ["house"]  # a fixture

CHROMIUM: Final = shutil.which("chromium") or shutil.which("chromium-browser")
BROWSER_TIMEOUT_S: Final = 60.0
LATER_MS: Final = 25_000
"""Virtual time of the browser: two rounds of the script."""

TECHNICAL: Final = frozenset({"Sputnik", "Kerege", "UTC", "JSON", "script", "alert", "district", "more"})
"""What is not translated: names, and what the owner of the center has written."""

SAID: Final = {
    "en": ("geostationary satellite · Sputnik", "beyond the library: the provider", "missing: 12", "never", "shut down", "612 ms", "1,840"),
    "ru": (
        "геостационарный спутник · Sputnik",
        "за пределами библиотеки: провайдер",
        "не хватает: 12",
        "никогда",
        "выключили",
        "612 мс",
        "1 840",
    ),
    "kk": ("геостационарлық спутник · Sputnik", "кітапханадан тыс: провайдер", "жетіспейді: 12", "ешқашан", "өшірілді", "612 мс", "1 840"),
}


def rows_of(page: str) -> dict[str, str]:
    return dict(re.findall(r'<tr data-center="([a-z]+)" data-state="([a-z]+)">', page))


def words_of(page: str) -> str:
    """What a reader sees, without what the pages' owner has named."""
    shown = re.sub(r"<(style|script|head|nav|noscript)\b.*?</\1>", "", page, flags=re.DOTALL)
    labels = " ".join(re.findall(r'(?:data-label|aria-label|title)="([^"]*)"', shown))
    return unescape(re.sub(r"<[^>]*>", " ", shown) + " " + labels)


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_page_is_complete_without_a_script(house: House, language: str) -> None:
    status, headers, page = get(house, f"/?lang={language}")
    assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert rows_of(page) == {"ulan": "down", "script": "unknown", "kurshim": "unknown", "zaisan": "off", "oskemen": "up"}
    words = words_of(page).replace("\N{NO-BREAK SPACE}", " ")
    for text in ("Өскемен, Шығыс Қазақстан", "10 %", *SAID[language]):
        assert text in words
    assert f'<html lang="{language}">' in page
    assert '<noscript><meta http-equiv="refresh"' in page
    assert "UTC" in page


@pytest.mark.parametrize("language", ["kk", "ru"])
def test_no_english_is_left_on_the_page_of_another_language(language: str) -> None:
    """With every state, cause, flag and notice that there is."""
    now_s = int(time.time())
    everything = House()
    everything.troubles = [
        "no connection to the broker",
        "store: unreachable",
        "ledger: locked",
        "the quarantine is full",
        "the inbox thread has died",
        "the worker hangs",
        "this server's clock is in doubt: not synchronised, says the kernel",
    ]
    for broken in ("gateway", "terminal", "internet", "dns", "portal"):
        everything.registry[broken] = Center(id=broken, name="Ұлан")
        everything.tick(broken, broken=broken)
    for place, why in enumerate(("held: unknown center", "held: new", "kept: quarantine-full", "unreadable: not-json", "wrong-center: x")):
        everything.board.trouble(f"stranger{place}", why, now_s)
    everything.tick("oskemen")
    everything.board.presence("oskemen", Presence("lost", epoch="epochAAA", birth=1), now_s)
    with served(everything):
        page = get(everything, f"/?lang={language}")[2]
    shown = words_of(re.sub(r"<small>.*?</small>", "", page))
    latin = set(re.findall(r"[A-Za-z]{3,}", shown)) - set(re.findall(r"[A-Za-z]{3,}", " ".join(translated(language))))
    assert latin <= TECHNICAL | {"stranger"}


def translated(language: str) -> list[str]:
    """What the catalog says: technical names are the same in every language."""
    return [str(message.string) for message in catalogs.read(catalogs.LOCALE / f"{language}.po") if message.id]


def test_what_people_write_cannot_become_markup(house: House) -> None:
    page = get(house, "/")[2]
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page


def test_nothing_may_run_in_the_page_but_its_own_script(house: House) -> None:
    """The policy names style and script by their hashes, and both are what is in the page."""
    _, headers, page = get(house, "/")
    policy = headers["content-security-policy"]
    assert policy.startswith("default-src 'none';")
    for element in ("style", "script"):
        content = re.search(f"<{element}>(.*?)</{element}>", page, re.DOTALL)
        assert content is not None
        digest = b64encode(hashlib.sha256(content[1].encode()).digest()).decode()
        assert f"{element}-src 'sha256-{digest}'" in policy
    assert "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"


def test_trouble_is_on_top_of_the_page_in_sentences_with_the_technical_words_behind() -> None:
    """One that nobody has a sentence for is shown as it is."""
    house = House()
    house.troubles = ["no connection to the broker", "store: disk-full: records.db", "something new"]
    with served(house):
        notices = re.findall(r'<p class="notice bad">(.*?)</p>', get(house, "/?lang=en")[2])
    assert notices == [
        "The collector is not connected to the broker: nothing arrives, the centers keep everything.",
        "The database takes nothing at present; nothing is lost, the centers keep everything. <small>disk-full: records.db</small>",
        "something new",
    ]


def test_an_empty_registry_says_what_to_do() -> None:
    house = House()
    house.registry.clear()
    with served(house):
        assert '<p id="empty">' in get(house, "/")[2]


# --- languages ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("named", "accept", "language"),
    [
        ((None, None), "", "kk"),
        (("ru", "en"), "en", "ru"),
        (("xx", "en"), "ru", "en"),
        ((None, None), "ru-RU,ru;q=0.9,en;q=0.8", "ru"),
        ((None, None), "de-DE,de;q=0.9,en;q=0.8,ru;q=0.81", "ru"),
        ((None, None), "en-US", "en"),
        ((None, None), "ru;q=0, KK ; q = 0.5", "kk"),
        ((None, None), "fr, *;q=0.5", "kk"),
        ((None, None), ";;q=x, \x00,,en;q=9", "kk"),
    ],
)
def test_a_reader_gets_the_language_that_was_asked_for(named: tuple[str | None, ...], accept: str, language: str) -> None:
    """What was chosen, else what the browser prefers, else Kazakh."""
    assert preferred(*named, accept=accept) == language


def test_a_choice_is_remembered(house: House) -> None:
    """By a cookie, and only where it is one of ours."""
    _, headers, _ = get(house, "/?lang=ru", Accept_Language="en")
    assert headers["set-cookie"].startswith("lang=ru; ")
    assert '<html lang="ru">' in get(house, "/", Cookie="lang=ru", Accept_Language="en")[2]
    _, headers, page = get(house, "/?lang=%3Cscript%3E", Accept_Language="en")
    assert "set-cookie" not in headers
    assert '<html lang="en">' in page


@pytest.mark.parametrize("path", sorted(catalogs.LOCALE.glob("*.po")), ids=lambda path: path.stem)
def test_every_text_is_translated(path: Path) -> None:
    """Each catalog holds the texts of the code as it is now (`make catalogs`), all of them translated, with the same placeholders."""
    assert catalogs.mistakes(path) == []
    assert path.read_bytes() == catalogs.updated(path)
    assert {path.stem for path in catalogs.LOCALE.glob("*.po")} | {"en"} == set(LANGUAGES)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-5, "0 s"), (59, "59 s"), (60, "1 min"), (3599, "59 min"), (11_520, "3 h 12 min"), (172_799, "47 h 59 min"), (442_800, "5 d 3 h")],
)
def test_durations_are_said_as_people_say_them(seconds: int, text: str) -> None:
    assert span(seconds) == text


def test_durations_are_said_in_the_readers_language() -> None:
    assert span(442_800, translations("ru").gettext) == "5 дн. 3 ч"
    assert span(11_520, translations("kk").gettext) == "3 сағ 12 мин"


@pytest.mark.parametrize(
    ("value", "text"), [(0.0, "0"), (0.731, "0.731"), (4.312, "4.31"), (612.0, "612"), (1250.4, "1,250"), (99.96, "100")]
)
def test_numbers_have_three_digits_at_most_and_no_exponent(value: float, text: str) -> None:
    assert number(value) == text


def test_numbers_and_times_have_the_languages_form() -> None:
    assert number(0.731, "ru") == number(0.731, "kk") == "0,731"
    assert clock(1_795_465_800, 1_795_465_800, "kk") == "20:30 UTC"
    assert clock(1_795_465_800, 1_795_565_800, "ru") == "23 нояб. 20:30 UTC"
    assert clock(1_795_465_800, 1_795_565_800, "kk") == "23 қар. 20:30 UTC"
    assert utc(1_795_465_800) == "2026-11-23 20:30:00 UTC"


# --- in a browser -------------------------------------------------------------------------------------------------------


def seen_by_a_browser(house: House, profile: Path, language: str = "en") -> str:
    """The page's DOM as Chromium has it after two rounds of the script."""
    if CHROMIUM is None:
        pytest.skip("no chromium on the path: run scripts/install-servers")
    quiet = ["disable-gpu", "disable-quic", "no-first-run", "disable-background-networking", "disable-component-update", "disable-sync"]
    options = [f"--{option}" for option in ("headless", "no-sandbox", "disable-dev-shm-usage", *quiet)]
    address = f"http://{HOST}:{house.port}/?lang={language}"
    command = [CHROMIUM, *options, f"--user-data-dir={profile}", f"--virtual-time-budget={LATER_MS}", "--dump-dom", address]
    done = subprocess.run(command, capture_output=True, text=True, timeout=BROWSER_TIMEOUT_S, check=True)
    return done.stdout


def test_the_script_brings_the_page_up_to_date(house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page as served is old; what the browser has a moment later is what the API says: rows new, gone, moved and changed."""
    render = Page.render

    def render_as_before(page: Page, content: dict[str, Any], language: str) -> str:
        before = render(page, content, language)
        house.registry["new"] = Center(id="new", name="Жаңа кітапхана")
        house.registry.pop("kurshim", None)
        house.tick("ulan", rtt_ms=41.27)
        house.board.trouble("new", "unreadable: not-json", int(time.time()))
        house.troubles = ["store: unreachable"]
        return before

    monkeypatch.setattr(Page, "render", render_as_before)
    monkeypatch.setattr("kerege_collector.web.VIEW_S", 0.0)
    dom = seen_by_a_browser(house, tmp_path / "profile", "ru")
    body = dom[dom.index('<tbody id="centers">') : dom.index("</tbody>")]
    assert rows_of(body) == {"script": "unknown", "new": "unknown", "zaisan": "off", "ulan": "up", "oskemen": "up"}
    assert list(rows_of(body)) == [center["center"] for center in api(house)["centers"]]
    assert "Жаңа кітапхана" in body
    assert "Сообщение не удалось прочитать; оно в карантине." in body
    assert "41,3 мс" in body
    assert "&lt;script&gt;alert(1)" in body
    assert "UTC" not in re.sub(r'title="[^"]*"', "", body)  # the browser's own zone now
    assert "База данных сейчас ничего не принимает" in dom
    assert re.search(r'<div data-state="down">.*?<dd>0</dd>', dom, re.DOTALL)
    assert re.search(r'<p id="silence"[^>]* hidden', dom)


@pytest.mark.parametrize("language", ["kk", "ru"])
def test_the_script_leaves_no_english_behind(house: House, tmp_path: Path, language: str) -> None:
    """The months of its clock included."""
    house.clock = ClockState(True, "synchronised")
    dom = seen_by_a_browser(house, tmp_path / "profile", language)
    latin = set(re.findall(r"[A-Za-z]{3,}", words_of(re.sub(r"<small>.*?</small>", "", dom))))
    known = set(re.findall(r"[A-Za-z]{3,}", " ".join(translated(language))))
    assert latin - known <= TECHNICAL


def test_a_page_that_hears_nothing_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is shown must not be taken for the state of now."""
    house = House()
    rows, asked = house.board.rows, []

    def answer_once(now_s: int) -> list[CenterRow]:
        asked.append(now_s)
        if len(asked) > 1:
            raise RuntimeError("away")
        return rows(now_s)

    monkeypatch.setattr(house.board, "rows", answer_once)
    monkeypatch.setattr("kerege_collector.web.VIEW_S", 0.0)
    with served(house):
        dom = seen_by_a_browser(house, tmp_path / "profile", "kk")
    assert re.search(r'<p id="silence" class="notice bad" role="alert">Коллектор жауап бермейді', dom)
    assert 'class="stale"' in dom
