"""Those who ask a box over MQTT and gRPC in the soak test, and whoever looks after it."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import signal
import subprocess
import sys
import threading
from typing import Any, Final, Self

import numpy as np
import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from edged import protobuf
from tests.box import DIGITS, ROOT, Box
from tests.senders import push
from tests.soak.callers import Work

VERSIONS: Final = [(DIGITS / f"digits_v{number}_int8.onnx").read_bytes() for number in (1, 2)]
_GRPC: Final = "ModelInfer"
_PATIENCE_S: Final = 100.0


class Grpc:
    """gRPC's own client in a process of its own, for so many seconds; every tenth of its calls is bad."""

    def __init__(self, port: int, seconds: float, pause_s: float) -> None:
        script = ROOT / "tests" / "clients" / "plain_grpc.py"
        command = [sys.executable, str(script), f"127.0.0.1:{port}", _GRPC, message(4).hex(), "--load", f"{seconds}"]
        self._command = [*command, "--in-flight", "2", "--pause", f"{pause_s}", "--bad", message(5).hex()]
        self._seconds = seconds
        self.name = "gRPC"
        self.counts: dict[str, int] = {}
        self.faults: list[str] = []

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        return self

    def __exit__(self, *_: object) -> None:
        try:
            out, complaint = self._process.communicate(timeout=self._seconds + _PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
            self.faults.append("gRPC: its client hangs")
            return
        if self._process.returncode:
            self.faults.append(f"gRPC: {complaint.decode()[-1000:]}")
            return
        said = json.loads(out)
        self.counts = {"sent": said["sent"], "good": said.get("OK", 0), "refused": said.get("INVALID_ARGUMENT", 0)}
        self.counts["overloaded"] = said.get("UNAVAILABLE", 0) + said.get("DEADLINE_EXCEEDED", 0)
        if not self.counts["good"] or not self.counts["refused"]:
            self.faults.append(f"gRPC: {said}")

    @property
    def unanswered(self) -> int:
        return self.counts.get("sent", 0) - sum(self.counts.get(what, 0) for what in ("good", "refused", "overloaded"))


def message(columns: int) -> bytes:
    """A ModelInfer request to linear, which has four columns."""
    put = protobuf.put
    tensor = put(1, b"x") + put(2, b"FP32") + put(3, protobuf.as_varint(1) + protobuf.as_varint(columns))
    return put(1, b"linear") + put(5, tensor) + put(7, np.zeros(columns, np.float32).tobytes())


class Asking(Work):
    """Inputs by topic and number over MQTT, each on a topic that nobody has used before: `models/linear/infer/<n>` at
    QoS 1, whose every answer has to come, and raw numbers at QoS 0, of which the broker may drop some. One of ten is no
    input at all. Hears the telemetry too.
    """

    def __init__(self, port: int, name: str, pause_s: float) -> None:
        super().__init__("MQTT by id", pause_s)
        self._mine = f"{name}-"
        self._news = threading.Condition()
        self._unanswered: set[str] = set()
        self._subscribed = threading.Event()
        self._client = paho.Client(CallbackAPIVersion.VERSION2, client_id=f"asking-{name}")
        self._client.on_connect = self._on_connect
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.on_message = self._on_message
        self._client.connect("127.0.0.1", port)

    def open(self, stack: contextlib.ExitStack) -> None:
        self._client.loop_start()
        stack.callback(self._end)
        if not self._subscribed.wait(20):
            raise TimeoutError("the broker does not answer")

    def turn(self) -> None:
        self.counts["sent"] += 1
        number = f"{self._mine}{self.counts['sent']}"
        values = [1.0, 2.0, 3.0] if self.is_bad() else [1.0, 2.0, 3.0, 4.0]
        tensor = {"name": "x", "shape": [1, len(values)], "datatype": "FP32", "data": values}
        with self._news:
            self._unanswered.add(number)
        self._client.publish(f"edged/box/models/linear/infer/{number}", json.dumps({"inputs": [tensor]}), 1)
        self._client.publish("rows/one/in", np.array(values, np.float32).tobytes(), 0)
        self.counts["QoS 0 sent"] += 1
        with self._news:
            self._news.wait_for(lambda: len(self._unanswered) < 8, 10)

    def _end(self) -> None:
        with self._news:
            self._news.wait_for(lambda: not self._unanswered, 20)
            missing = sorted(self._unanswered)
        if missing:
            self.faults.append(f"{self.name}: {len(missing)} of {self.counts['sent']} unanswered: {missing[:5]}")
        self._client.disconnect()
        self._client.loop_stop()

    def _on_connect(self, client: paho.Client, *_: Any) -> None:
        topics = ["edged/box/models/linear/result/#", "edged/box/models/linear/error/#", "edged/box/telemetry"]
        client.subscribe([(topic, 1) for topic in [*topics, "rows/one/out"]])

    def _on_message(self, _client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
        branch, _, number = message.topic.rpartition("/")
        if message.topic in ("edged/box/telemetry", "rows/one/out"):
            self.counts["telemetry" if number == "telemetry" else "QoS 0 answered"] += 1
            return
        with self._news:
            if number in self._unanswered:
                self._unanswered.discard(number)
                self.counts["refused" if "/error" in branch else "good"] += 1
                self._news.notify_all()


class Keeper(Work):
    """Pushes the other version of digits and waits for it to stay, then has the configuration read again: with another
    queue and one model more, as it was, and, every third time, one that is refused.
    """

    def __init__(self, box: Box, port: int, pause_s: float) -> None:
        super().__init__("keeper", pause_s)
        self._box = box
        self._port = port
        self._text = box.config.read_text()
        self._other = self._text.replace("queue: {size: 64}", "queue: {size: 65}")
        self._other += f"  guest: {{file: {DIGITS / 'digits_v1_int8.onnx'}}}\n"
        self._texts = itertools.cycle((self._other, self._text, "models: {digits: {fil: x}}\n"))

    def open(self, stack: contextlib.ExitStack) -> None:
        stack.callback(self.reload, self._text)  # as it was

    def turn(self) -> None:
        live = self._box.model("digits")["sha256"]
        self.swap(next(content for content in VERSIONS if hashlib.sha256(content).hexdigest() != live))
        self.reload(next(self._texts))

    def swap(self, content: bytes) -> None:
        before = self._box.model("digits")
        push(self._port, content)

        def settled() -> bool:
            now = self._box.model("digits")
            return bool(now["version"] != before["version"] and now["install"]["phase"] == "idle")

        self._box.wait(settled, _PATIENCE_S)
        if (found := self._box.model("digits")["install"])["verdict"] != "active":
            self.faults.append(f"keeper: the pushed version did not stay: {found}")
        self.counts["swaps"] += 1

    def reload(self, text: str) -> None:
        before = self._box.status()["daemon"]["reload"]
        self._box.config.write_text(text)
        assert self._box.process is not None
        self._box.process.send_signal(signal.SIGHUP)
        self._box.wait(lambda: self._box.status()["daemon"]["reload"] not in (None, before), _PATIENCE_S)
        refused = "not reloaded" in self._box.status()["daemon"]["reload"]["message"]
        if refused is not ("fil: x" in text):
            self.faults.append(f"keeper: {self._box.status()['daemon']['reload']}")
        self.counts["reloads refused" if refused else "reloads"] += 1
