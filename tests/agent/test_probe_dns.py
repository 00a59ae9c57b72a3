"""Name resolution: the question and its answer as bytes, and against servers that answer well, wrongly, late or not at all."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from struct import pack
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerege_agent.probes import dns
from kerege_agent.probes.dns_message import query, rcode_of
from kerege_agent.settings import Dns, Probes, RareSettings
from tests.agent.probe_world import context_of, loopback_settings

NAME: Final = "library.example"
QUESTION: Final = query(0x1234, NAME)
FAST: Final = Probes(dns=RareSettings(timeout_s=0.3))


def answer_to(question: bytes, *, code: int = 0, flags: int = 0x8180) -> bytes:
    """An answer without records, which repeats the question."""
    return question[:2] + pack("!5H", flags | code, 1, 0, 0, 0) + question[12:]


@contextmanager
def name_server(answers: Callable[[bytes], list[bytes]], address: str = "127.0.0.1") -> Iterator[int]:
    """A name server on the loopback; gives its port."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as serving:
        serving.bind((address, 0))
        serving.settimeout(0.02)
        ended = threading.Event()

        def serve() -> None:
            while not ended.is_set():
                try:
                    question, asker = serving.recvfrom(512)
                except TimeoutError:
                    continue
                for answer in answers(question):
                    serving.sendto(answer, asker)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield serving.getsockname()[1]
        finally:
            ended.set()
            thread.join()


def test_the_question_is_that_of_rfc_1035() -> None:
    """Byte for byte: identifier, recursion desired, one question of type A in class IN."""
    assert QUESTION.hex(" ") == "12 34 01 00 00 01 00 00 00 00 00 00 07 6c 69 62 72 61 72 79 07 65 78 61 6d 70 6c 65 00 00 01 00 01"
    assert query(0, "example.")[12:] == b"\x07example\x00\x00\x01\x00\x01"
    assert b"\x0exn--" in query(0, "кітап.kz") or b"xn--" in query(0, "кітап.kz")


@pytest.mark.parametrize("name", ["", ".", "a..b", "x" * 64 + ".kz", ".".join(["x" * 60] * 5)])
def test_what_is_no_name_is_not_asked(name: str) -> None:
    """Empty and too long labels and names."""
    with pytest.raises(ValueError, match=r".+"):
        query(0, name)


@pytest.mark.parametrize(
    ("answer", "rcode"),
    [
        (answer_to(QUESTION), "NOERROR"),
        (answer_to(QUESTION, flags=0x8380), "NOERROR"),  # cut short
        (answer_to(QUESTION.replace(b"library", b"LIBRARY")), "NOERROR"),
        (answer_to(QUESTION, code=3), "NXDOMAIN"),
        (answer_to(QUESTION, code=2), "SERVFAIL"),
        (answer_to(QUESTION, code=9), "RCODE9"),
        (b"\x12\x34" + pack("!5H", 0x8185, 0, 0, 0, 0), "REFUSED"),
        (b"\x12\x34" + pack("!5H", 0x8180, 0, 0, 0, 0), None),  # success must say to what
        (answer_to(QUESTION, flags=0), None),
        (answer_to(query(0x1235, NAME)), None),
        (answer_to(query(0x1234, "other.example")), None),
        (QUESTION, None),
        (QUESTION[:11], None),
        (b"", None),
    ],
)
def test_only_an_answer_to_this_question_is_one(answer: bytes, rcode: str | None) -> None:
    """Identifier, direction and question must fit."""
    assert rcode_of(answer, identifier=0x1234, name=NAME) == rcode


@given(st.binary(max_size=64))
def test_no_bytes_make_the_reader_stumble(answer: bytes) -> None:
    """Whatever arrives is an answer or is ignored."""
    rcode_of(answer, identifier=0x1234, name=NAME)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_a_name_server_is_asked_directly(address: str) -> None:
    """The record names resolver, way, name, duration and response code."""
    with name_server(lambda question: [answer_to(question)], address) as port:
        [record] = dns.measure(context_of(loopback_settings(dns=Dns(names=(NAME,), resolver=address, resolver_port=port))))
    assert (record.target, record.via, record.name, record.rcode, record.error) == (address, "udp", NAME, "NOERROR", None)
    assert record.resolve_ms is not None
    assert 0 < record.resolve_ms < 1000


def test_an_answer_that_says_no_is_an_answer() -> None:
    """NXDOMAIN has a duration and no error."""
    with name_server(lambda question: [answer_to(question, code=3)]) as port:
        [record] = dns.measure(context_of(loopback_settings(dns=Dns(names=(NAME,), resolver="127.0.0.1", resolver_port=port))))
    assert (record.rcode, record.error) == ("NXDOMAIN", None)
    assert record.resolve_ms is not None


def test_forged_answers_are_passed_over() -> None:
    """Wrong identifiers and wrong questions before the right one do not count."""
    forged = [b"", b"\x00" * 12]

    def answers(question: bytes) -> list[bytes]:
        wrong = bytes((question[0] ^ 1,)) + question[1:]
        return [*forged, answer_to(wrong), answer_to(question, code=2)]

    with name_server(answers) as port:
        [record] = dns.measure(context_of(loopback_settings(dns=Dns(names=(NAME,), resolver="127.0.0.1", resolver_port=port))))
    assert record.rcode == "SERVFAIL"


def test_a_server_that_does_not_answer_is_a_timeout() -> None:
    """After its share of the probe's time."""
    with name_server(lambda question: []) as port:
        settings = loopback_settings(dns=Dns(names=(NAME,), resolver="127.0.0.1", resolver_port=port), probes=FAST)
        [record] = dns.measure(context_of(settings))
    assert (record.resolve_ms, record.rcode, record.error) == (None, None, "timeout")


def test_a_server_that_floods_does_not_keep_the_probe() -> None:
    """Wrong answers without end do not move the deadline."""
    with name_server(lambda question: [b"\x00" * 12] * 500) as port:
        settings = loopback_settings(dns=Dns(names=(NAME,), resolver="127.0.0.1", resolver_port=port), probes=FAST)
        [record] = dns.measure(context_of(settings))
    assert record.error == "timeout"


def test_nobody_there_is_a_refusal() -> None:
    """The kernel tells that no server listens."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    [record] = dns.measure(context_of(loopback_settings(dns=Dns(names=(NAME,), resolver="127.0.0.1", resolver_port=port))))
    assert record.error == "refused"


def test_names_take_turns() -> None:
    """One name a run, so that a series has one record a moment."""
    asked: list[bytes] = []

    def answers(question: bytes) -> list[bytes]:
        asked.append(question[12:])
        return [answer_to(question)]

    with name_server(answers) as port:
        context = context_of(loopback_settings(dns=Dns(names=("one.example", "two.example"), resolver="127.0.0.1", resolver_port=port)))
        found = [dns.measure(context)[0].name for _ in range(3)]
    assert found == ["one.example", "two.example", "one.example"]
    assert len(asked) == 3


def test_without_names_there_is_nothing_to_measure() -> None:
    """No record rather than an invented one."""
    assert dns.measure(context_of(loopback_settings(dns=Dns(names=())))) == []


def test_where_no_name_server_is_known_the_system_is_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As on Windows; the record says so."""
    monkeypatch.setattr(dns, "RESOLV_CONF", tmp_path / "nothing")
    [record] = dns.measure(context_of(loopback_settings(dns=Dns(names=("localhost",)))))
    assert (record.target, record.via, record.name, record.error) == ("system", "system", "localhost", None)
    assert record.resolve_ms is not None


def test_the_systems_failure_is_a_record_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With a word for it, and no duration."""

    def fail(*arguments: object, **names: object) -> None:
        raise socket.gaierror(socket.EAI_AGAIN, "temporary failure")

    monkeypatch.setattr(dns, "RESOLV_CONF", tmp_path / "nothing")
    monkeypatch.setattr(socket, "getaddrinfo", fail)
    [record] = dns.measure(context_of(loopback_settings(dns=Dns(names=("library.invalid",)))))
    assert (record.via, record.resolve_ms, record.rcode, record.error) == ("system", None, None, "no resolver answers")


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("nameserver 192.0.2.53\n", "192.0.2.53"),
        ("# nameserver 1\nsearch x\nnameserver fe80::1%eth0\nnameserver 2\n", "fe80::1%eth0"),
        ("search x\nnameserver\n", None),
    ],
)
def test_the_first_name_server_of_resolv_conf_is_the_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str, address: str | None
) -> None:
    """Comments and half lines are passed over."""
    (tmp_path / "resolv.conf").write_text(text)
    monkeypatch.setattr(dns, "RESOLV_CONF", tmp_path / "resolv.conf")
    assert dns.first_nameserver() == address


def test_the_systems_name_server_is_asked_directly_but_its_series_keeps_its_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its address may be another at each DHCP lease; the series is `system`."""
    (tmp_path / "resolv.conf").write_text("nameserver 127.0.0.1\n")
    monkeypatch.setattr(dns, "RESOLV_CONF", tmp_path / "resolv.conf")
    with name_server(lambda question: [answer_to(question)]) as port:
        monkeypatch.setattr(dns, "DNS_PORT", port)
        [record] = dns.measure(context_of(loopback_settings(dns=Dns(names=(NAME,)))))
    assert (record.target, record.via, record.rcode) == ("system", "udp", "NOERROR")
