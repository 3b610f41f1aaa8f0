"""Triton's own HTTP client, unchanged, in a process of its own: `python triton.py PORT ADMIN_TOKEN` prints what it
got as JSON.

One story, told twice: with the synchronous client and with the one of asyncio. The answers are judged by the test.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import sys
from typing import Any

import numpy as np
import tritonclient.http
import tritonclient.http.aio
from tritonclient.utils import InferenceServerException, shared_memory

DTYPES = {
    "bool": "BOOL",
    "uint8": "UINT8",
    "uint16": "UINT16",
    "uint32": "UINT32",
    "uint64": "UINT64",
    "int8": "INT8",
    "int16": "INT16",
    "int32": "INT32",
    "int64": "INT64",
    "float16": "FP16",
    "float32": "FP32",
    "float64": "FP64",
    "object": "BYTES",
}


async def got(answer: Any) -> Any:
    """The answer of either client."""
    return await answer if inspect.isawaitable(answer) else answer


async def refusal(answer: Any) -> dict[str, str | None]:
    """What the client's exception says; an empty dict when there was none."""
    try:
        await got(answer() if callable(answer) else answer)
    except InferenceServerException as error:
        return {"message": error.message(), "status": error.status()}
    return {}


def tensor(name: str, array: np.ndarray[Any, Any], *, binary: bool) -> Any:
    given = tritonclient.http.InferInput(name, list(array.shape), DTYPES[array.dtype.name])
    given.set_data_from_numpy(array, binary_data=binary)
    return given


async def story(client: Any) -> dict[str, Any]:
    told: dict[str, Any] = {
        "live": await got(client.is_server_live()),
        "ready": await got(client.is_server_ready()),
        "model_ready": await got(client.is_model_ready("linear")),
        "version_ready": await got(client.is_model_ready("linear", "1")),
        "no_model_ready": await got(client.is_model_ready("nothing")),
        "server": await got(client.get_server_metadata()),
        "model": await got(client.get_model_metadata("linear")),
    }
    wanted = tritonclient.http.InferRequestedOutput
    x = np.arange(8, dtype=np.float32).reshape(2, 4)
    for way, binary_in, binary_out in (
        ("json", False, False),
        ("binary", True, True),
        ("json_to_binary", False, True),
        ("binary_to_json", True, False),
    ):
        outputs = [wanted("y", binary_data=binary_out)]
        answer = await got(
            client.infer("linear", [tensor("x", x, binary=binary_in)], outputs=outputs, request_id=f"r-{way}")
        )
        told[way] = answer.as_numpy("y").tolist()
        told[f"{way}_id"] = answer.get_response()["id"]
        told[f"{way}_model"] = [answer.get_response()[name] for name in ("model_name", "model_version")]
    told["defaults"] = (await got(client.infer("linear", [tensor("x", x, binary=True)]))).as_numpy("y").tolist()
    told["large"] = await large(client)
    told["dtypes"] = {"binary": await dtypes(client, binary=True), "json": await dtypes(client, binary=False)}
    told |= await extensions(client, x)
    told["shared"] = await shared(client)
    return told | await refusals(client, x)


async def extensions(client: Any, x: np.ndarray[Any, Any]) -> dict[str, Any]:
    """What Triton has beside the protocol, but for its repository."""
    wanted = tritonclient.http.InferRequestedOutput
    given = [tensor("x", x, binary=True)]
    told: dict[str, Any] = {"config": await got(client.get_model_config("named", "1"))}
    before = (await got(client.get_inference_statistics("named")))["model_stats"][0]
    for coding in ("gzip", "deflate"):
        answer = await got(
            client.infer("named", given, request_compression_algorithm=coding, response_compression_algorithm=coding)
        )
        told[coding] = answer.as_numpy("y").tolist()
    answer = await got(client.infer("named", given, priority=1, timeout=20_000_000))
    told["prior"] = answer.as_numpy("y").tolist()
    told["stats"] = [before, (await got(client.get_inference_statistics("named")))["model_stats"][0]]
    told["all_stats"] = [one["name"] for one in (await got(client.get_inference_statistics()))["model_stats"]]
    for binary in (True, False):
        output = [wanted("y", binary_data=binary, class_count=2)]
        found = (await got(client.infer("named", given, outputs=output))).as_numpy("y")
        told[f"classes_{binary}"] = [[_text(one) for one in row] for row in found]
    for _ in range(3):  # what comes again and again is read once: the answer must stay what it is
        found = (await got(client.infer("linear", given, outputs=[wanted("y", class_count=2)]))).as_numpy("y")
    told["plain_classes"] = [[_text(one) for one in row] for row in found]
    for name, call in (
        ("trace", client.get_trace_settings),
        ("logging", client.get_log_settings),
        ("set_logging", lambda: client.update_log_settings({"log_info": False})),
        ("cuda", lambda: client.register_cuda_shared_memory("r", b"handle", 0, 8)),
        ("late", lambda: client.infer("named", given, timeout=-1)),
    ):
        told[name] = await refusal(call)
    told["no_cuda"] = await got(client.get_cuda_shared_memory_status())
    await got(client.unregister_cuda_shared_memory())
    return told


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


async def shared(client: Any) -> dict[str, Any]:
    """Every datatype through shared memory, both ways, and what becomes of a region."""
    told: dict[str, Any] = {"kept": []}
    for index, dtype in enumerate(one for one in DTYPES if one != "object"):
        x = np.array([[0, 1], [1, 0]], dtype=dtype)
        key = f"/edged-test-{os.getpid()}-{index}"
        region = shared_memory.create_shared_memory_region("data", key, 2 * x.nbytes)
        try:
            shared_memory.set_shared_memory_region(region, [x])
            await got(client.register_system_shared_memory("data", key, 2 * x.nbytes))
            given = tritonclient.http.InferInput(f"x_{dtype}", [2, 2], DTYPES[dtype])
            given.set_shared_memory("data", x.nbytes)
            output = tritonclient.http.InferRequestedOutput(f"y_{dtype}")
            output.set_shared_memory("data", x.nbytes, offset=x.nbytes)
            answer = await got(client.infer(f"one_{dtype}", [given], outputs=[output]))
            y = shared_memory.get_contents_as_numpy(region, x.dtype, [2, 2], offset=x.nbytes)
            if np.array_equal(x, y) and answer.get_output(f"y_{dtype}")["datatype"] == DTYPES[dtype]:
                told["kept"].append(DTYPES[dtype])
            told["status"] = await got(client.get_system_shared_memory_status("data"))
            told["twice"] = await refusal(lambda key=key: client.register_system_shared_memory("data", key, 8))
            await got(client.unregister_system_shared_memory("data"))
            told["gone"] = await refusal(lambda sent=given, model=f"one_{dtype}": client.infer(model, [sent]))
        finally:
            shared_memory.destroy_shared_memory_region(region)
    told["outside"] = await refusal(lambda: client.register_system_shared_memory("out", "/../etc/passwd", 8))
    told["nothing"] = await refusal(lambda: client.register_system_shared_memory("out", "/edged-test-nothing", 8))
    await got(client.unregister_system_shared_memory())
    told["none"] = await got(client.get_system_shared_memory_status())
    return told


async def repository(client: Any, token: str) -> dict[str, Any]:
    """For whoever may control the box. `same` is unloaded and loaded again."""
    may = {"Authorization": f"Bearer {token}"}
    told: dict[str, Any] = {"others": await refusal(lambda: client.unload_model("same"))}
    await got(client.unload_model("same", headers=may))
    told["unloaded"] = await got(client.is_model_ready("same"))
    told["index"] = {one["name"]: one["state"] for one in await got(client.get_model_repository_index())}
    await got(client.load_model("same", headers=may))
    told["loaded"] = await got(client.is_model_ready("same"))
    told["config"] = await refusal(lambda: client.load_model("same", headers=may, config="{}"))
    told["files"] = await refusal(
        lambda: client.load_model("same", headers=may, config="{}", files={"file:1/model.onnx": b"x" * 200_000})
    )
    return told


async def large(client: Any) -> bool:
    """Four megabytes there and back."""
    x = np.random.default_rng(3).standard_normal((250_000, 4)).astype(np.float32)
    answer = await got(client.infer("same", [tensor("x", x, binary=True)]))
    return bool(np.array_equal(answer.as_numpy("y"), x))


async def dtypes(client: Any, *, binary: bool) -> list[str]:
    """The datatypes that come back as they were sent, all in one request."""
    sent = {}
    for dtype in DTYPES:
        if dtype == "float16" and not binary:
            continue  # the client has no JSON for it
        values = [["", "daß"], ["a\0b", "1"]] if dtype == "object" else [[0, 1], [1, 0]]
        sent[dtype] = np.array(values, dtype=dtype)
    if not binary:
        sent["object"] = np.array([["", "daß"], ["ab", "1"]], dtype=object)
    model = "every" if binary else "every_but_half"
    answer = await got(
        client.infer(
            model,
            [tensor(f"x_{name}", one, binary=binary) for name, one in sent.items()],
            outputs=[tritonclient.http.InferRequestedOutput(f"y_{name}", binary_data=binary) for name in sent],
        )
    )
    found = []
    for name, one in sent.items():
        back = answer.as_numpy(f"y_{name}")
        if name == "object":
            back = np.vectorize(lambda text: text.decode() if isinstance(text, bytes) else text, otypes=[object])(back)
        if back.dtype == one.dtype and np.array_equal(back, one):
            found.append(DTYPES[name])
    return found


async def refusals(client: Any, x: np.ndarray[Any, Any]) -> dict[str, Any]:
    given = tensor("x", x, binary=True)
    wide = tensor("x", np.zeros((1, 5), dtype=np.float32), binary=True)
    whole = tensor("x", np.zeros((1, 4), dtype=np.int64), binary=True)
    return {
        "unknown_model": await refusal(lambda: client.infer("nothing", [given])),
        "unknown_metadata": await refusal(lambda: client.get_model_metadata("nothing")),
        "wrong_shape": await refusal(lambda: client.infer("linear", [wide])),
        "wrong_dtype": await refusal(lambda: client.infer("linear", [whole])),
        "wrong_input": await refusal(lambda: client.infer("linear", [tensor("z", x, binary=True)])),
        "wrong_output": await refusal(
            lambda: client.infer("linear", [given], outputs=[tritonclient.http.InferRequestedOutput("z")])
        ),
        "other_version": await refusal(lambda: client.infer("linear", [given], model_version="7")),
    }


async def main(port: str, token: str) -> None:
    url = f"127.0.0.1:{port}"
    sync = tritonclient.http.InferenceServerClient(url)
    told = {"sync": await story(sync) | {"repository": await repository(sync, token)}}
    sync.close()
    async with tritonclient.http.aio.InferenceServerClient(url) as client:
        told["asyncio"] = await story(client) | {"repository": await repository(client, token)}
    print(json.dumps(told))  # noqa: T201  the test reads it


asyncio.run(main(*sys.argv[1:]))
