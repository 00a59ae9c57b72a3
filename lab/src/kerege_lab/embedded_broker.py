"""``python -m kerege_lab.embedded_broker --port N``: a broker on the loopback for machines without Mosquitto.

amqtt speaks MQTT 3.1.1 only (it refuses version 5 with "Unsupported protocol version"), keeps nothing on disk and lets
everyone do everything: for one machine, not for a regional centre. It is a process of its own so that `kerege-lab`
handles every broker alike.
"""

import argparse
import asyncio
import logging
import signal

from amqtt.broker import Broker

from kerege_lab.servers import HOST


async def serve(port: int) -> None:
    """Serve until SIGTERM or Ctrl-C."""
    broker = Broker(
        {
            "listeners": {"default": {"type": "tcp", "bind": f"{HOST}:{port}"}},
            "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
        }
    )
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    await broker.start()
    await stopped.wait()
    await broker.shutdown()


def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(prog="python -m kerege_lab.embedded_broker", description="An MQTT 3.1.1 broker on the loopback.")
    parser.add_argument("--port", type=int, required=True, help="TCP port on 127.0.0.1")
    port: int = parser.parse_args().port
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("transitions").setLevel(logging.WARNING)
    asyncio.run(serve(port))


if __name__ == "__main__":
    main()
