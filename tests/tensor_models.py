"""Builders of small ONNX models whose inputs or outputs are out of the ordinary; tests/models.py has the plain ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.models import DTYPES, Array, Axis, Value, build

FLOAT, INT64, STRING = TensorProto.FLOAT, TensorProto.INT64, TensorProto.STRING


def assembled(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    constants: dict[str, Array] | None = None,
    opset: int = 18,
) -> bytes:
    """A model file of value infos, which may be of any ONNX type; nothing is checked."""
    held = [numpy_helper.from_array(array, name) for name, array in (constants or {}).items()]
    graph = helper.make_graph(list(nodes), "test", list(inputs), list(outputs), held)
    operators = [helper.make_opsetid("", opset), helper.make_opsetid("ai.onnx.ml", 1)]
    model = helper.make_model(graph, opset_imports=operators)
    model.ir_version = 8 if opset < 21 else 10
    content: bytes = model.SerializeToString()
    return content


def tensor(name: str, element: int = FLOAT, shape: Sequence[Axis] | None = ("batch", 3)) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, element, shape)


def _sequence(name: str, of: onnx.TypeProto) -> onnx.ValueInfoProto:
    return helper.make_value_info(name, helper.make_sequence_type_proto(of))


def _map(key: int) -> onnx.TypeProto:
    return helper.make_map_type_proto(key, helper.make_tensor_type_proto(FLOAT, None))


# --- outputs that are no tensors ----------------------------------------------------------------------


def zipmap(classes: Sequence[str] | Sequence[int] = ("asleep", "awake", 'in "é" doubt')) -> bytes:
    """As scikit-learn's converter makes a classifier: scores [batch, 3] -> label, probabilities seq(map)."""
    named = isinstance(classes[0], str)
    words: dict[str, Any] = {"classlabels_strings": list(classes)} if named else {"classlabels_int64s": list(classes)}
    nodes = [
        helper.make_node("ArgMax", ["scores"], ["label"], axis=1, keepdims=0),
        helper.make_node("ZipMap", ["scores"], ["probabilities"], domain="ai.onnx.ml", **words),
    ]
    outputs = [tensor("label", INT64, ("batch",)), _sequence("probabilities", _map(STRING if named else INT64))]
    return assembled(nodes, [tensor("scores")], outputs)


def pieces() -> bytes:
    """x [batch, 3] -> pieces, a sequence of its rows."""
    nodes = [helper.make_node("SplitToSequence", ["x"], ["pieces"], axis=0)]
    return assembled(nodes, [tensor("x")], [_sequence("pieces", helper.make_tensor_type_proto(FLOAT, None))])


def sometimes() -> bytes:
    """given bool [], x [batch, 3] -> maybe, which is x or absent, and y, which is x."""
    kind = helper.make_optional_type_proto(helper.make_tensor_type_proto(FLOAT, ["batch", 3]))
    there = [helper.make_node("Optional", ["x"], ["one"])]
    absent = [helper.make_node("Optional", [], ["none"], type=helper.make_tensor_type_proto(FLOAT, ["batch", 3]))]
    branches = {
        "then_branch": helper.make_graph(there, "there", [], [helper.make_value_info("one", kind)]),
        "else_branch": helper.make_graph(absent, "absent", [], [helper.make_value_info("none", kind)]),
    }
    nodes = [helper.make_node("If", ["given"], ["maybe"], **branches), helper.make_node("Identity", ["x"], ["y"])]
    inputs = [tensor("given", TensorProto.BOOL, ()), tensor("x")]
    return assembled(nodes, inputs, [helper.make_value_info("maybe", kind), tensor("y")])


# --- what edged does not carry ------------------------------------------------------------------------


def casting(element: int) -> bytes:
    """x [batch, 3] -> y of another element type."""
    return assembled(
        [helper.make_node("Cast", ["x"], ["y"], to=element)], [tensor("x")], [tensor("y", element)], opset=21
    )


def map_input() -> bytes:
    """given, a map of strings to floats -> y [1, 2]."""
    node = helper.make_node("DictVectorizer", ["given"], ["y"], domain="ai.onnx.ml", string_vocabulary=["a", "b"])
    return assembled([node], [helper.make_value_info("given", _map(STRING))], [tensor("y", FLOAT, (1, 2))])


def sequence_input() -> bytes:
    """given, a sequence of tensors -> y, the first of them."""
    node = helper.make_node("SequenceAt", ["given", "first"], ["y"])
    given = _sequence("given", helper.make_tensor_type_proto(FLOAT, ["batch", 3]))
    return assembled([node], [given], [tensor("y")], {"first": np.array(0)})


def not_utf8() -> bytes:
    """An input whose name is no text."""
    content = assembled([helper.make_node("Identity", ["QQQ"], ["y"])], [tensor("QQQ")], [tensor("y")])
    return content.replace(b"QQQ", b"\xff\xfeQ")


def strings_not_utf8() -> bytes:
    """x [batch, 3] -> y, one string that is no text."""
    words: Any = [b"\xff\xfe"]  # which the stubs of make_tensor do not know
    constant = helper.make_tensor("word", STRING, [1], words)
    graph = helper.make_graph(
        [helper.make_node("Identity", ["word"], ["y"]), helper.make_node("Identity", ["x"], ["z"])],
        "test",
        [tensor("x")],
        [tensor("y", STRING, (1,)), tensor("z")],
        [constant],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    content: bytes = model.SerializeToString()
    return content


# --- shapes and names ---------------------------------------------------------------------------------


def called(names: Sequence[str]) -> bytes:
    """`in` + name [batch, 3] -> name, the same values, for each name."""
    nodes = [helper.make_node("Identity", [f"in{name}"], [name]) for name in names]
    return assembled(nodes, [tensor(f"in{name}") for name in names], [tensor(name) for name in names])


def scalars() -> bytes:
    """a int64 [], b int64 [] -> sum [], positive bool []."""
    nodes = [
        helper.make_node("Add", ["a", "b"], ["sum"]),
        helper.make_node("Greater", ["sum", "zero"], ["positive"]),
    ]
    inputs: list[Value] = [("a", "int64", ()), ("b", "int64", ())]
    outputs: list[Value] = [("sum", "int64", ()), ("positive", "bool", ())]
    return build(nodes, inputs, outputs, {"zero": np.array(0, dtype=np.int64)})


def found_places() -> bytes:
    """x [batch, 3] -> places int64 [2, found] of what is not 0, and rows [some, 3] whose sum is above 0."""
    nodes = [
        helper.make_node("NonZero", ["x"], ["places"]),
        helper.make_node("ReduceSum", ["x", "last"], ["sums"], keepdims=0),
        helper.make_node("Greater", ["sums", "zero"], ["above"]),
        helper.make_node("Compress", ["x", "above"], ["rows"], axis=0),
    ]
    constants: dict[str, Array] = {"last": np.array([1], dtype=np.int64), "zero": np.array(0, dtype=np.float32)}
    outputs: list[Value] = [("places", "int64", (2, "found")), ("rows", "float32", ("some", 3))]
    return build(nodes, [("x", "float32", ("batch", 3))], outputs, constants)


def twelve() -> bytes:
    """x [batch, 3] -> y0 = x, y1 = x + 1, ... y11 = x + 11."""
    nodes = [helper.make_node("Add", ["x", f"n{index}"], [f"y{index}"]) for index in range(12)]
    constants: dict[str, Array] = {f"n{index}": np.array(index, dtype=np.float32) for index in range(12)}
    outputs: list[Value] = [(f"y{index}", "float32", ("batch", 3)) for index in range(12)]
    return build(nodes, [("x", "float32", ("batch", 3))], outputs, constants)


def one_length() -> bytes:
    """ids int64 [batch, length], weights [batch, length], scale [length] -> y [batch, length]."""
    nodes = [
        helper.make_node("Cast", ["ids"], ["numbers"], to=FLOAT),
        helper.make_node("Mul", ["numbers", "weights"], ["weighted"]),
        helper.make_node("Mul", ["weighted", "scale"], ["y"]),
    ]
    shape = ("batch", "length")
    inputs: list[Value] = [("ids", "int64", shape), ("weights", "float32", shape), ("scale", "float32", ("length",))]
    return build(nodes, inputs, [("y", "float32", shape)])


def products() -> bytes:
    """x [batch, 3] -> y [batch, batch]: every row with every row; stacking would show a sender the others' rows."""
    nodes = [
        helper.make_node("Transpose", ["x"], ["columns"], perm=[1, 0]),
        helper.make_node("MatMul", ["x", "columns"], ["y"]),
    ]
    return build(nodes, [("x", "float32", ("batch", 3))], [("y", "float32", ("batch", "batch"))])


def sorting() -> bytes:
    """x [batch] -> y, its values from low to high: stacked, one sender would get another's."""
    nodes = [
        helper.make_node("Shape", ["x"], ["size"]),
        helper.make_node("TopK", ["x", "size"], ["y", "where"], axis=0, largest=0),
    ]
    return build(nodes, [("x", "float32", ("batch",))], [("y", "float32", ("batch",))])


def counted_identities(dtypes: Sequence[str] = DTYPES) -> bytes:
    """models.identities, and one output more: rows int64 [batch], how many rows ran together."""
    nodes = [helper.make_node("Identity", [f"x_{dtype}"], [f"y_{dtype}"]) for dtype in dtypes]
    nodes += [
        helper.make_node("Shape", [f"x_{dtypes[0]}"], ["shape"]),
        helper.make_node("Slice", ["shape", "first", "second"], ["count"]),
        helper.make_node("Expand", ["count", "count"], ["rows"]),
    ]
    inputs: list[Value] = [(f"x_{dtype}", dtype, ("batch", 2)) for dtype in dtypes]
    outputs: list[Value] = [(f"y_{dtype}", dtype, ("batch", 2)) for dtype in dtypes]
    constants: dict[str, Array] = {"first": np.array([0], dtype=np.int64), "second": np.array([1], dtype=np.int64)}
    return build(nodes, inputs, [*outputs, ("rows", "int64", ("batch",))], constants)
