"""Pushed models over their own connection, against a real Mosquitto (RULES 18)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from edged.config import schema
from edged.config.units import Size
from tests.brokers import Mosquitto, have_mosquitto
from tests.integration.mqtt.box import TREE, Box, User, run, running, until

pytestmark = pytest.mark.skipif(not have_mosquitto(), reason="Mosquitto is not installed")

PUSH = TREE.push("digits")


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path_factory.mktemp("broker")) as broker:
        yield broker


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_push_reaches_the_loop_with_its_version(broker: Mosquitto, version: str) -> None:
    async def scenario() -> None:
        async with running(Box(broker.url, version=version)) as box:
            await until(lambda: box.mqtt.facts().pushes_connected)
            with User(broker.port) as user:
                await asyncio.sleep(0.2)  # subscribed
                user.send(PUSH, b"onnx", UserProperty=("version", "7"))
                await until(lambda: box.pushes)
                assert box.pushes == [("digits", b"onnx", "7" if version == "5" else None, False)]
                user.send(TREE.push("stranger"), b"onnx")
                user.send(PUSH, b"second")
                await until(lambda: len(box.pushes) == 2)
                assert box.lane.seen == []

    run(scenario)


def test_retained_push_says_so(broker: Mosquitto) -> None:
    async def scenario() -> None:
        with User(broker.port) as user:
            user.send(PUSH, b"stale", retain=True)
            async with running(Box(broker.url)) as box:
                await until(lambda: box.pushes)
                assert box.pushes[0][3] is True
                user.send(PUSH, b"stale", retain=True)  # MQTT 5 tells it of a live one too
                await until(lambda: len(box.pushes) == 2)
                assert box.pushes[1][3] is True
            user.send(PUSH, b"", retain=True)

    run(scenario)


def test_push_above_the_limit_is_refused(broker: Mosquitto) -> None:
    async def scenario() -> None:
        box = Box(broker.url, push=schema.Push(max_size=Size(1000)), version="3.1.1")
        async with running(box):
            await until(lambda: box.mqtt.facts().pushes_connected)
            with User(broker.port) as user:
                await asyncio.sleep(0.2)
                user.send(PUSH, b"x" * 500_000)
                await until(lambda: box.refused)
                model, problem = box.refused[0]
                assert (model, problem.code) == ("digits", "too_large")
                user.send(PUSH, b"small")
                await until(lambda: box.pushes)

    run(scenario)


def test_large_push_does_not_hold_up_the_loop(broker: Mosquitto, tmp_path: Path) -> None:
    model = tmp_path / "model.onnx"
    model.write_bytes(b"x" * 32 * 2**20)

    async def scenario() -> None:
        async with running(Box(broker.url)) as box:
            await until(lambda: box.mqtt.facts().pushes_connected)
            turns, stop = 0, False

            async def watch() -> None:
                nonlocal turns
                while not stop:
                    await asyncio.sleep(0.005)
                    turns += 1

            watcher = asyncio.create_task(watch())
            command = ["mosquitto_pub", "-p", str(broker.port), "-t", PUSH, "-q", "1", "-f", str(model)]
            sender = await asyncio.create_subprocess_exec(*command)  # its own copying must not count as ours
            await until(lambda: box.pushes, 30)
            assert await sender.wait() == 0
            stop = True
            await watcher
            assert box.pushes[0][1] == model.read_bytes()
            assert turns > 10  # fewer than its time / 5 ms: paho copies a large payload with the lock held

    run(scenario)


def test_pushes_come_again_after_the_broker_was_killed(tmp_path_factory: pytest.TempPathFactory) -> None:
    async def scenario() -> None:
        with Mosquitto(tmp_path_factory.mktemp("killed")) as broker:
            async with running(Box(broker.url)) as box:
                await until(lambda: box.mqtt.facts().pushes_connected)
                broker.kill()
                await until(lambda: not box.mqtt.facts().pushes_connected)
                broker.start()
                await until(lambda: box.mqtt.facts().pushes_connected)
                with User(broker.port) as user:
                    await asyncio.sleep(0.2)
                    user.send(PUSH, b"onnx")
                    await until(lambda: box.pushes)

    run(scenario)
