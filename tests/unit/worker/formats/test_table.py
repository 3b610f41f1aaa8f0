"""Which format a payload is taken for."""

from __future__ import annotations

import json
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.channel import InputHead
from edged.config.steps import Form, FormatName
from edged.errors import EdgedError
from edged.worker.formats import table
from tests.unit.worker.formats.samples import ask, one
from tests.unit.worker.formats.test_npy import saved

NPY = saved(np.zeros(4, dtype=np.float32))
OIP = json.dumps({"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}]}).encode()


def detected(payload: bytes, content_type: str = "", json_length: int = -1, form: FormatName = "auto") -> str:
    head = InputHead(len(payload), content_type=content_type, json_length=json_length)
    return table.detect(Form(format=form), head, memoryview(payload))


def test_the_configurations_word_wins() -> None:
    for name in get_args(FormatName)[1:]:
        assert detected(b"\xff\xd8\xff", "image/jpeg", 5, name) == name


def test_the_length_header_means_the_protocol() -> None:
    assert detected(b"\x00", "application/octet-stream", 0) == "oip"
    assert detected(OIP, "application/json", len(OIP)) == "oip"


@pytest.mark.parametrize(
    ("payload", "content_type", "name"),
    [
        (OIP, "application/json", "oip"),
        (OIP, "application/octet-stream", "oip"),  # tritonclient's asyncio client
        (OIP, "application/x-www-form-urlencoded", "oip"),  # curl -d
        (OIP, "", "oip"),
        (b'{"temp": 1}', "application/json", "values"),
        (b'{"x": {"inputs": 1}}', "application/json", "values"),
        (b"[1, 2]", "Application/JSON; charset=utf-8", "values"),
        (b"\xff", "application/json", "values"),
        (b"1234", "application/octet-stream", "raw"),
        (b"{...", "application/octet-stream", "raw"),
        (NPY, "application/x-npy", "npy"),
        (b"123", "application/x-npy", "npy"),
        (NPY, "", "npy"),
        (NPY, "text/plain", "npy"),
        (b"  [1]", "", "values"),
        (b"1.5 2", "text/plain", "values"),
        (b"-1", "", "values"),
        (b"+1", "", "values"),
        (b"", "", "values"),
        (b"   ", "", "values"),
        (b"{", "", "values"),
        (b"\x00\x00\x80\x3f", "", "raw"),
    ],
)
def test_then_the_content_type_then_the_first_bytes(payload: bytes, content_type: str, name: str) -> None:
    assert detected(payload, content_type) == name


@pytest.mark.parametrize(
    ("payload", "content_type"),
    [
        (b"\xff\xd8\xff\xe0", ""),
        (b"\x89PNG\r\n\x1a\n", ""),
        (b"\xff\xd8\xff", "text/plain"),
        (b"123", "image/jpeg"),
        (OIP, "image/gif"),  # to be refused as what it says it is
    ],
)
def test_a_picture_is_known_by_its_label_or_its_first_bytes(payload: bytes, content_type: str) -> None:
    assert detected(payload, content_type) == "image"


def test_every_format_of_the_configuration_is_in_the_table() -> None:
    names = {"auto", *table.FORMATS}
    assert set(get_args(FormatName)) == names


def test_what_does_not_fit_the_memory_is_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise MemoryError

    monkeypatch.setitem(table.FORMATS, "raw", full)
    with pytest.raises(EdgedError) as caught:
        ask(b"\0\0\0\0", one(), Form(format="raw"))
    assert caught.value.fault.code == "over_memory"


@given(st.binary(max_size=80), st.sampled_from(["", "application/json", "application/octet-stream", "text/plain"]))
def test_every_payload_has_a_format(payload: bytes, content_type: str) -> None:
    assert detected(payload, content_type) in table.FORMATS
