"""What is measured: edged and the scripts it is compared with, each started, asked once, checked, and ended."""

from __future__ import annotations

import contextlib
import http.client
import json
import math
import subprocess
import sys
import time
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from benchmarks.models import Model
from edged import frames, protobuf
from edged.client import Client, EdgedError
from tests.box import Box, UnixConnection, box
from tests.brokers import Mosquitto
from tests.ports import free_port

_PEERS: Final = Path(__file__).parent / "peers"
_PATIENCE_S: Final = 60.0
GRPC_PATH: Final = "/inference.GRPCInferenceService/ModelInfer"
_QUIET: Final = "log_type none\nmax_queued_messages 10000\nmax_inflight_messages 1000"


class WrongAnswerError(Exception):
    """A subject answers, but not what onnxruntime does."""


@dataclass(frozen=True)
class Target:
    """Where a load client sends the inputs of one model, and the processes that then work."""

    pid: int
    where: str  # HTTP: a port or a path. MQTT: the topic of the inputs
    request: Path  # the bytes that the client sends each time
    answers: str = ""  # MQTT: the topic of the answers


def configuration(
    models: list[Model],
    *,
    http_port: int | None = None,
    fast: Path | None = None,
    direct: bool = False,
    grpc_port: int | None = None,
    broker: Mosquitto | None = None,
    qos: int = 1,
) -> str:
    """edged.yaml with these models, as somebody would write it who wants raw numbers over MQTT."""
    document: dict[str, Any] = {"device": "bench", "models": {}, "push": {"require_signature": False}}
    # A larger model on purpose: what its trial does to the live one is the question, not whether it is as fast.
    document["push"]["probation"] = {"time": "2s", "runs": 20, "max_latency": "1000x"}
    ports = {"http": http_port, "grpc": grpc_port}
    document["sockets"] = {name: f"127.0.0.1:{port}" for name, port in ports.items() if port}
    if fast is not None:
        document["sockets"]["fast"] = {"path": str(fast), "direct": direct}
    if broker is not None:
        document["mqtt"] = {"url": broker.url}
    for model in models:
        settings: dict[str, Any] = {"file": str(model.file)}
        document["models"][model.name] = settings
        if broker is not None:
            settings["inputs"] = [{"topic": f"{model.name}/in", "qos": qos, "format": "raw"}]
            settings["output"] = {"topic": f"{model.name}/out", "qos": qos, "format": "raw"}
    return json.dumps(document)  # which is YAML too


@contextlib.contextmanager
def edged(configured: str) -> Iterator[Box]:
    """A running daemon whose models answer."""
    with box(configured) as one:
        yield one


def wait_connected(one: Box) -> None:
    """Until the daemon's connections to its broker are up, that of pushes too."""

    def connected() -> bool:
        said = one.status()["daemon"]["mqtt"]
        return bool(said["connected"] and said["pushes_connected"])

    one.wait(connected)


@contextlib.contextmanager
def broker(folder: Path) -> Iterator[Mosquitto]:
    """A Mosquitto on loopback that writes no log and lets much be in flight."""
    folder.mkdir(parents=True, exist_ok=True)
    with Mosquitto(folder, _QUIET) as running:
        yield running


@contextlib.contextmanager
def peer(script: str, *arguments: object) -> Iterator[int]:
    """One of the scripts in peers/, in a process of its own; gives its pid."""
    with running([sys.executable, str(_PEERS / script), *map(str, arguments)]) as pid:
        yield pid


@contextlib.contextmanager
def running(command: list[str]) -> Iterator[int]:
    """A process that is ended at the end; gives its pid."""
    process = subprocess.Popen(command)
    try:
        yield process.pid
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def bare_run_us(model: Model, seconds: float) -> float:
    """CPU microseconds of a run in onnxruntime alone."""
    command = [sys.executable, str(_PEERS / "onnxruntime_raw.py"), str(model.file), str(seconds)]
    return float(subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=seconds + _PATIENCE_S).stdout)


def oip_request(model: Model) -> tuple[str, dict[str, str], bytes]:
    """(path, headers, body): an Open Inference Protocol request with a binary tensor, the answer binary too."""
    described: dict[str, Any] = {"name": "x", "shape": [1, *model.shape], "datatype": "FP32"}
    raw = model.input_file.read_bytes()
    described["parameters"] = {"binary_data_size": len(raw)}
    head = json.dumps({"inputs": [described], "parameters": {"binary_data_output": True}}).encode()
    return f"/v2/models/{model.name}/infer", {"Inference-Header-Content-Length": str(len(head))}, head + raw


def raw_request(model: Model) -> tuple[str, dict[str, str], bytes]:
    """(path, headers, body) of peers/fastapi_raw.py."""
    return "/infer", {"Content-Type": "application/octet-stream"}, model.input_file.read_bytes()


def http_target(pid: int, where: str, model: Model, parts: tuple[str, dict[str, str], bytes], folder: Path) -> Target:
    """Asks once, when somebody listens, and checks the answer; the request is kept as a file below `folder`."""
    path, headers, body = parts
    answer = _until(lambda: _asked(where, path, headers, body))
    _check(model, answer)
    lines = [f"POST {path} HTTP/1.1", "Host: bench", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    request = folder / f"{model.name}-{path.count('/')}.http"
    request.write_bytes("\r\n".join([*lines, "", ""]).encode() + body)
    return Target(pid, where, request)


def fast_target(pid: int, where: Path, model: Model, folder: Path, *, echo: bool = False) -> Target:
    """The same for frames; an `echo` is no model's answer."""
    raw = model.input_file.read_bytes()

    def asked() -> bytes | None:
        try:
            with Client(str(where)) as client:
                x = np.fromfile(model.input_file, np.float32).reshape(1, *model.shape)
                return bytes(next(iter(client.infer(model.name, {"x": x}).values())).tobytes())
        except OSError:
            return None
        except EdgedError as error:
            if error.code == "starting":
                return None
            raise

    answer = _until(asked)
    if not echo:
        _check(model, answer)
    begin, _ = frames.describe([("x", "FP32", (1, *model.shape), len(raw))])
    request = folder / f"{model.name}.frame"
    request.write_bytes(frame(model, begin + raw))
    return Target(pid, str(where), request)


def ring_target(target: Target, model: Model, folder: Path) -> Target:
    """The same with the tensors in the client's ring: `answers` is the file that lies there."""
    body = target.request.read_bytes()[frames.HEAD.size + len(model.name) :]
    ring, request = folder / f"{model.name}.ring", folder / f"{model.name}-ring.frame"
    ring.write_bytes(body)
    room = -(-len(body) // 4096) * 4096
    request.write_bytes(frame(model, frames.PLACE.pack(0, len(body), room, 65536), frames.IN_RING))
    return Target(target.pid, target.where, request, str(ring))


def frame(model: Model, body: bytes, flags: int = 0) -> bytes:
    """A whole infer frame."""
    name = model.name.encode()
    return frames.head(frames.INFER, len(name) + len(body), 1, flags=flags, name=len(name)) + name + body


def grpc_target(pid: int, port: int, model: Model, folder: Path) -> Target:
    """Keeps the message of each request as a file; that answers are right is for tests/integration/grpc to say."""
    put, raw = protobuf.put, model.input_file.read_bytes()
    shape = b"".join(map(protobuf.as_varint, (1, *model.shape)))
    tensor = put(1, b"x") + put(2, b"FP32") + put(3, shape)
    message = put(1, model.name.encode()) + put(5, tensor) + put(7, raw)
    request = folder / f"{model.name}.grpc"
    request.write_bytes(b"\0" + len(message).to_bytes(4, "big") + message)
    return Target(pid, str(port), request)


def mqtt_target(pid: int, port: int, topics: tuple[str, str], model: Model) -> Target:
    """Sends until the first answer comes, and checks it."""
    found: list[bytes] = []
    client = paho.Client(CallbackAPIVersion.VERSION2)

    def on_connect(*_: Any) -> None:
        client.subscribe(topics[1], 1)

    client.on_connect = on_connect
    client.on_message = lambda _client, _context, message: found.append(bytes(message.payload))
    client.connect("127.0.0.1", port)
    client.loop_start()
    raw = model.input_file.read_bytes()

    def answered() -> bytes | None:
        if not found:
            client.publish(topics[0], raw, 1)
        return found[0] if found else None

    try:
        answer = _until(answered, 0.1)
        time.sleep(0.3)  # for answers to what was sent more than once
    finally:
        client.disconnect()
        client.loop_stop()
    _check(model, answer)
    return Target(pid, topics[0], model.input_file, topics[1])


def _asked(where: str, path: str, headers: dict[str, str], body: bytes) -> bytes | None:
    """The raw tensor that came back; None while nobody listens."""
    connection = UnixConnection(Path(where)) if "/" in where else http.client.HTTPConnection("127.0.0.1", int(where))
    with contextlib.closing(connection):
        try:
            connection.request("POST", path, body, headers)
            response = connection.getresponse()
        except OSError:
            return None
        answer = response.read()
        if response.status != 200:
            raise WrongAnswerError(f"{where}{path}: status {response.status}: {answer[:300]!r}")
        return answer[int(response.headers.get("Inference-Header-Content-Length", "0")) :]


def _until(attempt: Callable[[], bytes | None], pause_s: float = 0.05) -> bytes:
    end_s = time.monotonic() + _PATIENCE_S
    while time.monotonic() < end_s:
        if (answer := attempt()) is not None:
            return answer
        time.sleep(pause_s)
    raise WrongAnswerError(f"no answer in {_PATIENCE_S:g} s")


def _check(model: Model, answer: bytes) -> None:
    """Raises WrongAnswerError unless the tensor is onnxruntime's own, within float32's rounding."""
    found, expected = array("f", answer), array("f", model.answer_file.read_bytes())
    same = all(map(partial(math.isclose, rel_tol=1e-4, abs_tol=1e-4), found, expected))
    if len(found) != len(expected) or not same:
        raise WrongAnswerError(f"{model.name}: expected {expected[:5]}, got {found[:5]}")


__all__ = [
    "Box",
    "Mosquitto",
    "Target",
    "WrongAnswerError",
    "bare_run_us",
    "broker",
    "configuration",
    "edged",
    "free_port",
    "http_target",
    "mqtt_target",
    "oip_request",
    "peer",
    "raw_request",
    "wait_connected",
]
