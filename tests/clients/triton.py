"""Triton's own HTTP client, unchanged, in a process of its own: `python triton.py PORT` prints what it got as JSON.

One story, told twice: with the synchronous client and with the one of asyncio. The answers are judged by the test.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import sys
from typing import Any

import numpy as np
import tritonclient.http
import tritonclient.http.aio
from tritonclient.utils import InferenceServerException

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
    return told | await refusals(client, x)


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


async def main(port: str) -> None:
    url = f"127.0.0.1:{port}"
    sync = tritonclient.http.InferenceServerClient(url)
    told = {"sync": await story(sync)}
    sync.close()
    async with tritonclient.http.aio.InferenceServerClient(url) as client:
        told["asyncio"] = await story(client)
    print(json.dumps(told))  # noqa: T201  the test reads it


asyncio.run(main(sys.argv[1]))
