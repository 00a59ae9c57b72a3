"""What the agents made, from their journals as they grow, and what the collector acknowledged, from the broker."""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from kerege_lab.audit import Journal
from kerege_lab.chaos.recover import Seen
from kerege_lab.servers import HOST
from kerege_wire import WireError, decode_ack
from kerege_wire.topics import center_of, topic

RECONNECT_S: Final = 1


def boot_s() -> float:
    """UTC, in s since 1970, at which this machine's monotonic clock that counts suspend was 0."""
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)


class Journals:
    """The journals of several agents, read as they grow."""

    def __init__(self, paths: Mapping[str, Path]) -> None:
        self.journal = Journal(boot_s=boot_s())
        self._paths = paths
        self._read = dict.fromkeys(paths, 0)

    def poll(self) -> int:
        """Take in what has been added. How many records have been made so far?"""
        for center, path in self._paths.items():
            if path.exists():
                self._take(center, path)
        return len(self.journal.made)

    def _take(self, center: str, path: Path) -> None:
        with path.open("rb") as file:
            file.seek(self._read[center])
            text = file.read()
        whole = text[: text.rfind(b"\n") + 1]
        self._read[center] += len(whole)
        for line in whole.splitlines():
            self.journal.take(center, json.loads(line))


class AckWatch:
    """All acknowledgements that the collector sends, as a subscriber of the broker sees them: none while the broker is away."""

    def __init__(self, port: int) -> None:
        self.seen: list[Seen] = []
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="lab-watch", protocol=mqtt.MQTTv5)
        self._client.reconnect_delay_set(RECONNECT_S, RECONNECT_S)
        self._client.on_connect = self._connected
        self._client.on_message = self._message
        self._client.connect_async(HOST, port)

    def __enter__(self) -> Self:
        self._client.loop_start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _connected(self, client: mqtt.Client, *_: Any) -> None:
        client.subscribe(topic("+", "ack"))

    def _message(self, _client: mqtt.Client, _userdata: object, message: mqtt.MQTTMessage) -> None:
        center = center_of(message.topic, "ack")
        try:
            ack = decode_ack(bytes(message.payload))
        except WireError:
            return  # a collector that sends nonsense is noticed by the agents, whose records stay
        if center and ack.epoch:
            self.seen.append(Seen(time.clock_gettime(time.CLOCK_BOOTTIME), center, ack.epoch, ack.stored))
