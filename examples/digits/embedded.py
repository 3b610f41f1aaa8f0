"""The embedded broker of the demonstration: amqtt, MQTT 3.1.1 in pure Python, on one port of loopback until SIGTERM.

python embedded.py PORT
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Iterator
from typing import Any

from amqtt.broker import Broker


class Steady(dict[str, Any]):
    """Walked as it was at the first step: amqtt 0.12 walks its subscriptions while clients change them, and fails."""

    def __iter__(self) -> Iterator[str]:
        return iter(list(super().keys()))


async def serve(port: int) -> None:
    broker = Broker(
        {
            "listeners": {"default": {"type": "tcp", "bind": f"127.0.0.1:{port}"}},
            "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
        }
    )
    broker._subscriptions = Steady()  # noqa: SLF001 - there is no other way to it
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    await broker.start()
    await ended.wait()
    await broker.shutdown()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    asyncio.run(serve(int(sys.argv[1])))
