"""Triton's gRPC client, unchanged, sync and asyncio, against a daemon: all that it can ask for."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import edged
from edged.oip.describe import EXTENSIONS
from edged.tensors import DATATYPES
from tests import models
from tests.box import ROOT, box
from tests.brokers import free_port


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What both of Triton's clients saw of one daemon, by client."""
    folder, port = tmp_path_factory.mktemp("models"), free_port()
    for name, content in {
        "linear": models.linear(),
        "same": models.identity(),
        "small": models.identity(),
        "slow": models.slow(20_000),
        "every": models.identities(),
        **{f"one_{name}": models.identities([name]) for name in models.DTYPES if name != "object"},
    }.items():
        (folder / f"{name}.onnx").write_bytes(content)
    more = {"small": ", limits: {message: 8KiB}", "slow": ", limits: {run: 60s}", "linear": ", queue: {size: 256}"}
    files = "".join(f"\n  {file.stem}: {{file: {file}{more.get(file.stem, '')}}}" for file in folder.iterdir())
    with box(f"device: press-07\nmodels:{files}\n", start=False) as one:
        socket = one.folder / "grpc.sock"
        one.config.write_text(one.config.read_text() + f"sockets: {{grpc: ['127.0.0.1:{port}', 'unix:{socket}']}}\n")
        one.start()
        program = [sys.executable, str(ROOT / "tests" / "clients" / "triton_grpc.py"), str(port), str(socket)]
        done = subprocess.run(program, capture_output=True, timeout=90)
    assert done.returncode == 0, done.stderr.decode()
    found: dict[str, dict[str, Any]] = json.loads(done.stdout)
    return found


@pytest.fixture(params=["sync", "asyncio"])
def triton(told: dict[str, dict[str, Any]], request: pytest.FixtureRequest) -> dict[str, Any]:
    return told[request.param]


def test_health_and_metadata(triton: dict[str, Any]) -> None:
    health = ("live", "ready", "model_ready", "version_ready", "no_model_ready")
    assert [triton[name] for name in health] == [True, True, True, True, False]
    assert triton["server"] == {"name": "edged", "version": edged.__version__, "extensions": list(EXTENSIONS)}
    assert triton["model"] == {
        "name": "linear",
        "versions": ["1"],
        "platform": "onnx_onnxv1",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": ["-1", "4"]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": ["-1", "3"]}],
    }


def test_it_infers(triton: dict[str, Any]) -> None:
    weights = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)  # models.linear's
    y = np.arange(8, dtype=np.float32).reshape(2, 4) @ weights
    np.testing.assert_allclose(triton["y"], y, rtol=1e-5)
    np.testing.assert_allclose(triton["all_outputs"], y, rtol=1e-5)
    np.testing.assert_allclose(triton["urgent"], y, rtol=1e-5)
    assert [[row.split(":")[1] for row in rows] for rows in triton["classes"]] == (-y).argsort()[:, :2].astype(
        str
    ).tolist()
    assert triton["answer"] == ["r", "linear", "1"]
    assert sorted(triton["dtypes"]) == sorted(kind.oip for kind in DATATYPES)
    assert triton["large"]
    assert triton["many"] == 200


def test_configuration_statistics_and_index(triton: dict[str, Any]) -> None:
    config = triton["config"]
    assert (config["name"], config["platform"], config["max_batch_size"]) == ("linear", "onnxruntime_onnx", 16)
    assert config["input"] == [{"name": "x", "data_type": "TYPE_FP32", "dims": ["4"]}]
    assert config["output"] == [{"name": "y", "data_type": "TYPE_FP32", "dims": ["3"]}]
    assert config["version_policy"] == {"specific": {"versions": ["1"]}}
    (found,) = triton["statistics"]
    assert (found["name"], found["version"]) == ("linear", "1")
    assert int(found["inference_stats"]["success"]["count"]) >= 202
    assert int(found["inference_stats"]["compute_infer"]["ns"]) > 0
    assert int(found["inference_count"]) >= 2 * 202
    assert found["batch_stats"]
    assert set(triton["all_statistics"]) >= {"linear", "same", "small", "slow", "every"}
    assert {row["name"]: row["state"] for row in triton["index"]["models"]}["linear"] == "READY"


@pytest.mark.parametrize(
    ("what", "status", "words"),
    [
        ("unknown_model", "NOT_FOUND", "unknown_model: no model 'nothing' here"),
        ("unknown_metadata", "NOT_FOUND", "unknown_model: no model 'nothing' here"),
        ("wrong_shape", "INVALID_ARGUMENT", "bad_input: input x has shape [-1, 4], the request says [1, 5]"),
        ("wrong_dtype", "INVALID_ARGUMENT", "bad_input: input x is FP32, the request says INT64"),
        ("wrong_input", "INVALID_ARGUMENT", "bad_input: the model has no input 'z', only x FP32[-1, 4]"),
        ("wrong_output", "INVALID_ARGUMENT", "bad_input: the model has no output 'z', only y"),
        ("other_version", "NOT_FOUND", "version 7 does not serve; version 1 does"),
        ("trace", "UNIMPLEMENTED", "unsupported: requests are not traced"),
        ("log", "UNIMPLEMENTED", "unsupported: the journal's settings are systemd's"),
        ("cuda", "UNIMPLEMENTED", "unsupported: edged reads no CUDA shared memory"),
        ("too_large", "RESOURCE_EXHAUSTED", "input_too_large: "),
        ("deadline", "DEADLINE_EXCEEDED", ""),
        ("control", "PERMISSION_DENIED", "forbidden: control over TCP takes an admin token"),
    ],
)
def test_it_is_told_what_is_wrong(triton: dict[str, Any], what: str, status: str, words: str) -> None:
    found = triton["refusals"][what]
    assert found["status"] == f"StatusCode.{status}"
    assert words in found["message"]


def test_it_may_compress(triton: dict[str, Any]) -> None:
    assert triton["compressed"] == [triton["y"]] * 2
    assert triton["compressed_large"]


def test_it_shares_memory(triton: dict[str, Any]) -> None:
    shared = triton["shared"]
    assert shared["kept"] == [kind.oip for kind in DATATYPES if kind.oip != "BYTES"]
    assert shared["status"] == {"name": "data", "key": shared["status"]["key"], "byte_size": "64"}
    where = {name: next(iter(value.values())) for name, value in shared["output"].items()}
    assert where == {
        "shared_memory_region": "data",
        "shared_memory_byte_size": "32",
        "shared_memory_offset": "32",
    }
    for refused in ("twice", "beyond", "gone", "outside"):
        assert shared[refused]["status"] == "StatusCode.INVALID_ARGUMENT", refused
    assert "has 64 bytes, the tensor would be at 0 to 96" in shared["beyond"]["message"]
    assert "there is no shared memory region 'data'" in shared["gone"]["message"]
    assert shared["nothing"]["status"] == shared["unknown"]["status"] == "StatusCode.NOT_FOUND"
    assert shared["none"] == shared["no_cuda"] == {}


def test_a_stream_of_large_tensors_in_shared_memory(told: dict[str, dict[str, Any]]) -> None:
    """Each is laid down by a thread: whichever is done first is answered first."""
    ids, same = told["sync"]["stream"]["shared"]
    assert sorted(ids) == [str(number) for number in range(10)]
    assert same == [True] * 11


def test_a_stream_answers_each_request_and_outlives_an_error(triton: dict[str, Any]) -> None:
    stream = triton["stream"]
    assert stream["ids"] == [str(number) for number in range(100) if number != 50]
    (error,) = stream["errors"]
    assert error.startswith("unknown_model: no model 'nothing' here")


def test_a_model_is_unloaded_and_loaded_by_who_may(triton: dict[str, Any]) -> None:
    assert triton["control"] == ["UNAVAILABLE", "READY", "StatusCode.UNIMPLEMENTED"]
