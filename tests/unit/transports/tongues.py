"""A request with tensors in shared memory in the words of each transport that has such requests."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol

from tritonclient.grpc import service_pb2

from edged.messages import Answer
from edged.oip.regions import Regions, Window
from edged.oip.shared import Brought
from edged.transports.rest import shared as rest
from edged.transports.rpc import shared as rpc


class Tensor(NamedTuple):
    """`region` "": `raw` bytes, or without those values. `both`: values besides the region."""

    name: str
    region: str = ""
    size: int | None = None
    offset: int = 0
    raw: bytes | None = None
    both: bool = False


class Output(NamedTuple):
    """What an answer says of an output: where it lies, or its bytes."""

    name: str
    region: str = ""
    size: int = 0
    offset: int = 0
    raw: bytes = b""


class Tongue(Protocol):
    """`bring`: a request, `junk` behind its raw tensors; `seen`: its raw tensors as the worker sees them."""

    def bring(
        self, regions: Regions, inputs: Sequence[Tensor], outputs: Sequence[Tensor], limit: int, junk: bytes = b""
    ) -> Brought | None: ...
    def seen(self, found: Brought) -> list[bytes]: ...
    def shortened(self, answer: Answer, places: Mapping[str, Window]) -> Answer: ...
    def answer(self, *outputs: tuple[str, bytes]) -> Answer: ...
    def said(self, answer: Answer) -> list[Output]: ...


class Json:
    """HTTP's."""

    def bring(
        self, regions: Regions, inputs: Sequence[Tensor], outputs: Sequence[Tensor], limit: int, junk: bytes = b""
    ) -> Brought | None:
        said = {"inputs": [self._input(one) for one in inputs], "outputs": [self._placed(one) for one in outputs]}
        text = json.dumps(said).encode()
        return rest.bring(b"".join((text, *(one.raw or b"" for one in inputs), junk)), len(text), regions, limit)

    def _input(self, one: Tensor) -> dict[str, Any]:
        said = {**self._placed(one), "shape": [1], "datatype": "UINT8"}
        if one.raw is not None:
            said["parameters"] = {"binary_data_size": len(one.raw)}
        return {**said, "data": [1]} if one.both or (one.raw is None and not one.region) else said

    def _placed(self, one: Tensor) -> dict[str, Any]:
        if not one.region:
            return {"name": one.name}
        where = {"region": one.region, "byte_size": one.size, "offset": one.offset or None}
        return {
            "name": one.name,
            "parameters": {f"shared_memory_{word}": value for word, value in where.items() if value is not None},
        }

    def seen(self, found: Brought) -> list[bytes]:
        body, at = found.body(), len(found.head)
        raw = []
        for one in json.loads(found.head)["inputs"]:
            size = one.get("parameters", {}).get("binary_data_size")
            if size is not None:
                raw.append(body[at : at + size])
                at += size
        return [*raw, body[at:]] if at < len(body) else raw

    def shortened(self, answer: Answer, places: Mapping[str, Window]) -> Answer:
        return rest.shortened(answer, places)

    def answer(self, *outputs: tuple[str, bytes]) -> Answer:
        said = [{"name": name, "parameters": {"binary_data_size": len(raw)}} for name, raw in outputs]
        text = json.dumps({"model_name": "m", "outputs": said}).encode()
        return Answer(b"".join((text, *(raw for _, raw in outputs))), len(text), "3")

    def said(self, answer: Answer) -> list[Output]:
        end = answer.json_length or len(answer.payload)
        found, at = [], end
        for one in json.loads(answer.payload[:end])["outputs"]:
            of = one["parameters"]
            size = of.get("binary_data_size", 0)
            room, offset = (of.get(f"shared_memory_{word}", 0) for word in ("byte_size", "offset"))
            raw = answer.payload[at : at + size]
            found.append(Output(one["name"], of.get("shared_memory_region", ""), room, offset, raw))
            at += size
        return found


class Protobuf:
    """gRPC's."""

    def bring(
        self, regions: Regions, inputs: Sequence[Tensor], outputs: Sequence[Tensor], limit: int, junk: bytes = b""
    ) -> Brought | None:
        made = service_pb2.ModelInferRequest(model_name="m")
        for one in inputs:
            self._placed(made.inputs.add(name=one.name, datatype="UINT8", shape=[1]), one)
            if one.both or (one.raw is None and not one.region):
                made.inputs[-1].contents.uint_contents.append(1)
            if one.raw is not None:
                made.raw_input_contents.append(one.raw)
        if junk:
            made.raw_input_contents.append(junk)
        for one in outputs:
            self._placed(made.outputs.add(name=one.name), one)
        return rpc.bring(made.SerializeToString(), regions, limit)

    def _placed(self, tensor: Any, one: Tensor) -> None:
        if one.region:
            tensor.parameters["shared_memory_region"].string_param = one.region
            if one.size is not None:
                tensor.parameters["shared_memory_byte_size"].int64_param = one.size
            if one.offset:
                tensor.parameters["shared_memory_offset"].int64_param = one.offset

    def seen(self, found: Brought) -> list[bytes]:
        return list(service_pb2.ModelInferRequest.FromString(found.body()).raw_input_contents)

    def shortened(self, answer: Answer, places: Mapping[str, Window]) -> Answer:
        return rpc.shortened(answer, places)

    def answer(self, *outputs: tuple[str, bytes]) -> Answer:
        made = service_pb2.ModelInferResponse(model_name="m", model_version="3")
        for name, raw in outputs:
            made.outputs.add(name=name, datatype="UINT8", shape=[len(raw)])
            made.raw_output_contents.append(raw)
        return Answer(made.SerializeToString(), 0, "3")

    def said(self, answer: Answer) -> list[Output]:
        told = service_pb2.ModelInferResponse.FromString(answer.payload)
        return [
            Output(
                one.name,
                one.parameters["shared_memory_region"].string_param,
                one.parameters["shared_memory_byte_size"].int64_param,
                one.parameters["shared_memory_offset"].int64_param,
                raw,
            )
            for one, raw in zip(told.outputs, told.raw_output_contents, strict=True)
        ]


TONGUES: Final[dict[str, Tongue]] = {"http": Json(), "grpc": Protobuf()}
