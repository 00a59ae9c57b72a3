"""Receivers of notices, for whoever asks for one."""

from collections.abc import Iterator

import pytest

from kerege_lab import hook as hooks
from kerege_lab.hook import Hook
from tests.collector import receivers
from tests.collector.receivers import Mailbox


@pytest.fixture
def hook() -> Iterator[Hook]:
    with hooks.hook() as made:
        yield made


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    with receivers.mailbox() as made:
        yield made


@pytest.fixture
def silence() -> Iterator[int]:
    with receivers.silence() as port:
        yield port
