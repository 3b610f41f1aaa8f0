"""The operator's connection against a broker that takes a file and never says that it has it."""

from __future__ import annotations

import asyncio

import pytest

from edged.config import schema
from edged.errors import EdgedError
from edged.transports.mqtt.publisher import Publisher
from tests.integration.mqtt.box import run
from tests.integration.mqtt.test_strangers import CONNACK_311, broker

PINGRESP = b"\xd0\x00"


def test_a_broker_that_answers_pings_and_confirms_nothing_is_given_up() -> None:
    taken: list[int] = []

    def handle(kind: int, body: bytes, writer: asyncio.StreamWriter) -> None:
        if kind == 1:
            writer.write(CONNACK_311)
        elif kind == 3:
            taken.append(len(body))
        elif kind == 12:
            writer.write(PINGRESP)

    def publish(url: str) -> str:
        with Publisher(
            schema.Mqtt((url,), version="3.1.1"), "edged-push", lambda *_: None, confirmed_s=0.5
        ) as publisher:
            publisher.connect([])
            with pytest.raises(EdgedError) as caught:
                publisher.publish("edged/box/models/m/push", bytes(4 * 2**20))
        assert caught.value.fault.code == "broker"
        assert caught.value.fault.hint
        return caught.value.fault.message

    async def scenario() -> None:
        async with broker(handle) as url:
            said = await asyncio.wait_for(asyncio.to_thread(publish, url), 20)
        assert said == "the broker was sent 4194304 bytes and did not confirm them within 0.5 s"
        assert taken == [4 * 2**20 + 2 + len("edged/box/models/m/push") + 2]

    run(scenario)
