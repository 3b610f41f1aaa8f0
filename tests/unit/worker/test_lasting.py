"""Members that stand in for those that are missing, by stream."""

from __future__ import annotations

import json
from typing import Any

import pytest

from edged.config.steps import Form
from edged.worker.lasting import _BYTES, _STREAMS, Lasting

FORM = Form(format="values", fields=("a", "b.c"), missing="last")


def send(lasting: Lasting, payload: Any, stream: int = 1) -> Any:
    """What the decoder gets to read."""
    text = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    completed, sent = lasting.complete((0, stream), FORM, memoryview(text))
    lasting.keep((0, stream), sent)
    return bytes(completed) if isinstance(payload, bytes) else json.loads(bytes(completed))


def test_absent_and_null_members_are_the_last_ones() -> None:
    lasting = Lasting()
    send(lasting, {"a": [1, 2], "b": {"c": 3}})
    assert send(lasting, {"a": None}) == {"a": [1, 2], "b.c": 3}
    assert send(lasting, {"a": 5, "b": {"c": None}}) == {"a": 5, "b": {"c": None}, "b.c": 3}
    assert send(lasting, {}) == {"a": 5, "b.c": 3}


def test_streams_do_not_mix() -> None:
    lasting = Lasting()
    send(lasting, {"a": 1}, stream=1)
    assert send(lasting, {"x": 0}, stream=2) == {"x": 0}


@pytest.mark.parametrize("payload", [b"", b"7", b"[1]", b"{", b"\xff", b"[" * 100_000, b'{"b": 7}', b'{"a":1}'])
def test_what_has_nothing_missing_or_is_no_object_is_left_as_it_is(payload: bytes) -> None:
    assert send(Lasting(), payload) == payload


def test_what_turned_out_to_be_wrong_is_not_kept() -> None:
    lasting = Lasting()
    send(lasting, {"a": 1})
    lasting.complete((0, 1), FORM, memoryview(b'{"a": "broken"}'))
    assert send(lasting, {}) == {"a": 1}


def test_memory_is_bounded_by_streams_and_bytes() -> None:
    lasting = Lasting()
    for stream in range(_STREAMS + 10):
        send(lasting, {"a": 1}, stream)
    assert len(lasting._last) == _STREAMS
    assert send(lasting, {}, 0) == {}
    for stream in range(10):
        send(lasting, {"a": "x" * (_BYTES // 4)}, stream)
    assert lasting._bytes <= _BYTES
    send(lasting, {"a": "x" * (2 * _BYTES)})
    assert (len(lasting._last), lasting._bytes) == (0, 0)
