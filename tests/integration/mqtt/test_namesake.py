"""Two machines of one name at one broker: the later one waits, says so, and does not disturb the first."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import msgspec
import pytest

from edged.transports.mqtt.lookout import Lookout
from edged.transports.mqtt.namesake import Machine
from tests.brokers import Mosquitto
from tests.integration.mqtt.box import OWN, TREE, Box, User, run, running, until

INFER, RESULT = TREE.infer("digits"), TREE.result("digits")
OTHER = Machine("fedcba9876543210", "spare.plant")


def info(own: Machine, interval_s: float = 10) -> bytes:
    return msgspec.json.encode(msgspec.structs.asdict(own) | {"telemetry_interval_s": interval_s})


@pytest.mark.parametrize("version", ["5", "3.1.1"])
@pytest.mark.parametrize("client_id", ["edged-press-07-test", "edged-press-07-spare"])
def test_the_later_one_waits_and_the_first_does_not_notice(
    broker: Mosquitto, version: str, client_id: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The first with the same client id is the card that was copied: a CONNECT with it would end the first's."""

    async def scenario() -> None:
        first = Box(broker.url, version=version)
        first.mqtt.retain(TREE.info, info(OWN))
        later = Box(broker.url, version=version, own=OTHER, client_id=client_id)
        async with running(first), running(later, wait=False):
            await until(lambda: later.mqtt.facts().namesake)
            with User(broker.port, f"{TREE.root}/#") as user:
                user.send(INFER, "one")
                user.send(TREE.push("digits"), b"model")
                await until(lambda: user.on(RESULT) and first.pushes)
                await asyncio.sleep(1.5)  # for a fight, or a second answer
                assert len(user.on(RESULT)) == 1
                assert [one.payload for one in user.on(TREE.status)] == [b"online"]
            assert (later.pushes, later.lane.seen) == ([], [])
            assert first.mqtt.facts().reconnects == 0
            facts = later.mqtt.facts()
            assert (facts.connected, facts.pushes_connected, facts.namesake) == (False, False, "press-07.plant")
            assert facts.last_error.startswith("another machine is online as press-07 (press-07.plant): this one waits")
            assert later.mqtt.alive()

    with caplog.at_level(logging.WARNING):
        run(scenario)
    assert len([one for one in caplog.records if "another machine is online" in one.getMessage()]) == 1


def test_it_takes_over_when_the_first_is_gone(broker: Mosquitto) -> None:
    async def scenario() -> None:
        later = Box(broker.url, own=OTHER)
        first = Box(broker.url)
        first.mqtt.retain(TREE.info, info(OWN))
        async with running(first):
            await later.mqtt.start()
            await until(lambda: later.mqtt.facts().namesake)
        try:
            await until(lambda: later.connected, 20)
            with User(broker.port, RESULT) as user:
                user.send(INFER, "two")
                await until(lambda: user.on(RESULT))
            assert (later.mqtt.facts().namesake, len(later.lane.seen)) == ("", 1)
        finally:
            await later.mqtt.stop()

    run(scenario)


def test_of_two_that_come_online_at_one_moment_one_gives_way(
    broker: Mosquitto, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the power comes back both look, and see nobody. Here: neither looks, the first time."""
    looked: set[object] = set()
    wait = Lookout.wait

    def skip_once(self: Lookout, *arguments: Any) -> None:
        if self in looked:
            wait(self, *arguments)
        looked.add(self)

    monkeypatch.setattr(Lookout, "wait", skip_once)

    async def scenario() -> None:
        stays, goes = Box(broker.url), Box(broker.url, own=OTHER, client_id="edged-press-07-spare")
        stays.mqtt.retain(TREE.info, info(OWN))
        goes.mqtt.retain(TREE.info, info(OTHER))
        async with running(stays, wait=False), running(goes, wait=False):
            await until(lambda: goes.mqtt.facts().namesake == OWN.host, 20)
            with User(broker.port, f"{TREE.root}/#") as user:
                await until(lambda: user.on(TREE.info) and user.on(TREE.status))
                assert user.on(TREE.status)[-1].payload == b"online"
                assert user.json(TREE.info)[-1]["host"] == OWN.host
            assert stays.mqtt.facts().reconnects == 0

    run(scenario)


def test_whoever_gives_way_takes_no_pushes_either(broker: Mosquitto) -> None:
    async def scenario() -> None:
        async with running(Box(broker.url, own=OTHER)) as box:
            await until(lambda: box.mqtt.facts().pushes_connected)
            await asyncio.to_thread(retained_online, broker, OWN, 3600)
            await until(lambda: box.mqtt.facts().namesake == OWN.host)
            await until(lambda: not box.mqtt.facts().pushes_connected)
            with User(broker.port) as user:
                user.send(TREE.push("digits"), b"model")
            assert box.pushes == []
            assert box.mqtt.alive()

    run(scenario)


def retained_online(broker: Mosquitto, own: Machine, interval_s: float = 10) -> None:
    """As a power cut leaves it, when the broker has not noticed yet, or did not keep the will."""
    with User(broker.port) as user:
        user.send(TREE.status, b"online", retain=True)
        user.send(TREE.info, info(own, interval_s), retain=True)


def test_the_same_machine_does_not_wait_for_what_it_was(broker: Mosquitto, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        await asyncio.to_thread(retained_online, broker, OWN)
        async with running(Box(broker.url)) as box:
            assert box.mqtt.facts().namesake == ""

    run(scenario)
    assert "another machine" not in caplog.text


def test_nobody_who_gives_no_sign_of_life_is_waited_for_for_ever(broker: Mosquitto) -> None:
    async def scenario() -> None:
        await asyncio.to_thread(retained_online, broker, OTHER, 0.1)
        async with running(Box(broker.url), wait=False) as box:
            await until(lambda: box.mqtt.facts().namesake == OTHER.host)
            await until(lambda: box.connected, 20)

    run(scenario)


def test_a_stop_does_not_wait_for_the_other(broker: Mosquitto) -> None:
    async def scenario() -> None:
        await asyncio.to_thread(retained_online, broker, OTHER, 3600)
        box = Box(broker.url)
        async with running(box, wait=False):
            await until(lambda: box.mqtt.facts().namesake)
        thread = box.mqtt._link._thread
        assert thread is not None
        assert not thread.is_alive()

    run(scenario)


def test_a_broker_that_ends_while_we_wait_is_tried_again(broker: Mosquitto) -> None:
    async def scenario() -> None:
        await asyncio.to_thread(retained_online, broker, OTHER, 3600)
        box = Box(broker.url)
        async with running(box, wait=False):
            await until(lambda: box.mqtt.facts().namesake)
            broker.kill()  # and with it all that it retained
            await until(lambda: not box.mqtt.facts().namesake)
            broker.start()
            await until(lambda: box.connected, 20)

    run(scenario)


def test_a_user_who_may_not_read_who_is_there_goes_on(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("acl")
    (folder / "acl").write_text("topic write edged/#\ntopic read edged/press-07/models/#\n")

    async def scenario() -> None:
        with Mosquitto(folder, f"acl_file {folder}/acl") as strict:
            async with running(Box(strict.url, version="5")) as box:
                with User(strict.port) as user:
                    user.send(INFER, "x")
                    await until(lambda: box.lane.seen)

    run(scenario)
