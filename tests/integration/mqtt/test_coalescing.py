"""TLS on the loop behind a proxy that puts many MQTT packets into one TLS record, as those in front of brokers do.

OpenSSL then has packets that no file descriptor announces any more: the reader has to go on while `pending()` says
so. (Measured without it: 471 of 500 messages had come when the broker fell silent.)
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.brokers import Mosquitto, have_mosquitto
from tests.certificates import Authority
from tests.integration.mqtt.box import TREE, Box, User, run, running, until

MESSAGES = 500
INFER = TREE.infer("digits")

pytestmark = pytest.mark.skipif(not have_mosquitto(), reason="mosquitto is not installed; scripts/test installs it")


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path) as running:
        yield running


class Proxy:
    """Ends TLS in front of a broker without; what the broker sends while `holding` leaves in one write."""

    def __init__(self, port: int) -> None:
        self.holding = False
        self.held: dict[asyncio.StreamWriter, bytearray] = {}
        self._port = port

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_broker, to_broker = await asyncio.open_connection("127.0.0.1", self._port)
        pumps = (self._up(reader, to_broker), self._down(from_broker, writer))
        with contextlib.suppress(ConnectionError):
            await asyncio.gather(*pumps)
        to_broker.close()
        writer.close()

    async def _up(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()

    async def _down(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            if self.holding:
                self.held.setdefault(writer, bytearray()).extend(data)
            else:
                writer.write(data)
        writer.close()

    def release(self) -> None:
        self.holding = False
        for writer, data in self.held.items():
            writer.write(bytes(data))
        self.held.clear()


@contextlib.asynccontextmanager
async def proxy(folder: Path, port: int) -> AsyncIterator[tuple[Proxy, str]]:
    certificate, key = Authority(folder).issue("localhost", server=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    one = Proxy(port)
    server = await asyncio.start_server(one.serve, "127.0.0.1", 0, ssl=context)
    try:
        yield one, f"mqtts://localhost:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_packets_that_share_a_tls_record_are_all_read(plain: Mosquitto, tmp_path: Path, version: str) -> None:
    """RULES 17: `pending()` is asked; at most 64 packets a turn, the rest in turns that nothing has to wake."""

    async def scenario() -> None:
        async with proxy(tmp_path, plain.port) as (between, url):
            box = Box(url, version=version, ca=str(tmp_path / "ca.crt"), keepalive=600)
            async with running(box):
                box.lane.open = False  # an answer's PUBACK would wake the reader
                between.holding = True
                with User(plain.port) as user:
                    for number in range(MESSAGES):
                        user.send(INFER, f"message {number}", qos=0)
                    await until(lambda: b"".join(between.held.values()).count(b"message ") == MESSAGES)
                    between.release()
                    await until(lambda: len(box.lane.seen) == MESSAGES)
        assert [item.payload for item in box.lane.seen] == [f"message {number}".encode() for number in range(MESSAGES)]

    run(scenario)
