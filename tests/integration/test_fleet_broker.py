"""push.mqtt: an operator whose broker is not the plant's pushes a release and sees what became of it, at his own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.box import box
from tests.brokers import Mosquitto, have_mosquitto
from tests.integration.mqtt.box import User
from tests.integration.test_signed_install import document, released, signed_configuration
from tests.operators import Desk
from tests.senders import HttpSender
from tests.signing import sha256_of

pytestmark = pytest.mark.skipif(not have_mosquitto(), reason="Mosquitto is not installed")


@pytest.fixture
def brokers(tmp_path: Path) -> Iterator[tuple[Mosquitto, Mosquitto]]:
    with ExitStack() as stack:
        for name in ("plant", "fleet"):
            (tmp_path / name).mkdir()
        plant, fleet = (stack.enter_context(Mosquitto(tmp_path / name)) for name in ("plant", "fleet"))
        yield plant, fleet


def test_an_operator_needs_only_the_broker_of_pushes(
    brokers: tuple[Mosquitto, Mosquitto], digits: Path, tmp_path: Path
) -> None:
    plant, fleet = brokers
    desk = Desk(tmp_path / "desk", fleet.url)
    folder = released(desk, digits / "digits_v2_int8.onnx", 2)
    configuration = signed_configuration(desk, plant.url).replace("push:\n", f'push:\n  mqtt: {{url: "{fleet.url}"}}\n')
    with User(plant.port, "edged/ota/#", "edged/box/need") as neighbour, box(configuration) as one:
        one.wait(lambda: one.status()["daemon"]["mqtt"]["pushes_connected"])
        assert one.status()["daemon"]["mqtt"]["pushes_url"] == fleet.url
        with HttpSender(one, pause_s=0.005) as sender:
            code, said = desk.run("push", str(folder), "--to", "all", "--wait=90s")
        assert code == 0, said
        assert (sender.lost, sender.errors, sender.versions) == (0, [], {"1", "2"})
        assert (one.folder / "state" / "releases" / sha256_of(document(folder))).is_dir()
        (found,) = desk.status()["boxes"]
        assert (found["name"], found["online"]) == ("box", True)
        assert (found["models"][0]["running"], found["models"][0]["done"]) == ("2", True)
        assert one.stop() == 0
        assert not desk.status()["boxes"][0]["online"]
        assert not neighbour.messages
