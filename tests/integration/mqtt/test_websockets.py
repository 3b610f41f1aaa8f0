"""MQTT in WebSockets against a real Mosquitto: both connections of a box, and an operator's.

Users read without: Mosquitto sends 40 kB/s to whoever reads through a WebSocket.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from edged.config import schema
from edged.config.units import Size
from edged.messages import Answer
from edged.transports.mqtt.publisher import Publisher
from tests.brokers import PASSWORD, USERNAME, Mosquitto, free_port, have_mosquitto
from tests.integration.mqtt.box import TREE, Box, User, run, running, until

pytestmark = pytest.mark.skipif(not have_mosquitto(), reason="Mosquitto is not installed")

INFER, RESULT = TREE.infer("digits"), TREE.result("digits")
LARGE = schema.Model("digits", limits=schema.Limits(message=Size(2**20)))


@pytest.mark.parametrize("version", ["5", "3.1.1"])
@pytest.mark.parametrize("plain", [False, True])
def test_inputs_are_answered_in_order(tmp_path: Path, version: str, plain: bool) -> None:
    async def scenario() -> None:
        with (
            Mosquitto(tmp_path, "max_queued_messages 0", websockets=True) as broker,
            User(broker.plain, f"{TREE.root}/#") as user,
        ):
            async with running(Box(f"{broker.url}/mqtt", version=version)) as box:
                for number in range(200):
                    user.client.publish(INFER, f"n{number}", 1)
                await until(lambda: len(user.on(RESULT)) == 200)
                assert [answer["text"] for answer in user.json(RESULT)] == [f"n{number}" for number in range(200)]
                facts = box.mqtt.facts()
                assert (facts.url, facts.version, facts.reconnects) == (f"{broker.url}/mqtt", version, 0)
                await until(lambda: box.mqtt.facts().pushes_connected)
                user.send(TREE.push("digits"), b"model" * 1000)
                await until(lambda: box.pushes)
                assert box.pushes[0][1] == b"model" * 1000
            await until(lambda: user.on(TREE.status)[-1].payload == b"offline")

    run(scenario, plain=plain)


def test_large_messages_both_ways(tmp_path: Path) -> None:
    async def scenario() -> None:
        with (
            Mosquitto(tmp_path, "max_queued_messages 0", websockets=True) as broker,
            User(broker.plain, RESULT) as user,
        ):
            async with running(Box(broker.url, LARGE)) as box:
                box.lane.answer = lambda item: Answer(b'{"a":"' + bytes(item.payload) * 8 + b'"}', 0, "1")
                for letter in "ab":
                    user.send(INFER, letter * 100_000)
                await until(lambda: len(user.on(RESULT)) == 2, 30)
                assert [answer["a"] for answer in user.json(RESULT)] == ["a" * 800_000, "b" * 800_000]
            assert box.mqtt.facts().reconnects == 0

    run(scenario)


@pytest.mark.parametrize("mutual", [False, True])
def test_wss(tmp_path: Path, mutual: bool) -> None:
    """With a password, or with certificates on both sides."""
    ask = f"cafile {tmp_path}/ca.crt\nrequire_certificate true\nuse_identity_as_username true" if mutual else ""

    async def scenario() -> None:
        with Mosquitto(tmp_path, ask, tls=True, websockets=True) as broker:
            rights: dict[str, Any] = {"username": USERNAME, "password": PASSWORD}
            if mutual:
                certificate, key = map(str, broker.authority.issue("press-07"))
                rights = {"cert": certificate, "key": key}
            async with running(Box(broker.url, ca=str(broker.ca), **rights)) as box:
                await until(lambda: box.mqtt.facts().pushes_connected)
                assert broker.says("press-07")
                box.mqtt.publish(INFER, b"to ourselves", 1)
                await until(lambda: box.lane.seen)
                assert box.lane.seen[0].payload == b"to ourselves"
                settings = schema.Mqtt((broker.url,), ca=str(broker.ca), **rights)
                assert await asyncio.to_thread(read, settings, TREE.status) == [b"online"]
            assert box.mqtt.facts().reconnects == 0

    run(scenario)


def read(settings: schema.Mqtt, topic: str) -> list[bytes]:
    """What is retained there, as an operator's command reads it."""
    found: list[bytes] = []
    with Publisher(settings, "operator", lambda _topic, payload, _retained: found.append(payload)) as publisher:
        publisher.connect([topic])
    return found


def test_a_broker_that_was_killed_gets_everything_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        with Mosquitto(tmp_path, "max_queued_messages 0", websockets=True) as broker:
            async with running(Box(broker.url)) as box:
                broker.kill()
                await until(lambda: not box.mqtt.facts().connected)
                box.mqtt.publish(RESULT, b"waited", 1)
                broker.start()
                with User(broker.plain, f"{TREE.root}/#") as user:
                    await until(lambda: user.on(TREE.status) and user.on(RESULT), 20)
                    assert user.on(TREE.status)[-1].payload == b"online"
                    user.send(INFER, "x")
                    await until(lambda: len(user.on(RESULT)) == 2)

    run(scenario)


def test_failover_between_kinds_and_what_is_wrong_is_told(tmp_path: Path) -> None:
    """The first is away, the second is no WebSocket, the third serves."""
    (tmp_path / "plain").mkdir()
    (tmp_path / "web").mkdir()
    away = f"wss://127.0.0.1:{free_port()}"

    async def scenario() -> None:
        with Mosquitto(tmp_path / "plain") as plain, Mosquitto(tmp_path / "web", websockets=True) as web:
            async with running(Box((away, f"ws://127.0.0.1:{plain.port}", web.url))) as box:
                assert box.mqtt.facts().url == f"{web.url}/mqtt"
            async with running(Box(f"ws://127.0.0.1:{plain.port}"), wait=False) as box:
                await until(lambda: "WebSocket" in box.mqtt.facts().last_error)
            async with running(Box(f"mqtt://127.0.0.1:{web.port}"), wait=False) as box:
                await until(lambda: "one for TLS or WebSockets" in box.mqtt.facts().last_error)

    run(scenario)


def test_an_operators_push(tmp_path: Path) -> None:
    """Larger than what a socket takes at once."""
    model = bytes(range(256)) * 12_000

    async def scenario() -> None:
        with Mosquitto(tmp_path, "max_queued_messages 0", websockets=True) as broker:
            async with running(Box(f"mqtt://127.0.0.1:{broker.plain}")) as box:
                await until(lambda: box.mqtt.facts().pushes_connected)
                await asyncio.to_thread(publish, broker.url)
                await until(lambda: box.pushes)
                assert box.pushes[0][1] == model

    def publish(url: str) -> None:
        with Publisher(schema.Mqtt((url,)), "operator", lambda *_: None) as publisher:
            publisher.connect([TREE.status])
            publisher.publish(TREE.push("digits"), model)

    run(scenario)
