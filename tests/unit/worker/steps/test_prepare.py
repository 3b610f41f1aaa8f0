"""From what was decoded to what the model runs on."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from edged.config.steps import Cast, Form, FormatName, Normalize, Preprocess, Reshape, Scale
from edged.errors import EdgedError
from edged.tensors import Signature, TensorSpec
from edged.worker.formats.decoded import Array
from edged.worker.steps.prepare import prepare
from tests.unit.worker.formats.samples import ask, one, request, two
from tests.unit.worker.formats.test_npy import saved

DIGITS = Signature((TensorSpec("image", "FP32", (-1, 1, 8, 8)),), (TensorSpec("logits", "FP32", (-1, 10)),))
SCAN = [float(index % 17) for index in range(64)]
STEPS = (Scale(0.0625), Reshape((1, 8, 8)))


def run(
    payload: bytes | tuple[bytes, int], signature: Signature, *steps: Preprocess, form: Form | None = None
) -> tuple[dict[str, Array], int]:
    tensors, rows, view = prepare(ask(payload, signature, form), steps, signature)
    assert view is None
    return tensors, rows


def refused(
    payload: bytes | tuple[bytes, int], signature: Signature, *steps: Preprocess, form: Form | None = None
) -> str:
    with pytest.raises(EdgedError) as caught:
        run(payload, signature, *steps, form=form)
    assert caught.value.fault.code == "bad_input"
    return caught.value.fault.message


def plain(format: FormatName, **options: Any) -> Form:
    return Form(format=format, **options)


def test_one_scan_is_one_image_whatever_carries_it() -> None:
    expected = (np.array(SCAN, dtype=np.float32) * np.float32(0.0625)).reshape(1, 1, 8, 8)
    float32 = np.array(SCAN, dtype=np.float32)
    payloads: list[tuple[bytes, Form]] = [
        (json.dumps(SCAN).encode(), plain("values")),
        (json.dumps([int(value) for value in SCAN]).encode(), plain("values")),
        (json.dumps(np.reshape(SCAN, (8, 8)).tolist()).encode(), plain("values")),
        (json.dumps({"pixels": SCAN}).encode(), plain("values", fields=("pixels",))),
        (", ".join(map(str, SCAN)).encode(), plain("values")),
        (float32.tobytes(), plain("raw")),
        (float32.astype(np.uint8).tobytes(), plain("raw", dtype="uint8")),
        (saved(float32), plain("npy")),
        (saved(float32.reshape(8, 8).astype(np.uint8)), plain("npy")),
        (saved(float32.reshape(1, 1, 8, 8)), plain("npy")),
    ]
    for payload, form in payloads:
        tensors, rows = run(payload, DIGITS, *STEPS, form=form)
        assert rows == 1
        assert tensors["image"].dtype == np.float32
        assert np.array_equal(tensors["image"], expected)


def test_a_batch_of_scans_keeps_its_rows() -> None:
    batch = np.stack([np.array(SCAN), np.array(SCAN[::-1])]).astype(np.float32)
    for array in (batch, batch.reshape(2, 8, 8), batch.reshape(2, 1, 8, 8)):
        tensors, rows = run(saved(array), DIGITS, *STEPS)
        assert rows == 2
        assert np.array_equal(tensors["image"].reshape(2, 64), batch * np.float32(0.0625))
    assert run(batch.tobytes(), DIGITS, *STEPS, form=plain("raw"))[1] == 2
    assert run(batch.tobytes(), DIGITS, Scale(1), form=plain("raw"))[1] == 2


def test_numbers_of_another_count_are_refused() -> None:
    assert "has 63 numbers" in refused(json.dumps(SCAN[:63]).encode(), DIGITS, *STEPS)
    assert "63 numbers" in refused(json.dumps(SCAN[:63]).encode(), DIGITS)


def test_raw_frames_are_normalized_by_channel_without_a_reshape() -> None:
    signature = one(shape=(1, 3, 2, 2))
    frame = np.arange(12, dtype=np.float32)
    tensors, _ = run(frame.tobytes(), signature, Normalize((0.0, 4.0, 8.0)), form=plain("raw"))
    assert tensors["x"].ravel().tolist() == [0, 1, 2, 3] * 3
    tensors, _ = run(saved(frame.reshape(3, 2, 2)), signature, Normalize((0.0, 4.0, 8.0)))
    assert tensors["x"].ravel().tolist() == [0, 1, 2, 3] * 3


def test_fields_are_normalized_each_by_its_own() -> None:
    steps = (Normalize((20.0, 1000.0), (10.0, 100.0)),)
    form = plain("values", fields=("temp", "pressure"))
    tensors, _ = run(b'{"temp": 25, "pressure": 1050}', one(shape=(-1, 2)), *steps, form=form)
    assert tensors["x"].tolist() == [[0.5, 0.5]]


def test_columns_are_one_window() -> None:
    form = plain("raw", dtype="int16", columns=3)
    window = np.arange(12, dtype="<i2")
    tensors, rows = run(window.tobytes(), one(shape=(-1, 4, 3)), Cast("float32"), form=form)
    assert (tensors["x"].tolist(), rows) == ([window.reshape(4, 3).tolist()], 1)
    tensors, _ = run(window.tobytes(), one(shape=(-1, -1, 3)), Scale(1), form=form)
    assert tensors["x"].shape == (1, 4, 3)


def test_a_model_without_a_batch_axis() -> None:
    tensors, rows = run(b"[1, 2, 3]", one(shape=(3,)), Normalize((1.0, 2.0, 3.0)))
    assert (tensors["x"].tolist(), rows) == ([0, 0, 0], 3)
    tensors, rows = run(b"5", one(shape=()), Scale(2))
    assert (tensors["x"].shape, tensors["x"].item(), rows) == ((), 10.0, 0)


def test_the_dtype_that_was_sent_is_only_changed_by_a_step() -> None:
    image = np.zeros((1, 1, 8, 8), dtype=np.float64)
    assert refused(saved(image), DIGITS) == "input image is FP32, the payload is float64"
    assert run(saved(image), DIGITS, Cast("float32"))[0]["image"].dtype == np.float32
    assert run(saved(image.astype(np.uint8)), DIGITS, Scale(0.5))[0]["image"].dtype == np.float32
    assert run(saved(image.astype(np.int32)), DIGITS, Scale(0.5))[0]["image"].dtype == np.float32
    assert "float64" in refused(saved(image), DIGITS, Scale(0.5))


def test_a_plain_payload_does_not_feed_two_inputs() -> None:
    assert "missing input: b INT64[-1]" in refused(b"[1, 2]", two(), form=plain("values", tensor="a"))


def test_an_oip_request_skips_preprocess_unless_it_asks_for_it() -> None:
    pixels = {"name": "image", "shape": [1, 1, 8, 8], "datatype": "FP32", "data": SCAN}
    tensors, rows = run(request([pixels]), DIGITS, *STEPS)
    assert (tensors["image"].ravel().tolist(), rows) == (SCAN, 1)
    flat = {"name": "image", "shape": [64], "datatype": "UINT8", "data": SCAN}
    tensors, rows = run(request([flat], parameters={"steps": True}), DIGITS, *STEPS)
    assert (tensors["image"].shape, rows) == ((1, 1, 8, 8), 1)
    assert tensors["image"].ravel().tolist() == (np.array(SCAN) / 16).tolist()
    assert "is FP32, the payload is uint8" in refused(
        request([flat], parameters={"steps": True}), DIGITS, Reshape((1, 8, 8))
    )


def test_steps_on_a_model_of_several_inputs_need_a_tensor() -> None:
    inputs = [
        {"name": "a", "shape": [2], "datatype": "FP32", "data": [1, 2]},
        {"name": "b", "shape": [1], "datatype": "INT64", "data": [7]},
    ]
    payload = request(inputs, parameters={"steps": True})
    tensors, _ = run(payload, two(), Scale(2), form=Form(tensor="a"))
    assert tensors["a"].tolist() == [[2, 4]]
    inputs[0]["shape"] = [1, 2]
    payload = request(inputs, parameters={"steps": True})
    assert "which of the model's inputs" in refused(payload, two(), Scale(2))
    assert run(payload, two())[1] == 1


def test_rows_are_those_that_all_inputs_share() -> None:
    def rows(a: int, b: int) -> int:
        inputs = [
            {"name": "a", "shape": [a, 2], "datatype": "FP32", "data": [0.0] * 2 * a},
            {"name": "b", "shape": [b], "datatype": "INT64", "data": [0] * b},
        ]
        return run(request(inputs), two())[1]

    assert (rows(3, 3), rows(2, 3), rows(0, 0), rows(0, 1)) == (3, 0, 0, 0)


def test_rows_without_a_value_run_alone_however_many_they_are_said_to_be() -> None:
    signature = Signature((TensorSpec("x", "FP32", (-1, -1)),), (TensorSpec("y", "FP32", (-1, -1)),))
    inputs = [{"name": "x", "shape": [2**40, 0], "datatype": "FP32", "data": []}]
    tensors, rows = run(request(inputs), signature)
    assert (tensors["x"].shape, rows) == ((2**40, 0), 0)
