"""The Open Inference Protocol as a user with numpy would speak it: binary tensors in, binary tensors out."""

from __future__ import annotations

import http.client
import json
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np

from edged.tensors import BY_NUMPY, BY_OIP
from tests.box import UnixConnection

Array = np.ndarray[Any, Any]
JSON_LENGTH = "inference-header-content-length"


class Reply(NamedTuple):
    """An HTTP answer; header names in lower case."""

    status: int
    body: bytes
    headers: dict[str, str]

    def json(self) -> dict[str, Any]:
        """The JSON part, with or without tensors behind it."""
        end = int(self.headers.get(JSON_LENGTH, len(self.body)))
        found: dict[str, Any] = json.loads(self.body[:end])
        return found

    def tensors(self) -> dict[str, Array]:
        """The outputs by name, JSON or binary; a request that failed fails the test with its error."""
        assert self.status == 200, self.json()
        found, start = {}, int(self.headers.get(JSON_LENGTH, len(self.body)))
        for output in self.json()["outputs"]:
            dtype = np.dtype(BY_OIP[output["datatype"]].numpy)
            if "data" in output:
                array = listed(output["data"], dtype)
            else:
                size = output["parameters"]["binary_data_size"]
                part = self.body[start : start + size]
                array = listed(strings(part), dtype) if dtype.kind == "O" else np.frombuffer(part, dtype=dtype)
                start += size
            found[output["name"]] = array.reshape(output["shape"])
        assert start == len(self.body)
        return found


def listed(values: Sequence[Any], dtype: np.dtype[Any]) -> Array:
    """A flat array; of objects element by element, as numpy would look into lists and maps."""
    array = np.empty(len(values), dtype=dtype)
    for index, value in enumerate(values):
        array[index] = value
    return array


def strings(data: bytes) -> list[str]:
    """BYTES elements: a little-endian uint32 with the length, then so many bytes of UTF-8."""
    found, start = [], 0
    while start < len(data):
        (size,) = struct.unpack_from("<I", data, start)
        found.append(data[start + 4 : start + 4 + size].decode())
        start += 4 + size
    assert start == len(data)
    return found


def raw_bytes(array: Array) -> bytes:
    """A tensor's binary form."""
    if array.dtype.kind != "O":
        return np.ascontiguousarray(array).tobytes()
    texts = [str(text).encode() for text in array.ravel()]
    return b"".join(struct.pack("<I", len(text)) + text for text in texts)


def binary(tensors: Mapping[str, Array], outputs: Sequence[str] = ()) -> tuple[bytes, dict[str, str]]:
    """An infer request whose tensors are raw bytes behind the JSON: (body, headers)."""
    raw = [raw_bytes(array) for array in tensors.values()]
    described = [
        {
            "name": name,
            "shape": array.shape,
            "datatype": BY_NUMPY[array.dtype.name].oip,
            "parameters": {"binary_data_size": len(data)},
        }
        for (name, array), data in zip(tensors.items(), raw, strict=True)
    ]
    request: dict[str, Any] = {"inputs": described, "parameters": {"binary_data_output": True}}
    if outputs:
        request["outputs"] = [{"name": name, "parameters": {"binary_data": True}} for name in outputs]
    text = json.dumps(request).encode()
    return b"".join((text, *raw)), {JSON_LENGTH: str(len(text)), "Content-Type": "application/octet-stream"}


class Client:
    """One kept-alive connection to a UNIX socket, or to a port of loopback."""

    def __init__(self, where: Path | int) -> None:
        self._connection: http.client.HTTPConnection = (
            UnixConnection(where)
            if isinstance(where, Path)
            else http.client.HTTPConnection("127.0.0.1", where, timeout=30)
        )

    def post(self, model: str, body: bytes, content_type: str = "", **headers: str) -> Reply:
        """One infer request, whatever is in it."""
        if content_type:
            headers["Content-Type"] = content_type
        self._connection.request("POST", f"/v2/models/{model}/infer", body, headers)
        response = self._connection.getresponse()
        return Reply(response.status, response.read(), {name.lower(): value for name, value in response.getheaders()})

    def infer(self, model: str, tensors: Mapping[str, Array], outputs: Sequence[str] = ()) -> dict[str, Array]:
        """A binary request and the model's outputs by name."""
        body, headers = binary(tensors, outputs)
        return self.post(model, body, **headers).tensors()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()
