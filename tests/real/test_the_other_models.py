"""The models that no other test here loads, each by its own tensors, against what onnxruntime alone said."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.box import box
from tests.clients.oip import Array, Client
from tests.real.conftest import Case

Arrays = Callable[[str], dict[str, Array]]
Expected = Callable[[str, str], Case]

FILES = (
    "digits_v1_float",
    "digits_v2_float",
    "machine_temp_v1_float",
    "machine_temp_v2_float",
    "squeezenet1_float",
    "ultraface_rfb320_float",
    "ultraface_rfb320_int8",
)
TESTED_ELSEWHERE = {
    "digits_v1_int8",  # test_digits.py
    "digits_v2_int8",
    "mnist8_float",
    "dtln_1_float",  # test_dtln.py
    "dtln_2_float",
    "machine_temp_v1_int8",  # test_machine_temp.py
    "machine_temp_v2_int8",
    "squeezenet1_int8",  # test_squeezenet.py
}
# In the last digits answers differ from CPU to CPU, those of int8 models by their rounding too.
TOLERANCE = {"float": 0.002, "int8": 0.02}
OVERLAP = {"float": 0.98, "int8": 0.9}


@pytest.fixture(scope="module")
def client(data: Path) -> Iterator[Client]:
    models = "".join(f"\n  {name}: {{file: {data}/models/{name}.onnx}}" for name in FILES)
    with box(f"device: press-07\nmodels:{models}\n") as running, Client(running.socket) as opened:
        yield opened


def test_no_model_is_left_out(data: Path) -> None:
    assert {file.stem for file in (data / "models").glob("*.onnx")} == {*FILES, *TESTED_ELSEWHERE}
    named = {one["model"] for one in json.loads((data / "expected.json").read_text())["cases"] if "model" in one}
    assert {f"{name}.onnx" for name in FILES} <= named


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_digits(client: Client, version: str, arrays: Arrays, expected: Expected) -> None:
    scans, case = arrays("digits_test.npz"), expected(f"digits_{version}_float.onnx", "digits_test.npz")
    read = client.infer(f"digits_{version}_float", {"image": scans["image"]})["logits"].argmax(axis=1)
    assert len(read) == case["n"]
    assert float((read == scans["label"]).mean()) == pytest.approx(case["accuracy"], abs=1.01 / case["n"])
    assert read[:20].tolist() == case["first20"]


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_machine_temperature(client: Client, version: str, arrays: Arrays, expected: Expected) -> None:
    windows, case = (
        arrays("machine_temp_test.npz"),
        expected(f"machine_temp_{version}_float.onnx", "machine_temp_test.npz"),
    )
    found = client.infer(f"machine_temp_{version}_float", {"window": windows["window"]})
    distance, anomaly = np.abs(found["forecast"] - windows["future"]), windows["anomaly"] == 1
    assert float(distance[~anomaly].mean()) == pytest.approx(case["mae_normal"], rel=TOLERANCE["float"])
    assert float(distance[anomaly].mean()) == pytest.approx(case["mae_anomaly"], rel=TOLERANCE["float"])
    np.testing.assert_allclose(found["forecast"][0], case["first_forecast"], atol=0.01)
    assert float(found["trend"][0, 0]) == pytest.approx(case["first_trend"], abs=0.01)


def test_squeezenet(client: Client, arrays: Arrays, expected: Expected) -> None:
    photos = arrays("photos_224.npz")
    mean_bgr = np.array([103.94, 116.78, 123.68], dtype=np.float32)
    ready = (photos["rgb"][..., ::-1].astype(np.float32) - mean_bgr).transpose(0, 3, 1, 2)
    for name, photo in zip(photos["name"], ready, strict=True):
        scores = client.infer("squeezenet1_float", {"data_0": photo[np.newaxis]})["softmaxout_1"].ravel()
        for index, _, score in expected("squeezenet1_float.onnx", str(name))["top3"]:
            assert float(scores[index]) == pytest.approx(score, abs=TOLERANCE["float"]), name


@pytest.mark.parametrize("kind", ["float", "int8"])
def test_ultraface(client: Client, kind: str, arrays: Arrays, expected: Expected) -> None:
    photos = arrays("photos_320x240.npz")
    ready = ((photos["rgb"].astype(np.float32) - 127) / 128).transpose(0, 3, 1, 2)
    for name, photo in zip(photos["name"], ready, strict=True):
        case = expected(f"ultraface_rfb320_{kind}.onnx", str(name))
        found = client.infer(f"ultraface_rfb320_{kind}", {"input": photo[np.newaxis]})
        faces, boxes = found["scores"][0, :, 1], found["boxes"][0]
        assert (faces.shape, boxes.shape) == ((4420,), (4420, 4))
        assert float(faces.max()) == pytest.approx(case["best_face_score"], abs=TOLERANCE[kind]), name
        count, at_least = int((faces > 0.7).sum()), OVERLAP[kind]
        assert count == case["n_over_0.7"] if kind == "float" else bool(count) == bool(case["n_over_0.7"]), name
        if count:  # without a face, which box is the best of none is chance
            assert overlap(boxes[faces.argmax()], np.array(case["box_x1y1x2y2"])) > at_least, name


def overlap(one: Array, other: Array) -> float:
    """Intersection over union of two boxes [x1, y1, x2, y2]."""
    sides = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])
    both = float(np.prod(np.maximum(sides, 0)))
    return both / (float(np.prod(one[2:] - one[:2]) + np.prod(other[2:] - other[:2])) - both)
