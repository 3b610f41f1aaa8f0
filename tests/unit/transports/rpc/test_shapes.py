"""The tables of messages, against the official classes."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2

from edged import protobuf
from edged.config.schema import Batch
from edged.errors import EdgedError
from edged.oip import config, describe, parameters
from edged.transports.rpc import requests, shapes
from tests.integration.http.double import view

TEXT = st.text(max_size=20)
NUMBER = st.integers(0, 2**63 - 1)
SPENT = st.fixed_dictionaries({"count": NUMBER, "ns": NUMBER})
BATCH = st.fixed_dictionaries(
    {"batch_size": NUMBER, "compute_input": SPENT, "compute_infer": SPENT, "compute_output": SPENT}
)
STATISTICS = st.fixed_dictionaries(
    {
        "name": TEXT,
        "version": TEXT,
        "last_inference": NUMBER,
        "inference_count": NUMBER,
        "execution_count": NUMBER,
        "inference_stats": st.fixed_dictionaries(
            dict.fromkeys(
                ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output", "cache_hit"), SPENT
            )
        ),
        "batch_stats": st.lists(BATCH, max_size=2),
        "memory_usage": st.lists(
            st.fixed_dictionaries({"type": TEXT, "id": st.integers(-(2**63), 2**63 - 1), "byte_size": NUMBER}),
            max_size=2,
        ),
    }
)
TENSOR = st.fixed_dictionaries({"name": TEXT, "datatype": TEXT, "shape": st.lists(st.integers(-1, 2**62), max_size=4)})
METADATA = st.fixed_dictionaries(
    {
        "name": TEXT,
        "versions": st.lists(TEXT, max_size=2),
        "platform": TEXT,
        "inputs": st.lists(TENSOR, max_size=2),
        "outputs": st.lists(TENSOR, max_size=2),
    }
)
ROWS = st.fixed_dictionaries(
    {"models": st.lists(st.fixed_dictionaries({"name": TEXT, "version": TEXT, "state": TEXT, "reason": TEXT}))}
)


@pytest.mark.parametrize(
    ("shape", "name", "values"),
    [
        (shapes.METADATA, "ModelMetadataResponse", METADATA),
        (shapes.STATISTICS, "ModelStatisticsResponse", st.fixed_dictionaries({"model_stats": st.lists(STATISTICS)})),
        (shapes.ROWS, "RepositoryIndexResponse", ROWS),
        (
            shapes.SERVER,
            "ServerMetadataResponse",
            st.fixed_dictionaries({"name": TEXT, "version": TEXT, "extensions": st.lists(TEXT)}),
        ),
    ],
)
@given(data=st.data())
def test_an_answer_is_what_the_official_class_makes_of_the_same_value(
    shape: shapes.Shape, name: str, values: st.SearchStrategy[dict[str, Any]], data: st.DataObject
) -> None:
    value = data.draw(values)
    official = getattr(service_pb2, name)
    assert official.FromString(shapes.encode(shape, value)) == official(**value)


def test_a_models_own_answers_are_read_by_the_official_classes() -> None:
    one = view("linear")
    found = service_pb2.ModelConfigResponse.FromString(shapes.encode(shapes.CONFIG, {"config": config.model(one)}))
    plain = MessageToDict(found.config, preserving_proto_field_name=True)
    assert plain["input"] == [{"name": "x", "data_type": "TYPE_FP32", "dims": ["2"]}]
    assert plain["instance_group"] == [{"name": "linear", "kind": "KIND_CPU", "count": 1}]
    assert plain["max_batch_size"] == Batch().max
    metadata = service_pb2.ModelMetadataResponse.FromString(shapes.encode(shapes.METADATA, describe.model(one)))
    assert list(metadata.inputs[0].shape) == [-1, 2]


def test_every_datatype_has_its_number_in_a_configuration() -> None:
    from tritonclient.grpc import model_config_pb2

    official = dict(model_config_pb2.DataType.items())
    assert {name: official[name] for name in shapes._TYPES.of} == shapes._TYPES.of
    assert official.keys() - shapes._TYPES.of == {"TYPE_INVALID"}


@given(TEXT, st.dictionaries(TEXT, st.one_of(st.booleans(), st.integers(-5, 2**62), TEXT, st.binary()), max_size=3))
def test_a_request_to_load_is_read(model: str, parameters: dict[str, Any]) -> None:
    request = service_pb2.RepositoryModelLoadRequest(model_name=model)
    for name, value in parameters.items():
        kind = {bool: "bool_param", int: "int64_param", str: "string_param", bytes: "bytes_param"}[type(value)]
        setattr(request.parameters[name], kind, value)
    found = shapes.decode(shapes.LOAD, request.SerializeToString())
    assert found.get("model_name", "") == model
    assert found.get("parameters", {}).keys() == parameters.keys()


@given(TEXT, TEXT, TEXT, st.binary(max_size=50))
def test_whose_an_infer_request_is(model: str, version: str, id: str, raw: bytes) -> None:
    request = service_pb2.ModelInferRequest(model_name=model, model_version=version, id=id, raw_input_contents=[raw])
    found = requests.infer(request.SerializeToString())
    assert (found.model, found.version, found.id.decode()) == (model, version, id)


def test_what_an_infer_request_asks_of_the_queue() -> None:
    request = service_pb2.ModelInferRequest(model_name="m")
    request.parameters["timeout"].int64_param = 2_000_000
    request.parameters["priority"].uint64_param = 1
    request.parameters["other"].string_param = "x"
    found = requests.infer(request.SerializeToString())
    assert (found.timeout, found.priority) == (2_000_000, 1)
    assert parameters.of(found.timeout, found.priority) == parameters.Wishes(2.0, 1)


def test_the_fields_of_a_request_are_bounded_in_all_their_nesting() -> None:
    """4 MiB of parameters within their own bounds: seconds of the loop where each has a bound of its own."""
    many = b"\x18\x01" * 2047
    with pytest.raises(EdgedError, match="more than 8192 fields") as found:
        requests.infer(protobuf.put(4, many) * 1000)
    assert found.value.fault.code == "bad_input"
    assert requests.infer(protobuf.put(4, many) * 3 + protobuf.put(1, b"m")).model == "m"


def test_so_are_those_of_a_request_to_load() -> None:
    """64 KiB of empty parameters would take the loop a tenth of a second."""
    with pytest.raises(ValueError, match="more than 4096 fields"):
        shapes.decode(shapes.LOAD, protobuf.put(3, b"\x18\x00" * 50) * 100)


@given(st.binary(max_size=60))
def test_garbage_is_a_request_or_refused(data: bytes) -> None:
    for read in (requests.infer, lambda some: shapes.decode(shapes.LOAD, some)):
        try:
            read(data)
        except (EdgedError, ValueError, IndexError):
            continue
