"""Other people's programs, unchanged: Triton's HTTP client and mosquitto_rr. The README's lines have their own test."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import edged
from edged.oip.describe import EXTENSIONS
from edged.tensors import DATATYPES
from tests import models
from tests.box import ROOT, box
from tests.brokers import Mosquitto, have_mosquitto
from tests.clients.mqtt import collect
from tests.integration.mqtt.box import User
from tests.ports import free_port

needs_mosquitto = pytest.mark.skipif(
    not have_mosquitto(), reason="mosquitto is not installed; scripts/test installs it"
)

# --- Triton's client ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What both of Triton's clients saw of one daemon, by client."""
    folder, port = tmp_path_factory.mktemp("models"), free_port()
    for name, content in {
        "linear": models.linear(),
        "same": models.identity(),
        "every": models.identities(),
        "every_but_half": models.identities([name for name in models.DTYPES if name != "float16"]),
    }.items():
        (folder / f"{name}.onnx").write_bytes(content)
    files = "".join(f"\n  {file.stem}: {{file: {file}}}" for file in folder.iterdir())
    with box(f"device: press-07\nsockets: {{http: '127.0.0.1:{port}'}}\nmodels:{files}\n"):
        program = [sys.executable, str(ROOT / "tests" / "clients" / "triton.py"), str(port)]
        done = subprocess.run(program, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr.decode()
    found: dict[str, dict[str, Any]] = json.loads(done.stdout)
    return found


@pytest.fixture(params=["sync", "asyncio"])
def triton(told: dict[str, dict[str, Any]], request: pytest.FixtureRequest) -> dict[str, Any]:
    return told[request.param]


def test_triton_sees_health(triton: dict[str, Any]) -> None:
    health = ("live", "ready", "model_ready", "version_ready", "no_model_ready")
    assert [triton[name] for name in health] == [True, True, True, True, False]


def test_triton_reads_metadata(triton: dict[str, Any]) -> None:
    assert triton["server"] == {"name": "edged", "version": edged.__version__, "extensions": list(EXTENSIONS)}
    assert triton["model"] == {
        "name": "linear",
        "versions": ["1"],
        "platform": "onnx_onnxv1",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 3]}],
    }


@pytest.mark.parametrize("way", ["json", "binary", "json_to_binary", "binary_to_json", "defaults"])
def test_triton_infers(triton: dict[str, Any], way: str) -> None:
    weights = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)  # models.linear's
    y = np.arange(8, dtype=np.float32).reshape(2, 4) @ weights
    np.testing.assert_allclose(triton[way], y, rtol=1e-5)
    if way != "defaults":
        assert triton[f"{way}_id"] == f"r-{way}"
        assert triton[f"{way}_model"] == ["linear", "1"]


def test_triton_sends_every_datatype_and_megabytes(triton: dict[str, Any]) -> None:
    every = [kind.oip for kind in DATATYPES]
    assert triton["dtypes"]["binary"] == every
    assert triton["dtypes"]["json"] == [name for name in every if name != "FP16"]
    assert triton["large"]


@pytest.mark.parametrize(
    ("what", "status", "words"),
    [
        ("unknown_model", "404", "no model 'nothing' here"),
        ("unknown_metadata", "404", "no model 'nothing' here"),
        ("wrong_shape", "400", "input x has shape [-1, 4], the request says [1, 5]"),
        ("wrong_dtype", "400", "input x is FP32, the request says INT64"),
        ("wrong_input", "400", "the model has no input 'z', only x FP32[-1, 4]"),
        ("wrong_output", "400", "the model has no output 'z', only y"),
        ("other_version", "404", "version 7 does not serve; version 1 does"),
    ],
)
def test_triton_is_told_what_is_wrong(triton: dict[str, Any], what: str, status: str, words: str) -> None:
    assert status in triton[what]["status"]
    assert words in triton[what]["message"]


# --- mosquitto_rr -------------------------------------------------------------------------------------

OWN = "edged/press-07/models/linear"


@pytest.fixture(scope="module")
def linear(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    """The broker of a daemon that serves `linear`."""
    folder = tmp_path_factory.mktemp("linear")
    (folder / "linear.onnx").write_bytes(models.linear())
    with Mosquitto(folder) as broker:
        configuration = (
            f"device: press-07\nmqtt: {{url: '{broker.url}'}}\nmodels: {{linear: {{file: {folder}/linear.onnx}}}}"
        )
        with box(configuration) as one:
            one.wait(lambda: one.status()["daemon"]["mqtt"]["connected"])
            yield broker


def ask(broker: Mosquitto, *arguments: str) -> str:
    """What mosquitto_rr prints: one answer, or nothing after five seconds."""
    command = ["mosquitto_rr", "-h", "127.0.0.1", "-p", str(broker.port), "-q", "1", "-W", "5", *arguments]
    done = subprocess.run(command, capture_output=True, timeout=20)
    assert done.returncode == 0, done.stderr
    return done.stdout.decode()


@needs_mosquitto
def test_request_and_response_of_mqtt_5(linear: Mosquitto) -> None:
    """The answer comes to the response topic with its correlation data, and nowhere else."""
    with User(linear.port, f"{OWN}/result") as elsewhere:
        asked = ["-V", "5", "-t", f"{OWN}/infer", "-e", "desk/answer", "-D", "publish", "correlation-data", "c-42"]
        answer = ask(linear, *asked, "-m", "[1, 0, 0, 0]", "-F", "%D %C %t %p")
        correlation, content_type, topic, payload = answer.split(" ", 3)
        assert (correlation, content_type, topic) == ("c-42", "application/json", "desk/answer")
        assert json.loads(payload)["outputs"][0]["shape"] == [1, 3]
        elsewhere.send(f"{OWN}/infer", "[0, 0, 0, 0]")  # a second answer, which comes to the usual topic
        (result,) = collect(elsewhere, f"{OWN}/result", 1)
        assert result["outputs"][0]["data"] == [0, 0, 0]


@needs_mosquitto
def test_error_comes_to_the_response_topic(linear: Mosquitto) -> None:
    answer = ask(linear, "-V", "5", "-t", f"{OWN}/infer/job-7", "-e", "desk/answer", "-m", "[1, 2]")
    problem = json.loads(answer)
    assert (problem["id"], problem["code"]) == ("job-7", "bad_input")
    assert "2 numbers" in problem["message"]
    assert problem["hint"]


@needs_mosquitto
@pytest.mark.parametrize("id", ["", "/job-7"])
def test_request_and_response_of_mqtt_3(linear: Mosquitto, id: str) -> None:
    asked = ["-V", "mqttv311", "-t", f"{OWN}/infer{id}", "-e", f"{OWN}/result{id}", "-m", "[0, 1, 0, 0]"]
    answer = json.loads(ask(linear, *asked))
    assert answer["parameters"]["topic"] == f"{OWN}/infer{id}"
    assert answer.get("id", "") == id.removeprefix("/")
    weights = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
    np.testing.assert_allclose(answer["outputs"][0]["data"], weights[1], rtol=1e-5)


@needs_mosquitto
def test_error_of_mqtt_3_has_the_id(linear: Mosquitto) -> None:
    asked = ["-V", "mqttv311", "-t", f"{OWN}/infer/job-8", "-e", f"{OWN}/error/job-8", "-m", "nonsense"]
    problem = json.loads(ask(linear, *asked))
    assert (problem["id"], problem["code"]) == ("job-8", "bad_input")
