"""push.mqtt: pushes come from a broker of their own, and what the operator's side reads is told there, too."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edged.config import schema
from edged.transports.mqtt import apart, brokers
from edged.transports.mqtt.namesake import Machine
from tests.brokers import Mosquitto, have_mosquitto
from tests.integration.mqtt.box import TREE, Box, User, run, running, until

pytestmark = pytest.mark.skipif(not have_mosquitto(), reason="Mosquitto is not installed")
Make = Callable[[str], Mosquitto]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    with ExitStack() as stack:

        def made(name: str) -> Mosquitto:
            folder = tmp_path / name
            folder.mkdir()
            return stack.enter_context(Mosquitto(folder))

        yield made


def pushed_from(*urls: str) -> schema.Push:
    return schema.Push(mqtt=schema.Courier(urls, client_id="fleet-press-07"))


def test_pushes_come_from_there_and_states_are_told_at_both(make: Make) -> None:
    plant, fleet = make("plant"), make("fleet")

    async def scenario() -> None:
        box = Box(plant.url, push=pushed_from(fleet.url))
        box.mqtt.retain(TREE.info, b"{}")
        box.mqtt.retain(TREE.install("digits"), b'{"phase":"idle"}')
        with User(fleet.port, "edged/#") as operator, User(plant.port, "edged/#") as user:
            async with running(box):
                await until(lambda: operator.on(TREE.status))
                assert [message.topic for message in operator.messages][-1] == TREE.status
                assert {message.topic for message in operator.messages} == {
                    TREE.info,
                    TREE.install("digits"),
                    TREE.status,
                }
                await until(lambda: user.on(TREE.install("digits")))
                assert box.mqtt.facts().pushes_url == fleet.url
                operator.send(TREE.push("digits"), b"model")
                await until(lambda: box.pushes)
                user.send(TREE.push("digits"), b"not from here")
                # What concerns the plant alone stays there.
                user.send(TREE.infer("digits"), "x")
                await until(lambda: user.on(TREE.result("digits")))
                box.mqtt.publish(TREE.event, b'{"events":[]}', 1)
                box.mqtt.retain(TREE.install("digits"), b'{"phase":"trial"}')
                box.mqtt.courier.need(b"[]")
                await until(lambda: operator.on(TREE.event) and operator.on(TREE.need))
                await until(lambda: len(operator.on(TREE.install("digits"))) == 2)
                assert not operator.on(TREE.result("digits"))
                assert not user.on(TREE.need)
                assert [payload for _, payload, *_ in box.pushes] == [b"model"]
            await until(lambda: operator.on(TREE.status)[-1].payload == b"offline")

    run(scenario)


def test_each_of_the_two_may_be_away(make: Make) -> None:
    plant, fleet = make("plant"), make("fleet")

    async def scenario() -> None:
        async with running(Box(plant.url, push=pushed_from(fleet.url))) as box:
            await until(lambda: box.mqtt.facts().pushes_connected)
            plant.kill()
            await until(lambda: not box.mqtt.facts().connected)
            with User(fleet.port, TREE.status) as operator:
                await until(lambda: operator.on(TREE.status))
                assert operator.on(TREE.status)[-1].payload == b"online"
                operator.send(TREE.push("digits"), b"model")
                await until(lambda: box.pushes)
            plant.start()
            fleet.kill()
            await until(lambda: box.connected and not box.mqtt.facts().pushes_connected)
            box.mqtt.publish(TREE.event, b'{"events":[1]}', 1)
            box.mqtt.retain(TREE.install("digits"), b'{"phase":"idle"}')
            with User(plant.port, TREE.result("digits")) as user:
                user.send(TREE.infer("digits"), "x")
                await until(lambda: user.messages)
            fleet.start()
            with User(fleet.port, f"{TREE.root}/#") as operator:
                await until(lambda: operator.on(TREE.event) and operator.on(TREE.install("digits")), 20)
                assert operator.on(TREE.event)[0].payload == b'{"events":[1]}'

    run(scenario)


def test_a_box_that_is_killed_is_offline_there(make: Make) -> None:
    plant, fleet = make("plant"), make("fleet")

    async def scenario() -> None:
        async with running(Box(plant.url, push=pushed_from(fleet.url))) as box:
            with User(fleet.port, TREE.status) as operator:
                await until(lambda: operator.on(TREE.status))
                client: Any = box.mqtt.courier._apart._client  # type: ignore[union-attr]  # it is connected
                client.socket().close()
                await until(lambda: len(operator.on(TREE.status)) >= 3)
                said = [message.payload for message in operator.on(TREE.status)]
                assert said[:3] == [b"online", b"offline", b"online"]

    run(scenario)


def test_it_has_a_list_of_its_own(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(brokers, "LOOK_S", 0.5)
    plant, first, second = make("plant"), make("first"), make("second")

    async def scenario() -> None:
        first.stop()
        async with running(Box(plant.url, push=pushed_from(first.url, second.url))) as box:
            await until(lambda: box.mqtt.facts().pushes_connected)
            assert box.mqtt.facts().pushes_url == second.url
            with User(second.port, TREE.status) as operator:
                first.start()
                await until(lambda: box.mqtt.facts().pushes_url == first.url and box.mqtt.facts().pushes_connected)
                await until(lambda: operator.on(TREE.status)[-1].payload == b"offline")
            assert box.connected
            first.stop()
            await until(lambda: box.mqtt.facts().pushes_url == second.url and box.mqtt.facts().pushes_connected, 20)

    run(scenario)


def test_it_does_not_need_the_other_one(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apart, "_ALONE_S", 0.1)
    plant, fleet = make("plant"), make("fleet")

    async def scenario() -> None:
        plant.stop()
        async with running(Box(plant.url, push=pushed_from(fleet.url)), wait=False) as box:
            await until(lambda: box.mqtt.facts().pushes_connected)
            assert not box.connected

    run(scenario)


def test_a_second_machine_of_the_name_does_not_disturb_the_first_one_there(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apart, "_ALONE_S", 1.0)
    plant, fleet = make("plant"), make("fleet")

    async def scenario() -> None:
        first, second = (
            Box(plant.url, push=pushed_from(fleet.url), own=Machine(f"{number:016}", "press-07.plant"))
            for number in (1, 2)
        )
        for box, number in ((first, 1), (second, 2)):
            said = f'{{"instance":"{number:016}","host":"press-07.plant","telemetry_interval_s":10}}'
            box.mqtt.retain(TREE.info, said.encode())
        async with running(first):
            await until(lambda: first.mqtt.facts().pushes_connected)
            async with running(second, wait=False):
                await until(lambda: second.mqtt.facts().namesake)
                await asyncio.sleep(1.2)  # it would have gone there alone by now
                assert not second.mqtt.facts().pushes_connected
                assert first.courier == [True]

    run(scenario)


def test_the_limit_of_pushes_is_told_there(make: Make) -> None:
    plant, fleet = make("plant"), make("fleet")

    async def scenario() -> None:
        push = pushed_from(fleet.url)
        async with running(Box(plant.url, push=push)) as box:
            await until(lambda: box.mqtt.facts().pushes_connected)
            box.mqtt.adopt([], (), msgspec.structs.replace(push, max_size=push.max_size * 2), lambda item: item)
            await until(lambda: box.courier == [True, False, True])

    run(scenario)
