"""One stream spread over three boxes by a shared subscription, on a real Mosquitto."""

from __future__ import annotations

import contextlib
from collections import Counter

from tests.box import DIGITS, Box, box
from tests.brokers import Mosquitto
from tests.integration.mqtt.box import User

CONFIG = """
device: {device}
mqtt: {{url: "{url}", client_id: {device}}}
models:
  digits:
    file: {model}
    inputs: [{{topic: "cells/+cell/scan", share: line-2, format: values}}]
    output: {{topic: "cells/{{cell}}/digit"}}
"""
INPUTS = 90


def send(user: User, numbers: range) -> None:
    for number in numbers:
        user.send(f"cells/{number}/scan", str([number % 16] * 64).encode())


def answered(user: User) -> Counter[int]:
    return Counter(int(message.topic.split("/")[1]) for message in list(user.messages))


def taken(one: Box) -> int:
    count: int = one.model("digits")["requests"]
    return count


def test_three_boxes_share_a_stream_and_one_that_is_killed_answers_its_part_when_it_is_back(broker: Mosquitto) -> None:
    with contextlib.ExitStack() as stack:
        boxes = [
            stack.enter_context(
                box(CONFIG.format(device=f"press-0{number}", url=broker.url, model=DIGITS / "digits_v1_int8.onnx"))
            )
            for number in range(3)
        ]
        user = stack.enter_context(User(broker.port, "cells/+/digit"))
        for one in boxes:
            one.wait(lambda one=one: one.status()["daemon"]["mqtt"]["connected"])
        send(user, range(INPUTS))
        boxes[0].wait(lambda: len(answered(user)) == INPUTS)
        assert set(answered(user).values()) == {1}
        assert [taken(one) for one in boxes] == [INPUTS / 3] * 3
        # Whatever this one has taken and not answered now waits for it, and so does its part of what comes.
        boxes[0].kill()
        send(user, range(INPUTS, 2 * INPUTS))
        boxes[1].wait(lambda: taken(boxes[1]) + taken(boxes[2]) >= 2 * INPUTS / 3 + 2 * INPUTS / 3)
        boxes[0].start()
        boxes[0].wait(lambda: len(answered(user)) == 2 * INPUTS)
        assert set(answered(user)) == set(range(2 * INPUTS))
