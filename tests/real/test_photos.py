"""Real photos as their files: JPEG and PNG over MQTT, over HTTP and by `edged infer`, prepared by edged itself."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest

from edged.config.load import load
from edged.serving.rehearsal import rehearse
from tests.box import ROOT, Box, box
from tests.brokers import Mosquitto
from tests.clients.mqtt import collect
from tests.clients.oip import Array, Client
from tests.integration.mqtt.box import User
from tests.real.conftest import Case

PHOTOS = ("goldfish.jpg", "dog.jpg", "coffee.png", "kitten.png", "wolves.jpg", "pineapple.jpg")
CONFIGURATION = """
device: press-07
mqtt: {{url: "{url}"}}
models:
  squeezenet:
    file: {data}/models/squeezenet1_int8.onnx
    inputs: [{{topic: "photos/+name/file", format: image}}]
    preprocess:
      - resize: {{short_side: 256}}
      - crop: [224, 224]
      - channels: bgr
      - layout: chw
      - normalize: {{mean: [103.94, 116.78, 123.68]}}
    postprocess: [{{top_k: 3}}, {{labels: {data}/inputs/imagenet_labels.txt}}]
    output: {{topic: "photos/{{name}}/label"}}
"""


@pytest.fixture(scope="module")
def camera(data: Path, broker: Mosquitto) -> Iterator[Box]:
    with box(CONFIGURATION.format(url=broker.url, data=data)) as running:
        yield running


def check(name: str, found: object, expected: Callable[[str, str], Case]) -> None:
    """The same best class as onnxruntime alone says, and its score; int8 may differ in the last digits."""
    assert isinstance(found, list)
    index, label, score = expected("squeezenet1_int8.onnx", name)["top3"][0]
    best = found[0]
    assert (best["index"], best["label"].split(",")[0]) == (index, label), name
    assert best["score"] == pytest.approx(score, abs=0.02), name


def test_photos_over_mqtt(camera: Box, broker: Mosquitto, data: Path, expected: Callable[[str, str], Case]) -> None:
    with User(broker.port, "photos/+/label") as user:
        for name in PHOTOS:
            user.client.publish(f"photos/{name}/file", (data / "inputs" / name).read_bytes(), 1)
        for name in PHOTOS:
            (answer,) = collect(user, f"photos/{name}/label", 1)
            check(name, answer["prediction"], expected)


@pytest.mark.parametrize("label", ["image/*", "", "application/x-www-form-urlencoded"])
def test_photos_over_http(camera: Box, data: Path, label: str, expected: Callable[[str, str], Case]) -> None:
    """With their content type, and as `curl --data-binary` sends them when nobody says one."""
    with Client(camera.socket) as client:
        for name in PHOTOS:
            kind = label.replace("*", "jpeg" if name.endswith(".jpg") else "png")
            reply = client.post("squeezenet", (data / "inputs" / name).read_bytes(), kind)
            assert reply.status == 200, reply.json()
            check(name, reply.json()["prediction"], expected)


def test_photos_by_the_command(camera: Box, data: Path) -> None:
    for name, label in (("goldfish.jpg", "goldfish"), ("coffee.png", "espresso")):
        command = [sys.executable, "-m", "edged", "infer", "squeezenet", str(data / "inputs" / name)]
        done = subprocess.run([*command, "--socket", str(camera.socket)], capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith(label)


def test_the_shipped_example_fits_the_models_that_it_is_for(data: Path) -> None:
    files = {"photos": "squeezenet1_int8.onnx", "faces": "ultraface_rfb320_int8.onnx"}
    shipped = load(ROOT / "configs/examples/photos.yaml", {}).models
    models = [msgspec.structs.replace(one, file=str(data / "models" / files[one.name])) for one in shipped]
    assert len(models) == 2
    assert rehearse(models).faults == {}


def test_the_steps_give_the_reference_pixels(data: Path, arrays: Callable[[str], dict[str, Array]]) -> None:
    """To the last bit what Pillow makes of them by hand: the arrays that the other tests send."""
    from edged.config.steps import Crop, Resize
    from edged.worker.pictures import Picture
    from edged.worker.steps.table import preprocess

    squares, faces = arrays("photos_224.npz"), arrays("photos_320x240.npz")
    for name, pixels in zip(squares["name"], squares["rgb"], strict=True):
        picture = Picture.read((data / "inputs" / str(name)).read_bytes())
        assert np.array_equal(preprocess([Resize(short_side=256), Crop((224, 224))], picture)[0], pixels), name
    for name, pixels in zip(faces["name"], faces["rgb"], strict=True):
        picture = Picture.read((data / "inputs" / str(name)).read_bytes())
        assert np.array_equal(preprocess([Resize(size=(320, 240))], picture)[0], pixels), name
