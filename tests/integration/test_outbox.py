"""What HTTP was answered while the broker was away is published later, whatever end the daemon met in between."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.box import DIGITS, Box, box
from tests.brokers import Mosquitto
from tests.integration.mqtt.box import User

CONFIG = """
device: press-07
mqtt: {{url: "{url}", outbox: {{rate: 1000/s}}}}
models:
  digits: {{file: {model}, output: {{from: all}}}}
"""
RESULT = "edged/press-07/models/digits/result"


def ask(one: Box, count: int) -> None:
    pixels = {"name": "image", "shape": [1, 1, 8, 8], "datatype": "FP32", "data": [0.0] * 64}
    for number in range(count):
        code, answer = one.infer("digits", [pixels], id=str(number))
        assert code == 200, answer


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_an_outbox_outlives_the_daemon(broker: Mosquitto, end: str) -> None:
    with box(CONFIG.format(url=broker.url, model=DIGITS / "digits_v1_int8.onnx")) as one:
        one.wait(lambda: one.status()["daemon"]["mqtt"]["connected"])
        broker.kill()
        one.wait(lambda: not one.status()["daemon"]["mqtt"]["connected"])
        ask(one, 20)
        outbox = Path(one.folder, "state", "outbox")
        one.wait(lambda: one.status()["daemon"]["mqtt"]["outbox"]["messages"] >= 20 and any(outbox.glob("*.segment")))
        one.wait(lambda: b"edged_mqtt_outbox_messages 2" in one.request("GET", "/metrics")[1])
        assert outbox.stat().st_mode & 0o777 == 0o750
        if end == "kill":
            one.kill()
        else:
            assert one.stop() == 0
        broker.start()
        with User(broker.port, RESULT) as user:
            one.start()
            one.wait(lambda: len(user.json(RESULT)) >= 20)
            assert [answer["id"] for answer in user.json(RESULT)] == [str(number) for number in range(20)]
        one.wait(lambda: one.status()["daemon"]["mqtt"]["outbox"]["messages"] == 0)
