"""gRPC's requests with tensors in shared memory: what the worker sees of them, and what becomes of its answer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2

from edged import protobuf
from edged.errors import EdgedError, Fault
from edged.messages import Answer, Outcome
from edged.oip.regions import Regions
from edged.oip.shared import Brought, laying_down
from edged.transports.rpc.shared import bring, shortened, uses

LIMIT = 1000


@pytest.fixture
def regions(tmp_path: Path) -> Iterator[Regions]:
    (tmp_path / "in").write_bytes(bytes(range(200)))
    (tmp_path / "out").write_bytes(bytes(200))
    found = Regions(str(tmp_path))
    found.register("in", "in", 0, 200)
    found.register("out", "out", 0, 200)
    yield found
    found.unregister()


def lies(tensor: Any, name: str, size: int | None, offset: int = 0) -> Any:
    tensor.parameters["shared_memory_region"].string_param = name
    if size is not None:
        tensor.parameters["shared_memory_byte_size"].int64_param = size
    if offset:
        tensor.parameters["shared_memory_offset"].int64_param = offset
    return tensor


def request(name: str = "in", size: int | None = 8, offset: int = 0) -> Any:
    made = service_pb2.ModelInferRequest(model_name="m", model_version="1", id="7")
    made.parameters["steps"].bool_param = True
    lies(made.inputs.add(name="x", datatype="FP32", shape=[2]), name, size, offset)
    return made


def brought(made: Any, regions: Regions, limit: int = LIMIT) -> Brought:
    found = bring(made.SerializeToString(), regions, limit)
    assert found is not None
    return found


def read(found: Brought) -> Any:
    told = service_pb2.ModelInferRequest.FromString(found.body())
    found.close()
    return told


def test_inputs_are_read_in_their_order_among_the_others(regions: Regions) -> None:
    made = request(offset=4)
    made.inputs[0].parameters["mine"].double_param = 1.5
    made.inputs.add(name="b", datatype="UINT8", shape=[3])
    made.inputs.add(name="c", datatype="FP32", shape=[2]).contents.fp32_contents.extend([1, 2])
    lies(made.inputs.add(name="d", datatype="UINT8", shape=[2]), "in", 2)
    made.raw_input_contents.append(b"abc")
    expected = service_pb2.ModelInferRequest()
    expected.CopyFrom(made)
    for index in (0, 3):
        for name in [name for name in made.inputs[index].parameters if name != "mine"]:
            del expected.inputs[index].parameters[name]
    expected.raw_input_contents[:] = [bytes(range(4, 12)), b"abc", bytes(range(2))]
    assert read(brought(made, regions)) == expected


def test_what_is_left_over_or_missing_is_the_workers_to_refuse(regions: Regions) -> None:
    made = request()
    made.raw_input_contents.append(b"junk")
    assert list(read(brought(made, regions)).raw_input_contents) == [bytes(range(8)), b"junk"]
    made = request()
    made.inputs.add(name="empty", datatype="FP32", shape=[0])
    assert list(read(brought(made, regions)).raw_input_contents) == [bytes(range(8)), b""]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda made: lies(made.inputs[0], "nothing", 8), "bad_input"),
        (lambda made: lies(made.inputs[0], "in", 8, 193), "bad_input"),
        (lambda made: lies(made.inputs[0], "in", -1), "bad_input"),
        (lambda made: lies(made.inputs[0], "in", 8, -1), "bad_input"),
        (lambda made: lies(made.inputs[0], "in", 2**63 - 1, 2**63 - 1), "input_too_large"),
        (lambda made: made.inputs[0].parameters.pop("shared_memory_byte_size"), "bad_input"),
        (lambda made: made.inputs[0].contents.fp32_contents.append(1), "bad_input"),
        (lambda made: setattr(made.inputs[0].parameters["shared_memory_offset"], "string_param", "8"), "bad_input"),
        (lambda made: setattr(made.inputs[0].parameters["shared_memory_region"], "int64_param", 8), "bad_input"),
        (lambda made: [lies(made.outputs.add(name="y"), "out", 8) for _ in range(2)], "bad_input"),
        (lambda made: lies(made.outputs.add(name="y"), "out", 8, 193), "bad_input"),
        (lambda made: lies(made.outputs.add(name="y"), "out", None), "bad_input"),
        (lambda made: [lies(made.inputs.add(name=f"x{n}"), "in", 200) for n in range(5)], "input_too_large"),
    ],
)
def test_what_cannot_be_is_refused(regions: Regions, change: Any, code: str) -> None:
    made = request()
    change(made)
    with pytest.raises(EdgedError) as found:
        brought(made, regions)
    assert found.value.fault.code == code
    assert _users(regions) == [1, 1]


def test_what_has_no_regions_or_cannot_be_read_is_the_workers(regions: Regions) -> None:
    made = service_pb2.ModelInferRequest(id="shared_memory_region")
    assert uses(made.SerializeToString())
    assert bring(made.SerializeToString(), regions, LIMIT) is None
    assert bring(request().SerializeToString()[:-1], regions, LIMIT) is None
    assert (
        bring(request().SerializeToString() + b"\x3a\x00" * 9000, regions, 100_000) is None
    )  # too many to walk through
    tensor = protobuf.put(5, b"\x18\x01" * 2047)
    found = bring(request().SerializeToString() + tensor * 3, regions, 100_000)
    assert found is not None
    found.close()
    assert bring(request().SerializeToString() + tensor * 4, regions, 100_000) is None


def answer(*outputs: tuple[str, bytes]) -> Answer:
    made = service_pb2.ModelInferResponse(model_name="m", model_version="3", id="7")
    made.parameters["prediction"].string_param = "[]"
    for name, data in outputs:
        made.outputs.add(name=name, datatype="UINT8", shape=[len(data)])
        made.raw_output_contents.append(data)
    return Answer(made.SerializeToString(), 0, "3")


def settled(regions: Regions, outcome: Outcome, size: int = 100, offset: int = 0) -> Outcome:
    """What a sender gets whose output `y` goes to a region."""
    made = service_pb2.ModelInferRequest()
    made.outputs.add(name="z")
    lies(made.outputs.add(name="y"), "out", size, offset)
    found = brought(made, regions)
    told: list[Outcome] = []
    laying_down(found, shortened, told.append, lambda work: work.close())(outcome)
    (one,) = told
    assert _users(regions) == [1, 1]
    return one


def test_outputs_are_laid_down_and_said_to_be_there(regions: Regions, tmp_path: Path) -> None:
    given = answer(("z", b"ZZ"), ("y", b"YYYY"), ("v", b""))
    found = settled(regions, given, 100, 50)
    assert isinstance(found, Answer)
    said = service_pb2.ModelInferResponse.FromString(found.payload)
    expected = service_pb2.ModelInferResponse.FromString(given.payload)
    expected.raw_output_contents[1] = b""  # clients count on one for each output
    lies(expected.outputs[1], "out", 4, 50)
    assert said == expected
    assert (tmp_path / "out").read_bytes()[48:56] == b"\0\0YYYY\0\0"


def test_an_output_that_does_not_fit_its_place(regions: Regions) -> None:
    found = settled(regions, answer(("y", b"YYYY")), 3)
    assert isinstance(found, Fault)
    assert found.code == "output_too_large"


@pytest.mark.parametrize("payload", [b"\xff", b"\x08\x01", answer(("y", b"Y")).payload[:-3], b"\x32\x01a"])
def test_an_answer_that_makes_no_sense_harms_nobody(regions: Regions, payload: bytes) -> None:
    found = settled(regions, Answer(payload, 0, "3"))
    assert isinstance(found, Fault)
    assert found.code == "internal"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.sampled_from(["in", "out", "x"]),
    st.lists(st.integers(-5, 300) | st.integers(-(2**63), 2**63 - 1), min_size=4, max_size=4),
)
def test_any_numbers(regions: Regions, region: str, numbers: list[int]) -> None:
    made = request(region, *numbers[:2])
    lies(made.outputs.add(name="y"), region, *numbers[2:])
    try:
        found = brought(made, regions)
    except EdgedError as error:
        assert error.fault.code in ("bad_input", "input_too_large")
    else:
        assert len(found.body()) <= LIMIT
        found.close()
    assert _users(regions) == [1, 1]


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
    assert _users(regions) == [1, 1]


def _users(regions: Regions) -> list[int]:
    return [region._users for region in regions._regions.values()]
