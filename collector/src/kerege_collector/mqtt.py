"""Does the broker let us in? One connection, for ``kerege-collector check``.

Not while the service runs: where the broker takes the client id from the certificate, this would take the service's connection.
"""

import os
import ssl
import time
from typing import Any, Final

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from kerege_collector.settings import Mqtt

UNSUPPORTED: Final = "Unsupported protocol version"
"""How paho names the CONNACK of a broker that knows no version 5."""


class RefusedError(Exception):
    """The broker answers, and refuses. The text is its reason."""


def connect_once(settings: Mqtt) -> str:
    """Connect and say goodbye; returns the version that was spoken, ``5`` or ``3.1.1``. Raises OSError, ValueError, RefusedError."""
    try:
        return _connect(settings, mqtt.MQTTv5)
    except RefusedError as refusal:
        if str(refusal) != UNSUPPORTED:
            raise
    return _connect(settings, mqtt.MQTTv311)


def _connect(settings: Mqtt, version: MQTTProtocolVersion) -> str:
    answers: list[Any] = []
    client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=f"{settings.client_id}-check-{os.getpid()}", protocol=version)
    client.connect_timeout = settings.connect_timeout_s
    client.on_connect = lambda _client, _data, _flags, reason, _properties: answers.append(reason)
    if settings.tls:
        client.tls_set_context(_context(settings))
    if settings.username is not None:
        client.username_pw_set(settings.username, settings.password)
    client.connect(settings.host, settings.port, settings.keepalive_s)
    deadline = time.monotonic() + settings.connect_timeout_s
    while not answers and time.monotonic() < deadline:
        if client.loop(0.2) != mqtt.MQTT_ERR_SUCCESS:
            break
    client.disconnect()
    if not answers:
        raise RefusedError("it ended the connection, or did not answer as an MQTT broker does")
    if answers[0].is_failure:
        raise RefusedError(str(answers[0]))
    return "5" if version == mqtt.MQTTv5 else "3.1.1"


def _context(settings: Mqtt) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(settings.ca_file) if settings.ca_file else None)
    context.hostname_checks_common_name = False
    if settings.certificate_file is not None:
        context.load_cert_chain(settings.certificate_file, settings.key_file)
    return context
