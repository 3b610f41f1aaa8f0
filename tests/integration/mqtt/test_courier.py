"""Signed documents over the connection of pushes, against a real Mosquitto and brokers that say no (RULES 18)."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from edged.topics import Ota
from edged.transports.mqtt.desk import DOCUMENT_MOST
from tests.brokers import Mosquitto, have_mosquitto
from tests.integration.mqtt.box import TREE, Box, User, run, running, until
from tests.integration.mqtt.test_strangers import CONNACK_311, filters, granted, level, publish
from tests.integration.mqtt.test_strangers import broker as stranger

pytestmark = pytest.mark.skipif(not have_mosquitto(), reason="Mosquitto is not installed")

OTA = Ota("edged")
WANT = OTA.want("digits", "all")


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path_factory.mktemp("broker")) as broker:
        yield broker


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_what_is_listened_for_comes_and_nothing_else(broker: Mosquitto, version: str) -> None:
    blobs = [OTA.blob(f"{version}-{number}") for number in range(30)]

    async def scenario() -> None:
        with User(broker.port) as user:
            for blob in blobs:
                user.send(blob, blob, retain=True)
            async with running(Box(broker.url, version=version)) as box:
                await until(lambda: box.courier == [True])
                stream: Any = box.mqtt.courier._apart._client.socket()  # type: ignore[union-attr]
                # Without it 20 MB take five times as long (measured): a SUBSCRIBE waits for the broker's delayed ACK.
                assert stream._sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
                box.mqtt.courier.listen(frozenset(blobs[:20]))
                await until(lambda: len(box.documents) == 20)
                assert sorted(box.documents) == sorted((blob, blob.encode(), True) for blob in blobs[:20])
                box.documents.clear()
                box.mqtt.courier.listen(frozenset(blobs[19:22]))
                await until(lambda: len(box.documents) == 2)
                user.send(blobs[0], "nobody listens any more")
                user.send(blobs[19], "live")
                await until(lambda: len(box.documents) == 3)
                assert {document[0] for document in box.documents} == set(blobs[19:22])
                assert box.documents[-1] == (blobs[19], b"live", False)

    run(scenario)


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_a_topic_that_is_asked_for_again_brings_its_message_again(broker: Mosquitto, version: str) -> None:
    """Also when it was given up and asked for in one turn of the loop."""

    async def scenario() -> None:
        with User(broker.port) as user:
            user.send(WANT, b"order", retain=True)
            async with running(Box(broker.url, version=version)) as box:
                box.mqtt.courier.listen(frozenset({WANT}))  # before there is a connection
                for _ in range(4):
                    await until(lambda: box.documents)
                    assert box.documents.pop() == (WANT, b"order", True)
                    box.mqtt.courier.listen(frozenset())
                    box.mqtt.courier.listen(frozenset({WANT}))
                await until(lambda: box.documents)
                box.mqtt.courier.listen(frozenset({WANT, OTA.trust(2)}))
                user.send(WANT, b"", retain=True)  # somebody deletes it: passed on as it is
                await until(lambda: len(box.documents) == 2)
                assert box.documents == [(WANT, b"order", True), (WANT, b"", False)]

    run(scenario)


def test_wildcards(broker: Mosquitto) -> None:
    async def scenario() -> None:
        with User(broker.port) as user:
            user.send(OTA.want("new", "all"), b"one", retain=True)
            async with running(Box(broker.url)) as box:
                box.mqtt.courier.listen(frozenset({OTA.want("+", "all"), OTA.want("+", "device/press-07")}))
                await until(lambda: box.documents)
                user.send(OTA.want("new", "device/press-08"), b"another's")
                user.send(OTA.want("digits", "device/press-07"), b"two")
                await until(lambda: len(box.documents) == 2)
                assert box.documents == [
                    (OTA.want("new", "all"), b"one", True),
                    (OTA.want("digits", "device/press-07"), b"two", False),
                ]
            user.send(OTA.want("new", "all"), b"", retain=True)

    run(scenario)


def test_what_is_missing_is_told(broker: Mosquitto) -> None:
    async def scenario() -> None:
        with User(broker.port, TREE.need) as user:
            box = Box(broker.url)
            box.mqtt.courier.need(b"nobody hears this")
            async with running(box):
                await until(lambda: box.courier == [True] and box.mqtt.facts().pushes_connected)
                box.mqtt.courier.need(bytes(64))
                await until(lambda: user.on(TREE.need))
                found = user.on(TREE.need)[0]
                assert (found.payload, found.qos, found.retain) == (bytes(64), 0, False)

    run(scenario)


def test_after_a_reconnect_everything_comes_again(tmp_path_factory: pytest.TempPathFactory) -> None:
    async def scenario() -> None:
        with Mosquitto(tmp_path_factory.mktemp("killed")) as broker:
            async with running(Box(broker.url)) as box:
                topics = [OTA.blob(str(number)) for number in range(12)]
                box.mqtt.courier.listen(frozenset(topics))
                await until(lambda: box.courier == [True])
                broker.kill()
                await until(lambda: box.courier == [True, False])
                broker.start()
                await until(lambda: box.courier == [True, False, True], 30)
                with User(broker.port) as user:
                    for topic in topics:
                        user.send(topic, b"chunk", retain=True)
                    await until(lambda: {document[0] for document in box.documents} == set(topics))

    run(scenario)


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_ota_F16_a_message_above_the_largest_chunk_is_not_taken(broker: Mosquitto, version: str) -> None:
    """MQTT 5: the broker knows our limit. 3.1.1: it is read, dropped and counted."""
    huge, fine = OTA.blob(f"huge-{version}"), OTA.blob(f"fine-{version}")

    async def scenario() -> None:
        with User(broker.port) as user:
            user.send(huge, bytes(DOCUMENT_MOST + 2**20), retain=True)
            user.send(fine, bytes(DOCUMENT_MOST), retain=True)
            async with running(Box(broker.url, version=version)) as box:
                box.mqtt.courier.listen(frozenset({huge, fine}))
                await until(lambda: box.documents)
                if version == "3.1.1":
                    await until(lambda: box.mqtt.facts().dropped.get("document_too_large") == 1)
                assert [document[0] for document in box.documents] == [fine]
                assert box.courier == [True]
            user.send(huge, b"", retain=True)

    run(scenario)


def test_a_refused_subscription_is_told_once_with_the_line_that_the_acl_lacks(
    caplog: pytest.LogCaptureFixture,
) -> None:
    asked: list[list[str]] = []

    def handle(kind: int, body: bytes, writer: asyncio.StreamWriter) -> None:
        if kind == 1:
            writer.write(CONNACK_311)
        elif kind == 8:
            asked.append(filters(body[2:]))
            granted = bytes(0x80 if "/ota/" in one else 1 for one in asked[-1])
            writer.write(bytes([0x90, 2 + len(granted)]) + body[:2] + granted)

    async def scenario() -> None:
        async with stranger(handle, pushes=True) as url:
            box = Box(url, version="3.1.1")
            async with running(box, wait=False):
                box.mqtt.courier.listen(frozenset(OTA.blob(str(number)) for number in range(9)))
                await until(lambda: box.mqtt.facts().pushes_refused == 9)
                box.mqtt.courier.listen(frozenset({OTA.blob("more")}))
                await until(lambda: box.mqtt.facts().pushes_refused == 10)
        assert max(map(len, asked)) == 8

    run(scenario)
    told = [record.getMessage() for record in caplog.records if "lacks" in record.getMessage()]
    assert len(told) == 1
    assert "`pattern read edged/ota/#`" in told[0]


def test_a_message_at_qos_2_is_taken_once_and_not_kept() -> None:
    """edged asks at QoS 1, so none may come. paho kept each until the broker released it: 420 MiB of 100 (measured)."""
    said: list[tuple[int, bytes]] = []
    blob = OTA.blob("twice")

    def handle(kind: int, body: bytes, writer: asyncio.StreamWriter) -> None:
        if kind == 1:
            writer.write(CONNACK_311)
        elif kind == 8:
            writer.write(granted(body))
            if blob in filters(body[2:]):
                message = publish(blob, b"x", 0x34, 7)
                writer.write(message + message + b"\x62\x02\0\7" + publish(blob, b"y", 0x34, 7))
        elif kind in (5, 7):
            said.append((kind, body))

    async def scenario() -> None:
        async with stranger(handle, pushes=True) as url:
            box = Box(url, version="3.1.1")
            async with running(box, wait=False):
                box.mqtt.courier.listen(frozenset({blob}))
                await until(lambda: len(said) == 4)
                assert said == [(5, b"\0\7"), (5, b"\0\7"), (7, b"\0\7"), (5, b"\0\7")]
                assert box.documents == [(blob, b"x", False), (blob, b"y", False)]

    run(scenario)


def test_a_chunk_that_takes_several_keepalives_arrives() -> None:
    """The broker's answer to a ping is behind it."""
    size, connects = 200_000, list[bytes]()
    blob = OTA.blob("slow")
    sending: list[asyncio.Task[None]] = []

    def handle(kind: int, body: bytes, writer: asyncio.StreamWriter) -> None:
        if kind == 1:
            connects.extend([body] if b"-ota" in body else [])
            writer.write(CONNACK_311)
        elif kind == 8:
            writer.write(granted(body))
            if blob in filters(body[2:]):
                sending.append(asyncio.create_task(send(writer)))
        elif kind == 12 and not sending:
            writer.write(b"\xd0\0")

    async def send(writer: asyncio.StreamWriter) -> None:
        message = publish(blob, b"x" * size)
        for start in range(0, len(message), size // 10):
            if not writer.is_closing():
                writer.write(message[start : start + size // 10])
                await asyncio.sleep(0.5)  # the slow line that this is about

    async def scenario() -> None:
        async with stranger(handle, pushes=True) as url:
            box = Box(url, version="3.1.1", keepalive=1)
            async with running(box, wait=False):
                box.mqtt.courier.listen(frozenset({blob}))
                await until(lambda: box.documents or len(connects) > 1, 30)
                assert [len(payload) for _, payload, _ in box.documents] == [size]
                assert len(connects) == 1
            await asyncio.gather(*sending)

    run(scenario)


def test_documents_come_one_at_a_time(broker: Mosquitto) -> None:
    """What the loop has not taken yet stays with the broker and in the socket."""
    blobs = [OTA.blob(f"slow-{number}") for number in range(4)]

    async def scenario() -> None:
        with User(broker.port) as user:
            for blob in blobs:
                user.send(blob, bytes(2**16), retain=True)
            async with running(Box(broker.url)) as box:
                await until(lambda: box.courier)
                box.mqtt.courier.listen(frozenset(blobs))
                while len(box.documents) < len(blobs):
                    before = len(box.documents)
                    await asyncio.sleep(0)  # one turn of the loop
                    assert len(box.documents) - before <= 1

    run(scenario)


def test_the_version_that_the_data_connection_found_out_is_tried_first() -> None:
    """amqtt never answers a CONNECT of MQTT 5: the connection of pushes need not wait for that once more."""
    asked: list[int] = []

    def handle(kind: int, body: bytes, writer: asyncio.StreamWriter) -> None:
        if kind == 1:
            asked.extend([level(body)] if b"-ota" in body else [])
            writer.write(CONNACK_311 if level(body) == 4 else b"\x20\x02\x00\x01")
        elif kind == 8:
            count = len(filters(body[2:]))
            writer.write(bytes([0x90, 2 + count]) + body[:2] + b"\x01" * count)

    async def scenario() -> None:
        async with stranger(handle, pushes=True) as url:
            box = Box(url)
            async with running(box, wait=False):
                await until(lambda: box.courier == [True])
            assert asked == [4]

    run(scenario)


class Cutter:
    """A broker whose connection of pushes brings two documents and then ends; `deaf`: it lets nobody in any more."""

    def __init__(self) -> None:
        self.connects: list[bytes] = []
        self.data: list[asyncio.StreamWriter] = []
        self.deaf = False
        self.barren = False  # the connection of pushes ends as soon as something is asked for

    def handle(self, kind: int, body: bytes, writer: asyncio.StreamWriter) -> None:
        if kind == 1:
            pushes = b"-ota" in body
            self.connects.append(b"pushes" if pushes else b"data")
            if self.deaf and not pushes:
                writer.close()
                return
            self.data += [] if pushes else [writer]
            writer.write(CONNACK_311)
        elif kind == 8:
            asked = filters(body[2:])
            writer.write(bytes([0x90, 2 + len(asked)]) + body[:2] + b"\x01" * len(asked))
            for topic in asked:
                if "/blob/" not in topic:
                    continue
                if self.barren or topic.endswith("last"):
                    writer.close()
                else:
                    writer.write(bytes([0x31, 3 + len(topic), 0, len(topic)]) + topic.encode() + b"x")


def _greedy(box: Box) -> None:
    """Asks for the next document when one has come, as a fetch does."""

    def on_document(topic: str, payload: bytes, retained: bool) -> None:
        box.documents.append((topic, payload, retained))
        box.mqtt.courier.listen(frozenset({OTA.blob("last")}))

    def on_courier(connected: bool) -> None:
        box.courier.append(connected)
        if not connected:
            box.mqtt.courier.listen(frozenset({OTA.blob("first")}))

    box.on_document, box.on_courier = on_document, on_courier
    box.mqtt.courier.listen(frozenset({OTA.blob("first")}))


def test_a_connection_of_use_is_followed_by_another_one_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a link that breaks each second a fetch gets on, and does not wait for longer each time."""
    monkeypatch.setattr("edged.transports.mqtt.backoff._FIRST_S", 0.05)
    cutter = Cutter()

    async def scenario() -> None:
        async with stranger(cutter.handle, pushes=True) as url:
            box = Box(url, version="3.1.1")
            _greedy(box)
            async with running(box, wait=False):
                await until(lambda: cutter.connects.count(b"pushes") >= 12)  # doubling, the last wait were 100 s
                cutter.barren = True
                count = len(box.courier)
                await asyncio.sleep(2)
                assert len(box.courier) - count <= 16  # up and down; without the doubling it were 80

    run(scenario)


def test_a_fetch_that_gets_on_does_not_wait_for_the_data_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """It dials again although that one is away; and no more when that was of no use."""
    monkeypatch.setattr("edged.transports.mqtt.backoff._FIRST_S", 0.05)
    cutter = Cutter()

    async def scenario() -> None:
        async with stranger(cutter.handle, pushes=True) as url:
            box = Box(url, version="3.1.1")
            async with running(box, wait=False):
                await until(lambda: box.courier == [True])
                cutter.deaf = True
                for writer in cutter.data:
                    writer.close()
                await until(lambda: not box.mqtt.facts().connected)
                _greedy(box)
                await until(lambda: len(box.documents) >= 4)
                cutter.barren = True
                await until(lambda: not box.courier[-1])
                await asyncio.sleep(0.5)
                count = len(box.courier)
                await asyncio.sleep(1)
                assert len(box.courier) == count

    run(scenario)
