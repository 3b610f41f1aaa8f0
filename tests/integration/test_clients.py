"""Other people's programs, unchanged: Triton's HTTP client, mosquitto_rr, and curl as the README prints it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edged
from edged.tensors import DATATYPES
from tests import models
from tests.box import ROOT, box
from tests.brokers import Mosquitto, free_port, have_mosquitto
from tests.clients.mqtt import collect
from tests.integration.mqtt.box import User

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
    assert triton["server"] == {"name": "edged", "version": edged.__version__, "extensions": ["binary_tensor_data"]}
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


# --- the README's own lines ---------------------------------------------------------------------------

README = (ROOT / "README.md").read_text()
TRY = "/tmp/edged-try"
EXAMPLE = "configs/examples/digits.yaml"
BLOCKS = re.findall(r"^```(?:sh|bash)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
DAEMONS = [block for block in BLOCKS if "edged run" in block]
# What each block talks to: the daemon that was started last. A push waits for a probation of a minute; it has tests
# of its own.
TALKS = [
    (sum("edged run" in earlier for earlier in BLOCKS[:index]) - 1, block)
    for index, block in enumerate(BLOCKS)
    if re.search(r"\bcurl |\bmosquitto_|edged (infer|status|inspect)", block)
]


def test_readme_shows_curl_and_mosquitto() -> None:
    shown = "\n".join(block for _, block in TALKS)
    for words in (
        "curl --unix-socket",
        "mosquitto_pub",
        "mosquitto_sub",
        "-V 5 ",
        "-V 311 ",
        "edged infer",
        "edged status",
    ):
        assert words in shown, f"the README's blocks show no {words}"
    assert len(DAEMONS) >= 2
    assert all(daemon >= 0 for daemon, _ in TALKS), "a command comes before any `edged run`"


class Terminal:
    """A shell at the root of the repository, where the README's folder and broker are this test's own."""

    def __init__(self, folder: Path, broker: Mosquitto) -> None:
        config = folder / "xdg"
        config.mkdir()
        for client in ("mosquitto_pub", "mosquitto_sub", "mosquitto_rr"):
            (config / client).write_text(f"-p {broker.port}\n")
        example = (ROOT / EXAMPLE).read_text().replace("127.0.0.1:1883", f"127.0.0.1:{broker.port}")
        (folder / "digits.yaml").write_text(example.replace("../../examples", str(ROOT / "examples")))
        self._environment = {**os.environ, "XDG_CONFIG_HOME": str(config), "PYTHONPATH": str(ROOT)}
        self._places = {
            TRY: str(folder),
            EXAMPLE: str(folder / "digits.yaml"),
            ".venv/bin/edged run": f"exec {sys.executable} -m edged run",
            ".venv/bin/edged": f"{sys.executable} -m edged",
        }

    def open(self, text: str, **where: Any) -> subprocess.Popen[bytes]:
        for printed, own in self._places.items():
            text = text.replace(printed, own)
        script = f"set -euo pipefail\n{text}"
        return subprocess.Popen(
            ["bash", "-c", script], cwd=ROOT, env=self._environment, start_new_session=True, **where
        )

    def run(self, text: str) -> str:
        with self.open(text, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as shell:
            output, errors = shell.communicate(timeout=60)
        assert shell.returncode == 0, errors.decode()
        return str(output, "utf-8")


@pytest.fixture(scope="module", params=range(len(DAEMONS)))
def terminal(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[int, Terminal]]:
    """Each of the README's daemons in turn, by its number, and a terminal beside it."""
    folder = tmp_path_factory.mktemp("readme")
    with Mosquitto(folder) as broker, box("", start=False) as one:
        terminal = Terminal(one.folder, broker)
        one.socket = one.folder / "edged.sock"
        with one.log.open("wb") as log:
            one.process = terminal.open(DAEMONS[request.param], stdout=log, stderr=log)
        one.wait_ready()
        if (mqtt := one.status()["daemon"]["mqtt"]) is not None:
            one.wait(lambda: one.status()["daemon"]["mqtt"]["connected"])
            assert str(broker.port) in mqtt["url"]
        yield request.param, terminal


@needs_mosquitto
def test_readme_works_as_printed(terminal: tuple[int, Terminal]) -> None:
    number, shell = terminal
    blocks = [block for daemon, block in TALKS if daemon == number and "edged run" not in block and "push" not in block]
    assert blocks, "nothing in the README talks to this daemon"
    for block in blocks:
        said = shell.run(block)
        assert '"error"' not in said, said
        assert '"code"' not in said, said
        answers = len(re.findall(r"/infer\b|edged infer |mosquitto_sub ", block))
        assert said.count("logits") >= answers, said
        if "/metrics" in block:
            assert 'edged_inference_requests_total{model="digits",outcome="ok",version="1"} 1.0' in said
