"""From an incident to a message that somebody has: a real ledger, a real mail server, a real HTTP receiver, and kills in between."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from kerege_collector import cli, incidents, outbox, verdict_tables
from kerege_collector.centers import Region
from kerege_collector.contacts import Contact
from kerege_collector.incident import CHANGED, Change, Incident
from kerege_collector.postman import Postman
from kerege_collector.sender import MAX_TRIES
from kerege_lab.hook import Hook
from tests.collector.receivers import Mailbox
from tests.collector.test_incidents import Office, T
from tests.places import Place

KILLED = """
import sys
from pathlib import Path
from kerege_collector.centers import load_region
from kerege_collector.opening import open_ledger
from kerege_collector.postman import Postman
from kerege_collector.settings import load
settings = load(Path(sys.argv[1]))
region = load_region(settings.centers_file)
print("ready", flush=True)
Postman(open_ledger(settings), lambda: region, is_well=lambda: True, now_s=lambda: 2_000_000_000).step()
"""


class Desk(Office):
    """An office whose notices are delivered by hand, at its own time."""

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self.place = place
        self.directory = place.directory

    def contact(self, name: str, url: str, **more: object) -> Contact:
        path = self.directory / f"{name}.urls"
        path.write_text(url + "\n")
        return Contact.model_validate({"id": name, "addresses_file": path, "language": "en"} | more)

    def employ(self, *contacts: Contact) -> None:
        self.region = Region(self.region.centers, {}, {}, contacts)

    def deliver(self) -> None:
        Postman(self.ledger, lambda: self.region, is_well=lambda: True, now_s=lambda: self.now_s).step()

    def current(self) -> list[Incident]:
        with self.ledger.transaction() as connection:
            return incidents.current(connection)

    def taken(self) -> int:
        with self.ledger.transaction() as connection:
            return len(connection.execute(sa.select(verdict_tables.notice_taken)).all())

    def notices(self) -> list[tuple[str, str, str]]:
        with self.ledger.transaction() as connection:
            rows = connection.execute(sa.select(verdict_tables.notice).order_by(verdict_tables.notice.c.id)).all()
        return [(row.contact, row.kind, row.state) for row in rows]


@pytest.fixture
def desk(place: Place) -> Iterator[Desk]:
    made = Desk(place)
    made.run(300)
    yield made
    made.store.close()
    made.ledger.close()


def test_a_cut_reaches_people_by_mail_and_webhook_and_so_does_its_end(desk: Desk, mailbox: Mailbox, hook: Hook) -> None:
    desk.employ(desk.contact("desk", hook.url()), desk.contact("librarian", mailbox.url(), language="kk"))
    desk.run(90, mute=("bb",))
    desk.deliver()
    assert desk.notices() == [("desk", "opened", "sent"), ("librarian", "opened", "sent")]
    desk.run(600)
    desk.deliver()
    assert desk.notices()[2:] == [("desk", "closed", "sent"), ("librarian", "closed", "sent")]


def test_a_notice_is_written_with_its_incident_or_not_at_all(desk: Desk, hook: Hook, monkeypatch: pytest.MonkeyPatch) -> None:
    """What fails between the two leaves neither; the next look finds both."""
    desk.employ(desk.contact("desk", hook.url()))

    def broken(*_: object) -> None:
        raise OSError("killed here")

    with monkeypatch.context() as patch:
        patch.setattr(outbox, "tell", broken)
        desk.run(90, mute=("bb",))
    assert (desk.listing(), desk.notices()) == ([], [])
    desk.run(5, mute=("bb",))
    assert (len(desk.listing()), desk.notices()) == (1, [("desk", "opened", "queued")])


def test_killed_in_the_middle_of_a_sending_it_is_sent_again_and_says_so(desk: Desk, hook: Hook, silence: int) -> None:
    """kill -9 while a server hangs: the notice is marked as being sent, and what follows may be a repetition."""
    desk.employ(desk.contact("desk", f"json://127.0.0.1:{silence}/"))
    desk.run(90, mute=("bb",))
    addresses = desk.directory / "desk.urls"
    contact = f'[[contact]]\nid = "desk"\nlanguage = "en"\naddresses_file = "{addresses}"\n'
    settings = desk.place.settings_file(contact)
    with subprocess.Popen([sys.executable, "-c", KILLED, str(settings)], stdout=subprocess.PIPE) as process:
        deadline = time.monotonic() + 60
        while desk.notices() != [("desk", "opened", "sending")] and time.monotonic() < deadline:
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGKILL)
    assert desk.notices() == [("desk", "opened", "sending")]
    addresses.write_text(hook.url())
    desk.deliver()
    assert desk.notices() == [("desk", "opened", "sent")]
    desk.deliver()
    (body,) = hook.bodies
    assert "You may have received this message before" in body["message"]


def test_an_end_does_not_overtake_a_beginning_that_one_address_has(desk: Desk, hook: Hook, mailbox: Mailbox) -> None:
    """The mail has gone out, the webhook refuses: the end waits until the beginning is settled, and the mail is not sent again."""
    contact = desk.contact("desk", hook.url() + "\n" + mailbox.url())
    desk.employ(contact)
    hook.status = 503
    desk.run(90, mute=("bb",))
    desk.deliver()
    desk.run(600)
    assert desk.notices() == [("desk", "opened", "queued"), ("desk", "closed", "queued")]
    hook.status = 200
    for _ in range(3):
        desk.deliver()
    assert desk.notices() == [("desk", "opened", "sent"), ("desk", "closed", "sent")]
    first, second = (body["title"] for body in hook.bodies)
    assert ("nothing is heard" in first, "connection restored" in second, len(mailbox.mails)) == (True, True, 2)


def test_a_beginning_that_nobody_got_is_told_with_its_end(desk: Desk, hook: Hook) -> None:
    desk.employ(desk.contact("desk", hook.url()))
    hook.status = 503
    desk.run(90, mute=("bb",))
    desk.deliver()
    desk.run(600)
    hook.status = 200
    desk.deliver()
    assert desk.notices() == [("desk", "opened", "folded"), ("desk", "closed", "sent")]
    (body,) = hook.bodies
    assert "data has been coming again" in body["message"]


def test_what_changes_before_it_is_told_is_told_as_it_is_by_then(desk: Desk, hook: Hook) -> None:
    """And as something that has opened: to its reader no list has changed. Who cannot be reached is given up all the same."""
    desk.employ(desk.contact("desk", hook.url()), desk.contact("chief", hook.url(), level=2))
    hook.status = 503
    desk.run(90, mute=("bb",))
    (opened,) = desk.current()
    for number in range(MAX_TRIES - 1):
        desk.deliver()
        with desk.ledger.writing() as connection:
            wider = replace(opened, centers={**opened.centers, "cc": desk.now_s}, scope=("provider", "p"), since_s=T + number)
            outbox.tell(connection, desk.region, [Change(CHANGED, wider)], desk.now_s)
        desk.now_s += 1000
    hook.status = 200
    desk.deliver()
    assert [state for _, _, state in desk.notices()] == ["folded"] * (MAX_TRIES - 1) + ["sent"]
    (body,) = hook.bodies
    assert body["title"] == "Provider p, 2 libraries: nothing is heard (no. 1)"


def test_a_kill_between_two_addresses_repeats_nothing(desk: Desk, hook: Hook, silence: int) -> None:
    """kill -9 while the second hangs: the first has it, and that is in the ledger."""
    addresses = desk.directory / "desk.urls"
    desk.employ(desk.contact("desk", f"json://127.0.0.1:{silence}/\n{hook.url()}"))
    desk.run(90, mute=("bb",))
    settings = desk.place.settings_file(f'[[contact]]\nid = "desk"\nlanguage = "en"\naddresses_file = "{addresses}"\n')
    with subprocess.Popen([sys.executable, "-c", KILLED, str(settings)], stdout=subprocess.PIPE) as process:
        deadline = time.monotonic() + 60
        while not desk.taken() and time.monotonic() < deadline:
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGKILL)
    addresses.write_text(hook.url() + "\n" + hook.url("second"))
    desk.deliver()
    assert desk.notices() == [("desk", "opened", "sent")]
    assert len(hook.bodies) == 2
    assert ["before" in body["message"] for body in hook.bodies] == [False, True]


def test_who_cannot_be_reached_is_escalated_to_the_next(desk: Desk, hook: Hook) -> None:
    desk.employ(desk.contact("nobody", ""), desk.contact("chief", hook.url(), level=2))
    desk.run(90, mute=("bb",))
    desk.deliver()
    assert desk.notices() == [("nobody", "opened", "given-up"), ("chief", "opened", "queued")]
    desk.deliver()
    assert desk.notices()[1] == ("chief", "opened", "sent")


def test_reminders_and_escalation_until_somebody_acknowledges(desk: Desk, hook: Hook) -> None:
    desk.employ(desk.contact("desk", hook.url()), desk.contact("chief", hook.url(), level=2))
    desk.run(1750, mute=("bb",))
    assert [notice[:2] for notice in desk.notices()] == [("desk", "opened")]
    desk.run(200, mute=("bb",))
    assert [notice[:2] for notice in desk.notices()] == [("desk", "opened"), ("chief", "escalated")]
    with desk.ledger.writing() as connection:
        incidents.acknowledge(connection, 1, "somebody", desk.now_s)
    desk.run(15_000, mute=("bb",))
    assert len(desk.notices()) == 2


def test_our_own_trouble_is_one_notice(desk: Desk, hook: Hook) -> None:
    desk.employ(desk.contact("desk", hook.url()))
    desk.own = "store: unreachable"
    desk.run(900, mute=("aa", "bb", "cc", "dd"))
    desk.deliver()
    assert desk.notices() == [("desk", "opened", "sent")]


def test_that_nobody_is_heard_is_told_in_words(desk: Desk, hook: Hook) -> None:
    desk.employ(desk.contact("desk", hook.url()))
    desk.run(300, mute=("aa", "bb", "cc", "dd"))
    desk.deliver()
    (body,) = hook.bodies
    assert "has heard none of the libraries" in body["message"]
    assert "Or it is a day off that centers.toml does not name." in body["message"]


def test_in_quiet_hours_it_waits(desk: Desk) -> None:
    """22:00 to 07:00 in UTC+5: at 03:30 there it waits three hours and a half."""
    contact = desk.contact("desk", "json://127.0.0.1/", quiet="22:00-07:00")
    at_s = 1_795_473_000  # 22:30 UTC
    assert contact.awake_s(at_s) == at_s + 12_600
    assert contact.awake_s(at_s + 12_600) == at_s + 12_600


def test_the_test_message_goes_to_every_contact(tmp_path: Path, hook: Hook, mailbox: Mailbox, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "collector.toml").write_text('state_directory = "."\n[mqtt]\nhost = "127.0.0.1"\ntls = false\n')
    (tmp_path / "hook.urls").write_text(hook.url())
    (tmp_path / "mail.urls").write_text(mailbox.url())
    contacts = "".join(f'[[contact]]\nid = "{name}"\naddresses_file = "{name}.urls"\n' for name in ("hook", "mail"))
    (tmp_path / "centers.toml").write_text(contacts)
    settings = ("--settings", str(tmp_path / "collector.toml"))
    assert cli.main(["notify", "--test", "--json", *settings]) == 0
    assert [json.loads(line)["taken"] for line in capsys.readouterr().out.splitlines()] == [True, True]
    (tmp_path / "mail.urls").unlink()
    assert cli.main(["notify", "--test", *settings]) == 1
    assert "cannot be read" in capsys.readouterr().out
    assert cli.main(["notify", "--test", "--contact", "nobody", *settings]) == 1
