"""What gRPC alone can say of tensors in shared memory; the rest is in ../test_shared.py."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2

from edged import protobuf
from edged.errors import EdgedError
from edged.oip.regions import Regions
from edged.transports.rpc.shared import bring, uses

LIMIT = 1000


def request(size: int = 8, offset: int = 4) -> Any:
    made = service_pb2.ModelInferRequest(model_name="m", model_version="1", id="7")
    made.parameters["steps"].bool_param = True
    one = made.inputs.add(name="x", datatype="FP32", shape=[2])
    one.parameters["shared_memory_region"].string_param = "in"
    one.parameters["shared_memory_byte_size"].int64_param = size
    one.parameters["shared_memory_offset"].int64_param = offset
    return made


def test_everything_else_stays_as_it_came(regions: Regions) -> None:
    made = request()
    made.inputs[0].parameters["mine"].double_param = 1.5
    made.inputs.add(name="c", datatype="FP32", shape=[2]).contents.fp32_contents.extend([1, 2])
    made.outputs.add(name="z").parameters["classification"].int64_param = 2
    expected = service_pb2.ModelInferRequest()
    expected.CopyFrom(made)
    for name in [name for name in made.inputs[0].parameters if name != "mine"]:
        del expected.inputs[0].parameters[name]
    expected.raw_input_contents.append(bytes(range(4, 12)))
    found = bring(made.SerializeToString(), regions, LIMIT)
    assert found is not None
    assert service_pb2.ModelInferRequest.FromString(found.body()) == expected
    found.close()


def test_what_is_missing_is_the_workers_to_refuse(regions: Regions) -> None:
    made = request()
    made.inputs.add(name="empty", datatype="FP32", shape=[0])
    found = bring(made.SerializeToString(), regions, LIMIT)
    assert found is not None
    told = service_pb2.ModelInferRequest.FromString(found.body())
    assert list(told.raw_input_contents) == [bytes(range(4, 12)), b""]
    found.close()


@pytest.mark.parametrize(
    ("size", "offset", "code"),
    [(-1, 0, "bad_input"), (8, -1, "bad_input"), (2**63 - 1, 2**63 - 1, "input_too_large")],
)
def test_numbers_that_cannot_be_are_refused(regions: Regions, size: int, offset: int, code: str) -> None:
    with pytest.raises(EdgedError) as found:
        bring(request(size, offset).SerializeToString(), regions, LIMIT)
    assert found.value.fault.code == code


@pytest.mark.parametrize(("name", "kind", "value"), [("offset", "string_param", "8"), ("region", "int64_param", 8)])
def test_a_parameter_of_another_kind_is_refused(regions: Regions, name: str, kind: str, value: object) -> None:
    made = request()
    setattr(made.inputs[0].parameters[f"shared_memory_{name}"], kind, value)
    with pytest.raises(EdgedError) as found:
        bring(made.SerializeToString(), regions, LIMIT)
    assert found.value.fault.code == "bad_input"


def test_what_cannot_be_read_is_the_workers(regions: Regions) -> None:
    made = service_pb2.ModelInferRequest(id="shared_memory_region").SerializeToString()
    assert uses(made)
    assert bring(made, regions, LIMIT) is None
    assert bring(request().SerializeToString()[:-1], regions, LIMIT) is None


def test_the_fields_that_the_loop_walks_through_are_bounded(regions: Regions) -> None:
    good, tensor = request().SerializeToString(), protobuf.put(5, b"\x18\x01" * 2047)
    found = bring(good + tensor * 3, regions, 100_000)
    assert found is not None
    found.close()
    for more in (tensor * 4, b"\x3a\x00" * 9000):
        assert bring(good + more, regions, 100_000) is None


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.binary(max_size=60), st.integers(0, 60))
def test_garbage_is_refused_or_the_workers(regions: Regions, data: bytes, at: int) -> None:
    payload = request().SerializeToString()
    try:
        found = bring(payload[:at] + data + payload[at:], regions, LIMIT)
    except EdgedError:
        found = None
    if found is not None:
        found.body()
        found.close()
