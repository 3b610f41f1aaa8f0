"""Requests with tensors in shared memory: what the worker sees of them, and what becomes of its answer."""

from __future__ import annotations

import json
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edged.errors import EdgedError, Fault, fault
from edged.messages import Answer, Outcome
from edged.oip.regions import Regions
from edged.oip.shared import Brought, laying_down
from edged.transports.rest.shared import bring, shortened, uses

LIMIT = 1000
X = {"name": "x", "shape": [2], "datatype": "FP32"}


@pytest.fixture
def regions(tmp_path: Path) -> Iterator[Regions]:
    (tmp_path / "in").write_bytes(bytes(range(200)))
    (tmp_path / "out").write_bytes(bytes(200))
    found = Regions(str(tmp_path))
    found.register("in", "in", 0, 200)
    found.register("out", "out", 0, 200)
    yield found
    found.unregister()


def lies(name: str, size: int | None, offset: int | None = None, **more: object) -> dict[str, Any]:
    where: dict[str, object] = {"shared_memory_region": name}
    if size is not None:
        where["shared_memory_byte_size"] = size
    if offset is not None:
        where["shared_memory_offset"] = offset
    return {"parameters": {**where, **more}}


def request(inputs: list[Any], tail: bytes = b"", **more: object) -> tuple[bytes, int]:
    text = json.dumps({"id": "7", "inputs": inputs, **more}).encode()
    return text + tail, len(text)


def brought(regions: Regions, inputs: list[Any], tail: bytes = b"", **more: object) -> Brought:
    found = bring(*request(inputs, tail, **more), regions, LIMIT)
    assert found is not None
    return found


def test_inputs_are_read_in_their_order_among_the_others(regions: Regions) -> None:
    raw = {**X, "name": "b", "parameters": {"binary_data_size": 3}}
    plain = {**X, "name": "c", "data": [1, 2]}
    found = brought(
        regions, [{**X, **lies("in", 8, 4, mine=1)}, raw, plain, {**X, "name": "d", **lies("in", 2)}], b"abc"
    )
    body = found.body()
    said = json.loads(found.head)
    assert body == found.head + bytes(range(4, 12)) + b"abc" + bytes(range(2))
    assert said["id"] == "7"
    assert said["inputs"] == [
        {**X, "parameters": {"mine": 1, "binary_data_size": 8}},
        raw,
        plain,
        {**X, "name": "d", "parameters": {"binary_data_size": 2}},
    ]
    found.close()


def test_what_is_left_over_is_left_for_the_worker_to_refuse(regions: Regions) -> None:
    found = brought(regions, [{**X, **lies("in", 8)}], b"junk")
    assert found.body().endswith(bytes(range(8)) + b"junk")
    found.close()


@pytest.mark.parametrize(
    ("inputs", "code"),
    [
        ([{**X, **lies("nothing", 8)}], "bad_input"),
        ([{**X, **lies("in", 8, 193)}], "bad_input"),
        ([{**X, **lies("in", None)}], "bad_input"),
        ([{**X, **lies("in", 8), "data": [1, 2]}], "bad_input"),
        ([{**X, **lies("in", 8, binary_data_size=8)}], "bad_input"),
        ([{**X, **lies("in", 8)}, {**X, "parameters": {"binary_data_size": 9}}], "bad_input"),
        ([{**X, **lies("in", 200)}] * 6, "input_too_large"),
    ],
)
def test_what_cannot_be_is_refused(regions: Regions, inputs: list[Any], code: str) -> None:
    with pytest.raises(EdgedError) as found:
        brought(regions, inputs, b"12345678")
    assert found.value.fault.code == code
    assert _users(regions) == [1, 1]


@pytest.mark.parametrize("more", [{"note": "x" * 256 * 1024}, {"inputs": [{}] * 9000}])
def test_more_json_than_the_loop_has_time_for_is_refused(regions: Regions, more: dict[str, Any]) -> None:
    text = json.dumps({"inputs": [{**X, **lies("in", 8)}], **more}).encode()
    with pytest.raises(EdgedError, match="above 262144 bytes or 8192 objects") as found:
        bring(text, -1, regions, 2**24)
    assert found.value.fault.code == "bad_input"
    assert _users(regions) == [1, 1]


def test_raw_tensors_beside_those_in_regions_are_as_large_as_any(regions: Regions) -> None:
    raw = {**X, "name": "b", "parameters": {"binary_data_size": 2**20}}
    found = bring(*request([{**X, **lies("in", 8)}, raw], b"{" * 2**20), regions, 2**21)
    assert found is not None
    assert len(found.body()) == len(found.head) + 8 + 2**20
    found.close()


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"\xff", b'{"inputs": 3}', b'{"inputs": [{"parameters": 3}]}', b"[" * 5000]
)
def test_what_cannot_be_read_or_has_no_regions_is_the_workers(regions: Regions, body: bytes) -> None:
    assert bring(body, -1, regions, LIMIT) is None
    assert bring(*request([{**X, "data": ["shared_memory_region"]}]), regions, LIMIT) is None


def test_the_word_is_looked_for_in_the_json_alone() -> None:
    body, end = request([{**X, "data": [1, 2]}], b'"shared_memory_region"')
    assert not uses(body, end)
    assert not uses(body, 0)  # one raw tensor
    assert uses(body, -1)


def answer(*outputs: dict[str, Any], tail: bytes = b"") -> Answer:
    text = json.dumps({"model_name": "m", "outputs": outputs}).encode()
    return Answer(text + tail, len(text) if tail else 0, "3")


def output(name: str, size: int | None = None) -> dict[str, Any]:
    said = {"name": name, "datatype": "UINT8", "shape": [size or 1]}
    return {**said, "parameters": {"binary_data_size": size}} if size is not None else {**said, "data": [1]}


def settled(regions: Regions, outcome: Outcome, *outputs: dict[str, Any]) -> Outcome:
    """What a sender gets whose `outputs` go to regions."""
    found = brought(regions, [{**X, "data": [1, 2]}], outputs=list(outputs))
    assert json.loads(found.head)["outputs"][0]["parameters"] == {"binary_data": True}
    told: list[Outcome] = []
    works: list[Coroutine[Any, Any, None]] = []
    laying_down(found, shortened, told.append, works.append)(outcome)
    assert not works
    (one,) = told
    assert _users(regions) == [1, 1]
    return one


def test_outputs_are_laid_down_and_said_to_be_there(regions: Regions, tmp_path: Path) -> None:
    made = answer(output("y", 4), output("z", 2), output("j"), tail=b"YYYYZZ")
    found = settled(regions, made, {"name": "y", **lies("out", 100, 50)}, {"name": "z"})
    assert isinstance(found, Answer)
    said = json.loads(found.payload[: found.json_length])
    where = {"shared_memory_region": "out", "shared_memory_byte_size": 4, "shared_memory_offset": 50}
    assert [one.get("parameters") for one in said["outputs"]] == [where, {"binary_data_size": 2}, None]
    assert found.payload[found.json_length :] == b"ZZ"
    assert (tmp_path / "out").read_bytes()[48:56] == b"\0\0YYYY\0\0"


def test_with_nothing_left_behind_it_the_answer_is_json(regions: Regions) -> None:
    found = settled(regions, answer(output("y", 4), tail=b"YYYY"), {"name": "y", **lies("out", 100)})
    assert isinstance(found, Answer)
    assert found.json_length == 0
    assert found.payload.endswith(b"}")  # messages.with_parameters adds to it
    assert json.loads(found.payload)["outputs"][0]["parameters"]["shared_memory_byte_size"] == 4


def test_an_output_that_does_not_fit_its_place(regions: Regions) -> None:
    found = settled(regions, answer(output("y", 4), tail=b"YYYY"), {"name": "y", **lies("out", 3)})
    assert isinstance(found, Fault)
    assert found.code == "output_too_large"


def test_a_fault_stays_one(regions: Regions) -> None:
    problem = fault("queue_full", "full")
    assert settled(regions, problem, {"name": "y", **lies("out", 3)}) is problem


@pytest.mark.parametrize(
    "payload", [b"", b"no json", b"[]", b"{}", b'{"outputs":[{"parameters":{"binary_data_size":4}}]}']
)
def test_an_answer_that_makes_no_sense_harms_nobody(regions: Regions, payload: bytes) -> None:
    found = settled(regions, Answer(payload, 0, "3"), {"name": "y", **lies("out", 3)})
    assert isinstance(found, Fault)
    assert found.code == "internal"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    region=st.sampled_from(["in", "out", "x"]),
    numbers=st.lists(st.integers(-5, 300) | st.integers(-(2**80), 2**80), min_size=4, max_size=4),
)
def test_any_numbers(regions: Regions, region: str, numbers: list[int]) -> None:
    try:
        found = bring(
            *request([{**X, **lies(region, *numbers[:2])}], outputs=[{"name": "y", **lies(region, *numbers[2:])}]),
            regions,
            LIMIT,
        )
    except EdgedError as error:
        assert error.fault.code in ("bad_input", "input_too_large")
    else:
        if found is not None:
            assert len(found.body()) <= LIMIT + len(found.head)
            found.close()
    assert _users(regions) == [1, 1]


def _users(regions: Regions) -> list[int]:
    return [region._users for region in regions._regions.values()]
