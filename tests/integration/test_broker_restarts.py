"""A broker that is killed and started again, over and over, under load at QoS 1: nothing is lost, all is in order.

The box and the broker are heard on the wire. What a broker forgets when it is killed (Mosquitto confirms a message,
then writes it down) never reaches the box: that much of the sender's count is the broker's.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

from tests.box import DIGITS, Box, box
from tests.brokers import Mosquitto
from tests.proxy import proxied
from tests.tap import Tap

MODEL = DIGITS / "digits_v1_int8.onnx"
CONFIG = """
device: box
mqtt: {{url: "{url}", version: "3.1.1", outbox: {{rate: 20/s}}}}
models:
  stream:
    file: {model}
    inputs: [{{topic: cells/+cell/scan, format: values}}]
    output: {{topic: "cells/{{cell}}/digit"}}
  asked: {{file: {model}, output: {{from: all}}}}
"""
RESULT = "edged/box/models/asked/result"
PIXELS = json.dumps([0.0] * 64).encode()


class Load:
    """Two senders in threads of their own: `confirmed` inputs over MQTT, `answered` requests over HTTP, by number."""

    def __init__(self, port: int, one: Box) -> None:
        self.answered: list[int] = []
        self.sent: dict[int, int] = {}  # of inputs, by packet identifier
        self._mids: set[int] = set()  # that the broker has confirmed
        self._box = one
        self._leave = threading.Event()
        self._client = Client(CallbackAPIVersion.VERSION2, client_id="sender", clean_session=False)
        self._client.reconnect_delay_set(1, 1)
        self._client.on_publish = lambda _client, _data, mid, *_: self._mids.add(mid)
        self._client.connect("127.0.0.1", port)
        self._threads = [threading.Thread(target=self._stream), threading.Thread(target=self._ask)]

    @property
    def confirmed(self) -> set[int]:
        return {number for mid, number in self.sent.items() if mid in self._mids}

    def __enter__(self) -> Self:
        self._client.loop_start()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._leave.set()
        for thread in self._threads:
            thread.join(30)

    def _stream(self) -> None:
        number = 0
        while not self._leave.wait(0.02):
            mid = self._client.publish(f"cells/{number}/scan", PIXELS, 1).mid
            self.sent[mid] = number
            number += 1

    def _ask(self) -> None:
        pixels = {"name": "image", "shape": [1, 1, 8, 8], "datatype": "FP32", "data": [0.0] * 64}
        number = 0
        while not self._leave.wait(0.02):
            code, _ = self._box.infer("asked", [pixels], id=str(number))
            assert code == 200
            self.answered.append(number)
            number += 1

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()
        self._client._reset_sockets()


def cell(topic: str) -> int:
    return int(topic.split("/")[1])


def is_in_order(numbers: list[int]) -> bool:
    """Whether they are two rising sequences in one: new results, and those of the outbox."""
    ends = [-1, -1]
    for number in dict.fromkeys(numbers):  # what comes twice counts the first time
        fitting = [end for end in ends if end < number]
        if not fitting:
            return False
        ends[ends.index(max(fitting))] = number
    return True


@contextlib.contextmanager
def kept(folder: Path) -> Iterator[Mosquitto]:
    folder.mkdir()
    with Mosquitto(folder, "max_queued_messages 0", keeps=True) as broker:
        yield broker


def restarted(broker: Mosquitto, one: Box, every_s: float) -> None:
    """Killed, away for a second, back, and in use for a while."""
    broker.kill()
    time.sleep(1)
    broker.start()
    one.wait(lambda: one.status()["daemon"]["mqtt"]["connected"], 60)
    time.sleep(every_s)


def scenario(folder: Path, restarts: int, every_s: float) -> str:
    tap = Tap()
    with (
        kept(folder / "broker") as broker,
        proxied(broker.port, watch=tap) as proxy,
        box(CONFIG.format(url=proxy.url, model=MODEL)) as one,
    ):
        one.wait(lambda: one.status()["daemon"]["mqtt"]["connected"])
        load = Load(broker.port, one)
        with load:
            time.sleep(1)
            for _ in range(restarts):
                restarted(broker, one, every_s)
        try:
            one.wait(lambda: len(load.confirmed) == len(load.sent), 60)
            taken = {cell(topic) for topic, _ in tap.of("taken", "/scan")}
            one.wait(lambda: taken <= {cell(topic) for topic, _ in tap.of("confirmed", "/digit")}, 60)
            one.wait(lambda: not one.status()["daemon"]["mqtt"]["queued"], 120)
            facts = one.status()["daemon"]["mqtt"]
        finally:
            load.close()
    assert facts["reconnects"] == restarts
    assert set(facts["dropped"]) <= {"offline"}  # telemetry, QoS 0
    return judge(tap, load)


def judge(tap: Tap, load: Load) -> str:
    """What came of it, in words."""
    sent: set[str] = set()
    for what, topic, _ in tap.steps:
        if what == "sent":
            sent.add(topic)
        elif what == "acknowledged" and topic.endswith("/scan"):
            assert topic.replace("/scan", "/digit") in sent, (
                f"{topic} was acknowledged before its result was on its way"
            )
    confirmed = {cell(topic) for topic, _ in tap.of("confirmed", "/digit")}
    taken = {cell(topic) for topic, _ in tap.of("taken", "/scan")}
    assert not taken - confirmed
    forgotten = load.confirmed - taken
    asked = [int(json.loads(payload)["id"]) for topic, payload in tap.of("sent", RESULT)]
    assert set(load.answered) <= {int(json.loads(payload)["id"]) for topic, payload in tap.of("confirmed", RESULT)}
    assert is_in_order(asked)
    twice = len(asked) - len(set(asked))
    return (
        f"inputs {len(load.confirmed)} confirmed to their sender, {len(taken)} reached the box, {len(forgotten)} the "
        f"broker forgot; {len(confirmed)} answered; over HTTP {len(load.answered)}, {twice} sent twice"
    )


@pytest.mark.slow
def test_nothing_is_lost_over_six_restarts(tmp_path: Path) -> None:
    scenario(tmp_path, 6, 5.2)


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_nothing_is_lost_in_ten_minutes_of_restarts(tmp_path: Path, tell: Callable[[str], None]) -> None:
    tell(scenario(tmp_path, 30, 18.0))
