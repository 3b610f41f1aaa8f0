"""What an ONNX file gives away: its notes, the span that its input is quantized for, and who takes its inputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edged.errors import EdgedError
from edged.worker.clues import Clues, read
from tests import models


def quantized(scale: onnx.TensorProto, zero: onnx.TensorProto | None, *, through: str = "") -> bytes:
    """x -> QuantizeLinear -> DequantizeLinear -> y; `through`: an operator before that."""
    names = ["x" if not through else "t", "scale", *(["zero"] if zero is not None else [])]
    nodes = [
        *([helper.make_node(through, ["x"], ["t"])] if through else []),
        helper.make_node("QuantizeLinear", names, ["q"]),
        helper.make_node("DequantizeLinear", ["q", *names[1:]], ["y"]),
    ]
    value = helper.make_tensor_value_info
    inputs, outputs = [value("x", TensorProto.FLOAT, [1, 4])], [value("y", TensorProto.FLOAT, [1, 4])]
    held = [scale, *([zero] if zero is not None else [])]
    content: bytes = helper.make_model(helper.make_graph(nodes, "g", inputs, outputs, held)).SerializeToString()
    return content


def number(name: str, kind: int, value: Any, *, raw: bool = False) -> onnx.TensorProto:
    if raw:
        data = np.array(value, helper.tensor_dtype_to_np_dtype(kind)).tobytes()
        return helper.make_tensor(name, kind, [], data, raw=True)
    return helper.make_tensor(name, kind, [], [value])


SCALE = number("scale", TensorProto.FLOAT, 0.5, raw=True)


def clues(tmp_path: Path, content: bytes) -> Clues:
    (tmp_path / "x.onnx").write_bytes(content)
    return read(tmp_path / "x.onnx")


@pytest.mark.parametrize("raw", [True, False])
@pytest.mark.parametrize(
    ("kind", "zero", "span"),
    [
        (TensorProto.UINT8, 128, (-64.0, 63.5)),
        (TensorProto.UINT8, 0, (0.0, 127.5)),
        (TensorProto.INT8, -128, (0.0, 127.5)),
        (TensorProto.INT8, 0, (-64.0, 63.5)),
        (TensorProto.UINT16, 0, (0.0, 32767.5)),
    ],
)
def test_the_span_of_a_quantized_input(
    tmp_path: Path, kind: int, zero: int, span: tuple[float, float], raw: bool
) -> None:
    content = quantized(number("scale", TensorProto.FLOAT, 0.5, raw=raw), number("zero", kind, zero, raw=raw))
    assert clues(tmp_path, content).spans == {"x": span}


def test_without_a_zero_point_it_is_uint8(tmp_path: Path) -> None:
    assert clues(tmp_path, quantized(SCALE, None)).spans == {"x": (0.0, 127.5)}


def test_behind_what_changes_no_value_too(tmp_path: Path) -> None:
    assert clues(tmp_path, quantized(SCALE, None, through="Identity")).spans == {"x": (0.0, 127.5)}
    behind = clues(tmp_path, quantized(SCALE, None, through="Neg"))
    assert not behind.spans
    assert behind.takers["x"] == {"Neg"}


def test_a_scale_for_each_channel_or_from_elsewhere_is_no_span(tmp_path: Path) -> None:
    several = helper.make_tensor("scale", TensorProto.FLOAT, [2], [0.5, 0.25])
    assert clues(tmp_path, quantized(several, None)).spans == {}
    assert clues(tmp_path, quantized(number("other", TensorProto.FLOAT, 0.5), None)).spans == {}
    assert clues(tmp_path, quantized(number("scale", TensorProto.FLOAT16, 0.5), None)).spans == {}


def test_two_takers_are_both_named(tmp_path: Path) -> None:
    nodes = [helper.make_node("Neg", ["x"], ["n"]), helper.make_node("Sub", ["n", "x"], ["y"])]
    content = models.build(nodes, [("x", "float32", (1,))], [("y", "float32", (1,))])
    assert clues(tmp_path, content).takers == {"x": {"Neg", "Sub"}}


def test_ways_without_end_are_walked_once(tmp_path: Path) -> None:
    """Each tensor goes two ways that meet again, forty times: 2^40 ways."""
    nodes = []
    for index in range(40):
        nodes += [helper.make_node("Identity", [f"t{index}"], [f"t{index + 1}"])] * 2
    graph = helper.make_graph(nodes, "g", [helper.make_tensor_value_info("t0", TensorProto.FLOAT, [1])], [], [])
    assert clues(tmp_path, helper.make_model(graph).SerializeToString()).takers == {"t0": frozenset()}


def test_an_exporters_notes(tmp_path: Path) -> None:
    model = onnx.load_from_string(models.linear())
    model.producer_name = "somebody"
    helper.set_model_props(model, {"names": "{0: 'é'}", "large": "x" * 300_000})
    found = clues(tmp_path, model.SerializeToString())
    assert (found.producer, found.metadata) == ("somebody", {"names": "{0: 'é'}"})
    helper.set_model_props(model, {str(index): "" for index in range(100)})
    assert len(clues(tmp_path, model.SerializeToString()).metadata) == 64


@pytest.mark.parametrize("content", [b"", b"no model", b"\x08\x08", models.linear()[:-3], b"\x3a\x02\x0a\xff"])
def test_what_is_no_model(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(EdgedError) as caught:
        clues(tmp_path, content)
    assert caught.value.fault.code == "not_a_model"
