"""Pushes and documents on the data plane's connection (push.connection: shared), against a real Mosquitto."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Literal

import msgspec
import pytest

from edged.config import schema
from edged.config.units import Size
from edged.topics import Ota
from tests.brokers import Mosquitto, have_mosquitto
from tests.fetching import holds
from tests.integration.mqtt.box import DIGITS, TREE, Box, User, run, running, until
from tests.integration.mqtt.box import OWN as MACHINE
from tests.integration.mqtt.receiver import Receiver, Shipment
from tests.integration.mqtt.test_strangers import CONNACK_311, filters, granted, publish
from tests.integration.mqtt.test_strangers import broker as stranger
from tests.proxy import Proxy

pytestmark = pytest.mark.skipif(not have_mosquitto(), reason="Mosquitto is not installed")

OTA = Ota("edged")
OWN = schema.Push()
SHARED = schema.Push(connection="shared")
SMALL = 2_000_000  # bytes

Version = Literal["5", "3.1.1"]


def _inputs(box: Box) -> set[str]:
    return {bytes(item.payload).decode() for item in box.lane.seen}


def _has(receiver: Receiver, part: float) -> bool:
    return receiver.have > part


async def _pushed(box: Box, user: User, *, shared: bool) -> None:
    """Until a simple push has come by that way."""
    await until(lambda: box.mqtt.courier.aboard.on is shared)
    count = len(box.pushes)
    while len(box.pushes) == count:  # it may not have subscribed yet
        user.send(TREE.push("digits"), b"onnx")
        await asyncio.sleep(0.05)


def adopt(box: Box, push: schema.Push) -> None:
    box.mqtt.adopt((DIGITS,), (), push, lambda item: item)


@contextlib.asynccontextmanager
async def sending(user: User, pause_s: float = 0.02) -> AsyncIterator[list[str]]:
    """Inputs at QoS 1, one after the other, for as long as this lasts: those that the broker has confirmed."""
    sent: list[str] = []
    done = asyncio.Event()

    async def send() -> None:
        while not done.is_set():
            text = f"input-{len(sent)}"
            info = user.client.publish(TREE.infer("digits"), text, 1)
            with contextlib.suppress(RuntimeError):  # paho's word for: there is no connection
                await until(info.is_published, 60)
                sent.append(text)
            await asyncio.sleep(pause_s)

    task = asyncio.create_task(send())
    try:
        yield sent
    finally:
        done.set()
        await task


@contextlib.asynccontextmanager
async def supplied(
    folder: Path, shipment: Shipment, push: schema.Push, version: Version
) -> AsyncIterator[tuple[Mosquitto, Proxy, User, Receiver]]:
    """A broker that has the release, and a box behind a slow line, not yet running, which has it in the end."""
    (folder / "broker").mkdir()
    with Mosquitto(folder / "broker", "max_queued_messages 10000", keeps=True) as broker, User(broker.port) as user:
        await shipment.publish(user)
        async with Proxy(broker.port, rate=1e6) as proxy:
            receiver = Receiver(proxy.url, folder / "box", push=push, version=version)
            try:
                yield broker, proxy, user, receiver
                assert holds(receiver.store, shipment.release, shipment.contents)
            finally:
                receiver.store.close()


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_a_release_arrives_beside_inputs_through_a_restart_of_the_broker(tmp_path: Path, version: Version) -> None:
    """One client at the broker. Its session is kept: what was asked for on the connection before comes again."""
    shipment = Shipment(SMALL)

    async def scenario() -> None:
        async with supplied(tmp_path, shipment, SHARED, version) as (broker, _, user, receiver):
            async with running(receiver.box) as box:
                async with sending(user) as sent:
                    fetching = asyncio.create_task(receiver.fetch(shipment.release))
                    await until(lambda: receiver.have > SMALL / 3, 30)
                    broker.stop()
                    await until(lambda: not box.mqtt.facts().pushes_connected)
                    broker.start()
                    await asyncio.wait_for(fetching, 60)
                assert box.courier == [True, False, True]
                await until(lambda: set(sent) <= _inputs(box), 30)
            assert receiver.came.total() <= len(shipment.blobs) + 2  # one was under way, one was written
            assert receiver.progress[-1].bad_chunks == 0
            assert not broker.says("-ota")

    run(scenario)


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_simple_pushes_come_with_their_version_and_within_the_limit(tmp_path: Path, version: Version) -> None:
    push = msgspec.structs.replace(SHARED, require_signature=False, max_size=Size(5 * 2**20))

    async def scenario() -> None:
        with Mosquitto(tmp_path) as broker, User(broker.port) as user:
            async with running(Box(broker.url, push=push, version=version)) as box:
                await until(lambda: box.mqtt.facts().pushes_connected and broker.says(TREE.push("digits")))
                user.send(TREE.push("digits"), bytes(5 * 2**20), UserProperty=("version", "7"))
                await until(lambda: box.pushes)
                assert box.pushes[0] == ("digits", bytes(5 * 2**20), "7" if version == "5" else None, False)
                user.send(TREE.push("digits"), bytes(5 * 2**20 + 1))
                await until(lambda: box.refused)
                assert box.refused[0][1].code == "too_large"
                user.send(TREE.push("digits"), b"kept", retain=True)
                await until(lambda: len(box.pushes) == 2)
                assert box.pushes[1][3] is (version == "5")  # 3.1.1 does not tell it of a live one
                assert box.lane.seen == []

    run(scenario)


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_what_a_kept_session_has_comes_again_and_what_is_not_wanted_is_given_back(
    tmp_path: Path, version: Version
) -> None:
    """A plain SUBSCRIBE of MQTT 5 brings no retained message to a session that has it already."""
    orders = [OTA.want("digits", "all"), OTA.trust(2)]

    async def scenario() -> None:
        with Mosquitto(tmp_path) as broker, User(broker.port) as user:
            for topic in orders:
                user.send(topic, topic, retain=True)
            async with Proxy(broker.port) as proxy, running(Box(proxy.url, push=SHARED, version=version)) as box:
                box.mqtt.courier.listen(frozenset(orders))
                await until(lambda: len(box.documents) == 2)
                proxy.cut_all()
                await until(lambda: not box.mqtt.facts().pushes_connected)
                box.mqtt.courier.listen(frozenset(orders[:1]))
                await until(lambda: len(box.documents) == 3, 30)
                assert box.documents[2] == (orders[0], orders[0].encode(), True)
                await until(lambda: f"\t{orders[1]}" in broker.log.read_text().partition("UNSUBSCRIBE")[2])
            # The next daemon of that session has other settings.
            async with running(Box(broker.url, push=OWN, version=version)) as box:
                before = broker.log.read_text().count("UNSUBSCRIBE")
                box.mqtt.courier.listen(frozenset(orders[:1]))
                await until(lambda: box.documents)
                assert before >= 1

    run(scenario)


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_a_reload_from_one_way_to_the_other_and_back(tmp_path: Path, version: Version) -> None:
    """In the middle of a fetch, beside inputs. No order has to be given again."""
    shipment = Shipment(SMALL)

    async def scenario() -> None:
        async with supplied(tmp_path, shipment, OWN, version) as (_, proxy, user, receiver):
            receiver.box.mqtt.retain(TREE.info, msgspec.json.encode(MACHINE))  # by which the box knows itself again
            async with running(receiver.box) as box:
                async with sending(user) as sent:
                    fetching = asyncio.create_task(receiver.fetch(shipment.release))
                    for push, part in ((SHARED, 0.2), (OWN, 0.5), (SHARED, 0.8)):
                        await until(partial(_has, receiver, part * SMALL), 30)
                        adopt(box, push)
                    await asyncio.wait_for(fetching, 60)
                    for push in (OWN, SHARED):
                        adopt(box, push)
                        await _pushed(box, user, shared=push is SHARED)
                assert box.mqtt.facts().reconnects == 1  # once, to tell the broker of larger messages
                assert len([one for one in proxy.connections if b"-ota" in one.first]) == 3
                await until(lambda: set(sent) <= _inputs(box), 30)

    run(scenario)


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_one_blob_at_a_time_is_under_way(tmp_path: Path, version: Version) -> None:
    """Behind a slow line each would stand before the next input."""
    blobs = [OTA.blob(f"{number}") for number in range(4)]
    size = 96 * 1024

    async def scenario() -> None:
        with Mosquitto(tmp_path) as broker, User(broker.port) as user:
            for topic in blobs:
                user.send(topic, bytes(size), retain=True)
            async with (
                Proxy(broker.port, rate=2e5) as proxy,
                running(Box(proxy.url, push=SHARED, version=version)) as box,
            ):
                await until(lambda: box.mqtt.facts().pushes_connected)
                box.mqtt.courier.listen(frozenset(blobs))
                asked: list[int] = []
                while len(box.documents) < len(blobs):
                    asked.append(sum(broker.says(f"\t{topic} (QoS 1)") for topic in blobs) - len(box.documents))
                    await asyncio.sleep(0.02)
                assert max(asked) <= 2  # the next one's turn is when the last is here

    run(scenario)


def test_a_blob_that_the_broker_does_not_have_keeps_no_other_waiting(tmp_path: Path) -> None:
    """Somebody else may bring it later: it stays asked for."""
    blobs = [OTA.blob(f"{number}") for number in range(4)]

    async def scenario() -> None:
        with Mosquitto(tmp_path) as broker, User(broker.port, TREE.need) as user:
            user.send(blobs[3], b"here", retain=True)
            async with running(Box(broker.url, push=SHARED)) as box:
                box.mqtt.courier.listen(frozenset(blobs))
                await until(lambda: box.documents == [(blobs[3], b"here", True)])
                box.mqtt.courier.need(bytes(32))
                await until(lambda: user.on(TREE.need))
                for topic in blobs[:3]:
                    user.send(topic, b"brought")
                await until(lambda: len(box.documents) == 4)

    run(scenario)


def test_a_broker_that_closes_over_documents_does_not_take_the_data_plane_along(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("edged.transports.mqtt.backoff._FIRST_S", 0.02)
    closed: list[str] = []

    def handle(kind: int, body: bytes, writer: asyncio.StreamWriter) -> None:
        if kind == 1:
            writer.write(CONNACK_311)
        elif kind == 8:
            asked = filters(body[2:])
            if any("/ota/" in one for one in asked):
                closed.extend(asked)
                writer.close()
                return
            writer.write(granted(body))
            if len(closed) == 3 and TREE.push("digits") in asked:
                writer.write(publish(TREE.infer("digits"), b"served"))

    async def scenario() -> None:
        async with stranger(handle, pushes=True) as url:
            box = Box(url, version="3.1.1", push=SHARED)
            async with running(box, wait=False):
                box.mqtt.courier.listen(frozenset({OTA.trust(1)}))
                await until(lambda: box.lane.seen, 20)
                assert closed == [OTA.trust(1)] * 3
                assert box.mqtt.facts().pushes_connected

    run(scenario)
    told = [record.getMessage() for record in caplog.records if "lack" in record.getMessage()]
    assert len(told) == 1
    assert "`pattern read edged/ota/#`" in told[0]
