"""Seven real photos through SqueezeNet int8: 602,112 bytes each, more than a message holds, as raw bytes and as npy."""

from __future__ import annotations

import io
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

MEAN_BGR = np.array([103.94, 116.78, 123.68], dtype=np.float32)
TYPES = {"raw": "application/octet-stream", "npy": "application/x-npy"}
CONFIGURATION = """
device: press-07
mqtt: {{url: "{url}"}}
models:
  squeezenet:
    file: {data}/models/squeezenet1_int8.onnx
    inputs:
      - {{topic: "photos/+name/raw", format: raw}}
      - {{topic: "photos/+name/npy", format: npy}}
    postprocess: [{{top_k: 3}}, {{labels: {data}/inputs/imagenet_labels.txt}}]
    output: {{topic: "photos/{{name}}/label"}}
"""

Photo = tuple[str, Array]  # its file, and data_0 [1, 3, 224, 224]


@pytest.fixture(scope="module")
def camera(data: Path, broker: Mosquitto) -> Iterator[Box]:
    with box(CONFIGURATION.format(url=broker.url, data=data)) as running:
        yield running


@pytest.fixture(scope="module")
def photos(arrays: Callable[[str], dict[str, Array]]) -> list[Photo]:
    """As the client prepares them: blue, green, red, each minus its mean, channels first."""
    found = arrays("photos_224.npz")
    ready = (found["rgb"][..., ::-1].astype(np.float32) - MEAN_BGR).transpose(0, 3, 1, 2)
    return [(str(name), ready[index : index + 1]) for index, name in enumerate(found["name"])]


def payload(kind: str, photo: Array) -> bytes:
    if kind == "raw":
        return np.ascontiguousarray(photo).tobytes()
    file = io.BytesIO()
    np.save(file, photo[0])  # a picture has no batch axis
    return file.getvalue()


def check(name: str, answer: dict[str, Any], expected: Callable[[str, str], Case]) -> None:
    """The same best class as onnxruntime alone says, and its score; int8 may differ in the last digits."""
    index, label, score = expected("squeezenet1_int8.onnx", name)["top3"][0]
    best = answer["prediction"][0]
    assert (best["index"], best["label"].split(",")[0]) == (index, label), name
    assert best["score"] == pytest.approx(score, abs=0.02), name
    assert len(answer["prediction"]) == 3


@pytest.mark.parametrize("kind", ["raw", "npy"])
def test_photos_over_http(camera: Box, photos: list[Photo], kind: str, expected: Callable[[str, str], Case]) -> None:
    with Client(camera.socket) as client:
        for name, photo in photos:
            body = payload(kind, photo)
            assert len(body) > 600_000
            reply = client.post("squeezenet", body, TYPES[kind])
            assert reply.status == 200, reply.json()
            check(name, reply.json(), expected)


@pytest.mark.parametrize("kind", ["raw", "npy"])
def test_photos_over_mqtt(
    camera: Box, broker: Mosquitto, photos: list[Photo], kind: str, expected: Callable[[str, str], Case]
) -> None:
    with User(broker.port, "photos/+/label") as user:
        for name, photo in photos:
            user.client.publish(f"photos/{name}/{kind}", payload(kind, photo), 1)
        for name, _ in photos:
            (answer,) = collect(user, f"photos/{name}/label", 1)
            check(name, answer, expected)


def test_binary_tensors_have_the_same_scores(
    camera: Box, photos: list[Photo], expected: Callable[[str, str], Case]
) -> None:
    """The model's own tensors, without steps: all thousand scores, as raw bytes."""
    with Client(camera.socket) as client:
        for name, photo in photos:
            scores = client.infer("squeezenet", {"data_0": photo})["softmaxout_1"]
            assert scores.shape == (1, 1000, 1, 1)
            index, _, score = expected("squeezenet1_int8.onnx", name)["top3"][0]
            assert int(scores.argmax()) == index
            assert float(scores.max()) == pytest.approx(score, abs=0.02)
