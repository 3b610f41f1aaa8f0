"""Faces in real photos: the box that onnxruntime alone finds, in pixels of the photo that was sent."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.box import Box, box
from tests.brokers import Mosquitto
from tests.clients.mqtt import collect
from tests.clients.oip import Array, Client, binary
from tests.integration.mqtt.box import User
from tests.real.conftest import Case

ASTRONAUT = "astronaut.png"
TOLERANCE = 0.02  # of the photo's side: int8 moves the best box by 0.004 (median)
MODEL = """
  {name}:
    file: {data}/models/ultraface_rfb320_int8.onnx
    inputs: [{{topic: "photos/+name", format: image}}]
    preprocess:
      - resize: {resize}
      - normalize: {{mean: 127, std: 128}}
      - layout: chw
    postprocess:
      - detect: {{boxes: boxes, scores: scores, background: 0, score: 0.7, iou: 0.3}}
      - labels: [nothing, face]
      - round: 3
    output: {{topic: "faces/{{name}}/{name}"}}
"""
# The detector's photos were squeezed to 320 x 240; a letterboxed one keeps its proportions.
RESIZES = {"squeezed": "[320, 240]", "boxed": "{letterbox: [320, 240], fill: 127}"}


@pytest.fixture(scope="module")
def camera(data: Path, broker: Mosquitto) -> Iterator[Box]:
    models = [MODEL.format(name=name, resize=resize, data=data) for name, resize in RESIZES.items()]
    with box(f'device: press-07\nmqtt: {{url: "{broker.url}"}}\nmodels:{"".join(models)}') as running:
        yield running


def check(found: list[dict[str, Any]], case: Case, size: tuple[int, int], tolerance: float = TOLERANCE) -> None:
    """One face, where the case has it."""
    (face,) = found
    assert (face["label"], face["index"]) == ("face", 1)
    assert face["score"] == pytest.approx(case["best_face_score"], abs=0.05)
    fractions = np.array(face["box"]) / np.array([*size, *size])
    np.testing.assert_allclose(fractions, case["box_x1y1x2y2"], atol=tolerance)


def test_the_astronauts_face_over_http_and_mqtt(
    camera: Box, broker: Mosquitto, data: Path, expected: Callable[[str, str], Case]
) -> None:
    photo = (data / "inputs" / ASTRONAUT).read_bytes()
    case, size = expected("ultraface_rfb320_int8.onnx", ASTRONAUT), (512, 512)
    with Client(camera.socket) as client:
        check(client.post("squeezed", photo, "image/png").json()["detections"], case, size)
        boxed = client.post("boxed", photo, "image/png").json()["detections"]
        check(
            boxed[:1], case, size, tolerance=0.06
        )  # another scale: the box is a little other, and there is half a face
    with User(broker.port, "faces/+/squeezed") as user:
        user.client.publish("photos/astronaut", photo, 1)
        (answer,) = collect(user, "faces/astronaut/squeezed", 1)
    check(answer["detections"], case, size)


def test_the_box_is_in_pixels_of_the_photo_sent(camera: Box, data: Path, expected: Callable[[str, str], Case]) -> None:
    """Twice as large, and lying on its side with an EXIF block that says so: the face is where it is seen."""
    with Image.open(data / "inputs" / ASTRONAUT) as image:
        large = image.convert("RGB").resize((1024, 768))
    content = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    large.transpose(Image.Transpose.ROTATE_90).save(content, "JPEG", quality=95, exif=exif)
    with Client(camera.socket) as client:
        found = client.post("squeezed", content.getvalue(), "image/jpeg").json()["detections"]
    check(found, expected("ultraface_rfb320_int8.onnx", ASTRONAUT), (1024, 768))


@pytest.mark.parametrize("name", ["rocket.jpg", "coffee.png"])
def test_no_face_where_there_is_none(camera: Box, data: Path, name: str) -> None:
    with Client(camera.socket) as client:
        assert client.post("squeezed", (data / "inputs" / name).read_bytes(), "").json()["detections"] == []


def test_the_models_own_tensors_have_detections_too(
    camera: Box, arrays: Callable[[str], dict[str, Array]], expected: Callable[[str, str], Case]
) -> None:
    """An Open Inference Protocol request: outputs stay the model's own, boxes are in pixels of the tensor."""
    photos = arrays("photos_320x240.npz")
    pixels = photos["rgb"][list(photos["name"]).index(ASTRONAUT)]
    tensor = ((pixels.astype(np.float32) - 127) / 128).transpose(2, 0, 1)[np.newaxis]
    body, headers = binary({"input": tensor})
    with Client(camera.socket) as client:
        reply = client.post("squeezed", body, **headers)
    assert reply.tensors()["boxes"].shape == (1, 4420, 4)
    check(reply.json()["detections"], expected("ultraface_rfb320_int8.onnx", ASTRONAUT), (320, 240))
