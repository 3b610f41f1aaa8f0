"""Builders of small ONNX models: each returns the bytes of a file, each has one property that a test wants.

Opset 13 and IR 8 at most, so that every onnxruntime from 1.21 on loads them. "image" [batch, 1, 8, 8] -> "logits"
[batch, 10] is the signature of examples/digits: what is pushed in place of digits carries it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edged.tensors import BY_NUMPY

Axis = int | str | None
Array = np.ndarray[Any, Any]

_ELEMENT = {
    "bool": TensorProto.BOOL,
    "uint8": TensorProto.UINT8,
    "uint16": TensorProto.UINT16,
    "uint32": TensorProto.UINT32,
    "uint64": TensorProto.UINT64,
    "int8": TensorProto.INT8,
    "int16": TensorProto.INT16,
    "int32": TensorProto.INT32,
    "int64": TensorProto.INT64,
    "float16": TensorProto.FLOAT16,
    "float32": TensorProto.FLOAT,
    "float64": TensorProto.DOUBLE,
    "object": TensorProto.STRING,
}
DTYPES = tuple(BY_NUMPY)  # the 13 that edged carries, in numpy's words
DIGITS_IN = ("image", "float32", ("batch", 1, 8, 8))
DIGITS_OUT = ("logits", "float32", ("batch", 10))

Value = tuple[str, str, Sequence[Axis]]  # name, dtype in numpy's words, shape


def build(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[Value],
    outputs: Sequence[Value],
    constants: dict[str, Array] | None = None,
    *,
    check: bool = True,
) -> bytes:
    """A model file from nodes. `check` off for graphs that lie on purpose."""
    graph = helper.make_graph(
        list(nodes),
        "test",
        [_info(value) for value in inputs],
        [_info(value) for value in outputs],
        [numpy_helper.from_array(array, name) for name, array in (constants or {}).items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    if check:
        onnx.checker.check_model(model)
    content: bytes = model.SerializeToString()
    return content


def _info(value: Value) -> onnx.ValueInfoProto:
    name, dtype, shape = value
    return helper.make_tensor_value_info(name, _ELEMENT[dtype], list(shape))


# --- models that behave -----------------------------------------------------------------------------


def identity(dtype: str = "float32", shape: Sequence[Axis] = ("batch", 4)) -> bytes:
    """x -> y, the same values."""
    return build([helper.make_node("Identity", ["x"], ["y"])], [("x", dtype, shape)], [("y", dtype, shape)])


def identities(dtypes: Sequence[str] = DTYPES, shape: Sequence[Axis] = ("batch", 2)) -> bytes:
    """One `x_<dtype>` -> `y_<dtype>` for each dtype: all of them in one request."""
    nodes = [helper.make_node("Identity", [f"x_{dtype}"], [f"y_{dtype}"]) for dtype in dtypes]
    inputs = [(f"x_{dtype}", dtype, shape) for dtype in dtypes]
    return build(nodes, inputs, [(f"y_{dtype}", dtype, shape) for dtype in dtypes])


def add(shape: Sequence[Axis] = ("batch", 4)) -> bytes:
    """a, b -> sum: a model with two inputs."""
    nodes = [helper.make_node("Add", ["a", "b"], ["sum"])]
    return build(nodes, [("a", "float32", shape), ("b", "float32", shape)], [("sum", "float32", shape)])


def linear(inputs: int = 4, outputs: int = 3, batch: Axis = "batch", seed: int = 0) -> bytes:
    """x [batch, inputs] -> y [batch, outputs] by a matrix of random numbers; `batch` may be fixed."""
    weights = np.random.default_rng(seed).standard_normal((inputs, outputs)).astype(np.float32)
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    return build(nodes, [("x", "float32", (batch, inputs))], [("y", "float32", (batch, outputs))], {"w": weights})


def convolution(channels: int = 16, seed: int = 0) -> bytes:
    """ "x" float32 [batch, 3, 32, 32] -> "y" [batch, channels]: a convolution, Relu, the mean of each channel."""
    weights = np.random.default_rng(seed).standard_normal((channels, 3, 3, 3)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["p"]),
        helper.make_node("Flatten", ["p"], ["y"], axis=1),
    ]
    shapes = ("batch", 3, 32, 32), ("batch", channels)
    return build(nodes, [("x", "float32", shapes[0])], [("y", "float32", shapes[1])], {"w": weights})


def integer_product() -> bytes:
    """x uint8 [batch, 64] -> y int32 [batch, 16], each the sum of x times 127: what int8 models do inside."""
    nodes = [helper.make_node("MatMulInteger", ["x", "w"], ["y"])]
    constants = {"w": np.full((64, 16), 127, dtype=np.int8)}
    return build(nodes, [("x", "uint8", ("batch", 64))], [("y", "int32", ("batch", 16))], constants)


def gather(rows: int = 10) -> bytes:
    """ids int64 [batch, 2] -> y float32 [batch, 2, 3]: fails, rightly, on an id that is not below `rows`."""
    table = np.arange(rows * 3, dtype=np.float32).reshape(rows, 3)
    nodes = [helper.make_node("Gather", ["table", "ids"], ["y"])]
    return build(nodes, [("ids", "int64", ("batch", 2))], [("y", "float32", ("batch", 2, 3))], {"table": table})


def whole_batch(shape: Sequence[Axis] = ("batch", 4)) -> bytes:
    """x -> x / max(x) over the whole tensor: stacking two senders' rows would mix their answers."""
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["max"], keepdims=0),
        helper.make_node("Div", ["x", "max"], ["y"]),
    ]
    return build(nodes, [("x", "float32", shape)], [("y", "float32", shape)])


def random_normal() -> bytes:
    """x [batch, 4] -> noise of the same shape: no two runs agree."""
    nodes = [helper.make_node("RandomNormalLike", ["x"], ["y"])]
    return build(nodes, [("x", "float32", ("batch", 4))], [("y", "float32", ("batch", 4))])


def slow(turns: int) -> bytes:
    """x [1] -> y [1] = x after `turns` products of two 64 x 64 matrices, some 5 us each on a desktop CPU."""
    nodes = [*_products(), helper.make_node("Add", ["x", "zero"], ["y"])]
    return build(nodes, [("x", "float32", (1,))], [("y", "float32", (1,))], _product_constants(turns))


def _products() -> list[onnx.NodeProto]:
    """Nodes that multiply "eye" with itself "turns" times and leave the scalar "zero"."""
    return [
        _loop(helper.make_node("MatMul", ["state_in", "eye"], ["state_out"]), "eye", [64, 64]),
        helper.make_node("ReduceSum", ["end"], ["sum"], keepdims=0),
        helper.make_node("Mul", ["sum", "nothing"], ["zero"]),
    ]


def _product_constants(turns: int) -> dict[str, Array]:
    return {
        "turns": np.array(turns, dtype=np.int64),
        "eye": np.eye(64, dtype=np.float32),
        "nothing": np.array(0, dtype=np.float32),
    }


def _loop(step: onnx.NodeProto, start: str, shape: list[int]) -> onnx.NodeProto:
    """A Loop of "turns" turns: `step` makes "state_out" of "state_in", which begins as `start` and ends as "end"."""
    body = helper.make_graph(
        [step, helper.make_node("Identity", ["condition_in"], ["condition_out"])],
        "turn",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("condition_in", TensorProto.BOOL, []),
            helper.make_tensor_value_info("state_in", TensorProto.FLOAT, shape),
        ],
        [
            helper.make_tensor_value_info("condition_out", TensorProto.BOOL, []),
            helper.make_tensor_value_info("state_out", TensorProto.FLOAT, shape),
        ],
    )
    return helper.make_node("Loop", ["turns", "", start], ["end"], body=body)


# --- models that do harm, with the signature of digits ----------------------------------------------


def _from_image(nodes: Sequence[onnx.NodeProto], constants: dict[str, Array]) -> bytes:
    """`image` -> "flat" [batch, 64] -> MatMul with "w" -> "plain" [batch, 10]; `nodes` make "logits" of it."""
    first = [
        helper.make_node("Flatten", ["image"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["plain"]),
    ]
    weights = {"w": np.random.default_rng(1).standard_normal((64, 10)).astype(np.float32)}
    return build([*first, *nodes], [DIGITS_IN], [DIGITS_OUT], {**weights, **constants})


def nan_weights() -> bytes:
    """Answers NaN, whatever it is shown."""
    weights = np.full((64, 10), np.nan, dtype=np.float32)
    return _from_image([helper.make_node("Identity", ["plain"], ["logits"])], {"w": weights})


def other_signature() -> bytes:
    """digits with eleven classes and another output name."""
    nodes = [
        helper.make_node("Flatten", ["image"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["scores"]),
    ]
    weights = np.zeros((64, 11), dtype=np.float32)
    return build(nodes, [DIGITS_IN], [("scores", "float32", ("batch", 11))], {"w": weights})


def endless(turns: int = 2**63 - 1) -> bytes:
    """Three kilobytes that run for longer than anyone lives."""
    nodes = [
        helper.make_node("ReduceSum", ["plain"], ["start"], keepdims=0),
        _loop(helper.make_node("Add", ["state_in", "one"], ["state_out"]), "start", []),
        helper.make_node("Add", ["plain", "end"], ["logits"]),
    ]
    return _from_image(nodes, {"turns": np.array(turns, dtype=np.int64), "one": np.array(1, dtype=np.float32)})


def greedy(gigabytes: float = 3.0) -> bytes:
    """Asks for so many GB at run time: the size depends on the input, so that nothing is allocated at load."""
    elements = int(gigabytes * 10**9 / 4)
    nodes = [
        helper.make_node("ReduceSum", ["image"], ["sum"], keepdims=0),
        helper.make_node("Mul", ["sum", "nothing"], ["zero"]),
        helper.make_node("Cast", ["zero"], ["zero64"], to=TensorProto.INT64),
        helper.make_node("Add", ["size", "zero64"], ["wanted"]),
        helper.make_node("ConstantOfShape", ["wanted"], ["huge"]),
        helper.make_node("ReduceSum", ["huge"], ["total"], keepdims=0),
        helper.make_node("Add", ["plain", "total"], ["logits"]),
    ]
    constants: dict[str, Array] = {
        "size": np.array([elements], dtype=np.int64),
        "nothing": np.array(0, dtype=np.float32),
    }
    return _from_image(nodes, constants)


def lying_shape() -> bytes:
    """Declares logits [batch, 10] and gives [batch, 5]: the last axis is cut at run time."""
    nodes = [
        helper.make_node("Flatten", ["image"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["plain"]),
        helper.make_node("ReduceSum", ["image"], ["sum"], keepdims=0),
        helper.make_node("Mul", ["sum", "nothing"], ["zero"]),
        helper.make_node("Cast", ["zero"], ["zero64"], to=TensorProto.INT64),
        helper.make_node("Add", ["five", "zero64"], ["end"]),
        helper.make_node("Slice", ["plain", "start", "end", "axis"], ["logits"]),
    ]
    constants: dict[str, Array] = {
        "w": np.ones((64, 10), dtype=np.float32),
        "nothing": np.array(0, dtype=np.float32),
        "start": np.array([0], dtype=np.int64),
        "five": np.array([5], dtype=np.int64),
        "axis": np.array([1], dtype=np.int64),
    }
    return build(nodes, [DIGITS_IN], [DIGITS_OUT], constants, check=False)


def slow_digits(turns: int) -> bytes:
    """Logits that are right in form, after the products of `slow`: a candidate that is too slow."""
    nodes = [*_products(), helper.make_node("Add", ["plain", "zero"], ["logits"])]
    return _from_image(nodes, _product_constants(turns))


# --- models that do what their input says -------------------------------------------------------------


def counting() -> bytes:
    """turns int64 [batch] -> y float32 [1]: a Loop of as many turns as the first number says."""
    nodes = [
        helper.make_node("Slice", ["given", "first", "second"], ["one_turn"]),
        helper.make_node("Squeeze", ["one_turn"], ["turns"]),
        _loop(helper.make_node("Add", ["state_in", "one"], ["state_out"]), "nothing", []),
        helper.make_node("Unsqueeze", ["end", "first"], ["y"]),
    ]
    constants: dict[str, Array] = {
        "first": np.array([0], dtype=np.int64),
        "second": np.array([1], dtype=np.int64),
        "one": np.array(1, dtype=np.float32),
        "nothing": np.array(0, dtype=np.float32),
    }
    return build(nodes, [("given", "int64", ("batch",))], [("y", "float32", (1,))], constants)


def crowded(rows: int) -> bytes:
    """x float32 [batch, 4] -> y = x: at once for fewer rows, for so many and more it takes longer than anyone lives."""
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Slice", ["shape", "first", "second"], ["batch"]),
        helper.make_node("Squeeze", ["batch"], ["given"]),
        helper.make_node("Div", ["given", "rows"], ["times"]),
        helper.make_node("Mul", ["times", "many"], ["turns"]),
        _loop(helper.make_node("Add", ["state_in", "nothing"], ["state_out"]), "nothing", []),
        helper.make_node("Add", ["x", "end"], ["y"]),
    ]
    constants: dict[str, Array] = {
        "first": np.array([0], dtype=np.int64),
        "second": np.array([1], dtype=np.int64),
        "rows": np.array(rows, dtype=np.int64),
        "many": np.array(2**50, dtype=np.int64),
        "nothing": np.array(0, dtype=np.float32),
    }
    return build(nodes, [("x", "float32", ("batch", 4))], [("y", "float32", ("batch", 4))], constants)


def looks_late() -> bytes:
    """given int64 [1], ids int64 [n], x float32 [m] -> rows float32 [n, 3] of `gather`'s table, y = x.

    Both are looked at after a Loop of as many turns as `given` says.
    """
    nodes = [
        helper.make_node("Squeeze", ["given"], ["turns"]),
        _loop(helper.make_node("Add", ["state_in", "one"], ["state_out"]), "nothing", []),
        helper.make_node("Mul", ["end", "nothing"], ["zero"]),
        helper.make_node("Add", ["table", "zero"], ["late_table"]),
        helper.make_node("Gather", ["late_table", "ids"], ["rows"]),
        helper.make_node("Add", ["x", "zero"], ["y"]),
    ]
    constants: dict[str, Array] = {
        "one": np.array(1, dtype=np.float32),
        "nothing": np.array(0, dtype=np.float32),
        "table": np.arange(30, dtype=np.float32).reshape(10, 3),
    }
    inputs: list[Value] = [("given", "int64", (1,)), ("ids", "int64", ("n",)), ("x", "float32", ("m",))]
    return build(nodes, inputs, [("rows", "float32", ("n", 3)), ("y", "float32", ("m",))], constants)


def hungry() -> bytes:
    """given int64 [batch] -> y float32 [1]: the sum of as many float32, made for it, as the first number says."""
    nodes = [
        helper.make_node("Slice", ["given", "first", "second"], ["size"]),
        helper.make_node("ConstantOfShape", ["size"], ["huge"]),
        helper.make_node("ReduceSum", ["huge"], ["y"], keepdims=1),
    ]
    constants: dict[str, Array] = {"first": np.array([0], dtype=np.int64), "second": np.array([1], dtype=np.int64)}
    return build(nodes, [("given", "int64", ("batch",))], [("y", "float32", (1,))], constants)


def wide(tensors: int) -> bytes:
    """So many inputs and outputs with long names, each output its input."""
    names = [f"{'a_name_that_a_converter_may_well_come_up_with':_<60}{index}" for index in range(tensors)]
    nodes = [helper.make_node("Identity", [f"in_{name}"], [f"out_{name}"]) for name in names]
    inputs: list[Value] = [(f"in_{name}", "float32", (1,)) for name in names]
    outputs: list[Value] = [(f"out_{name}", "float32", (1,)) for name in names]
    return build(nodes, inputs, outputs)
