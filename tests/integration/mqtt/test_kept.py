"""What the broker retains of models that are gone, or whose results go elsewhere."""

from __future__ import annotations

import msgspec
import pytest

from edged.config import schema
from edged.messages import Input
from tests.brokers import Mosquitto, have_mosquitto
from tests.integration.mqtt.box import DIGITS, OWN, TREE, Box, User, run, running, until

pytestmark = pytest.mark.skipif(not have_mosquitto(), reason="Mosquitto is not installed")

CELLS = msgspec.structs.replace(
    DIGITS,
    inputs=(schema.Input("cells/+cell/scan"),),
    output=schema.Output("cells/{cell}/digit", retain=True),
)
ELSEWHERE = msgspec.structs.replace(CELLS, output=schema.Output("plant/{cell}/digit", retain=True))
NOT_KEPT = msgspec.structs.replace(CELLS, output=schema.Output("cells/{cell}/digit"))


def retained(broker: Mosquitto, *filters: str) -> dict[str, bytes]:
    with User(broker.port, *filters) as user:
        user.send("fence", b"")  # what is retained came before the answer to this
        return {message.topic: bytes(message.payload) for message in user.messages if message.retain}


def adopt(box: Box, *models: schema.Model) -> None:
    def same(item: Input) -> Input:
        return item

    box.mqtt.adopt(models, (), schema.Push(), same)


@pytest.mark.parametrize(
    ("then", "left"),
    [((), []), ((ELSEWHERE,), []), ((NOT_KEPT,), []), ((CELLS,), ["cells/1/digit", "cells/2/digit"])],
)
def test_a_reload_takes_back_what_is_retained_no_more(
    tmp_path_factory: pytest.TempPathFactory, then: tuple[schema.Model, ...], left: list[str]
) -> None:
    async def scenario() -> None:
        with Mosquitto(tmp_path_factory.mktemp("broker")) as broker:
            async with running(Box(broker.url, CELLS)) as box:
                with User(broker.port, "cells/+/digit") as user:
                    for cell in "12":
                        user.send(f"cells/{cell}/scan", b"x")
                    await until(lambda: len(user.messages) == 2)
                    box.lane.open = False
                    user.send("cells/2/scan", b"under way")
                    await until(lambda: box.lane.queue)
                    adopt(box, *then)
                    box.lane.open = True
                    box.lane.work()
                    await until(lambda: len(user.on("cells/2/digit")) >= 2)
                await until(lambda: box.connected)
                assert sorted(retained(broker, "cells/#")) == left

    run(scenario)


def test_what_was_said_of_a_model_that_was_taken_out_between_two_starts_is_taken_back(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    info = msgspec.json.encode(msgspec.structs.asdict(OWN) | {"models": [{"name": "digits"}, {"name": "gone"}]})

    async def scenario() -> None:
        with Mosquitto(tmp_path_factory.mktemp("broker")) as broker:
            for _ in range(2):
                async with running(Box(broker.url)) as box:
                    box.mqtt.retain(TREE.info, info)
                    for model in ("digits", "gone"):
                        box.mqtt.retain(TREE.model_status(model), b"{}")
                        box.mqtt.retain(TREE.install(model), b"{}")
                    await until(lambda: box.connected)
                assert len(retained(broker, f"{TREE.root}/models/#", f"{TREE.root}/install/#")) == 4
                async with running(Box(broker.url)) as box:
                    found = retained(broker, f"{TREE.root}/models/#", f"{TREE.root}/install/#")
                    assert sorted(found) == [TREE.install("digits"), TREE.model_status("digits")]

    run(scenario)


def test_what_a_kept_session_has_from_another_configuration_is_let_go(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Else overlapping filters bring each input twice, and a group goes on losing this box's part of its inputs."""
    inputs = schema.Input("cells/+"), schema.Input("line/#", share="g")
    before = msgspec.structs.replace(DIGITS, inputs=inputs)
    after = msgspec.structs.replace(DIGITS, inputs=(schema.Input("cells/#"),))
    info = msgspec.structs.asdict(OWN) | {"subscriptions": ["$share/g/line/#", "cells/+", "no/#/filter"]}

    async def scenario() -> None:
        with Mosquitto(tmp_path_factory.mktemp("broker")) as broker:
            async with running(Box(broker.url, before)) as box:
                box.mqtt.retain(TREE.info, msgspec.json.encode(info))
                await until(lambda: box.connected)
            async with running(Box(broker.url, after)) as box:
                await until(lambda: broker.says("Received UNSUBSCRIBE"))
                with User(broker.port, "$share/g/line/#") as user:
                    for number in range(4):
                        user.send("line/1", str(number))
                        user.send("cells/1", str(number))
                    await until(lambda: len(user.messages) == 4 and len(box.lane.seen) >= 4)
                    user.send("cells/1", "last")
                    await until(lambda: box.lane.seen[-1].payload == b"last")
                assert [bytes(item.payload) for item in box.lane.seen] == [b"0", b"1", b"2", b"3", b"last"]

    run(scenario)


def test_a_reload_asks_for_what_is_new_before_it_lets_go_of_what_was(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """What comes in between comes to one of the two."""

    async def scenario() -> None:
        with Mosquitto(tmp_path_factory.mktemp("broker")) as broker:
            async with running(Box(broker.url, CELLS)) as box:
                await until(lambda: box.connected)
                adopt(box, msgspec.structs.replace(CELLS, inputs=(schema.Input("cells/#"), schema.Input("more/#"))))
                await until(lambda: broker.says("Received UNSUBSCRIBE"))
                said = broker.log.read_text()
                assert said.index(" 1 more/#") < said.index("Received UNSUBSCRIBE")

    run(scenario)
