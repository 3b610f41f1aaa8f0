"""Pictures through a running daemon: over HTTP and MQTT, good and bad, at a push, and on a box without Pillow."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from tests import models
from tests.box import ROOT, Box, box
from tests.brokers import Mosquitto, have_mosquitto
from tests.clients.mqtt import collect
from tests.clients.oip import Client, binary
from tests.integration.mqtt.box import User
from tests.pictures import Array, file, gradient

PIXELS = gradient(64, 48)
STEPS = "[{resize: [4, 4]}, {layout: chw}, {scale: 1}]"
MODEL = "{{file: {file}, preprocess: {steps}{more}}}"


def colours(*, factor: float = 1.0) -> bytes:
    """image [batch, 3, 4, 4] -> the mean of each channel [batch, 3], times `factor`."""
    nodes = [
        helper.make_node("ReduceMean", ["image"], ["mean"], axes=[2, 3], keepdims=0),
        helper.make_node("Mul", ["mean", "factor"], ["y"]),
    ]
    constants: dict[str, Array] = {"factor": np.array(factor, np.float32)}
    return models.build(nodes, [("image", "float32", ("batch", 3, 4, 4))], [("y", "float32", ("batch", 3))], constants)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "colours.onnx"
    path.write_bytes(colours())
    return path


@pytest.fixture(scope="module")
def one(model: Path) -> Iterator[Box]:
    with box(f"models: {{colours: {MODEL.format(file=model, steps=STEPS, more='')}}}") as running:
        yield running


def well(client: Client) -> None:
    found = client.post("colours", file(PIXELS), "image/png").tensors()["y"]
    np.testing.assert_allclose(found[0], PIXELS.mean(axis=(0, 1)), atol=2)


BAD = {
    "no picture": (b"GIF89a" + bytes(100), "image/gif", "no JPEG or PNG"),
    "half a picture": (file(PIXELS, "JPEG")[:-30], "image/jpeg", "truncated"),
    "a bomb": (file(np.zeros((6000, 6000), np.uint8)), "", "6000 x 6000 pixels"),
    "numbers": (b"[1, 2, 3]", "application/json", "a step for pictures has int64[3]"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_picture_is_told_and_harms_nobody(one: Box, name: str) -> None:
    body, label, words = BAD[name]
    before = one.model("colours")
    with Client(one.socket) as client:
        reply = client.post("colours", body, label)
        assert (reply.status, reply.json()["code"]) == (400, "bad_input")
        assert words in reply.json()["error"]
        assert reply.json()["hint"]
        well(client)
    after = one.model("colours")
    assert (after["pid"], after["errors"]) == (before["pid"], before["errors"] + 1)


def test_a_picture_that_does_not_fit_the_memory(tmp_path: Path) -> None:
    """33 million pixels are 134 MB as they are decoded: an error, and the worker goes on."""
    (tmp_path / "colours.onnx").write_bytes(colours())
    more = ", limits: {memory: 64MiB}"
    with box(f"models: {{colours: {MODEL.format(file=tmp_path / 'colours.onnx', steps=STEPS, more=more)}}}") as small:
        with Client(small.socket) as client:
            reply = client.post("colours", file(np.zeros((5000, 6000, 3), np.uint8)), "image/png")
            assert reply.json()["code"] == "over_memory", reply.json()
            well(client)
        assert small.model("colours")["restarts"] == 0


def test_a_pictures_memory_is_the_runs_once_it_is_small(tmp_path: Path) -> None:
    """As many bytes as the limit leaves beside a decoded picture of 24 million pixels, and a third more."""
    nodes = [
        helper.make_node("ReduceSum", ["image"], ["sum"], keepdims=0),
        helper.make_node("Mul", ["sum", "nothing"], ["zero"]),
        helper.make_node("Cast", ["zero"], ["zero64"], to=TensorProto.INT64),
        helper.make_node("Add", ["size", "zero64"], ["wanted"]),
        helper.make_node("ConstantOfShape", ["wanted"], ["huge"]),
        helper.make_node("ReduceSum", ["huge"], ["y"], keepdims=1),
    ]
    constants: dict[str, Array] = {"size": np.array([30_000_000], np.int64), "nothing": np.array(0, np.float32)}
    signature: models.Value = ("image", "float32", ("batch", 3, 4, 4))
    (tmp_path / "hungry.onnx").write_bytes(models.build(nodes, [signature], [("y", "float32", (1,))], constants))
    more = ", limits: {memory: 200MiB}"
    text = f"models: {{hungry: {MODEL.format(file=tmp_path / 'hungry.onnx', steps=STEPS, more=more)}}}"
    with box(text) as one, Client(one.socket) as client:
        reply = client.post("hungry", file(np.zeros((4000, 6000, 3), np.uint8), "JPEG"), "image/jpeg")
        assert reply.status == 200, reply.json()


@pytest.mark.skipif(not have_mosquitto(), reason="mosquitto is not installed; scripts/test installs it")
def test_pictures_over_mqtt_and_at_a_push(model: Path, broker: Mosquitto) -> None:
    """Many at once, each answered with its own; the last ones are what a pushed model is tried on."""
    inputs = ", inputs: [{topic: 'cam/+name', format: image}], output: {topic: 'out/{name}'}"
    configuration = f"""
device: press-07
mqtt: {{url: "{broker.url}"}}
models: {{colours: {MODEL.format(file=model, steps=STEPS, more=inputs)}}}
push: {{require_signature: false, probation: {{time: 500ms, runs: 1}}}}
"""
    with box(configuration) as one:
        one.wait(lambda: one.status()["daemon"]["mqtt"]["connected"])
        with User(broker.port, "out/+", "edged/press-07/#") as user:
            for index in range(16):
                user.client.publish(f"cam/{index}", file(np.full((9, 7, 3), index * 10, np.uint8), "JPEG"), 1)
            user.client.publish("edged/press-07/models/colours/infer/x1", b"\xff\xd8\xff no more", 1)
            for index in range(16):
                (answer,) = collect(user, f"out/{index}", 1)
                assert answer["outputs"][0]["data"] == pytest.approx([index * 10] * 3, abs=2)
            (problem,) = collect(user, "edged/press-07/models/colours/error/x1", 1)
            assert problem["code"] == "bad_input"
            user.send("edged/press-07/models/colours/push", colours(factor=2))
            one.wait(lambda: one.model("colours")["version"] == "2")
            told: list[int] = []

            def tried() -> list[int]:
                news = user.json("edged/press-07/install/colours")
                told[:] = [found["trial"]["recorded"] for found in news if found["trial"]]
                return told

            one.wait(tried)
            assert set(told) == {16}
            user.client.publish("cam/again", file(PIXELS), 1)
            (answer,) = collect(user, "out/again", 1)
            assert answer["outputs"][0]["data"] == pytest.approx(PIXELS.mean(axis=(0, 1)) * 2, abs=4)


def yolo() -> bytes:
    """image [1, 3, 64, 64] -> two boxes [1, 6, 2], whatever it shows: their centres, sizes (16 x 8) and scores."""
    columns = np.array([[32, 32, 16, 8, 0.1, 0.9], [8, 16, 16, 8, 0.7, 0.2]], np.float32)
    nodes = [
        helper.make_node("ReduceMean", ["image"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "nothing"], ["zero"]),
        helper.make_node("Add", ["boxes", "zero"], ["output0"]),
    ]
    constants: dict[str, Array] = {"boxes": columns.T[np.newaxis], "nothing": np.array(0, np.float32)}
    return models.build(nodes, [("image", "float32", (1, 3, 64, 64))], [("output0", "float32", (1, 6, 2))], constants)


def test_yolov8_and_autoencoders(tmp_path: Path) -> None:
    (tmp_path / "yolo.onnx").write_bytes(yolo())
    values: list[models.Value] = [(name, "float32", ("batch", 4)) for name in ("x", "y")]
    multiply = helper.make_node("Mul", ["x", "half"], ["y"])
    (tmp_path / "half.onnx").write_bytes(
        models.build([multiply], values[:1], values[1:], {"half": np.array(0.5, np.float32)})
    )
    text = f"""
models:
  yolo:
    file: {tmp_path}/yolo.onnx
    preprocess: [{{resize: {{letterbox: [64, 64]}}}}, {{layout: chw}}, {{scale: 0.00392157}}]
    postprocess: [{{detect: {{type: yolov8}}}}, {{labels: [cat, dog]}}, {{round: 2}}]
  half:
    file: {tmp_path}/half.onnx
    postprocess: [{{error: {{to: x, by: mae}}}}, {{labels: [odd]}}, {{min_score: 1}}]
"""
    with box(text) as one, Client(one.socket) as client:
        found = client.post("yolo", file(gradient(320, 160)), "image/png").json()["detections"]
        assert found == [
            {"label": "dog", "index": 1, "score": 0.9, "box": [120, 60, 200, 100]},
            {"label": "cat", "index": 0, "score": 0.7, "box": [0, 0, 80, 20]},
        ]
        assert client.post("half", b"[1, 2, 3, 4]").json()["prediction"] == [
            {"label": "odd", "index": 0, "score": 1.25}
        ]
        assert client.post("half", b"[1, 1, 1, 1]").json()["prediction"] == []
        body, headers = binary({"x": np.full((2, 4), 4, np.float32)})
        reply = client.post("half", body, **headers)
        assert reply.tensors()["y"].tolist() == [[2] * 4] * 2, "the model's own"
        assert reply.json()["prediction"] == [[{"label": "odd", "index": 0, "score": 2.0}]] * 2


def test_without_pillow_a_picture_model_alone_fails(model: Path, tmp_path: Path) -> None:
    """And says how to install it; `edged check` says it with the line."""
    (tmp_path / "PIL").mkdir()
    (tmp_path / "PIL" / "__init__.py").write_text("raise ImportError('none on this box')\n")
    text = f"models:\n  other: {{file: {model}}}\n  colours: {MODEL.format(file=model, steps=STEPS, more='')}\n"
    with box(text, start=False) as one:
        one.environment["PYTHONPATH"] = f"{tmp_path}:{ROOT}"
        command = [sys.executable, "-m", "edged", "check", "--config", str(one.config)]
        checked = subprocess.run(command, env=one.environment, capture_output=True, text=True)
        assert checked.returncode == 2
        assert f"{one.config}:3: models.colours: pictures are read with Pillow, which is not" in checked.stderr
        assert "pip install 'edged[image]'" in checked.stderr
        one.start()
        assert (one.model("colours")["state"], one.model("other")["state"]) == ("failed", "serving")
        with Client(one.socket) as client:
            reply = client.post("other", file(PIXELS), "image/png")
            assert reply.json()["code"] == "unsupported"
            data = np.zeros((1, 3, 4, 4), np.float32)
            assert client.infer("other", {"image": data})["y"].tolist() == [[0, 0, 0]]


def test_a_chain_that_no_picture_can_come_through_is_a_mistake(model: Path) -> None:
    steps = "[{resize: [5, 4]}, {layout: chw}]"
    with box(f"models: {{colours: {MODEL.format(file=model, steps=steps, more='')}}}", start=False) as one:
        command = [sys.executable, "-m", "edged", "check", "--json", "--config", str(one.config)]
        checked = subprocess.run(command, env=one.environment, capture_output=True, text=True)
        (mistake,) = json.loads(checked.stdout)["mistakes"]
        assert "a picture becomes [?, 4, 5], input image FP32[-1, 3, 4, 4] takes another shape" in mistake["what"]
