"""Receivers of notices, for whoever asks for one."""

from collections.abc import Iterator

import pytest

from tests.collector import receivers
from tests.collector.receivers import Hook, Mailbox


@pytest.fixture
def hook() -> Iterator[Hook]:
    with receivers.hook() as made:
        yield made


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    with receivers.mailbox() as made:
        yield made


@pytest.fixture
def silence() -> Iterator[int]:
    with receivers.silence() as port:
        yield port
