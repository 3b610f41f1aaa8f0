"""Reading ONNX files without onnx, held against onnx itself."""

from __future__ import annotations

import contextlib
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edged.errors import EdgedError
from edged.worker.graph import read

DIGITS = Path(__file__).parents[3] / "examples" / "digits"
FILES = sorted(DIGITS.glob("*.onnx"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_it_counts_as_onnx_does(file: Path) -> None:
    model, found = onnx.load(file), read(file)
    weights: Counter[str] = Counter()
    for tensor in model.graph.initializer:
        weights[numpy_helper.to_array(tensor).dtype.name] += int(np.prod(tensor.dims))
    assert found.operators == Counter(node.op_type for node in model.graph.node)
    assert found.weights == weights
    assert (found.producer, found.opset) == (model.producer_name, model.opset_import[0].version)
    assert not found.external
    assert found.quantization.startswith("QDQ: ")


def branching(tmp_path: Path) -> Path:
    """An If with a quantized operator in one branch, and external weights."""
    value = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    constant = helper.make_tensor("c", TensorProto.FLOAT, [1], [1.0])
    then = helper.make_graph([helper.make_node("Constant", [], ["y"], value=constant)], "then", [], [value])
    other = helper.make_graph([helper.make_node("MatMulInteger", ["a", "b"], ["y"])], "else", [], [value])
    node = helper.make_node("If", ["p"], ["y"], then_branch=then, else_branch=other)
    flag = helper.make_tensor_value_info("p", TensorProto.BOOL, [])
    big = numpy_helper.from_array(np.zeros((3, 4), np.float16), "w")
    graph = helper.make_graph([node], "g", [flag], [value], [big])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("com.x", 99), helper.make_opsetid("", 13)])
    onnx.save(model, tmp_path / "m.onnx", save_as_external_data=True, size_threshold=0, location="w.bin")
    return tmp_path / "m.onnx"


def test_subgraphs_other_domains_and_external_weights(tmp_path: Path) -> None:
    found = read(branching(tmp_path))
    assert found.operators == {"If": 1, "Constant": 1, "MatMulInteger": 1}
    assert found.weights == {"float16": 12, "float32": 1}
    assert (found.opset, found.external) == (13, True)
    assert found.quantization == "dynamic: 1 Integer operators, 0 DynamicQuantizeLinear"


@pytest.mark.parametrize("content", [b"", b"hello, this is text\n", b"\x00" * 100, b"\x08\x07"])
def test_what_is_no_model(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.onnx").write_bytes(content)
    with pytest.raises(EdgedError) as caught:
        read(tmp_path / "x.onnx")
    assert caught.value.fault.code == "not_a_model"


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(EdgedError, match="No such file"):
        read(tmp_path / "none.onnx")


@given(data=st.data())
def test_damage_is_an_answer_and_never_a_crash(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    whole = bytearray(FILES[0].read_bytes())
    for _ in range(data.draw(st.integers(0, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    file = tmp_path_factory.getbasetemp() / "damaged.onnx"
    file.write_bytes(whole[: data.draw(st.integers(0, len(whole)))])
    with contextlib.suppress(EdgedError):
        read(file)
