"""`edged init` of each model here: with what it writes, as it stands, `edged infer` gives the known answers."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edged import cli
from tests.box import Box, box
from tests.clients.oip import Array
from tests.real.conftest import Case
from tests.real.test_dtln import cleaned, rms, sound

Arrays = Callable[[str], dict[str, Array]]
Expected = Callable[[str, str], Case]
Asked = Callable[..., str]  # words behind `edged infer MODEL` -> what it prints

Begin = Callable[[str], contextlib.AbstractContextManager[Asked]]

LABELS = "imagenet_labels.txt"


@pytest.fixture
def begun(data: Path, port: Callable[[], int], capsys: pytest.CaptureFixture[str]) -> Begin:
    """`begun(FILE)`: a box with nothing but what `edged init` has written for a copy of that model; yields `asked`."""

    @contextlib.contextmanager
    def begin(file: str) -> Iterator[Asked]:
        with box("", start=False) as one:
            shutil.copy(data / "models" / file, one.folder)
            shutil.copy(data / "inputs" / LABELS, one.folder)
            one.config.unlink()
            nobody = f"mqtt://127.0.0.1:{port()}"
            words = ["--output", str(one.config), "--broker", nobody]
            assert cli.main(["init", str(one.folder / file), *words]) == 0
            assert cli.main(["check", "--config", str(one.config)]) == 0
            capsys.readouterr()
            one.start()
            (model,) = one.status()["models"]
            yield lambda *given: ask(one, model["name"], *given)

    def ask(one: Box, name: str, *given: str) -> str:
        assert cli.main(["infer", name, *given, "--socket", str(one.socket)]) == 0
        return capsys.readouterr().out

    return begin


@pytest.mark.parametrize("kind", ["float", "int8"])
@pytest.mark.parametrize("version", ["v1", "v2"])
def test_digits(begun: Begin, tmp_path: Path, arrays: Arrays, expected: Expected, version: str, kind: str) -> None:
    """The model's own numbers, 0 to 1, a scan a line."""
    file = f"digits_{version}_{kind}.onnx"
    first = expected(file, "digits_test.npz")["first20"]
    scans = arrays("digits_test.npz")["image"][: len(first)].reshape(len(first), 64)
    np.savetxt(tmp_path / "scans.csv", scans, delimiter=",", fmt="%.6f")
    with begun(file) as asked:
        read = [int(line.split()[0]) for line in asked(str(tmp_path / "scans.csv")).splitlines()]
    wrong = sum(a != b for a, b in zip(read, first, strict=True))
    assert wrong == 0 if kind == "float" else wrong <= 1


@pytest.mark.parametrize("kind", ["float", "int8"])
@pytest.mark.parametrize("version", ["v1", "v2"])
def test_machine_temperature(
    begun: Begin, tmp_path: Path, arrays: Arrays, expected: Expected, version: str, kind: str
) -> None:
    file = f"machine_temp_{version}_{kind}.onnx"
    case = expected(file, "machine_temp_test.npz")
    (tmp_path / "window.json").write_text(json.dumps(arrays("machine_temp_test.npz")["window"][0].ravel().tolist()))
    with begun(file) as asked:
        outputs = {
            one["name"]: one["data"] for one in json.loads(asked(str(tmp_path / "window.json"), "--json"))["outputs"]
        }
    tolerance = 0.01 if kind == "float" else 0.5
    np.testing.assert_allclose(outputs["forecast"], case["first_forecast"], atol=tolerance)
    np.testing.assert_allclose(outputs["trend"], case["first_trend"], atol=tolerance)


@pytest.mark.parametrize("kind", ["float", "int8"])
def test_squeezenet_names_photos(begun: Begin, data: Path, expected: Expected, kind: str) -> None:
    """Photos as they are; where the model itself is sure of one class, that one, with its name and its score."""
    file = f"squeezenet1_{kind}.onnx"
    sure = 0
    with begun(file) as asked:
        for photo in ("goldfish.jpg", "coffee.png", "dog.jpg", "wolves.jpg", "kitten.png", "pineapple.jpg"):
            index, label, score = expected(file, photo)["top3"][0]
            answer = json.loads(asked(str(data / "inputs" / photo), "--json"))
            best = answer["prediction"][0]
            assert (best["index"], best["label"].split(",")[0]) == (index, label), photo
            assert best["score"] == pytest.approx(score, abs=0.03), photo
            sure += score > 0.9
    assert sure >= 4


@pytest.mark.parametrize("kind", ["float", "int8"])
def test_ultraface_finds_the_face(begun: Begin, data: Path, expected: Expected, kind: str) -> None:
    file = f"ultraface_rfb320_{kind}.onnx"
    case = expected(file, "astronaut.png")
    with begun(file) as asked:
        (face,) = json.loads(asked(str(data / "inputs" / "astronaut.png"), "--json"))["detections"]
        assert asked(str(data / "inputs" / "rocket.jpg")) == "nothing found\n"
    assert face["score"] == pytest.approx(case["best_face_score"], abs=0.02)
    np.testing.assert_allclose(np.array(face["box"]) / 512, case["box_x1y1x2y2"], atol=0.02)


def test_mnist_reads_ten_of_ten(begun: Begin, tmp_path: Path, arrays: Arrays, expected: Expected) -> None:
    """As pictures: the model's own pixels, in PNG files."""
    read = []
    with begun("mnist8_float.onnx") as asked:
        for index, pixels in enumerate(arrays("mnist_10.npz")["pixels"]):
            Image.fromarray(pixels).save(tmp_path / f"{index}.png")
            read.append(int(asked(str(tmp_path / f"{index}.png")).split()[0]))
    assert read == expected("mnist8_float.onnx", "mnist_10.npz")["argmax"]


def test_dtln_takes_the_noise_away(begun: Begin, data: Path, tmp_path: Path, expected: Expected) -> None:
    """Two models with two inputs each, whose state goes round by way of files."""
    case = expected("dtln_1_float.onnx + dtln_2_float.onnx", "noise_1000ms.wav")
    with begun("dtln_1_float.onnx") as mask, begun("dtln_2_float.onnx") as voice:

        def infer(name: str, inputs: dict[str, Array]) -> dict[str, Array]:
            words = []
            for tensor, value in inputs.items():
                np.save(tmp_path / f"{tensor}.npy", value)
                words += ["--input", f"{tensor}={tmp_path / tensor}.npy"]
            answer = json.loads({"mask": mask, "voice": voice}[name](*words, "--json"))
            return {one["name"]: np.array(one["data"], np.float32).reshape(one["shape"]) for one in answer["outputs"]}

        said = cleaned(infer, sound(data / "inputs" / "noise_1000ms.wav"))
    assert rms(said) == pytest.approx(case["rms_out"], abs=5e-4)
