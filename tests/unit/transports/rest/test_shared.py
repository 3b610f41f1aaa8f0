"""What JSON alone can say of tensors in shared memory; the rest is in ../test_shared.py."""

from __future__ import annotations

import json
from typing import Any

import pytest

from edged.errors import EdgedError
from edged.messages import Answer
from edged.oip.regions import Regions
from edged.transports.rest.shared import bring, shortened, uses

LIMIT = 1000
X = {"name": "x", "shape": [2], "datatype": "FP32"}


def lies(size: int, **more: object) -> dict[str, Any]:
    return {**X, "parameters": {"shared_memory_region": "in", "shared_memory_byte_size": size, **more}}


def request(inputs: list[Any], tail: bytes = b"", **more: object) -> tuple[bytes, int]:
    text = json.dumps({"id": "7", "inputs": inputs, **more}).encode()
    return text + tail, len(text)


def test_everything_else_stays_as_it_came(regions: Regions) -> None:
    raw, plain = {**X, "parameters": {"binary_data_size": 3}}, {**X, "data": [1, 2]}
    outputs = [{"name": "y"}, {"name": "z", "parameters": {"shared_memory_region": "out", "classification": 2}}]
    outputs[1]["parameters"]["shared_memory_byte_size"] = 8  # type: ignore[index]  # of any shape
    found = bring(*request([lies(8, mine=1), raw, plain], b"abc", outputs=outputs, parameters={"a": 1}), regions, LIMIT)
    assert found is not None
    assert json.loads(found.head) == {
        "id": "7",
        "inputs": [{**X, "parameters": {"mine": 1, "binary_data_size": 8}}, raw, plain],
        "outputs": [{"name": "y"}, {"name": "z", "parameters": {"classification": 2, "binary_data": True}}],
        "parameters": {"a": 1},
    }
    found.close()


@pytest.mark.parametrize(
    "inputs", [[lies(8, binary_data_size=8)], [lies(8), {**X, "parameters": {"binary_data_size": 9}}]]
)
def test_sizes_that_cannot_be_are_refused(regions: Regions, inputs: list[Any]) -> None:
    with pytest.raises(EdgedError) as found:
        bring(*request(inputs, b"12345678"), regions, LIMIT)
    assert found.value.fault.code == "bad_input"


@pytest.mark.parametrize("number", [-1, -(2**80), 2**80, 1.5, "8"])
def test_what_is_no_number_of_bytes_is_the_workers(regions: Regions, number: object) -> None:
    one = lies(8, shared_memory_offset=number)
    assert bring(*request([one]), regions, LIMIT) is None


@pytest.mark.parametrize("more", [{"note": "x" * 256 * 1024}, {"inputs": [{}] * 9000}])
def test_more_json_than_the_loop_has_time_for_is_refused(regions: Regions, more: dict[str, Any]) -> None:
    text = json.dumps({"inputs": [lies(8)], **more}).encode()
    with pytest.raises(EdgedError, match="above 262144 bytes or 8192 objects") as found:
        bring(text, -1, regions, 2**24)
    assert found.value.fault.code == "bad_input"


def test_raw_tensors_beside_those_in_regions_are_as_large_as_any(regions: Regions) -> None:
    raw = {**X, "name": "b", "parameters": {"binary_data_size": 2**20}}
    found = bring(*request([lies(8), raw], b"{" * 2**20), regions, 2**21)
    assert found is not None
    assert len(found.body()) == len(found.head) + 8 + 2**20
    found.close()


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"\xff", b'{"inputs": 3}', b'{"inputs": [{"parameters": 3}]}', b"[" * 5000]
)
def test_what_cannot_be_read_is_the_workers(regions: Regions, body: bytes) -> None:
    assert bring(body, -1, regions, LIMIT) is None


def test_the_word_is_looked_for_in_the_json_alone() -> None:
    body, end = request([{**X, "data": [1, 2]}], b'"shared_memory_region"')
    assert not uses(body, end)
    assert not uses(body, 0)  # one raw tensor
    assert uses(body, -1)


def test_with_nothing_left_behind_it_the_answer_is_json(regions: Regions) -> None:
    outputs = [{"name": "y", "parameters": {"binary_data_size": 4}}, {"name": "j", "data": [1]}]
    text = json.dumps({"outputs": outputs}).encode()
    place = regions.window("out", 0, 100, write=True)
    found = shortened(Answer(text + b"YYYY", len(text), "3"), {"y": place})
    place.close()
    assert found.json_length == 0
    assert found.payload.endswith(b"}")  # messages.with_parameters adds to it
    y, j = json.loads(found.payload)["outputs"]
    assert y["parameters"] == {"shared_memory_region": "out", "shared_memory_byte_size": 4}
    assert j == outputs[1]
