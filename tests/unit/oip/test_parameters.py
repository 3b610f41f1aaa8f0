"""What the queue is asked for, found in requests of every form."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.errors import EdgedError
from edged.oip.parameters import NONE, Wishes, wishes

INPUTS = [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1.0, 2.0]}]


def request(**parameters: object) -> bytes:
    return json.dumps({"inputs": INPUTS, "parameters": parameters}).encode()


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({}, NONE),
        ({"binary_data_output": True}, NONE),
        ({"timeout": 2_500}, Wishes(0.0025)),
        ({"priority": 3}, Wishes(None, 3)),
        ({"priority": 1, "timeout": 1_000_000, "mine": "x"}, Wishes(1.0, 1)),
        ({"priority": 0, "timeout": 0}, NONE),  # as Triton's clients say nothing
        ({"timeout": None}, NONE),
    ],
)
def test_what_is_asked_for(parameters: dict[str, object], expected: Wishes) -> None:
    body = request(**parameters)
    assert wishes(body, -1) == expected
    assert wishes(body + bytes(64), len(body)) == expected
    assert wishes(b"  \n" + body, -1) == expected


@pytest.mark.parametrize("value", [-1, 1.5, "soon", True, [], 2**70])
@pytest.mark.parametrize("name", ["timeout", "priority"])
def test_what_is_no_number_is_refused(name: str, value: object) -> None:
    with pytest.raises(EdgedError, match=f"bad_input.*{name}"):
        wishes(request(**{name: value}), -1)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b'\xff\xd8\xff"timeout"',
        b'{"parameters": {"timeout": 5}',
        b'{"parameters": ["timeout"]}',
        b'{"parameters": null, "x": "timeout"}',
        b'{"inputs": [{"name": "timeout"}]}',
        b'["timeout"]',
        b"[" * 5000 + b'"timeout"',
        b'{"a":' * 5000 + b'"timeout"',
        b'{"timeout": 5}',
    ],
)
def test_what_has_none_or_cannot_be_read(body: bytes) -> None:
    """The worker reads it again and says what is wrong."""
    assert wishes(body, -1) == NONE


def test_tensors_behind_the_json_are_not_looked_at() -> None:
    body = request()
    assert wishes(body + request(timeout=5), len(body)) == NONE


def test_large_json_is_not_read() -> None:
    body = request(timeout=5, more="x" * 2**20)
    assert wishes(body, -1) == NONE


@given(st.binary(max_size=200), st.integers(-1, 300))
def test_any_bytes(body: bytes, json_length: int) -> None:
    assert wishes(b'{"timeout"' + body, min(json_length, len(body))) is not None
