"""The players of the demonstration: scans, who sends them over MQTT and over the UNIX socket, and the processes."""

from __future__ import annotations

import http.client
import itertools
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

CELLS = ("press", "mill", "lathe")
_HEARD = ("edged/demo/models/digits/error", "edged/demo/install/digits")
WINDOW = 32  # scans under way at once over MQTT


class Failed(Exception):
    """The demonstration did not show what it promises."""


class Scan:
    """One handwritten digit: 64 pixels from 0 (paper) to 16 (ink), and what a person read."""

    def __init__(self, label: int, pixels: Sequence[float]) -> None:
        self.label, self.pixels = label, pixels

    def brighter(self) -> Scan:
        """The same two and a half times as bright: up to 40."""
        return Scan(self.label, [pixel * 5 / 2 for pixel in self.pixels])

    def drawn(self) -> list[str]:
        ink = " .:-=+*#@"
        rows = (self.pixels[start : start + 8] for start in range(0, 64, 8))
        return ["".join(ink[int(pixel) // 2] * 2 for pixel in row) for row in rows]


class Score:
    """Counts sent, answered, failed and right answers, by the version of the model that gave them. For any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.sent = self.answered = self.errors = self.nonfinite = 0
        self.right: dict[str, int] = {}
        self.by_version: dict[str, int] = {}

    def count_sent(self) -> None:
        with self._lock:
            self.sent += 1

    def count(self, answer: dict[str, Any], label: int) -> None:
        with self._lock:
            self.answered += 1
            if "prediction" not in answer:
                self.errors += 1
                return
            self.nonfinite += bool(answer.get("parameters", {}).get("nonfinite"))
            version = str(answer.get("model_version", "?"))
            self.by_version[version] = self.by_version.get(version, 0) + 1
            self.right[version] = self.right.get(version, 0) + (answer["prediction"][0]["index"] == label)

    @property
    def lost(self) -> int:
        return self.sent - self.answered

    def accuracy(self) -> float:
        """Percent of all answers that were right."""
        return 100 * sum(self.right.values()) / max(1, sum(self.by_version.values()))

    def __str__(self) -> str:
        parts = [
            f"{count} by version {v}, {100 * self.right[v] / count:.1f} % right" for v, count in self.by_version.items()
        ]
        return f"sent {self.sent}, lost {self.lost}, errors {self.errors}: " + "; ".join(parts)


# --- two ways in ------------------------------------------------------------------------------------


class Cameras:
    """Publishes scans on cells/<cell>/scan and matches each result on cells/<cell>/digit by its time stamp."""

    def __init__(self, port: int) -> None:
        self.score = Score()
        self.last: dict[str, Any] = {}
        self.install: dict[str, Any] = {}
        self.on_phase: Callable[[dict[str, Any]], None] = _ignore
        self.changed = threading.Condition()
        self._under_way: dict[int, tuple[Scan, threading.Semaphore | None]] = {}
        self._stamps = itertools.count(int(time.time() * 1000))
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="demo-cameras")
        self._client.on_message = self._on_message
        self._client.on_socket_open = lambda _client, _data, sock: sock.setsockopt(
            socket.IPPROTO_TCP, socket.TCP_NODELAY, 1
        )
        subscribed = threading.Event()
        self._client.on_subscribe = lambda *_: subscribed.set()
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        self._client.subscribe([(topic, 1) for topic in ("cells/+/digit", *_HEARD)])
        if not subscribed.wait(10):
            raise Failed("the broker did not confirm the subscription")

    def send(self, scan: Scan, window: threading.Semaphore | None = None) -> None:
        stamp = next(self._stamps)
        with self.changed:
            self._under_way[stamp] = (scan, window)
        self.score.count_sent()
        body = json.dumps({"pixels": scan.pixels, "ts": stamp})
        self._client.publish(f"cells/{CELLS[stamp % len(CELLS)]}/scan", body, qos=1)

    def feed(self, scans: list[Scan]) -> None:
        """All of them, WINDOW at a time; returns when every one is answered."""
        window = threading.Semaphore(WINDOW)
        for scan in scans:
            if not window.acquire(timeout=15):
                raise Failed("no answer over MQTT in 15 s")
            self.send(scan, window)
        self.settle()

    def settle(self, timeout_s: float = 15) -> None:
        with self.changed:
            if not self.changed.wait_for(lambda: not self._under_way, timeout_s):
                raise Failed(f"{len(self._under_way)} scans sent over MQTT were never answered")

    def wait_for_verdict(self, timeout_s: float = 10) -> dict[str, Any]:
        """What the box says of the last push, once that has ended."""
        with self.changed:
            self.changed.wait_for(lambda: self.install.get("verdict") is not None, timeout_s)
            return self.install

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _on_message(self, _client: mqtt.Client, _data: object, message: mqtt.MQTTMessage) -> None:
        if message.topic not in _HEARD and not message.topic.endswith("/digit"):
            return  # amqtt brings what is retained for the subscriptions of others, too
        answer = json.loads(message.payload)
        with self.changed:
            if message.topic == "edged/demo/install/digits":
                before, self.install = self.install, answer
                if (answer["phase"], answer["verdict"]) != (before.get("phase"), before.get("verdict")):
                    self.on_phase(answer)
            elif message.topic == "edged/demo/models/digits/error":
                print(f"   error over MQTT: {answer}")
                self.score.errors += 1
            else:
                self._on_result(answer)
            self.changed.notify_all()

    def _on_result(self, answer: dict[str, Any]) -> None:
        scan, window = self._under_way.pop(answer["parameters"]["ts"], (None, None))
        if scan is not None:  # else a duplicate, which QoS 1 allows
            self.last = answer
            self.score.count(answer, scan.label)
        if window is not None:
            window.release()


def _ignore(_status: dict[str, Any]) -> None:
    """Nobody follows the phases."""


class Application:
    """Asks over the UNIX socket, in the Open Inference Protocol, on one kept connection."""

    def __init__(self, path: Path) -> None:
        self.score = Score()
        self.last: dict[str, Any] = {}
        self._connection = UnixConnection(path)

    def ask(self, scan: Scan) -> None:
        image = {"name": "image", "shape": [1, 1, 8, 8], "datatype": "FP32", "data": [p / 16 for p in scan.pixels]}
        self.score.count_sent()
        self.last = self.request("POST", "/v2/models/digits/infer", {"inputs": [image]})
        self.score.count(self.last, scan.label)

    def request(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        text = None if body is None else json.dumps(body).encode()
        self._connection.request(method, path, text, {"Content-Type": "application/json"} if text else {})
        response = self._connection.getresponse()
        content = response.read()
        return dict(json.loads(content)) if content else {"status": response.status}

    def sees_the_broker(self) -> bool:
        """Whether the daemon has its broker: what is published earlier finds nobody listening."""
        return bool(self.request("GET", "/edged/status")["daemon"]["mqtt"]["connected"])


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a UNIX socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=15)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


# --- the processes ----------------------------------------------------------------------------------


@contextmanager
def process(
    command: list[str], log: Path, environment: dict[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A child whose output goes to `log`; ended by SIGTERM, and by SIGKILL when that takes 15 s."""
    with log.open("wb") as out:
        child = subprocess.Popen(command, stdout=out, stderr=out, env=environment, start_new_session=True)
    try:
        yield child
    finally:
        if child.poll() is None:
            child.send_signal(signal.SIGTERM)
        try:
            child.wait(15)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


@contextmanager
def broker(folder: Path) -> Iterator[int]:
    """The embedded broker, amqtt, on a free port of loopback."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    program = [sys.executable, str(Path(__file__).resolve().parent / "embedded.py"), str(port)]
    with process(program, folder / "broker.log") as child:
        wait(lambda: can_connect(port), child, "the embedded broker")
        yield port


def can_connect(port: int) -> bool:
    with socket.create_connection(("127.0.0.1", port), 1):
        return True


def wait(condition: Callable[[], bool], child: subprocess.Popen[bytes], what: str, timeout_s: float = 30) -> None:
    """Until `condition` holds; a refused connection counts as not yet."""
    end_s = time.monotonic() + timeout_s
    while time.monotonic() < end_s:
        if child.poll() is not None:
            raise Failed(f"{what} ended with {child.returncode}")
        with suppress(OSError, http.client.HTTPException):
            if condition():
                return
        time.sleep(0.05)
    raise Failed(f"{what} was not ready in {timeout_s:.0f} s")


def is_ready(path: Path) -> bool:
    """Whether the daemon listens and its models answer."""
    connection = UnixConnection(path)
    try:
        connection.request("GET", "/edged/status")
        return all(model["state"] == "serving" for model in json.loads(connection.getresponse().read())["models"])
    finally:
        connection.close()
