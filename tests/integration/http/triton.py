"""What users of tritonclient do, in a process of its own; argument: host:port. Exits 0 when all is right."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import numpy as np
import tritonclient.http as sync
import tritonclient.http.aio as aio
from tritonclient.utils import InferenceServerException

X = np.arange(6, dtype=np.float32).reshape(3, 2)


def inputs(*, binary: bool) -> list[sync.InferInput]:
    one = sync.InferInput("x", [3, 2], "FP32")
    one.set_data_from_numpy(X, binary_data=binary)
    return [one]


def check(result: sync.InferResult, id: str) -> None:
    np.testing.assert_array_equal(result.as_numpy("x"), X)
    assert result.get_response()["id"] == id
    assert result.get_response()["model_version"] == "3"


def check_metadata(server: dict[str, Any], model: dict[str, object]) -> None:
    assert server["name"] == "edged"
    assert "binary_tensor_data" in server["extensions"]
    assert model["platform"] == "onnx_onnxv1"
    assert model["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}]


def with_sync(url: str) -> None:
    with sync.InferenceServerClient(url) as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("echo")
        assert client.is_model_ready("echo", "3")
        assert not client.is_model_ready("nobody")
        check_metadata(client.get_server_metadata(), client.get_model_metadata("echo"))
        for sent in (True, False):
            check(client.infer("echo", inputs(binary=sent), request_id="a"), "a")
            for wanted in (True, False):
                outputs = [sync.InferRequestedOutput("x", binary_data=wanted)]
                result = client.infer("echo", inputs(binary=sent), outputs=outputs, request_id="b", model_version="3")
                check(result, "b")
        large = np.zeros((1_000_000, 2), np.float32)
        too_large = sync.InferInput("x", list(large.shape), "FP32")
        too_large.set_data_from_numpy(large)
        for model, given, word in (("nobody", inputs(binary=True), "no model"), ("echo", [too_large], "above")):
            try:
                client.infer(model, given)
            except InferenceServerException as error:
                assert word in error.message(), error
            else:
                raise AssertionError(f"{model} answered")
        futures = [client.async_infer("echo", inputs(binary=True), request_id=str(n)) for n in range(20)]
        for n, future in enumerate(futures):
            check(future.get_result(), str(n))


async def with_asyncio(url: str) -> None:
    async with aio.InferenceServerClient(url) as client:
        assert await client.is_server_live()
        assert await client.is_server_ready()
        assert await client.is_model_ready("echo")
        check_metadata(await client.get_server_metadata(), await client.get_model_metadata("echo"))
        for sent in (True, False):
            for wanted in (True, False):
                outputs = [aio.InferRequestedOutput("x", binary_data=wanted)]
                check(await client.infer("echo", inputs(binary=sent), outputs=outputs, request_id="c"), "c")
        many = [client.infer("echo", inputs(binary=True), request_id=str(n)) for n in range(20)]
        for n, result in enumerate(await asyncio.gather(*many)):
            check(result, str(n))


if __name__ == "__main__":
    with_sync(sys.argv[1])
    asyncio.run(with_asyncio(sys.argv[1]))
