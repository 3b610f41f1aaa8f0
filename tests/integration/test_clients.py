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

TOKEN = "let-me-in-please-0123456789"  # noqa: S105 - of this test
SHARED = [name for name in models.DTYPES if name != "object"]  # the client writes no strings into shared memory

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
    for name in SHARED:
        (folder / f"one_{name}.onnx").write_bytes(models.identities([name]))
    files = "".join(f"\n  {file.stem}: {{file: {file}}}" for file in folder.iterdir())
    files += f"\n  named: {{file: {folder}/linear.onnx, batch: {{max: 8}}, postprocess: [{{labels: [a, b, c]}}]}}"
    (folder / "token").write_text(TOKEN)
    sockets = f"{{http: '127.0.0.1:{port}', admin_token_file: {folder}/token}}"
    with box(f"device: press-07\nsockets: {sockets}\nmodels:{files}\n"):
        program = [sys.executable, str(ROOT / "tests" / "clients" / "triton.py"), str(port), TOKEN]
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


def test_triton_reads_the_configuration(triton: dict[str, Any]) -> None:
    config = triton["config"]
    assert (config["name"], config["max_batch_size"], config["backend"]) == ("named", 8, "onnxruntime")
    assert config["input"] == [{"name": "x", "data_type": "TYPE_FP32", "dims": [4], "optional": False}]
    assert config["output"] == [{"name": "y", "data_type": "TYPE_FP32", "dims": [3]}]
    assert config["version_policy"] == {"specific": {"versions": [1]}}


def test_triton_subtracts_statistics(triton: dict[str, Any]) -> None:
    """Three requests of two rows each came between the two."""
    before, after = triton["stats"]
    assert after["inference_count"] - before["inference_count"] == 6
    assert after["execution_count"] - before["execution_count"] == 3
    assert after["last_inference"] >= before["last_inference"]
    for part in ("success", "queue", "compute_input", "compute_infer", "compute_output"):
        spent, earlier = after["inference_stats"][part], before["inference_stats"][part]
        assert spent["count"] - earlier["count"] == 3, part
        assert spent["ns"] > earlier["ns"], part
    of_two = {name: one for one in after["batch_stats"] if one["batch_size"] == 2 for name, one in one.items()}
    assert of_two["compute_infer"]["count"] >= 3
    assert set(triton["all_stats"]) > {"linear", "same", "named"}


def test_triton_gets_classes(triton: dict[str, Any]) -> None:
    weights = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
    y = np.arange(8, dtype=np.float32).reshape(2, 4) @ weights
    assert triton["plain_classes"] == [[text.rpartition(":")[0] for text in row] for row in triton["classes_True"]]
    for way in ("classes_True", "classes_False"):
        for row, texts in zip(y, triton[way], strict=True):
            found = [text.split(":") for text in texts]
            assert [int(one[1]) for one in found] == np.argsort(-row)[:2].tolist()
            np.testing.assert_allclose([float(one[0]) for one in found], np.sort(row)[::-1][:2], rtol=1e-4)
            assert [one[2:] for one in found] == [["abc"[int(one[1])]] for one in found]


def test_triton_may_compress_and_say_how_urgent_it_is(triton: dict[str, Any]) -> None:
    assert triton["gzip"] == triton["deflate"] == triton["prior"] == triton["binary"]


def test_triton_is_told_what_is_not_done(triton: dict[str, Any]) -> None:
    for name, word in (("trace", "trace"), ("logging", "log"), ("set_logging", "log"), ("cuda", "CUDA")):
        assert triton[name]["status"] == "501", name
        assert word in triton[name]["message"]
    assert triton["no_cuda"] == []
    assert (triton["late"]["status"], "timeout" in triton["late"]["message"]) == ("400", True)


def test_triton_shares_memory(triton: dict[str, Any]) -> None:
    shared = triton["shared"]
    assert shared["kept"] == [kind.oip for kind in DATATYPES if kind.oip != "BYTES"]
    ((status),) = shared["status"]
    assert (status["name"], status["offset"]) == ("data", 0)
    assert shared["twice"]["status"] == shared["gone"]["status"] == shared["outside"]["status"] == "400"
    assert shared["nothing"]["status"] == "404"
    assert shared["none"] == []


def test_triton_loads_and_unloads(triton: dict[str, Any]) -> None:
    told = triton["repository"]
    assert told["others"]["status"] == "403"
    assert (told["unloaded"], told["loaded"]) == (False, True)
    assert (told["index"]["same"], told["index"]["linear"]) == ("UNAVAILABLE", "READY")
    for way in ("config", "files"):
        assert told[way]["status"] == "501"


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
