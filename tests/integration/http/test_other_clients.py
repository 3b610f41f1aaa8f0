"""The calls of clients that are not here, replayed byte by byte against a real box: perf_analyzer's and KServe's.

As their sources make them: Triton's C++ client (http_client.cc, under perf_analyzer) and kserve 0.21's
InferenceRESTClient, which was run against edged unchanged.
"""

from __future__ import annotations

import http.client
import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import models
from tests.box import box
from tests.brokers import free_port

CURL = {"User-Agent": "libcurl-agent/1.0", "Accept": "*/*"}
FORM = {**CURL, "Content-Type": "application/x-www-form-urlencoded"}  # what curl says of any body
HTTPX = {"Accept": "*/*", "Accept-Encoding": "gzip, deflate", "User-Agent": "python-httpx/0.28.1"}
LENGTH = "Inference-Header-Content-Length"
X = np.arange(4, dtype=np.float32).reshape(1, 4)
Y = X @ np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)  # models.linear's weights


class Client:
    """One kept-alive connection."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)

    def get(self, path: str, headers: dict[str, str]) -> Any:
        status, body, _ = self._ask("GET", path, None, headers)
        assert status == 200, body
        return json.loads(body)

    def post(self, path: str, body: bytes, headers: dict[str, str]) -> tuple[bytes, dict[str, str]]:
        status, answer, found = self._ask("POST", path, body, headers)
        assert status == 200, answer
        return answer, found

    def _ask(
        self, method: str, path: str, body: bytes | None, headers: dict[str, str]
    ) -> tuple[int, bytes, dict[str, str]]:
        self._connection.request(method, path, body, headers)
        answer = self._connection.getresponse()
        return answer.status, answer.read(), {name.lower(): value for name, value in answer.getheaders()}

    def close(self) -> None:
        self._connection.close()


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    file, found = tmp_path_factory.mktemp("models") / "linear.onnx", free_port()
    file.write_bytes(models.linear())
    with box(f"sockets: {{http: '127.0.0.1:{found}'}}\nmodels: {{linear: {{file: {file}}}}}\n"):
        yield found


@pytest.fixture
def client(port: int) -> Iterator[Client]:
    found = Client(port)
    yield found
    found.close()


def compact(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def raw(answer: bytes, headers: dict[str, str]) -> np.ndarray[Any, Any]:
    """The only output of a binary answer."""
    end = int(headers[LENGTH.lower()])
    (output,) = json.loads(answer[:end])["outputs"]
    assert output["parameters"]["binary_data_size"] == len(answer) - end
    return np.frombuffer(answer[end:], np.float32).reshape(output["shape"])


def began(client: Client) -> None:
    """What perf_analyzer reads before it sends a request, and what it needs of that."""
    assert "statistics" in client.get("/v2", CURL)["extensions"]
    metadata, config = client.get("/v2/models/linear", CURL), client.get("/v2/models/linear/config", CURL)
    assert config["max_batch_size"] > 0
    for told, tensors in (("inputs", "input"), ("outputs", "output")):
        for one, other in zip(metadata[told], config[tensors], strict=True):
            assert one["shape"][1:] == other["dims"]  # it takes the batch axis off the metadata's shape


def counts(client: Client) -> dict[str, int]:
    (found,) = client.get("/v2/models/linear/stats", CURL)["model_stats"]
    parts = found["inference_stats"]
    return {name: parts[name]["count"] for name in ("success", "queue", "compute_infer")} | {
        "inferences": found["inference_count"],
        "executions": found["execution_count"],
    }


def test_perf_analyzer(client: Client) -> None:
    began(client)
    before = counts(client)
    asked = compact(
        {
            "id": "",
            "parameters": {"priority": 1, "timeout": 5_000_000},
            "inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "parameters": {"binary_data_size": 16}}],
            "outputs": [{"name": "y", "parameters": {"binary_data": True}}],
        }
    )
    headers = {**CURL, LENGTH: str(len(asked)), "Content-Type": "application/octet-stream"}
    for _ in range(5):
        answer = client.post("/v2/models/linear/infer", asked + X.tobytes(), headers)
        np.testing.assert_allclose(raw(*answer), Y, rtol=1e-5)
    after = counts(client)
    assert {name: after[name] - before[name] for name in after} == dict.fromkeys(after, 5)


def test_perf_analyzer_with_shared_memory(client: Client) -> None:
    """It forgets all regions first, CUDA's too, and says `offet`, which is no offset."""
    began(client)
    for kind in ("systemsharedmemory", "cudasharedmemory"):
        client.post(f"/v2/{kind}/unregister", b"{}", FORM)
    keys = {name: f"edged-test-{name}-{uuid.uuid4().hex}" for name in ("input", "output")}
    try:
        for name, key in keys.items():
            (Path("/dev/shm") / key).write_bytes(X.tobytes() if name == "input" else bytes(12))
            said = compact({"key": f"/{key}", "offet": 0, "byte_size": 16 if name == "input" else 12})
            client.post(f"/v2/systemsharedmemory/region/{name}/register", said, FORM)
        lies = {
            name: {"shared_memory_region": name, "shared_memory_byte_size": size}
            for name, size in (("input", 16), ("output", 12))
        }
        asked = compact(
            {
                "id": "",
                "parameters": {},
                "inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "parameters": lies["input"]}],
                "outputs": [{"name": "y", "parameters": lies["output"]}],
            }
        )
        headers = {**CURL, LENGTH: str(len(asked)), "Content-Type": "application/octet-stream"}
        answer, _ = client.post("/v2/models/linear/infer", asked, headers)
        assert json.loads(answer)["outputs"][0]["parameters"] == lies["output"]
        y = np.frombuffer((Path("/dev/shm") / keys["output"]).read_bytes(), np.float32)
        np.testing.assert_allclose(y, Y[0], rtol=1e-5)
    finally:
        for key in keys.values():
            (Path("/dev/shm") / key).unlink(missing_ok=True)
        client.post("/v2/systemsharedmemory/unregister", b"{}", FORM)
    assert client.get("/v2/systemsharedmemory/status", CURL) == []


def test_kserve(client: Client) -> None:
    assert client.get("/v2/health/live", HTTPX)["live"] is True
    assert client.get("/v2/health/ready", HTTPX)["ready"] is True
    client.get("/v2/models/linear/ready", HTTPX)
    x = {"name": "x", "shape": [1, 4], "datatype": "FP32"}
    plain = compact({"id": "a1", "model_name": "linear", "inputs": [{**x, "data": X.ravel().tolist()}]})
    answer, headers = client.post("/v2/models/linear/infer", plain, {**HTTPX, "content-type": "application/json"})
    assert "content-encoding" not in headers
    said = json.loads(answer)
    assert (said["id"], said["model_name"]) == ("a1", "linear")
    np.testing.assert_allclose(said["outputs"][0]["data"], Y[0], rtol=1e-5)
    binary = compact(
        {
            "id": "a1",
            "model_name": "linear",
            "inputs": [{**x, "parameters": {"binary_data_size": 16}}],
            "outputs": [{"name": "y", "parameters": {"binary_data": True}}],
        }
    )
    octets = {**HTTPX, LENGTH.lower(): str(len(binary)), "content-type": "application/octet-stream"}
    np.testing.assert_allclose(raw(*client.post("/v2/models/linear/infer", binary + X.tobytes(), octets)), Y, rtol=1e-5)
