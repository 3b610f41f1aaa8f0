"""One model that is failed, beside one that answers: a real daemon and a real Mosquitto."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from tests.box import DIGITS, box
from tests.brokers import Mosquitto
from tests.integration.mqtt.box import User


@pytest.mark.parametrize("five", [True, False])
def test_inputs_that_wait_for_a_failed_model_do_not_hold_up_those_of_another(
    broker: Mosquitto, tmp_path: Path, *, five: bool
) -> None:
    """They fill the window in which the broker sends; after 10 s they are answered, and nothing waits any more."""
    bad = tmp_path / "bad.onnx"
    bad.write_bytes(b"no model")
    version = "5" if five else "3.1.1"
    configuration = f"""
device: box
mqtt: {{url: "{broker.url}", version: "{version}"}}
models:
  digits: {{file: {DIGITS / "digits_v1_int8.onnx"}}}
  failed: {{file: {bad}}}
"""
    answer = "edged/box/models/digits/result/x"
    with box(configuration) as one, User(broker.port, answer) as user:
        one.wait(lambda: "connected" in one.log.read_text() and one.model("failed")["state"] == "failed")
        for number in range(280):
            user.send(f"edged/box/models/failed/infer/{number}", "[1]")
        user.send("edged/box/models/digits/infer/x", json.dumps([0.0] * 64))
        until_s = time.monotonic() + 20
        while not user.on(answer) and time.monotonic() < until_s:
            time.sleep(0.02)
        assert user.on(answer)
