"""How the models that the benchmark runs are made from seeded noise: only the shape of the work matters.

    tiny    x [N,64]         -> y [N,10]    int8 MLP 64-128-64-10: a run of some microseconds
    conv    x [N,128,9]      -> y [N,6]     int8 1-D convolutions, as for motion sensors: tens of microseconds
    image   x [N,3,224,224]  -> y [N,1000]  int8 MobileNetV2: about 1.5 ms, inputs of 602 kB

A second seed makes something to swap to; `tiny` has a candidate of 10 MB too, a float32 MLP 64-1536-1536-10.
`python -m benchmarks.makers tiny FOLDER` makes one of them, in a process of its own: the benchmark keeps clear of
onnxruntime, because whoever maps its library takes a share of that off the memory that edged is found to use.
"""

from __future__ import annotations

import logging
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from benchmarks.models import Model
from edged.worker.providers import cpu

_OPSET: Final = 17
_IR_VERSION: Final = 9

# MobileNetV2, table 2 of its paper: expansion, channels, how often, stride of the first.
_BOTTLENECKS: Final = [
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
]


class _Graph:
    """A float32 graph that grows by one node at a time; weights are noise of the seed, scaled to keep the variance."""

    def __init__(self, seed: int) -> None:
        self._noise = np.random.default_rng(seed)
        self._nodes: list[onnx.NodeProto] = []
        self._weights: list[onnx.TensorProto] = []

    def constant(self, value: npt.ArrayLike) -> str:
        name = f"w{len(self._weights)}"
        self._weights.append(numpy_helper.from_array(np.asarray(value, np.float32), name))
        return name

    def node(self, kind: str, inputs: list[str], **attributes: Any) -> str:
        name = f"n{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, inputs, [name], name=f"{name}_{kind}", **attributes))
        return name

    def dense(self, x: str, size_in: int, size_out: int, *, relu: bool = True) -> str:
        weights = self.constant(self._noise.standard_normal((size_in, size_out)) * (2 / size_in) ** 0.5)
        y = self.node("Gemm", [x, weights, self.constant(self._noise.standard_normal(size_out) * 0.1)])
        return self.node("Relu", [y]) if relu else y

    def convolution(
        self, x: str, channels: tuple[int, int], kernel: tuple[int, ...], *, stride: int = 1, groups: int = 1
    ) -> str:
        shape = (channels[1], channels[0] // groups, *kernel)
        weights = self.constant(self._noise.standard_normal(shape) * (2 / np.prod(shape[1:])) ** 0.5)
        return self.node(
            "Conv",
            [x, weights, self.constant(self._noise.standard_normal(channels[1]) * 0.05)],
            kernel_shape=list(kernel),
            strides=[stride] * len(kernel),
            pads=[size // 2 for size in kernel] * 2,
            group=groups,
        )

    def relu6(self, x: str) -> str:
        return self.node("Clip", [x, self.constant(0), self.constant(6)])

    def save(self, last: str, shape_in: tuple[int, ...], size_out: int, path: Path) -> None:
        self._nodes.append(helper.make_node("Identity", [last], ["y"], name="y_Identity"))
        graph = helper.make_graph(
            self._nodes,
            "bench",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", *shape_in])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", size_out])],
            self._weights,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION)
        onnx.checker.check_model(model)
        onnx.save(model, str(path))


def _tiny(seed: int, path: Path) -> None:
    graph = _Graph(seed)
    x = graph.dense("x", 64, 128)
    x = graph.dense(x, 128, 64)
    graph.save(graph.dense(x, 64, 10, relu=False), (64,), 10, path)


def _heavy(path: Path) -> None:
    graph, wide = _Graph(5), 1536
    x = graph.dense("x", 64, wide)
    x = graph.dense(x, wide, wide)
    graph.save(graph.dense(x, wide, 10, relu=False), (64,), 10, path)


def _conv(seed: int, path: Path) -> None:
    graph = _Graph(seed)
    x = graph.node("Transpose", ["x"], perm=[0, 2, 1])
    for channels, kernel in [((9, 64), 5), ((64, 64), 5)]:
        x = graph.node("Relu", [graph.convolution(x, channels, (kernel,))])
    x = graph.node("MaxPool", [x], kernel_shape=[2], strides=[2])
    for channels, kernel in [((64, 96), 3), ((96, 96), 3)]:
        x = graph.node("Relu", [graph.convolution(x, channels, (kernel,))])
    x = graph.node("Flatten", [graph.node("GlobalAveragePool", [x])], axis=1)
    x = graph.dense(x, 96, 64)
    graph.save(graph.dense(x, 64, 6, relu=False), (128, 9), 6, path)


def _image(seed: int, path: Path) -> None:
    graph, channels = _Graph(seed), 32
    x = graph.relu6(graph.convolution("x", (3, channels), (3, 3), stride=2))
    for expansion, size, repeats, first_stride in _BOTTLENECKS:
        for index in range(repeats):
            stride, wide, before = (first_stride if index == 0 else 1), channels * expansion, x
            if expansion != 1:
                x = graph.relu6(graph.convolution(x, (channels, wide), (1, 1)))
            x = graph.relu6(graph.convolution(x, (wide, wide), (3, 3), stride=stride, groups=wide))
            x = graph.convolution(x, (wide, size), (1, 1))
            if stride == 1 and channels == size:
                x = graph.node("Add", [before, x])
            channels = size
    x = graph.relu6(graph.convolution(x, (channels, 1280), (1, 1)))
    x = graph.node("Flatten", [graph.node("GlobalAveragePool", [x])], axis=1)
    graph.save(graph.dense(x, 1280, 1000, relu=False), (3, 224, 224), 1000, path)


class _Noise(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
    def __init__(self, shape: tuple[int, ...], count: int) -> None:
        noise = np.random.default_rng(7)
        self._inputs: Iterator[dict[str, Any]] = iter(
            [{"x": noise.standard_normal((1, *shape)).astype(np.float32)} for _ in range(count)]
        )

    def get_next(self) -> dict[str, Any] | None:
        return next(self._inputs, None)


@dataclass(frozen=True)
class _Recipe:
    make: Callable[[int, Path], None]
    calibrations: int
    per_channel: bool


_RECIPES: Final = {
    "tiny": _Recipe(_tiny, 32, per_channel=False),
    "conv": _Recipe(_conv, 16, per_channel=True),
    "image": _Recipe(_image, 4, per_channel=True),
}


def _make(model: Model) -> None:
    """Both files of the model, an input, and the first file's answer to it."""
    recipe = _RECIPES[model.name]
    for seed, file in enumerate((model.file, model.other), 1):
        _quantized(recipe, model.shape, seed, file)
    if model.name == "tiny":
        _heavy(model.heavy)
    x = np.random.default_rng(3).standard_normal((1, *model.shape)).astype(np.float32)
    options = onnxruntime.SessionOptions()
    for entry in cpu.session_entries().items():
        options.add_session_config_entry(*entry)
    session = onnxruntime.InferenceSession(str(model.file), options, providers=["CPUExecutionProvider"])
    model.input_file.write_bytes(x.tobytes())
    model.answer_file.write_bytes(session.run(None, {"x": x})[0].tobytes())


def _quantized(recipe: _Recipe, shape: tuple[int, ...], seed: int, file: Path) -> None:
    logging.getLogger().setLevel(logging.ERROR)  # it recommends a preparation that these graphs do not need
    with tempfile.TemporaryDirectory() as scratch:
        float32 = Path(scratch) / "float32.onnx"
        recipe.make(seed, float32)
        quantize_static(
            str(float32),
            str(file),
            _Noise(shape, recipe.calibrations),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=recipe.per_channel,
        )


if __name__ == "__main__":
    _make(Model(sys.argv[1], Path(sys.argv[2])))
