"""Releases fetched over real brokers and bad links: transfer's fetcher on the connection of pushes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.brokers import PASSWORD, USERNAME, Amqtt, Mosquitto, Nats, documented, have_mosquitto, have_nats
from tests.fetching import holds
from tests.integration.mqtt.box import TREE, User, run, running, until
from tests.integration.mqtt.receiver import OTA, Receiver, Shipment
from tests.proxy import Proxy

pytestmark = pytest.mark.skipif(not have_mosquitto(), reason="Mosquitto is not installed")

log = logging.getLogger(__name__)

MODEL = 20_000_000  # bytes
SMALL = 2_000_000
# What an administrator with a small machine sets; Mosquitto 2.1's own limit is 2 MB.
LIMITED = "max_packet_size 131072\nmax_queued_messages 100"


@contextlib.asynccontextmanager
async def receiving(url: str, root: Path, **settings: Any) -> AsyncIterator[Receiver]:
    receiver = Receiver(url, root, **settings)
    try:
        async with running(receiver.box):
            yield receiver
    finally:
        receiver.store.close()


def _broker(kind: str, folder: Path) -> Mosquitto | Nats | Amqtt:
    folder.mkdir()
    if kind == "amqtt":
        return Amqtt(folder)
    if kind == "mosquitto":
        return Mosquitto(folder, LIMITED)
    if not have_nats():
        pytest.skip("nats-server is not installed; scripts/test installs it")
    return Nats(folder)


@pytest.mark.parametrize(
    ("kind", "version"), [("mosquitto", "5"), ("mosquitto", "3.1.1"), ("nats", "auto"), ("amqtt", "3.1.1")]
)
def test_a_release_of_20_mb_arrives(tmp_path: Path, kind: str, version: str) -> None:
    """With limits of a small broker; over brokers that speak 3.1.1 only; over the one that the demo brings along."""
    shipment = Shipment(MODEL)

    async def scenario() -> None:
        with _broker(kind, tmp_path / "broker") as broker, User(broker.port, five=kind == "mosquitto") as user:
            await shipment.publish(user)
            async with receiving(broker.url, tmp_path / "box", version=version) as receiver:
                await asyncio.wait_for(receiver.fetch(shipment.release), 60)
                assert set(receiver.came.values()) == {1}
                assert receiver.progress[-1].bad_chunks == 0
                assert holds(receiver.store, shipment.release, shipment.contents)

    run(scenario)


def test_a_release_arrives_over_tls(tmp_path: Path) -> None:
    """OpenSSL holds bytes that no descriptor announces: the turn of a connection has to look there too."""
    shipment = Shipment(SMALL)
    (tmp_path / "broker").mkdir()

    async def scenario() -> None:
        with Mosquitto(tmp_path / "broker", LIMITED, tls=True) as broker:
            with User(broker.port, auth=(USERNAME, PASSWORD), ca=broker.ca) as user:
                await shipment.publish(user)
            rights = {"ca": str(broker.ca), "username": USERNAME, "password": PASSWORD}
            async with receiving(broker.url, tmp_path / "box", **rights) as receiver:
                await asyncio.wait_for(receiver.fetch(shipment.release), 30)
                assert set(receiver.came.values()) == {1}
                assert holds(receiver.store, shipment.release, shipment.contents)

    run(scenario)


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_a_link_that_is_cut_each_second_with_p_03_costs_less_than_5_percent(tmp_path: Path, version: str) -> None:
    """Every connection of the box is reset at once; what crosses the link twice is what was under way."""
    shipment = Shipment(MODEL)
    (tmp_path / "broker").mkdir()

    async def scenario() -> None:
        with Mosquitto(tmp_path / "broker", LIMITED) as broker, User(broker.port) as user:
            await shipment.publish(user)
            async with Proxy(broker.port, rate=4e6, cut=0.3, seed=8) as proxy:
                async with receiving(proxy.url, tmp_path / "box", version=version) as receiver:
                    await asyncio.wait_for(receiver.fetch(shipment.release), 90)
                    assert holds(receiver.store, shipment.release, shipment.contents)
                    proxy.cutting = False
                    await until(lambda: receiver.box.connected, 60)
                crossed, ideal = proxy.bytes_of(b"-ota"), sum(map(len, shipment.blobs.values()))
                log.info("MQTT %s: %d cuts, %.2f %% extra bytes", version, proxy.cuts, 100 * (crossed / ideal - 1))
                assert proxy.cuts >= 3
                assert crossed < 1.05 * ideal

    run(scenario)


def test_ota_F09_a_broker_that_restarts_with_what_it_retained_costs_no_chunk_twice(tmp_path: Path) -> None:
    shipment = Shipment(SMALL)
    (tmp_path / "broker").mkdir()

    async def scenario() -> None:
        with Mosquitto(tmp_path / "broker", keeps=True) as broker, User(broker.port) as user:
            await shipment.publish(user)
            async with Proxy(broker.port, rate=1e6) as proxy, receiving(proxy.url, tmp_path / "box") as receiver:
                fetching = asyncio.create_task(receiver.fetch(shipment.release))
                await until(lambda: receiver.have > SMALL / 3)
                broker.stop()
                await until(lambda: receiver.box.courier[-1] is False)
                broker.start()
                await asyncio.wait_for(fetching, 60)
                assert holds(receiver.store, shipment.release, shipment.contents)
                assert receiver.came.total() <= len(shipment.blobs) + 4  # those that were written when it ended
                assert receiver.progress[-1].bad_chunks == 0

    run(scenario)


def test_ota_F10_a_broker_that_lost_everything_is_waited_for_until_it_is_filled_again(tmp_path: Path) -> None:
    """kill -9: what Mosquitto had not saved is gone. The box has what it has; publishing again brings the rest."""
    shipment = Shipment(SMALL)
    (tmp_path / "broker").mkdir()

    async def scenario() -> None:
        with Mosquitto(tmp_path / "broker") as broker:
            with User(broker.port) as user:
                await shipment.publish(user)
            async with (
                Proxy(broker.port, rate=1e6) as proxy,
                receiving(proxy.url, tmp_path / "box", patience_s=0.3) as receiver,
            ):
                fetching = asyncio.create_task(receiver.fetch(shipment.release))
                await until(lambda: receiver.have > SMALL / 3)
                broker.kill()
                await until(lambda: receiver.box.courier[-1] is False)
                broker.start()
                await until(lambda: receiver.waiting == "no_blob", 30)
                assert not fetching.done()
                had, came = receiver.have, receiver.came.total()
                with User(broker.port, TREE.need) as user:
                    await until(lambda: user.on(TREE.need), 30)  # and says what it lacks
                    listed = user.on(TREE.need)[-1].payload
                    await shipment.publish(user)
                    await asyncio.wait_for(fetching, 60)
                assert {listed[at : at + 32].hex() for at in range(0, len(listed), 32)} <= set(shipment.blobs)
                assert holds(receiver.store, shipment.release, shipment.contents)
                lacked = (SMALL - had) / len(next(iter(shipment.blobs.values())))
                assert receiver.came.total() - came < lacked + 8

    run(scenario)


def test_ota_F21_an_emptied_retained_message_changes_nothing(tmp_path: Path) -> None:
    """An operator clears a chunk that a box waits for: it is none, and the next one that is published counts."""
    shipment = Shipment(SMALL)
    (tmp_path / "broker").mkdir()
    missing = next(topic for topic, blob in shipment.messages().items() if len(blob) > 50_000)

    async def scenario() -> None:
        with Mosquitto(tmp_path / "broker") as broker, User(broker.port) as user:
            await shipment.publish(user, lambda topic: topic != missing)
            async with receiving(broker.url, tmp_path / "box", patience_s=0.2) as receiver:
                fetching = asyncio.create_task(receiver.fetch(shipment.release))
                await until(lambda: receiver.waiting == "no_blob", 30)
                had = receiver.have
                for topic in shipment.messages():
                    user.send(topic, b"", retain=True)
                await asyncio.sleep(0.5)
                assert (receiver.have, fetching.done()) == (had, False)
                user.send(missing, shipment.messages()[missing], retain=True)
                await asyncio.wait_for(fetching, 30)
                assert holds(receiver.store, shipment.release, shipment.contents)

    run(scenario)


def test_ota_F53_a_need_list_above_the_brokers_limit_is_not_sent(tmp_path: Path) -> None:
    """The broker would end the connection over it, and the next one, and the next."""

    async def scenario() -> None:
        with Mosquitto(tmp_path, "max_packet_size 1500") as broker, User(broker.port, TREE.need) as user:
            async with receiving(broker.url, tmp_path / "box") as receiver:
                courier = receiver.box.mqtt.courier
                await until(lambda: receiver.box.courier == [True])
                courier.need(bytes(2048))
                await until(lambda: receiver.box.mqtt.facts().dropped.get("need_too_large") == 1)
                courier.need(bytes(1024))
                await until(lambda: user.on(TREE.need))
                assert receiver.box.courier == [True]
                assert len(user.on(TREE.need)[0].payload) == 1024

    run(scenario)


def test_ota_F54_a_box_that_may_say_nothing_fetches_all_the_same(tmp_path: Path) -> None:
    """Its states, its results and its need lists are refused; what it may read is enough."""
    shipment = Shipment(SMALL)
    (tmp_path / "acl").write_text("topic read #\nuser operator\ntopic readwrite #\n")

    async def scenario() -> None:
        with Mosquitto(tmp_path, f"acl_file {tmp_path / 'acl'}") as broker:
            with User(broker.port, auth=("operator", None)) as user:
                await shipment.publish(user)
            async with receiving(broker.url, tmp_path / "box") as receiver:
                receiver.box.mqtt.retain(TREE.install("digits"), b"{}")
                await asyncio.wait_for(receiver.fetch(shipment.release), 30)
                assert holds(receiver.store, shipment.release, shipment.contents)

    run(scenario)


def test_the_documented_broker_lets_a_box_fetch_and_write_nothing_of_the_fleets(tmp_path: Path) -> None:
    """Two ACL lines for the boxes, which read the fleet's documents and write none; an operator's user."""
    shipment = Shipment(SMALL)
    lines = documented("acl").splitlines()
    assert lines[:3] == ["pattern readwrite edged/%u/#", "pattern read edged/ota/#", ""]
    (tmp_path / "acl").write_text("\n".join([*lines, ""]))
    config = documented("mosquitto.conf").replace("allow_anonymous false", "")  # a user is believed without a password

    async def scenario() -> None:
        with (
            Mosquitto(tmp_path, f"{config}\nacl_file {tmp_path / 'acl'}") as broker,
            User(broker.port, TREE.need, TREE.install("digits"), OTA.blob("+"), auth=("fleet", None)) as operator,
        ):
            await shipment.publish(operator)
            async with receiving(broker.url, tmp_path / "box", username=TREE.device) as receiver:
                await asyncio.wait_for(receiver.fetch(shipment.release), 30)
                assert holds(receiver.store, shipment.release, shipment.contents)
                receiver.box.mqtt.courier.need(bytes(32))
                await until(lambda: operator.on(TREE.need))
                came = len(operator.on(OTA.blob("ab" * 32)))
                receiver.box.mqtt.publish(OTA.blob("ab" * 32), b"mine", 1)
                receiver.box.mqtt.retain(TREE.install("digits"), b"{}")
                await until(lambda: receiver.box.connected and operator.on(TREE.install("digits")))
                assert len(operator.on(OTA.blob("ab" * 32))) == came == 0

    run(scenario)
