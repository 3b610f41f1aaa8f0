"""Shared memory through a real box: both ways, under load, and with clients that pull it away."""

from __future__ import annotations

import http.client
import json
import os
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import msgspec
import numpy as np
import pytest

from tests import models
from tests.box import Box, box
from tests.integration.http.double import Served

ROWS = 150_000  # of four float32: 2.4 MB, which edged copies in a thread
FEW = 16


@pytest.fixture(scope="module")
def same(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    file = tmp_path_factory.mktemp("models") / "same.onnx"
    file.write_bytes(models.identity())
    with box(f"models: {{same: {{file: {file}}}}}\n") as one:
        yield one


class Memory:
    """A file in /dev/shm that holds `x` and, behind it, room for as much again."""

    def __init__(self, one: Box, rows: int) -> None:
        self.box = one
        self.key = f"edged-test-{uuid.uuid4().hex}"
        self.path = Path("/dev/shm") / self.key
        self.x = np.random.default_rng(rows).standard_normal((rows, 4)).astype(np.float32)
        self.path.write_bytes(self.x.tobytes() + bytes(self.x.nbytes))

    def ask(self, verb: str, **body: object) -> tuple[int, Any]:
        path = f"/v2/systemsharedmemory/region/{self.key}/{verb}"
        status, answer, _ = self.box.request("POST", path, json.dumps(body).encode())
        return status, json.loads(answer)

    def register(self) -> tuple[int, Any]:
        return self.ask("register", key=self.key, byte_size=2 * self.x.nbytes)

    def infer(self) -> tuple[int, Any]:
        size = self.x.nbytes
        here = {"shared_memory_region": self.key, "shared_memory_byte_size": size}
        given = {"name": "x", "datatype": "FP32", "shape": self.x.shape, "parameters": here}
        wanted = {"name": "y", "parameters": {**here, "shared_memory_offset": size}}
        body = json.dumps({"inputs": [given], "outputs": [wanted]}).encode()
        status, answer, _ = self.box.request("POST", "/v2/models/same/infer", body)
        return status, json.loads(answer)

    @property
    def y(self) -> bytes:
        return self.path.read_bytes()[self.x.nbytes :]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.path.unlink(missing_ok=True)
        self.ask("unregister")


@pytest.mark.parametrize("rows", [FEW, ROWS])
def test_tensors_go_both_ways(same: Box, rows: int) -> None:
    with Memory(same, rows) as memory:
        assert memory.register() == (200, {})
        for _ in range(3):
            status, answer = memory.infer()
            assert status == 200, answer
            (output,) = answer["outputs"]
            assert output["shape"] == [rows, 4]
            assert output["parameters"]["shared_memory_byte_size"] == memory.x.nbytes
            assert "data" not in output
        assert memory.y == memory.x.tobytes()


@pytest.mark.parametrize("rows", [FEW, ROWS])
def test_a_region_that_is_pulled_away(same: Box, rows: int) -> None:
    """Shortened, then unlinked, then unregistered: an error each time, and the box goes on."""
    with Memory(same, rows) as memory:
        assert memory.register()[0] == 200
        os.truncate(memory.path, memory.x.nbytes + 8)
        status, answer = memory.infer()
        assert (status, answer["code"]) == (400, "bad_input")
        os.truncate(memory.path, 100)
        status, answer = memory.infer()
        assert (status, answer["code"]) == (400, "bad_input")
        memory.path.unlink()
        assert memory.infer()[0] == 400
        assert memory.ask("unregister") == (200, {})
        status, answer = memory.infer()
        assert (status, answer["code"]) == (400, "bad_input")
        assert "Register" in answer["hint"]
    assert same.model("same")["state"] == "serving"


def test_unregistering_under_load_loses_nothing(same: Box) -> None:
    """Every request has its answer or an error, right or none, and no descriptor stays behind."""
    assert same.process is not None
    descriptors = Path(f"/proc/{same.process.pid}/fd")
    same.request("POST", "/v2/systemsharedmemory/unregister")
    before = sum(1 for _ in descriptors.iterdir())
    over, codes = threading.Event(), set[tuple[int, str]]()

    def client() -> None:
        with Memory(same, FEW) as memory:
            while not over.is_set():
                memory.register()
                status, answer = memory.infer()
                codes.add((status, answer.get("code", "")))
                if status == 200:
                    assert memory.y == memory.x.tobytes()

    clients = [threading.Thread(target=client) for _ in range(4)]
    for one in clients:
        one.start()
    for _ in range(50):
        assert same.request("POST", "/v2/systemsharedmemory/unregister")[0] == 200
    over.set()
    for one in clients:
        one.join(30)
    assert codes <= {(200, ""), (400, "bad_input")}
    assert (200, "") in codes
    status, listed, _ = same.request("GET", "/v2/systemsharedmemory/status")
    assert (status, json.loads(listed)) == (200, [])
    same.wait(lambda: sum(1 for _ in descriptors.iterdir()) <= before)


def test_a_client_elsewhere_has_no_regions(served: Served, tmp_path: Path) -> None:
    """Of a port that others than this box can reach; here the loopback one plays it."""
    bound = served.listeners[1].bound
    served.double.regions._folder = str(tmp_path)
    (tmp_path / "data").write_bytes(bytes(8))
    served.double.regions.register("data", "data", 0, 8)
    msgspec.structs.force_setattr(bound, "loopback", False)
    here = {"shared_memory_region": "data", "shared_memory_byte_size": 8}
    given = {"name": "x", "datatype": "FP32", "shape": [1, 2], "parameters": here}
    client = http.client.HTTPConnection("127.0.0.1", served.port, timeout=10)
    try:
        for method, path in (
            ("GET", "/v2/systemsharedmemory/status"),
            ("POST", "/v2/systemsharedmemory/region/r/register"),
            ("POST", "/v2/systemsharedmemory/unregister"),
        ):
            client.request(method, path, b"{}")
            answer = client.getresponse()
            assert (answer.status, json.loads(answer.read())["code"]) == (403, "forbidden")
        client.request("POST", "/v2/models/echo/infer", json.dumps({"inputs": [given]}))
        client.getresponse().read()
        assert b"shared_memory_region" in served.double.offered[-1].payload  # as it came: nothing was read for it
    finally:
        client.close()
        served.double.regions.unregister()
        msgspec.structs.force_setattr(bound, "loopback", True)
