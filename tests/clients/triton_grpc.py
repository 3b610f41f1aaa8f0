"""Triton's own gRPC client, unchanged, in a process of its own: `python triton_grpc.py PORT SOCKET` prints what it got.

One story, told twice: with the synchronous client and with the one of asyncio. The answers are judged by the test.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import queue
import sys
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import tritonclient.grpc
import tritonclient.grpc.aio
from google.protobuf.json_format import MessageToDict
from tritonclient.utils import InferenceServerException, np_to_triton_dtype, shared_memory

DTYPES = [
    "bool",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "int8",
    "int16",
    "int32",
    "int64",
    "float16",
    "float32",
    "float64",
    "object",
]


async def got(answer: Any) -> Any:
    """The answer of either client."""
    return await answer if inspect.isawaitable(answer) else answer


def plain(message: Any) -> Any:
    return MessageToDict(message, preserving_proto_field_name=True)


async def refusal(answer: Any) -> dict[str, str | None]:
    """What the client's exception says; an empty dict when there was none."""
    try:
        await got(answer())
    except InferenceServerException as error:
        return {"message": error.message(), "status": error.status()}
    return {}


def tensor(name: str, array: np.ndarray[Any, Any]) -> Any:
    given = tritonclient.grpc.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
    given.set_data_from_numpy(array)
    return given


async def story(client: Any) -> dict[str, Any]:
    x = np.arange(8, dtype=np.float32).reshape(2, 4)
    wanted, best = (tritonclient.grpc.InferRequestedOutput("y", count) for count in (0, 2))
    answer = await got(client.infer("linear", [tensor("x", x)], outputs=[wanted], request_id="r"))
    large = np.random.default_rng(3).standard_normal((250_000, 4)).astype(np.float32)
    told: dict[str, Any] = {
        "live": await got(client.is_server_live()),
        "ready": await got(client.is_server_ready()),
        "model_ready": await got(client.is_model_ready("linear")),
        "version_ready": await got(client.is_model_ready("linear", "1")),
        "no_model_ready": await got(client.is_model_ready("nothing")),
        "server": plain(await got(client.get_server_metadata())),
        "model": plain(await got(client.get_model_metadata("linear"))),
        "y": answer.as_numpy("y").tolist(),
        "answer": [getattr(answer.get_response(), name) for name in ("id", "model_name", "model_version")],
        "all_outputs": (await got(client.infer("linear", [tensor("x", x)]))).as_numpy("y").tolist(),
        "classes": (await got(client.infer("linear", [tensor("x", x)], outputs=[best])))
        .as_numpy("y")
        .astype(str)
        .tolist(),
        "urgent": (await got(client.infer("linear", [tensor("x", x)], priority=1, timeout=5_000_000)))
        .as_numpy("y")
        .tolist(),
        "large": bool(np.array_equal((await got(client.infer("same", [tensor("x", large)]))).as_numpy("y"), large)),
        "dtypes": await dtypes(client),
        "config": plain(await got(client.get_model_config("linear")))["config"],
        "index": plain(await got(client.get_model_repository_index())),
        "many": await many(client, x),
        "compressed": [
            (await got(client.infer("linear", [tensor("x", x)], compression_algorithm=coding))).as_numpy("y").tolist()
            for coding in ("gzip", "deflate")
        ],
        "compressed_large": bool(
            np.array_equal(
                (await got(client.infer("same", [tensor("x", large)], compression_algorithm="gzip"))).as_numpy("y"),
                large,
            )
        ),
        "shared": await shared(client),
        "refusals": await refusals(client, x),
    }
    told["statistics"] = plain(await got(client.get_inference_statistics("linear")))["model_stats"]
    told["all_statistics"] = [one["name"] for one in plain(await got(client.get_inference_statistics()))["model_stats"]]
    return told


async def dtypes(client: Any) -> list[str]:
    """The datatypes that come back as they were sent, all in one request."""
    sent = {}
    for dtype in DTYPES:
        values = [["", "daß"], ["a\0b", "1"]] if dtype == "object" else [[0, 1], [1, 0]]
        sent[dtype] = np.array(values, dtype=dtype)
    answer = await got(client.infer("every", [tensor(f"x_{name}", one) for name, one in sent.items()]))
    found = []
    for name, one in sent.items():
        back = answer.as_numpy(f"y_{name}")
        if name == "object":
            back = np.vectorize(lambda text: text.decode(), otypes=[object])(back)
        if back.dtype == one.dtype and np.array_equal(back, one):
            found.append(np_to_triton_dtype(one.dtype))
    return found


async def shared(client: Any) -> dict[str, Any]:
    """Every datatype through shared memory, both ways, and what becomes of a region."""
    told: dict[str, Any] = {"kept": [], "no_cuda": plain(await got(client.get_cuda_shared_memory_status()))}
    await got(client.unregister_cuda_shared_memory())
    for index, dtype in enumerate(one for one in DTYPES if one != "object"):
        x = np.array([[0, 1], [1, 0]], dtype=dtype)
        key = f"/edged-test-{os.getpid()}-{index}"
        region = shared_memory.create_shared_memory_region("data", key, 2 * x.nbytes)
        try:
            shared_memory.set_shared_memory_region(region, [x])
            await got(client.register_system_shared_memory("data", key, 2 * x.nbytes))
            given, output = placed(dtype, x)
            answer = await got(client.infer(f"one_{dtype}", [given], outputs=[output]))
            y = shared_memory.get_contents_as_numpy(region, x.dtype, [2, 2], offset=x.nbytes)
            if np.array_equal(x, y) and answer.get_output(f"y_{dtype}").datatype == np_to_triton_dtype(x.dtype):
                told["kept"].append(np_to_triton_dtype(x.dtype))
            told["status"] = plain(await got(client.get_system_shared_memory_status("data")))["regions"]["data"]
            told["output"] = plain(answer.get_output(f"y_{dtype}"))["parameters"]
            told["twice"] = await refusal(lambda key=key: client.register_system_shared_memory("data", key, 8))
            given.set_shared_memory("data", 3 * x.nbytes)
            told["beyond"] = await refusal(lambda sent=given, model=f"one_{dtype}": client.infer(model, [sent]))
            await got(client.unregister_system_shared_memory("data"))
            told["gone"] = await refusal(lambda sent=given, model=f"one_{dtype}": client.infer(model, [sent]))
        finally:
            shared_memory.destroy_shared_memory_region(region)
    told["outside"] = await refusal(lambda: client.register_system_shared_memory("out", "/../etc/passwd", 8))
    told["nothing"] = await refusal(lambda: client.register_system_shared_memory("out", "/edged-test-nothing", 8))
    told["unknown"] = await refusal(lambda: client.get_system_shared_memory_status("out"))
    await got(client.unregister_system_shared_memory())
    told["none"] = plain(await got(client.get_system_shared_memory_status()))
    return told


def placed(dtype: str, x: np.ndarray[Any, Any]) -> tuple[Any, Any]:
    """An input at the beginning of the region `data`, and an output behind it."""
    given = tritonclient.grpc.InferInput(f"x_{dtype}", list(x.shape), np_to_triton_dtype(x.dtype))
    given.set_shared_memory("data", x.nbytes)
    output = tritonclient.grpc.InferRequestedOutput(f"y_{dtype}")
    output.set_shared_memory("data", x.nbytes, offset=x.nbytes)
    return given, output


async def many(client: Any, x: np.ndarray[Any, Any]) -> int:
    """How many of 200 calls at once came back with their own id."""
    if isinstance(client, tritonclient.grpc.InferenceServerClient):
        done: queue.Queue[Any] = queue.Queue()
        for number in range(200):
            client.async_infer(
                "linear", [tensor("x", x)], lambda result, error: done.put((result, error)), request_id=str(number)
            )
        answers = [done.get(timeout=30) for _ in range(200)]
        return len({result.get_response().id for result, error in answers if error is None})
    calls = [client.infer("linear", [tensor("x", x)], request_id=str(number)) for number in range(200)]
    return len({result.get_response().id for result in await asyncio.gather(*calls)})


async def refusals(client: Any, x: np.ndarray[Any, Any]) -> dict[str, Any]:
    given, one = tensor("x", x), tensor("x", np.zeros(1, np.float32))
    wide, whole = tensor("x", np.zeros((1, 5), np.float32)), tensor("x", np.zeros((1, 4), np.int64))
    wanted = tritonclient.grpc.InferRequestedOutput
    return {
        "unknown_model": await refusal(lambda: client.infer("nothing", [given])),
        "unknown_metadata": await refusal(lambda: client.get_model_metadata("nothing")),
        "wrong_shape": await refusal(lambda: client.infer("linear", [wide])),
        "wrong_dtype": await refusal(lambda: client.infer("linear", [whole])),
        "wrong_input": await refusal(lambda: client.infer("linear", [tensor("z", x)])),
        "wrong_output": await refusal(lambda: client.infer("linear", [given], outputs=[wanted("z")])),
        "other_version": await refusal(lambda: client.infer("linear", [given], model_version="7")),
        "trace": await refusal(client.get_trace_settings),
        "log": await refusal(client.get_log_settings),
        "cuda": await refusal(lambda: client.register_cuda_shared_memory("r", b"aGFuZGxl", 0, 8)),
        "too_large": await refusal(lambda: client.infer("small", [tensor("x", np.zeros((1000, 4), np.float32))])),
        "deadline": await refusal(lambda: client.infer("slow", [one], client_timeout=0.02)),
        "control": await refusal(lambda: client.unload_model("same")),
    }


def streamed(url: str) -> dict[str, Any]:
    """A stream of 100 requests, one of them to nobody, and what came back."""
    x, done = np.ones((1, 4), np.float32), queue.Queue[Any]()
    with tritonclient.grpc.InferenceServerClient(url) as client:
        client.start_stream(lambda result, error: done.put((result, error)))
        for number in range(100):
            client.async_stream_infer("nothing" if number == 50 else "linear", [tensor("x", x)], request_id=str(number))
        answers = [done.get(timeout=30) for _ in range(100)]
        client.stop_stream()
    return {
        "ids": [result.get_response().id for result, error in answers if error is None],
        "errors": [error.message() for _, error in answers if error is not None],
        "shared": streamed_shared(url),
    }


def streamed_shared(url: str) -> list[Any]:
    """Ten tensors of 1.2 MB from shared memory in one stream, compressed: their ids, and what came of them."""
    x = np.random.default_rng(4).standard_normal((75_000, 4)).astype(np.float32)
    key, done = f"/edged-test-{os.getpid()}-stream", queue.Queue[Any]()
    region = shared_memory.create_shared_memory_region("stream", key, 11 * x.nbytes)
    try:
        shared_memory.set_shared_memory_region(region, [x])
        with tritonclient.grpc.InferenceServerClient(url) as client:
            client.register_system_shared_memory("stream", key, 11 * x.nbytes)
            given = tritonclient.grpc.InferInput("x", list(x.shape), "FP32")
            given.set_shared_memory("stream", x.nbytes)
            client.start_stream(lambda result, error: done.put((result, error)), compression_algorithm="gzip")
            for number in range(10):
                output = tritonclient.grpc.InferRequestedOutput("y")
                output.set_shared_memory("stream", x.nbytes, offset=(number + 1) * x.nbytes)
                client.async_stream_infer("same", [given], outputs=[output], request_id=str(number))
            answers = [done.get(timeout=30) for _ in range(10)]
            client.stop_stream()
            client.unregister_system_shared_memory("stream")
        back = shared_memory.get_contents_as_numpy(region, np.float32, [11, *x.shape])
        same = [bool(np.array_equal(one, x)) for one in back]
    finally:
        shared_memory.destroy_shared_memory_region(region)
    return [[result.get_response().id for result, error in answers if error is None], same]


async def streamed_asyncio(url: str) -> dict[str, Any]:
    x = np.ones((1, 4), np.float32)

    async def requests() -> AsyncIterator[dict[str, Any]]:
        for number in range(100):
            model = "nothing" if number == 50 else "linear"
            yield {"model_name": model, "inputs": [tensor("x", x)], "request_id": str(number)}

    ids, errors = [], []
    async with tritonclient.grpc.aio.InferenceServerClient(url) as client:
        async for result, error in client.stream_infer(requests()):
            if error is None:
                ids.append(result.get_response().id)
            else:
                errors.append(error.message())
    return {"ids": ids, "errors": errors}


async def controlled(client: Any) -> list[Any]:
    """What the index says of a model that is unloaded and loaded again, by whoever may; the last: with a file."""
    found = []
    for act in (client.unload_model, client.load_model):
        await got(act("same"))
        rows = plain(await got(client.get_model_repository_index()))["models"]
        found.append(next(row["state"] for row in rows if row["name"] == "same"))
    files = {"file:1/model.onnx": b"onnx"}
    return [*found, (await refusal(lambda: client.load_model("same", config="{}", files=files)))["status"]]


async def main(port: str, path: str) -> None:
    url = f"127.0.0.1:{port}"
    with tritonclient.grpc.InferenceServerClient(url) as sync:
        told = {"sync": await story(sync)}
    async with tritonclient.grpc.aio.InferenceServerClient(url) as client:
        told["asyncio"] = await story(client)
    told["sync"]["stream"], told["asyncio"]["stream"] = streamed(url), await streamed_asyncio(url)
    with tritonclient.grpc.InferenceServerClient(f"unix:{path}") as sync:
        told["sync"]["control"] = await controlled(sync)
    async with tritonclient.grpc.aio.InferenceServerClient(f"unix:{path}") as client:
        told["asyncio"]["control"] = await controlled(client)
    print(json.dumps(told))  # noqa: T201  the test reads it


asyncio.run(main(*sys.argv[1:]))
