"""What QoS 1 costs over QoS 0: one report a time over TLS to a real Mosquitto, counted by the kernel (TCP_INFO).

Bytes are those of the IP packets: payload of the TCP stream both ways, plus 52 bytes a segment (IPv4 20, TCP 20, timestamps 12).
"""

import socket
import ssl
import struct
import tempfile
import time
from pathlib import Path
from typing import Final

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from kerege_lab.certificates import make_certificates
from kerege_lab.servers import HOST, HOUSE_ACL, Mosquitto
from kerege_wire import Record, Report, Tick, encode_report
from kerege_wire.topics import topic

HEADER_BYTES: Final = 52
BYTES_ACKED_OFFSET: Final = 120
BYTES_RECEIVED_OFFSET: Final = 128
SEGMENTS_OFFSET: Final = 136
"""Places in struct tcp_info (Linux, include/uapi/linux/tcp.h): u64 bytes_acked, u64 bytes_received, u32 segs_out, u32 segs_in."""

SPACING_S: Final = 0.25
"""Longer than a delayed acknowledgement (40 ms on Linux), so that each report is answered as a lonely one is."""


def bytes_per_report(qos: int, *, reports: int = 40) -> float:
    """Bytes on the network, both directions, that one report of one tick costs."""
    with tempfile.TemporaryDirectory() as directory:
        certificates = make_certificates(Path(directory), ["demo"])
        with Mosquitto(Path(directory) / "broker", tls=certificates, acl=HOUSE_ACL) as broker:
            client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="demo", protocol=mqtt.MQTTv5)
            identity = certificates.clients["demo"]
            context = ssl.create_default_context(cafile=str(certificates.ca))
            context.load_cert_chain(identity.certificate, identity.key)
            client.tls_set_context(context)
            client.connect(HOST, broker.port)
            client.loop_start()
            while not client.is_connected():
                time.sleep(0.01)
            time.sleep(SPACING_S)
            before = _counted(client.socket())
            for number in range(reports):
                tick = Tick(result="online", rungs="++.+==+", target="cloudflare", via="datagram", rtt_ms=612.0, gateway_rtt_ms=0.73)
                report = Report(
                    epoch="Zk3q9w2a", sent=86_400_000 + number, records=(Record(number + 1, 1_795_465_800 + 60 * number, tick),)
                )
                client.publish(topic("demo", "report"), encode_report(report), qos=qos)
                time.sleep(SPACING_S)
            after = _counted(client.socket())
            client.disconnect()
            client.loop_stop()
    return (after - before) / reports


def _counted(connection: object) -> int:
    assert isinstance(connection, socket.socket)
    state = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
    acked, received, segments_out, segments_in = struct.unpack_from("=QQII", state, BYTES_ACKED_OFFSET)
    return int(acked + received + HEADER_BYTES * (segments_out + segments_in))
