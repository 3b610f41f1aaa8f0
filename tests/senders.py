"""Senders that number their inputs and remember every answer, to count what was lost."""

from __future__ import annotations

import contextlib
import csv
import functools
import http.client
import json
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from tests.box import DIGITS, Box, UnixConnection
from tests.waiting import until

EPOCH_MS = 1_700_000_000_000  # of the time stamps that carry an MQTT input's number
NOBODY = 0x10  # a PUBACK's reason: no matching subscribers (MQTT 5, 3.4.2.1)


@functools.cache
def scans() -> list[tuple[int, list[int]]]:
    """The test scans: (label, 64 pixels of 0 to 16)."""
    with (DIGITS / "digits_test.csv").open(newline="") as file:
        rows = list(csv.reader(file))[1:]
    return [(int(row[0]), [int(value) for value in row[1:]]) for row in rows]


def configuration(url: str, *, push: str = "", model: str = "", file: Path = DIGITS / "digits_v1_int8.onnx") -> str:
    """A box that reads scans with a time stamp from cells/<cell>/scan and takes simple pushes."""
    return f"""
device: box
mqtt: {{url: "{url}"}}
models:
  digits:
    file: {file}
    inputs:
      - {{topic: cells/+cell/scan, format: values, field: pixels, time: ts}}
    preprocess: [{{scale: 0.0625}}, {{reshape: [1, 8, 8]}}]
    postprocess: [softmax, argmax]
    output: {{topic: "cells/{{cell}}/digit"}}
    {model}
push:
  require_signature: false
  {push}
"""


class Sender:
    """Sends in a thread of its own from `with` to its end, with a pause after each input: `sent` of them, `errors`."""

    def __init__(self, pause_s: float) -> None:
        self.pause_s = pause_s
        self.sent = 0
        self.errors: list[str] = []
        self.versions: set[str] = set()
        self.right = 0
        self._leave = threading.Event()
        self._thread = threading.Thread(target=self._work)
        self._failure: BaseException | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave.set()
        self._thread.join(30)
        if error is None and self._failure is not None:
            raise self._failure

    def _work(self) -> None:
        try:
            self.send_all(self._leave)
        except BaseException as error:  # noqa: BLE001 - raised in the test's thread
            self._failure = error

    def send_all(self, leave: threading.Event) -> None:
        raise NotImplementedError

    @property
    def lost(self) -> int:
        raise NotImplementedError


class HttpSender(Sender):
    """One request after the other over the UNIX socket, each with the next scan."""

    def __init__(self, box: Box, *, pause_s: float = 0.0) -> None:
        super().__init__(pause_s)
        self._box = box
        self.answers = 0

    def send_all(self, leave: threading.Event) -> None:
        connection = UnixConnection(self._box.socket)
        with contextlib.closing(connection):
            while not leave.is_set():
                label, pixels = scans()[self.sent % len(scans())]
                self.sent += 1
                self._ask(connection, label, pixels)
                time.sleep(self.pause_s)

    def _ask(self, connection: http.client.HTTPConnection, label: int, pixels: list[int]) -> None:
        tensor = {"name": "image", "datatype": "FP32", "shape": [1, 1, 8, 8], "data": [value / 16 for value in pixels]}
        connection.request("POST", "/v2/models/digits/infer", json.dumps({"inputs": [tensor]}))
        response = connection.getresponse()
        answer = json.loads(response.read())
        if response.status != 200:
            self.errors.append(f"{response.status} {answer}")
            return
        self.answers += 1
        self.versions.add(answer["model_version"])
        self.right += answer["prediction"][0]["index"] == label

    @property
    def lost(self) -> int:
        return self.sent - self.answers - len(self.errors)


class MqttSender(Sender):
    """Publishes numbered scans at QoS 1 to one cell, at most `window` unanswered, and keeps the answers' numbers."""

    def __init__(self, port: int, cell: str, *, window: int = 4, pause_s: float = 0.0, most: int = 10**9) -> None:
        super().__init__(pause_s)
        self.order: list[int] = []
        self._cell = cell
        self._window = window
        self._most = most
        self._news = threading.Condition()
        self._subscribed = threading.Event()
        self._online = threading.Event()
        self._client = paho.Client(CallbackAPIVersion.VERSION2, client_id=f"sender-{cell}", clean_session=False)
        self._client.max_inflight_messages_set(1000)
        self._client.on_connect = self._on_connect
        self._client.on_subscribe = lambda *_rest: self._subscribed.set()
        self._client.on_message = self._on_message
        self._client.connect("127.0.0.1", port)

    @property
    def answered(self) -> set[int]:
        return set(self.order)

    @property
    def lost(self) -> int:
        return self.sent - len(self.answered)

    @property
    def missing(self) -> list[int]:
        """The numbers of the inputs that have no answer."""
        return sorted(set(range(self.sent)) - self.answered)

    def wait_all(self, limit_s: float = 20) -> None:
        """Until every input has an answer, or the time is over."""
        with self._news:
            self._news.wait_for(lambda: len(self.answered) == self.sent, limit_s)

    def send_all(self, leave: threading.Event) -> None:
        self._client.loop_start()
        try:
            # Before the box and this sender have subscribed, the broker has nobody to give a message to.
            if not (self._subscribed.wait(20) and self._online.wait(20)):
                raise TimeoutError("the box is not online")
            while not leave.is_set() and self.sent < self._most:
                with self._news:
                    self._news.wait_for(lambda: self.sent - len(self.order) < self._window or leave.is_set(), 1)
                    if self.sent - len(self.order) >= self._window:
                        continue
                    number = self.sent
                    self.sent += 1
                _, pixels = scans()[number % len(scans())]
                payload = json.dumps({"pixels": pixels, "ts": EPOCH_MS + number})
                self._client.publish(f"cells/{self._cell}/scan", payload, qos=1)
                time.sleep(self.pause_s)
            leave.wait()
            self.wait_all()
        finally:
            self._client.disconnect()
            self._client.loop_stop()

    def _on_connect(self, client: paho.Client, *_rest: Any) -> None:
        topics = (f"cells/{self._cell}/digit", "edged/box/models/digits/error/#", "edged/box/status")
        client.subscribe([(topic, 1) for topic in topics])

    def _on_message(self, _client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
        if message.topic == "edged/box/status":
            if message.payload == b"online":
                self._online.set()
            return
        answer = json.loads(message.payload)
        with self._news:
            if "/error" in message.topic:
                self.errors.append(str(answer))
            else:
                number = answer["parameters"]["ts"] - EPOCH_MS
                self.order.append(number)
                self.versions.add(answer["model_version"])
                self.right += answer["prediction"][0]["index"] == scans()[number % len(scans())][0]
            self._news.notify_all()


def push(port: int, content: bytes, *, version: str = "") -> None:
    """A simple push, as `mosquitto_pub -f` would send it; returns when the box has been sent it.

    A box that has just started may not have subscribed yet: with MQTT 5 the broker says so, and it is sent again.
    """
    client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
    said: list[bool] = []
    client.on_publish = lambda _client, _data, _mid, reason, _properties: said.append(reason.value == NOBODY)
    properties = None
    if version:
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        properties.UserProperty = ("version", version)
    client.connect("127.0.0.1", port)
    client.loop_start()
    until_s = time.monotonic() + 10
    while True:
        client.publish("edged/box/models/digits/push", content, qos=1, properties=properties).wait_for_publish(10)
        until(lambda: said)
        if not said.pop():
            break
        assert time.monotonic() < until_s, "the box does not listen for pushes"
        time.sleep(0.02)
    client.disconnect()
    client.loop_stop()
