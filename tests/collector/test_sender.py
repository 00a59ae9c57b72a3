"""Notices reach people through real servers, and what does not arrive is tried again, given up and told without secrets."""

import logging
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import pytest

from kerege_collector import delivery, sender
from kerege_collector.heartbeat import Heartbeat
from kerege_collector.notice_text import Facts, Library, Text, compose
from kerege_collector.sender import MAX_TRIES, Deliver, Sender, Waiting, address_key, retry_delay_s
from kerege_lab.hook import hook
from kerege_lab.servers import HOST
from tests.collector.receivers import REFUSALS, free_port, mailbox, silence

NOW_S: Final = 1_795_668_000
SECRET: Final = "hunter2hunter2"
ULAN: Final = Library("ulan", "Бозанбай ауылдық кітапханасы", "Ұлан", "Asia/Almaty")
FACTS: Final = Facts("opened", 17, (ULAN,), "silent", None, None, NOW_S - 1500, None, NOW_S)
TEXT: Final = compose(FACTS, "kk")


@dataclass
class Box:
    """An outbox in memory: what is due, and what the sender said of each notice in the order in which it did."""

    waiting: list[Waiting] = field(default_factory=list)
    said: list[tuple[str, int]] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    next_tries: list[int | None] = field(default_factory=list)

    def due(self, now_s: int) -> list[Waiting]:
        return list(self.waiting)

    def sending(self, id: int, now_s: int) -> None:  # noqa: A002
        self.said.append(("sending", id))

    def taken(self, id: int, address: str, now_s: int) -> None:  # noqa: A002
        self.waiting = [replace(each, taken=each.taken | {address}) if each.id == id else each for each in self.waiting]

    def sent(self, id: int, now_s: int) -> None:  # noqa: A002
        self.said.append(("sent", id))
        self.waiting = [notice for notice in self.waiting if notice.id != id]

    def failed(self, id: int, now_s: int, error: str, next_try_s: int | None) -> None:  # noqa: A002
        self.said.append(("failed", id))
        self.errors.append(error)
        self.next_tries.append(next_try_s)
        again = [replace(notice, attempts=notice.attempts + 1) if notice.id == id else notice for notice in self.waiting]
        self.waiting = [notice for notice in again if next_try_s is not None or notice.id != id]

    def add(self, id: int, contact: str = "it", *, attempts: int = 0, was_sending: bool = False) -> None:  # noqa: A002
        self.waiting.append(Waiting(id, contact, "kk", FACTS, attempts, was_sending))


class House:
    """A sender with an outbox and address files."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.box = Box()

    def write(self, *urls: str, contact: str = "it") -> None:
        (self.directory / contact).write_text("\n".join(urls), encoding="utf-8")

    def sender(self, deliver: Deliver = delivery.deliver, *, timeout_s: float = 20.0) -> Sender:
        return Sender(self.box, lambda contact: self.directory / contact, lambda: NOW_S, deliver, timeout_s=timeout_s)


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


# --- real servers -------------------------------------------------------------------------------------------------------


def test_a_mail_arrives_as_it_was_written_in_kazakh(house: House) -> None:
    """Subject and body, decoded from what went over the wire; plain text and nothing else."""
    with mailbox() as box:
        house.write(box.url())
        house.box.add(1)
        house.sender().step()
    (mail,) = box.mails
    assert house.box.said == [("sending", 1), ("sent", 1)]
    assert mail["subject"] == TEXT.subject == "Бозанбай ауылдық кітапханасы: деректер келмей тұр (№ 17)"
    assert mail["to"] == "it@example.kz"
    assert mail["from"] == "kerege@example.kz"
    assert mail.get_content_type() == "text/plain"
    assert mail.get_content().replace("\r\n", "\n").strip() == TEXT.body
    assert all(len(line) <= 998 for line in box.raw[0].splitlines())  # RFC 5322 section 2.1.1
    assert box.raw[0].isascii()


def test_a_webhook_gets_subject_and_body(house: House) -> None:
    with hook() as got:
        house.write("# the district's system", "", got.url(), got.url())
        house.box.add(1)
        house.sender().step()
    (body,) = got.bodies  # a URL that stands there twice is one address
    assert (body["title"], body["message"]) == (TEXT.subject, TEXT.body)


@pytest.mark.parametrize("answer", REFUSALS)
@pytest.mark.parametrize("of", ["answer", "recipient_answer"])
def test_a_mail_server_that_refuses_is_told_by_its_code(house: House, answer: str, of: str) -> None:
    with mailbox() as box:
        setattr(box, of, answer)
        house.write(box.url())
        house.box.add(1)
        house.sender().step()
    assert house.box.errors == [f"contact it: mailto: refused ({answer[:3]})"]
    assert house.box.next_tries[0] is not None
    assert NOW_S < house.box.next_tries[0] <= NOW_S + 30


def test_a_web_server_that_fails_is_told_by_its_status(house: House) -> None:
    with hook() as got:
        got.status = 500
        house.write(got.url(SECRET))
        house.box.add(1)
        house.sender().step()
    assert house.box.errors == ["contact it: json: refused (500)"]


def test_a_closed_port_is_a_failure(house: House) -> None:
    house.write(f"json://{HOST}:{free_port()}/", f"mailto://{HOST}:{free_port()}/?from=a@example.kz&to=b@example.kz&mode=insecure")
    house.box.add(1)
    house.sender().step()
    assert house.box.errors == ["contact it: json: could not be delivered; mailto: could not be delivered"]


def test_a_server_that_hangs_holds_up_nobody_else(house: House) -> None:
    """Its contact has a failure when the time is over; its next notice waits; the other contact has both of its own."""
    with silence() as port, hook() as got:
        house.write(f"mailto://{HOST}:{port}/?from=a@example.kz&to=b@example.kz&mode=insecure&cto=3", contact="hangs")
        house.write(got.url(), contact="well")
        for number, contact in ((1, "hangs"), (2, "hangs"), (3, "well"), (4, "well")):
            house.box.add(number, contact)
        started_s = time.monotonic()
        house.sender(timeout_s=1.0).step()
        assert time.monotonic() - started_s < 2.5
        assert len(got.bodies) == 2
    assert house.box.errors == ["contact hangs: mailto: no answer within 1 s"]
    assert ("sending", 2) not in house.box.said
    assert house.box.said.index(("sent", 3)) < house.box.said.index(("sent", 4))


def test_each_address_is_tried_by_itself_and_what_has_taken_it_gets_it_once(house: House) -> None:
    with mailbox() as box, hook() as got:
        got.status = 503
        house.write(box.url(), got.url())
        house.box.add(1)
        sending = house.sender()
        sending.step()
        assert house.box.errors == ["contact it: json: refused (503)"]
        got.status = 200
        sending.step()
        assert (len(box.mails), len(got.bodies)) == (1, 1)
    assert house.box.said[-1] == ("sent", 1)
    assert got.bodies[0]["message"] == TEXT.body  # to this one it is no repetition


def test_what_an_address_has_taken_outlives_the_process(house: House) -> None:
    """It is durable while another address still hangs; whoever comes next sends to that one only."""
    with hook() as got, silence() as port:
        house.write(f"json://{HOST}:{port}/?rto=2", got.url())
        house.box.add(1)
        known: list[frozenset[str]] = []
        first = threading.Thread(target=house.sender(timeout_s=1.5).step)
        first.start()
        while first.is_alive():
            known.append(house.box.waiting[0].taken)
            time.sleep(0.05)
        assert len(known[len(known) // 2]) == 1  # long before the step was over
        assert address_key(got.url()) in known[-1]
        house.write(got.url("other"), got.url())
        house.sender().step()
    assert len(got.bodies) == 2
    assert house.box.said[-1] == ("sent", 1)


DELIVER_ALL: Final = """
import sys
from kerege_collector import logs, delivery, sender
from kerege_collector.notice_text import Text
logs.set_up(level=1)
for url in sys.stdin.read().split():
    print(delivery.scheme(url), delivery.deliver(url, Text("a", "b")))
"""


def test_secrets_are_in_no_log() -> None:
    """Of a process that logs everything there is to log: the libraries' debug lines have whole URLs. (pytest's own log sees them all.)"""
    port = free_port()
    urls = [
        f"json://user:{SECRET}@{HOST}:{port}/{SECRET}?+token={SECRET}",
        f"mailto://user:{SECRET}@{HOST}:{port}/?from=a@example.kz&to={SECRET}@example.kz&mode=insecure",
        SECRET,
        f"nosuch://{SECRET}",
        f"mailto://{SECRET}",
    ]
    with hook() as got:
        urls.append(got.url(SECRET))
        command = [sys.executable, "-c", DELIVER_ALL]
        done = subprocess.run(command, input="\n".join(urls), capture_output=True, text=True, timeout=60, check=True)
    assert [body["message"] for body in got.bodies] == ["b"]
    assert SECRET not in done.stdout + done.stderr
    assert done.stdout.splitlines() == [
        "json could not be delivered",
        "mailto could not be delivered",
        "? is not an address that can be used",
        "nosuch is not an address that can be used",
        "mailto is not an address that can be used",
        "json None",
    ]


def test_what_a_plugin_raises_is_told_by_its_type_alone(house: House, caplog: pytest.LogCaptureFixture) -> None:
    """Its text may have the URL in it."""

    def raising(url: str, text: Text) -> str | None:
        raise RuntimeError(url)

    house.write(f"json://{SECRET}", SECRET)
    house.box.add(1)
    house.sender(raising).step()
    reason = "could not be delivered (RuntimeError)"
    assert house.box.errors == [f"contact it: json: {reason}; ?: {reason}"]
    assert SECRET not in caplog.text + str([record.__dict__ for record in caplog.records])


# --- tries --------------------------------------------------------------------------------------------------------------


def refusing(url: str, text: Text) -> str | None:
    return "refused (500)"


def test_it_is_given_up_after_six_tries(house: House) -> None:
    house.write("json://x")
    house.box.add(1)
    sending = house.sender(refusing)
    for _ in range(MAX_TRIES + 2):
        sending.step()
    assert house.box.said.count(("sending", 1)) == MAX_TRIES
    assert None not in house.box.next_tries[:-1]
    assert house.box.next_tries[-1] is None


def test_what_one_address_has_taken_is_not_given_up(house: House) -> None:
    """The person has been told: nobody else need be."""
    house.write("json://x", "mailto://y")
    house.box.add(1)
    sending = house.sender(lambda url, text: None if url == "json://x" else "refused (550)")
    for _ in range(MAX_TRIES):
        sending.step()
    assert house.box.said[-1] == ("sent", 1)
    assert None not in house.box.next_tries


@pytest.mark.parametrize("content", [None, b"", b"# nobody\n\n", b"\xff\xfe", b"x" * 70_000])
def test_a_contact_without_addresses_is_given_up_at_once(house: House, content: bytes | None) -> None:
    if content is not None:
        (house.directory / "it").write_bytes(content)
    house.box.add(1)
    house.sender(refusing).step()
    assert house.box.next_tries == [None]
    assert house.box.errors[0].startswith("contact it: ")


def test_a_contact_that_is_not_known_is_given_up_at_once(house: House) -> None:
    house.box.add(1)
    Sender(house.box, lambda contact: None, lambda: NOW_S, refusing).step()
    assert house.box.errors == ["contact it: has no addresses"]


@pytest.mark.parametrize(
    ("attempts", "was_sending", "may_repeat"), [(0, False, False), (0, True, True), (2, False, True)], ids=["first", "killed", "restarted"]
)
def test_a_sending_that_died_half_way_says_that_it_may_be_a_repetition(
    house: House, attempts: int, was_sending: bool, may_repeat: bool
) -> None:
    """Also after a restart, where nobody remembers which of the addresses had taken it."""
    texts: list[str] = []
    house.write("json://x")
    house.box.add(1, attempts=attempts, was_sending=was_sending)
    house.sender(lambda url, text: texts.append(text.body)).step()
    assert texts == [compose(replace(FACTS, may_repeat=may_repeat), "kk").body]


def test_a_slow_server_that_takes_it_after_all_is_not_given_it_again(house: House) -> None:
    tries: list[str] = []

    def slow(url: str, text: Text) -> str | None:
        tries.append(url)
        time.sleep(0.4)
        return None

    house.write("json://x")
    house.box.add(1)
    sending = house.sender(slow, timeout_s=0.05)
    sending.step()
    sending.step()  # it still runs: there is no second one beside it
    assert house.box.errors == ["contact it: json: no answer within 0.05 s"] * 2
    time.sleep(0.6)
    sending.step()
    assert house.box.said[-1] == ("sent", 1)
    assert tries == ["json://x"]


@pytest.mark.parametrize("broken", ["due", "sending", "taken", "sent", "failed"])
def test_nothing_is_raised_and_nothing_sent_of_which_the_outbox_does_not_know(
    house: House, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    """And the trouble with one notice does not keep back that of another contact."""
    texts: list[str] = []

    def deliver(url: str, text: Text) -> str | None:
        texts.append(url)
        return None if broken in {"sent", "taken"} else "refused (500)"

    real = getattr(house.box, broken)

    def disk_full(*of: int | str | None) -> None:
        if broken == "due" or of[0] == 1:
            raise OSError("disk full")
        real(*of)

    monkeypatch.setattr(house.box, broken, disk_full)
    house.write("json://one", contact="one")
    house.write("json://two", contact="two")
    house.box.add(1, "one")
    house.box.add(2, "two")
    house.sender(deliver).step()
    expected = {"due": [], "sending": ["json://two"]}
    assert sorted(texts) == expected.get(broken, ["json://one", "json://two"])
    if broken != "due":
        assert house.box.said[-1] == ("sent" if broken in {"sent", "taken"} else "failed", 2)


def test_more_contacts_than_are_written_to_at_once(house: House) -> None:
    for number in range(sender.AT_ONCE * 2 + 3):
        house.write("json://x", contact=f"c{number}")
        house.box.add(number, f"c{number}")
    house.sender(lambda url, text: None).step()
    assert house.box.waiting == []


def test_the_delay_is_jittered_below_a_bound_that_doubles_to_a_quarter_of_an_hour() -> None:
    for attempts, bound_s in ((0, 30), (1, 60), (4, 480), (5, 900), (500, 900)):
        delays = [retry_delay_s(attempts) for _ in range(300)]
        assert 1 <= min(delays) < bound_s / 4
        assert bound_s * 3 / 4 < max(delays) <= bound_s


# --- heartbeat ----------------------------------------------------------------------------------------------------------


class Clock:
    """Monotonic seconds, set by the test."""

    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def test_a_heartbeat_is_a_get_every_few_minutes(tmp_path: Path) -> None:
    clock = Clock()
    with hook() as got:
        (tmp_path / "url").write_text(f"http://{HOST}:{got.port}/ping/{SECRET}\n")
        heartbeat = Heartbeat(tmp_path / "url", 300, clock)
        for clock.now_s in (1000.0, 1001.0, 1269.0, 1301.0, 1302.0):
            heartbeat.step()
    assert got.gets == [f"/ping/{SECRET}"] * 2


def test_a_heartbeat_that_fails_is_logged_once_and_so_is_its_end(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Without its URL, whatever fails: a file that is not there, a line that is no URL, a closed port, an answer of 500."""
    caplog.set_level(logging.INFO)
    clock, url = Clock(), tmp_path / "url"
    heartbeat = Heartbeat(url, 60, clock)
    with hook() as got:
        got.status = 500
        for line in (None, SECRET, f"file:///{SECRET}", f"http://{HOST}:{free_port()}/{SECRET}", f"http://{HOST}:{got.port}/{SECRET}"):
            if line is not None:
                url.write_text(line)
            clock.now_s += 100
            heartbeat.step()
        got.status = 200
        for _ in range(2):
            clock.now_s += 100
            heartbeat.step()
    assert [record.getMessage() for record in caplog.records if record.name.endswith("heartbeat")] == [
        "heartbeat.failed",
        "heartbeat.works_again",
    ]
    assert SECRET not in caplog.text + str([record.__dict__ for record in caplog.records])
