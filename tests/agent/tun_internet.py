"""A little Internet behind a TUN device, for tests in a network namespace: it answers pings to some addresses, after a while.

``python tun_internet.py DELAY_MS ADDRESS...`` makes the device ``wan`` with a default route through it, prints ``ready``, and answers until
it is killed. Everything that is not an echo request to one of the addresses is swallowed.
"""

import fcntl
import heapq
import os
import select
import subprocess
import sys
import time
from struct import pack

TUNSETIFF = 0x400454CA
IFF_TUN_NO_PI = 0x1001
ICMP = 1
REQUEST = 8


def open_device() -> int:
    """The TUN device, up, as the way to everywhere."""
    device = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(device, TUNSETIFF, pack("16sH", b"wan", IFF_TUN_NO_PI))
    for command in ("link set lo up", "address add 10.9.9.2/24 dev wan", "link set wan up", "route add default via 10.9.9.1"):
        subprocess.run(["ip", *command.split()], check=True)
    return device


def reply_to(packet: bytes, answering: set[str]) -> bytes | None:
    """The echo reply to an IPv4 echo request to one of the addresses."""
    head = (packet[0] & 0xF) * 4
    if packet[0] >> 4 != 4 or packet[9] != ICMP or packet[head] != REQUEST or ".".join(map(str, packet[16:20])) not in answering:
        return None
    checksum = int.from_bytes(packet[head + 2 : head + 4]) + 0x0800  # RFC 1624: the type went from 8 to 0
    checksum = (checksum & 0xFFFF) + (checksum >> 16)
    addresses = packet[16:20] + packet[12:16]
    return packet[:12] + addresses + packet[20:head] + pack("!BBH", 0, 0, checksum) + packet[head + 4 :]


def main() -> None:
    """Answer for ever."""
    delay_s, answering = int(sys.argv[1]) / 1000, set(sys.argv[2:])
    device = open_device()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    waiting: list[tuple[float, bytes]] = []
    while True:
        wait_s = max(waiting[0][0] - time.monotonic(), 0) if waiting else None
        if select.select([device], [], [], wait_s)[0]:
            packet = os.read(device, 2048)
            reply = reply_to(packet, answering)
            if reply is not None:
                heapq.heappush(waiting, (time.monotonic() + delay_s, reply))
        while waiting and waiting[0][0] <= time.monotonic():
            os.write(device, heapq.heappop(waiting)[1])


if __name__ == "__main__":
    main()
