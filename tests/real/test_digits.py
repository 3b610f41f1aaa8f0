"""Handwritten digits: 597 held-out scans for two versions of our own model, ten images for the one of MNIST."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.box import Box, box
from tests.brokers import Mosquitto
from tests.clients.mqtt import collect
from tests.clients.oip import Array, Client
from tests.integration.mqtt.box import User
from tests.real.conftest import Case

VERSIONS = ("v1", "v2")
ONE_SCAN = 1 / 597
CONFIGURATION = """
device: press-07
mqtt: {{url: "{url}"}}
models:
  v1:
    file: {models}/digits_v1_int8.onnx
    inputs: [{{topic: "cells/+cell/scan", format: values, field: pixels}}]
    preprocess: [{{scale: 0.0625}}, {{reshape: [1, 8, 8]}}]
    postprocess: [argmax]
    output: {{topic: "cells/{{cell}}/digit/v1"}}
  v2:
    file: {models}/digits_v2_int8.onnx
    inputs: [{{topic: "cells/+cell/scan", format: values, field: pixels}}]
    preprocess: [{{scale: 0.0625}}, {{reshape: [1, 8, 8]}}]
    postprocess: [argmax]
    output: {{topic: "cells/{{cell}}/digit/v2"}}
  mnist:
    file: {models}/mnist8_float.onnx
    inputs: [{{topic: "cells/+cell/picture", format: raw, dtype: uint8}}]
    preprocess: [{{cast: float32}}, {{reshape: [1, 28, 28]}}]
    postprocess: [softmax, {{top_k: 1}}]
    output: {{topic: "cells/{{cell}}/number"}}
"""


@pytest.fixture(scope="module")
def reader(data: Path, broker: Mosquitto) -> Iterator[Box]:
    with box(CONFIGURATION.format(url=broker.url, models=data / "models")) as running:
        yield running


@pytest.fixture(scope="module")
def scans(arrays: Callable[[str], dict[str, Array]]) -> dict[str, Array]:
    return arrays("digits_test.npz")


def check(version: str, read: Array, scans: dict[str, Array], expected: Callable[[str, str], Case]) -> None:
    """As right and as wrong as onnxruntime alone; int8 may read one scan of 597 another way on another CPU."""
    case = expected(f"digits_{version}_int8.onnx", "digits_test.npz")
    assert len(read) == case["n"]
    assert float((read == scans["label"]).mean()) == pytest.approx(case["accuracy"], abs=2 * ONE_SCAN)
    assert int((read[:20] != case["first20"]).sum()) <= 1


@pytest.mark.parametrize("version", VERSIONS)
def test_accuracy_over_http(
    reader: Box, version: str, scans: dict[str, Array], expected: Callable[[str, str], Case]
) -> None:
    """One scan a request, as binary tensors."""
    with Client(reader.socket) as client:
        logits = [client.infer(version, {"image": scan[np.newaxis]})["logits"] for scan in scans["image"]]
    check(version, np.concatenate(logits).argmax(axis=1), scans, expected)


def test_accuracy_over_mqtt(
    reader: Box, broker: Mosquitto, scans: dict[str, Array], expected: Callable[[str, str], Case]
) -> None:
    """The scanner's own whole numbers, 0 to 16, in JSON; each message is read by both versions."""
    with User(broker.port, "cells/7/digit/+") as user:
        for scan in scans["image"]:
            pixels = [round(float(pixel) * 16) for pixel in scan.flat]
            user.client.publish("cells/7/scan", json.dumps({"cell": 7, "pixels": pixels}), 1)
        read: dict[str, list[dict[str, Any]]] = {
            version: collect(user, f"cells/7/digit/{version}", len(scans["image"])) for version in VERSIONS
        }
    for version, answers in read.items():
        check(version, np.array([answer["prediction"][0]["index"] for answer in answers]), scans, expected)


def test_the_second_version_reads_what_the_first_cannot(reader: Box, scans: dict[str, Array]) -> None:
    with Client(reader.socket) as client:
        right = {
            version: int(
                (client.infer(version, {"image": scans["image"]})["logits"].argmax(axis=1) == scans["label"]).sum()
            )
            for version in VERSIONS
        }
    assert right["v2"] - right["v1"] > 90


@pytest.mark.parametrize("way", ["http", "mqtt"])
def test_mnist_reads_ten_of_ten(
    reader: Box, broker: Mosquitto, way: str, arrays: Callable[[str], dict[str, Array]], expected: Callable[..., Case]
) -> None:
    """A model whose batch axis is fixed at 1: its own float tensors, and a camera's bytes."""
    pictures = arrays("mnist_10.npz")["pixels"]
    if way == "http":
        with Client(reader.socket) as client:
            tensors = ({"Input3": picture.astype(np.float32).reshape(1, 1, 28, 28)} for picture in pictures)
            read = [int(client.infer("mnist", one)["Plus214_Output_0"].argmax()) for one in tensors]
    else:
        with User(broker.port, "cells/7/number") as user:
            for picture in pictures:
                user.client.publish("cells/7/picture", picture.tobytes(), 1)
            read = [answer["prediction"][0]["index"] for answer in collect(user, "cells/7/number", len(pictures))]
    assert read == expected("mnist8_float.onnx", "mnist_10.npz")["argmax"]
