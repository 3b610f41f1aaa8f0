"""Several brokers in mqtt.url: the next one when one is away, and back to the first when it is there again."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from edged.config import schema
from edged.errors import EdgedError
from edged.transports.mqtt import brokers
from edged.transports.mqtt.publisher import Publisher
from tests.brokers import Mosquitto, have_mosquitto
from tests.integration.mqtt.box import TREE, Box, User, run, running, until
from tests.ports import free_port

pytestmark = pytest.mark.skipif(not have_mosquitto(), reason="Mosquitto is not installed")

INFER, RESULT = TREE.infer("digits"), TREE.result("digits")
Make = Callable[[str], Mosquitto]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def made(name: str) -> Mosquitto:
        folder = tmp_path / name
        folder.mkdir()
        return Mosquitto(folder, port=free_port())

    return made


def at(box: Box, broker: Mosquitto) -> bool:
    return box.connected and box.mqtt.facts().url == broker.url


def test_the_next_one_serves_while_the_first_is_away(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    """Also the states are there, the pushes come there, and results that waited."""
    first, second = make("first"), make("second")

    async def scenario() -> None:
        with second:
            box = Box((first.url, second.url))
            box.mqtt.retain(TREE.info, b'{"a":1}')
            async with running(box):
                assert at(box, second)
                assert box.mqtt.facts().urls == (first.url, second.url)
                with User(second.port, f"{TREE.root}/#") as user:
                    await until(lambda: user.on(TREE.status) and user.on(TREE.info))
                    assert user.on(TREE.status)[0].payload == b"online"
                    user.send(INFER, "x")
                    await until(lambda: user.on(RESULT))
                    await until(lambda: box.mqtt.facts().pushes_connected)
                    user.send(TREE.push("digits"), b"model")
                    await until(lambda: box.pushes)

    with caplog.at_level(logging.INFO):
        run(scenario)
    assert f"next attempt in 0.0 s, at {second.url}" in caplog.text


def test_one_that_ends_is_left_for_the_next_and_nothing_waiting_is_lost(make: Make) -> None:
    first, second = make("first"), make("second")

    async def scenario() -> None:
        with second, first:
            box = Box((first.url, second.url))
            async with running(box):
                assert at(box, first)
                box.lane.open = False
                with User(first.port) as user:
                    user.send(INFER, "asked at the first")
                await until(lambda: box.lane.queue)
                with User(second.port, RESULT) as user:
                    first.kill()
                    box.lane.open = True
                    box.lane.work()  # between the two
                    await until(lambda: at(box, second), 20)
                    await until(lambda: user.on(RESULT))
                    assert user.json(RESULT)[0]["text"] == "asked at the first"
                assert box.mqtt.facts().reconnects == 1

    run(scenario)


def test_back_to_the_first_once_it_answers(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """And nobody at the second is left with the idea that the box is online there."""
    monkeypatch.setattr(brokers, "LOOK_S", 0.3)
    first, second = make("first"), make("second")

    async def scenario() -> None:
        with second:
            box = Box((first.url, second.url))
            async with running(box):
                assert at(box, second)
                with first, User(second.port, TREE.status) as user:
                    await until(lambda: at(box, first), 20)
                    await until(lambda: [one.payload for one in user.on(TREE.status)] == [b"online", b"offline"])
                    with User(first.port, TREE.status, RESULT) as there:
                        await until(lambda: there.on(TREE.status))
                        assert there.on(TREE.status)[0].payload == b"online"
                        there.send(INFER, "back")
                        await until(lambda: there.on(RESULT))
                    await until(lambda: box.mqtt.facts().pushes_connected)

    run(scenario)


def test_what_the_first_still_held_is_not_forgotten_at_the_second(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second keeps a session of before, which says nothing about inputs of the first."""
    monkeypatch.setattr(brokers, "LOOK_S", 0.3)
    first, second = make("first"), make("second")

    async def scenario() -> None:
        with second:
            box = Box((first.url, second.url))
            async with running(box):
                assert at(box, second)
                box.lane.size, box.lane.open = 1, False
                with first:
                    await until(lambda: at(box, first), 20)
                    with User(first.port) as user:
                        user.send(INFER, "queued")
                        user.send(INFER, "waits for room")
                    await until(lambda: box.mqtt.facts().waiting == 1)
                await until(lambda: at(box, second), 20)
                with User(second.port, RESULT) as user:
                    box.lane.open = True
                    box.lane.work()
                    await until(lambda: len(user.on(RESULT)) == 2)
                    assert [one["text"] for one in user.json(RESULT)] == ["queued", "waits for room"]

    run(scenario)


def test_a_port_that_takes_connections_and_is_no_broker_costs_a_moment_each_time_less_often(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(brokers, "LOOK_S", 0.3)
    second = make("second")

    async def scenario() -> None:
        with second, socket.socket() as deaf:
            deaf.bind(("127.0.0.1", 0))
            url = f"mqtt://127.0.0.1:{deaf.getsockname()[1]}"
            box = Box((url, second.url), version="5")
            async with running(box):
                assert at(box, second)
                deaf.listen()  # from now on it accepts, and says nothing
                await until(lambda: box.mqtt.facts().url == url, 10)
                await until(lambda: at(box, second), 20)
                assert box.mqtt._link._brokers.look_s == 0.6
                assert box.mqtt.alive()

    run(scenario)


def test_an_operators_push_finds_the_one_that_serves(make: Make) -> None:
    first, second = make("first"), make("second")
    settings = schema.Mqtt(url=(first.url, second.url))
    with second, Publisher(settings, "operator", lambda *_: None) as publisher:
        assert publisher.connect([TREE.status]).version == "5"
    with Publisher(settings, "operator", lambda *_: None) as publisher, pytest.raises(EdgedError) as refused:
        publisher.connect([TREE.status])
    for broker in (first, second):
        assert f"{broker.url}: nothing listens on" in refused.value.fault.message


def test_what_is_wrong_with_each_is_said_once(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    one, other = f"mqtt://127.0.0.1:{free_port()}", f"mqtt://127.0.0.1:{free_port()}"

    async def scenario() -> None:
        box = Box((one, other))
        async with running(box, wait=False):
            await until(lambda: box.mqtt._link._number >= 6, 20)
            assert box.mqtt.alive()
            assert not box.mqtt.facts().connected

    run(scenario)
    told = [record.args for record in caplog.records if record.levelno == logging.WARNING]
    assert [arguments[0] for arguments in told if isinstance(arguments, tuple)] == [one, other]


def test_a_broker_that_keeps_nothing_is_told_as_that(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """No password is to blame."""

    async def scenario() -> None:
        with Mosquitto(tmp_path, "retain_available false") as broker:
            async with running(Box(broker.url), wait=False):
                await until(lambda: "Retain not supported" in caplog.text)

    run(scenario)
    assert "retain_available true" in caplog.text
    assert "password" not in caplog.text
