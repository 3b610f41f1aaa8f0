"""What senders do wrong, against a running daemon: each is told so, the next good input is answered, all is counted."""

from __future__ import annotations

import io
import json
import pickle
import re
import socket
import struct
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from onnx import helper

from tests import models
from tests.box import ROOT, Box, box
from tests.brokers import Mosquitto, have_mosquitto
from tests.clients.mqtt import collect
from tests.clients.oip import Client, binary
from tests.integration.mqtt.box import User
from tests.waiting import until

needs_mosquitto = pytest.mark.skipif(
    not have_mosquitto(), reason="mosquitto is not installed; scripts/test installs it"
)

LIMIT = 64 * 1024
ROW = np.array([[1, 2, 3, 4]], dtype=np.float32)
WEIGHTS = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)  # models.linear's
OCTETS, JSON = "application/octet-stream", "application/json"
CONFIGURATION = """
device: press-07
mqtt: {{url: "{url}", version: "{version}"}}
models:
  linear:
    file: {folder}/linear.onnx
    limits: {{message: 64KiB}}
    inputs:
      - {{topic: "line/+cell/values", format: values, fields: [a, b, c, d], time: ts}}
      - {{topic: "line/+cell/raw", format: raw, dtype: float32, columns: 4}}
      - {{topic: "line/+cell/npy", format: npy}}
    output: {{topic: "line/{{cell}}/answer"}}
  add: {{file: {folder}/add.onnx, limits: {{message: 64KiB}}}}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("models")
    (found / "linear.onnx").write_bytes(models.linear())
    (found / "add.onnx").write_bytes(models.add())
    return found


@pytest.fixture(scope="module")
def one(folder: Path) -> Iterator[Box]:
    """A daemon without a broker."""
    text = CONFIGURATION.format(url="", version="", folder=folder)
    with box(
        re.sub(r"^mqtt:.*\n|^    inputs:\n(      .*\n)*|^    output:.*\n", "", text, flags=re.MULTILINE)
    ) as running:
        yield running


def well(client: Client) -> None:
    """A good input is answered rightly, on the same connection."""
    np.testing.assert_allclose(client.infer("linear", {"x": ROW})["y"], ROW @ WEIGHTS, rtol=1e-5)


def request(**tensor: Any) -> bytes:
    """A JSON request whose one tensor is right but for what is given."""
    return json.dumps(
        {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4], **tensor}]}
    ).encode()


def npy(array: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


def header(text: str) -> bytes:
    """The beginning of an npy file that says this of itself."""
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()


class Exploding:
    """Unpickling it would end the process."""

    def __reduce__(self) -> tuple[Any, ...]:
        return sys.exit, (70,)


BODY, HEADERS = binary({"x": ROW})
LENGTH = HEADERS["inference-header-content-length"]
BOMB = b"[" * 60_000
OBJECTS = b'{"inputs":' * 6000
INSIDE = b'{"inputs":[{"name":"x","shape":[1,4],"datatype":"FP32","data":' + BOMB[::2] + b"]" * 30_000 + b"}]}"


def counted(length: object) -> dict[str, str]:
    return {"Inference-Header-Content-Length": str(length)}


# name: (body, content type, further headers, a part of the message)
WRONG: dict[str, tuple[bytes, str, dict[str, str], str]] = {
    "dtype": (request(datatype="INT64"), JSON, {}, "input x is FP32, the request says INT64"),
    "no such dtype": (request(datatype="float"), JSON, {}, "input x is FP32, the request says float"),
    "shape": (request(shape=[1, 5], data=[0] * 5), JSON, {}, "input x has shape [-1, 4], the request says [1, 5]"),
    "axes": (request(shape=[4]), JSON, {}, "input x has shape [-1, 4], the request says [4]"),
    "too few values": (request(data=[1, 2, 3]), JSON, {}, "3"),
    "words": (request(data=["a", "b", "c", "d"]), JSON, {}, "x"),
    "lists of two lengths": (b"[[1, 2], [3]]", JSON, {}, "the lists are not of one shape"),
    "no data": (request(data=None, parameters={}), JSON, {}, "x"),
    "negative shape": (request(shape=[-1, 4]), JSON, {}, "shape"),
    "endless shape": (request(shape=[2**62, 4]), JSON, {}, "x"),
    "tensor": (request(name="z"), JSON, {}, "the model has no input 'z', only x FP32[-1, 4]"),
    "nothing": (b'{"inputs":[]}', JSON, {}, "missing input: x FP32[-1, 4]"),
    "twice": (request()[:-2] + b", " + request()[12:], JSON, {}, "input x is there twice"),
    "output": (request()[:-1] + b',"outputs":[{"name":"z"}]}', JSON, {}, "the model has no output 'z', only y"),
    "shared memory": (
        request(parameters={"shared_memory_region": "r"}),
        JSON,
        {},
        "there is no shared memory region 'r'",
    ),
    "no JSON": (b"nonsense", JSON, {}, ""),
    "half of JSON": (request()[:-9], JSON, {}, "neither JSON nor numbers"),
    "no UTF-8": (b'{"inputs":[{"name":"\xff\xfe"}]}', JSON, {}, ""),
    "NaN": (b"[NaN, 1, 2, 3]", JSON, {}, "neither JSON nor numbers"),
    "empty": (b"", JSON, {}, "the body is empty"),
    "bomb": (BOMB, JSON, {}, "too deep"),
    "bomb of objects": (OBJECTS, JSON, {}, ""),
    "bomb in the request": (INSIDE, JSON, {}, ""),
    "bomb before tensors": (OBJECTS, OCTETS, counted(len(OBJECTS)), ""),
    "truncated tensor": (BODY[:-4], OCTETS, counted(LENGTH), "its binary_data_size is 16, the body has 12 bytes left"),
    "no tensor": (BODY[: int(LENGTH)], OCTETS, counted(LENGTH), "the body has 0 bytes left"),
    "a byte too many": (BODY + b"x", OCTETS, counted(LENGTH), "1 bytes are left after the last input"),
    "truncated JSON": (BODY, OCTETS, counted(int(LENGTH) - 1), "not JSON"),
    "length past the end": (BODY, OCTETS, counted(len(BODY) + 1), "Inference-Header-Content-Length"),
    "length is no number": (BODY, OCTETS, counted("many"), "is 'many', not a number"),
    "no length": (BODY, OCTETS, {}, ""),
    "raw": (b"x" * 15, OCTETS, {}, "15 bytes"),
    "raw body": (b"x" * 17, OCTETS, counted(0), "17"),
    "npy dtype": (npy(np.zeros((1, 4))), "application/x-npy", {}, "FP32"),
    "npy shape": (npy(np.zeros((1, 5), np.float32)), "application/x-npy", {}, "[1, 5]"),
    "npy cut": (npy(ROW)[:-1], "application/x-npy", {}, ""),
    "npy of nothing": (b"\x93NUMPY", "application/x-npy", {}, ""),
    "npy of no end": (
        header("{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904, 4)}\n"),
        "application/x-npy",
        {},
        "",
    ),
    "npy with code": (header("{'descr': '<f4', 'shape': exit(70)}\n") + bytes(16), "application/x-npy", {}, ""),
    "npy with objects": (npy(np.array([Exploding()]), allow_pickle=True), "application/x-npy", {}, ""),
    "pickle": (pickle.dumps(Exploding()), OCTETS, {}, ""),
    "picture": (b"\xff\xd8\xff\xe0 JFIF", "image/jpeg", {}, "the JPEG picture cannot be read"),
}


@pytest.mark.parametrize("name", WRONG)
def test_sender_over_http_is_told(one: Box, name: str) -> None:
    body, content_type, headers, words = WRONG[name]
    before = one.model("linear")
    with Client(one.socket) as client:
        reply = client.post("linear", body, content_type, **headers)
        problem = reply.json()
        assert (reply.status, problem["code"]) == (400, "bad_input"), problem
        assert words in problem["error"]
        assert problem["hint"]
        assert len(problem["error"]) < 1000
        well(client)
    after = one.model("linear")
    assert (after["pid"], after["restarts"]) == (before["pid"], 0)
    assert (after["requests"] - before["requests"], after["errors"] - before["errors"]) == (2, 1)


def test_bare_tensor_for_a_model_with_two_inputs(one: Box) -> None:
    with Client(one.socket) as client:
        problem = client.post("add", b"[1, 2, 3, 4]", JSON).json()
        assert problem["code"] == "bad_input"
        assert "the model has 2 inputs: a, b" in problem["error"]
        assert client.infer("add", {"a": ROW, "b": ROW})["sum"].tolist() == [[2, 4, 6, 8]]


def test_unknown_model(one: Box) -> None:
    with Client(one.socket) as client:
        for name in ("nothing", "..%2Fdigits", "linear%00", "%ff", "x" * 3000):
            reply = client.post(name, request(), JSON)
            assert (reply.status, reply.json()["code"]) == (404, "unknown_model")
            assert "there is: add, linear" in reply.json()["error"]
            assert len(reply.body) < 500
        well(client)


@pytest.mark.parametrize("size", [LIMIT + 1, 10**12])
def test_body_above_the_limit_is_refused_before_it_is_read(one: Box, size: int) -> None:
    """Only the header is sent; the answer comes without a byte of the body."""
    before = totals(one)["", "too_large"]
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(5)
        sock.connect(str(one.socket))
        sock.sendall(f"POST /v2/models/linear/infer HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n".encode())
        said = b""
        while part := sock.recv(65536):  # until the daemon has closed its side
            said += part
    status, _, body = said.partition(b"\r\n\r\n")
    assert status.startswith(b"HTTP/1.1 413 ")
    problem = json.loads(body)
    assert problem["code"] == "too_large"
    assert f"{size} bytes is above {LIMIT} bytes" in problem["error"]
    assert totals(one)["", "too_large"] == before + 1
    with Client(one.socket) as client:
        well(client)


def test_body_without_a_length_is_counted_while_it_comes(one: Box) -> None:
    chunk = b"400\r\n" + b"1" * 1024 + b"\r\n"
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(5)
        sock.connect(str(one.socket))
        sock.sendall(b"POST /v2/models/linear/infer HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        sock.sendall(chunk * (LIMIT // 1024))
        sock.settimeout(0.2)
        with pytest.raises(TimeoutError):  # as much as is allowed: the daemon waits for the end
            sock.recv(1)
        sock.settimeout(5)
        sock.sendall(chunk)
        assert sock.recv(65536).startswith(b"HTTP/1.1 413 ")
    with Client(one.socket) as client:
        well(client)


def test_largest_input_that_is_allowed(one: Box) -> None:
    body = b"[" + b"[1,2,3,4]," * 6000 + b"[1,2,3,4]" + b" " * LIMIT
    with Client(one.socket) as client:
        reply = client.post("linear", body[: LIMIT - 1] + b"]", JSON)
        assert reply.status in (200, 500)
        assert reply.status == 200 or reply.json()["code"] == "output_too_large"
        well(client)


def totals(one: Box) -> Counter[tuple[str, str]]:
    """edged_inference_requests_total by (model, outcome)."""
    _, text, _ = one.request("GET", "/metrics")
    found: Counter[tuple[str, str]] = Counter()
    pattern = r'^edged_inference_requests_total\{model="(.*?)",outcome="(.*?)",version=".*?"\} (\S+)$'
    for model, outcome, count in re.findall(pattern, text.decode(), re.MULTILINE):
        found[model, outcome] += int(float(count))
    return found


def test_status_and_metrics_count_what_was_refused(one: Box) -> None:
    before = totals(one)
    with Client(one.socket) as client:
        for _ in range(3):
            client.post("linear", b"nonsense", JSON)
        client.post("nothing", request(), JSON)
        well(client)
    new = totals(one) - before
    assert new == Counter({("linear", "bad_input"): 3, ("", "unknown_model"): 1, ("linear", "ok"): 1})
    shown = subprocess.run(
        [sys.executable, "-m", "edged", "status", "--json", "--socket", str(one.socket)],
        cwd=ROOT,
        capture_output=True,
        timeout=30,
    )
    assert shown.returncode == 0, shown.stderr
    linear = next(model for model in json.loads(shown.stdout)["models"] if model["name"] == "linear")
    now = {outcome: count for (model, outcome), count in totals(one).items() if model == "linear"}
    assert linear["requests"] == sum(now.values())
    assert linear["errors"] == linear["requests"] - now["ok"]
    assert b"edged_internal_faults_total{" not in one.request("GET", "/metrics")[1]


# --- over MQTT ----------------------------------------------------------------------------------------

OWN = "edged/press-07/models/linear"


class Desk:
    """A daemon at a broker, and a user who listens to everything it says."""

    def __init__(self, one: Box, user: User, broker: Mosquitto, version: str) -> None:
        self.one, self.user, self.broker, self.version = one, user, broker, version
        self._asked = 0

    def well(self) -> None:
        """A good input is answered rightly, and the connection is the first one still."""
        self._asked += 1
        self.user.send(f"{OWN}/infer/good-{self._asked}", request())
        (answer,) = collect(self.user, f"{OWN}/result/good-{self._asked}", 1, 10)
        np.testing.assert_allclose(answer["outputs"][0]["data"], (ROW @ WEIGHTS)[0], rtol=1e-5)
        mqtt = self.one.status()["daemon"]["mqtt"]
        assert (mqtt["connected"], mqtt["reconnects"], mqtt["version"]) == (True, 0, self.version)

    def refused(self, id: str, payload: bytes) -> dict[str, Any]:
        self.user.send(f"{OWN}/infer/{id}", payload)
        (problem,) = collect(self.user, f"{OWN}/error/{id}", 1, 10)
        assert problem["id"] == id
        assert problem["hint"]
        return problem


@pytest.fixture(scope="module", params=["5", "3.1.1"])
def desk(request: pytest.FixtureRequest, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with Mosquitto(tmp_path_factory.mktemp("broker")) as broker:
        text = CONFIGURATION.format(url=broker.url, version=request.param, folder=folder)
        with box(text) as one, User(broker.port, "edged/#", "line/+/answer") as user:
            one.wait(lambda: one.status()["daemon"]["mqtt"]["connected"])
            yield Desk(one, user, broker, request.param)


# Without a content type: what MQTT 3.1.1 cannot say.
PLAIN = [name for name, (body, kind, headers, _) in WRONG.items() if kind == JSON and body and not headers]


@needs_mosquitto
def test_sender_over_mqtt_is_told(desk: Desk) -> None:
    for number, name in enumerate(PLAIN):
        body, _, _, words = WRONG[name]
        problem = desk.refused(f"bad-{number}", body)
        assert problem["code"] == "bad_input", (name, problem)
        assert words in problem["message"], name
    desk.well()


GOOD = {
    "values": b'{"a":1,"b":2,"c":3,"d":4,"ts":1700000000}',
    "raw": ROW.tobytes(),
    "npy": npy(ROW),
}
BAD = {
    "values": [
        b'{"a":1}',
        b"[1,2,3,4]",
        b'{"a":1,"b":2,"c":3,"d":"4"}',
        b'{"a":1,"b":2,"c":3,"d":4,"ts":"yesterday"}',
        b'{"a":1,"b":2,"c":3,"d":1e999}',
        b"",
        BOMB,
    ],
    "raw": [ROW.tobytes()[:-1], ROW.tobytes()[:-4], b"", b"x"],
    "npy": [
        npy(ROW)[:-1],
        npy(ROW.astype(np.float64)),
        b"",
        b"[1,2,3,4]",
        npy(np.array([Exploding()]), allow_pickle=True),
    ],
}


@needs_mosquitto
@pytest.mark.parametrize("topic", GOOD)
def test_configured_inputs_refuse_other_forms(desk: Desk, topic: str) -> None:
    """At QoS 1 each gets its error, on the model's topic, and the good ones their answers, in order."""
    good, bad = GOOD[topic], BAD[topic]
    errors, answers = f"{OWN}/error", f"line/{topic}/answer"
    told, answered = len(desk.user.on(errors)), len(desk.user.on(answers))
    for payload in bad:
        desk.user.send(f"line/{topic}/{topic}", payload)
        desk.user.send(f"line/{topic}/{topic}", good)
    found = collect(desk.user, answers, answered + len(bad))[answered:]
    for answer in found:
        np.testing.assert_allclose(answer["outputs"][0]["data"], (ROW @ WEIGHTS)[0], rtol=1e-5)
    problems = collect(desk.user, errors, told + len(bad))[told:]
    assert [problem["code"] for problem in problems] == ["bad_input"] * len(bad)
    desk.well()


@needs_mosquitto
def test_input_above_the_limit(desk: Desk) -> None:
    """3.1.1: the sender is told. 5: the broker withholds what is above the Maximum Packet Size that we gave it."""
    dropped = desk.one.model("linear")["dropped"].get("input_too_large", 0)
    problem = desk.refused("above", bytes(LIMIT + 1))  # within what a packet may have
    assert problem["code"] == "input_too_large"
    assert f"{LIMIT + 1} bytes; limits.message is {LIMIT}" in problem["message"]
    dropped += 1
    large = bytes(LIMIT + 256 * 1024)
    if desk.version == "5":
        desk.user.send(f"{OWN}/infer/far-above", large)
        desk.well()  # came after it on the same connection
        assert not desk.user.on(f"{OWN}/error/far-above")
        assert not desk.user.on(f"{OWN}/result/far-above")
    else:
        assert desk.refused("far-above", large)["code"] == "input_too_large"
        dropped += 1
        desk.well()
    assert desk.one.model("linear")["dropped"]["input_too_large"] == dropped


@needs_mosquitto
def test_garbage_on_every_topic(desk: Desk) -> None:
    """Nothing that anybody publishes ends the daemon, its connection or a worker."""
    pids = {model["name"]: model["pid"] for model in desk.one.status()["models"]}
    garbage = [b"", b"\x00", b"\xff\xfe\xfd", b"nonsense", b'{"inputs":{}}', BOMB, bytes(range(256)) * 40]
    topics = [
        f"{OWN}/infer", f"{OWN}/infer/{'x' * 65}", f"{OWN}/infer/a.b", f"{OWN}/infer/", f"{OWN}/infer/a/b",
        f"{OWN}/push", f"{OWN}/push/1", f"{OWN}/nothing", "edged/press-07/models/nothing/infer",
        "edged/press-07/models/nothing/push", "edged/press-07/models//infer", "edged/press-07/request/ping",
        "edged/press-07/request/rollback", "edged/all/request/ping", "edged/ota/want/linear/all", "edged/press-07",
        "edged/press-07/need", "line/1/values", "line//raw", "line/\u00e9\U0001f600/npy", "line/1/nothing",
    ]  # fmt: skip
    for topic in topics:
        for payload in garbage:
            for retain in (False, True):
                desk.user.client.publish(topic, payload, 1, retain)
                desk.user.client.publish(topic, payload, 0)
    desk.user.send(f"{OWN}/infer", b"[1,2,3,4]", ResponseTopic=f"{OWN}/infer", CorrelationData=bytes(200))
    desk.user.send(f"{OWN}/infer", b"[1,2,3,4]", ContentType="\u00e9" * 999)
    for topic in topics:  # takes away what was retained
        desk.user.client.publish(topic, b"", 1, retain=True)
    desk.well()
    assert {model["name"]: model["pid"] for model in desk.one.status()["models"]} == pids
    assert [model["restarts"] for model in desk.one.status()["models"]] == [0, 0]
    until(lambda: desk.one.model("linear")["install"]["code"] in ("unsigned", "retained_push", "no_trust"))
    assert b"edged_internal_faults_total{" not in desk.one.request("GET", "/metrics")[1]
    assert "Traceback" not in desk.one.log.read_text()


@needs_mosquitto
def test_batch_of_large_answers(desk: Desk) -> None:
    """Inputs that come together may each have an answer of the size that one alone may have."""
    before = desk.one.model("linear")
    rows = np.ones((600, 4), dtype=np.float32)
    payload = rows.tobytes()
    answers = len(desk.user.on("line/large/answer"))
    for _ in range(60):
        desk.user.client.publish("line/large/raw", payload, 1)
    found = collect(desk.user, "line/large/answer", answers + 60)[answers:]
    assert {tuple(answer["outputs"][0]["shape"]) for answer in found} == {(600, 3)}
    assert len(json.dumps(found[0])) > LIMIT / 3
    after = desk.one.model("linear")
    assert (after["pid"], after["restarts"]) == (before["pid"], 0)


@needs_mosquitto
def test_content_type_of_any_length(desk: Desk) -> None:
    """It is the sender's to choose, and travels to the worker beside the payload."""
    before = desk.one.model("linear")
    with Client(desk.one.socket) as client:
        assert client.post("linear", b"[1, 2, 3, 4]", "x" * 15_000).status == 200
        assert client.post("linear", b"[1, 2, 3, 4]", "\u00e9" * 15_000).status == 200
    if desk.version == "5":
        with User(desk.broker.port, f"{OWN}/result/#") as user:
            for number in range(20):
                user.send(f"{OWN}/infer/label-{number}", b"[1, 2, 3, 4]", ContentType="x" * 65_000)
            for number in range(20):
                collect(user, f"{OWN}/result/label-{number}", 1)
    desk.well()
    after = desk.one.model("linear")
    assert (after["pid"], after["restarts"], after["errors"]) == (before["pid"], 0, before["errors"])


@needs_mosquitto
def test_long_errors_of_many_senders_at_once(tmp_path: Path, broker: Mosquitto) -> None:
    """A model of 120 inputs names them all to everyone who gives it a wrong one."""
    names = [f"{'x' * 60}_{number}" for number in range(120)]
    nodes = [helper.make_node("Identity", [name], [f"y_{name}"]) for name in names]
    values: list[models.Value] = [(name, "float32", ("batch", 2)) for name in names]
    outputs: list[models.Value] = [(f"y_{name}", "float32", ("batch", 2)) for name in names]
    (tmp_path / "wide.onnx").write_bytes(models.build(nodes, values, outputs))
    # Together in one batch: nothing is sent before so many wait, or 300 ms have passed.
    model = f"wide: {{file: {tmp_path}/wide.onnx, batch: {{max: 16, wait: 300ms}}}}"
    own = "edged/press-07/models/wide"
    with box(f"device: press-07\nmqtt: {{url: '{broker.url}'}}\nmodels: {{{model}}}") as one:
        one.wait(lambda: one.status()["daemon"]["mqtt"]["connected"])
        with User(broker.port, f"{own}/error/+") as user:
            for number in range(32):
                user.client.publish(f"{own}/infer/{number}", request(name="z"), 1)
            for number in range(32):
                (problem,) = collect(user, f"{own}/error/{number}", 1)
                assert problem["code"] == "bad_input"
                assert problem["message"].startswith("the model has no input 'z', only xxx")
        assert one.model("wide")["restarts"] == 0


@needs_mosquitto
def test_every_refusal_over_mqtt_is_counted(desk: Desk) -> None:
    """Every input has one outcome: what the counters gained is what was sent."""
    before = totals(desk.one)
    for number in range(20):
        desk.user.send(f"{OWN}/infer/count-{number}", b"nonsense" if number % 2 else b"[1,2,3,4]")
    until(lambda: sum((totals(desk.one) - before).values()) >= 20)
    time.sleep(0.05)  # a second outcome would be seen
    assert totals(desk.one) - before == Counter({("linear", "bad_input"): 10, ("linear", "ok"): 10})


@needs_mosquitto
def test_push_where_made_up_inputs_are_above_the_limit(tmp_path: Path, broker: Mosquitto) -> None:
    """The trial goes without inputs that no sender may send, and does not end the live worker over them."""
    (tmp_path / "first.onnx").write_bytes(models.identity(shape=(1, 20_000)))
    nodes = [helper.make_node("Neg", ["x"], ["minus"]), helper.make_node("Neg", ["minus"], ["y"])]
    value: models.Value = ("x", "float32", (1, 20_000))
    model = f"big: {{file: {tmp_path}/first.onnx, limits: {{message: 64KiB}}}}"
    push = "push: {require_signature: false, probation: {time: 1s}}"
    with box(f"device: press-07\nmqtt: {{url: '{broker.url}'}}\nmodels: {{{model}}}\n{push}") as one:
        one.wait(lambda: one.status()["daemon"]["mqtt"]["connected"])
        first = psutil.Process(one.model("big")["pid"])
        with User(broker.port) as user:
            user.send("edged/press-07/models/big/push", models.build(nodes, [value], [("y", *value[1:])]))
        one.wait(lambda: one.model("big")["version"] == "2")
        assert one.model("big")["restarts"] == 0
        assert first.is_running()  # warm, for the way back
