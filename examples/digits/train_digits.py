"""Trains the four digit classifiers of this folder, all with the same signature: v1 small and worse, v2 better, and
two that no box should keep. v3 is v2's net trained on labels that are off by one. v4 is v2 with its logits scaled as if
no scan were ever brighter than those of the training data: it answers NaN then.

Data: `load_digits` of scikit-learn (1,797 real scans of 8 x 8 pixels, UCI optical digits, CC BY 4.0), of which 597
are held out as digits_test.csv. Every model takes `image` float32 [batch, 1, 8, 8] (pixels 0..16 divided by 16) and
gives `logits` float32 [batch, 10]. int8 is static QDQ: uint8 activations, int8 weights per channel, calibrated on 300
training scans.

    python train_digits.py OUTDIR          # needs torch, scikit-learn, onnx, onnxruntime, numpy: half a minute
    python train_digits.py OUTDIR v3 v4    # these alone; v4 is made from OUTDIR/digits_v2_int8.onnx

Another build of torch gives other weights: the files here are the reference for the figures in the documentation.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

OPSET = 17
BRIGHTEST = 0.58  # the mean of a scan; those of the training data end at 0.4


def small() -> nn.Module:
    """v1: one convolution."""
    return nn.Sequential(nn.Conv2d(1, 12, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(192, 10))


def better(width: int = 32) -> nn.Module:
    """v2: three convolutions with batch normalization."""
    return nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.Conv2d(width, width, 3, padding=1),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(width, 2 * width, 3, padding=1),
        nn.BatchNorm2d(2 * width),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(8 * width, 10),
    )


def fit(net: nn.Module, images: np.ndarray, labels: np.ndarray, epochs: int, rate: float) -> nn.Module:
    """Adam on cross entropy from a fixed seed."""
    torch.manual_seed(0)
    for module in net.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    optimizer = torch.optim.Adam(net.parameters(), rate, weight_decay=1e-4)
    inputs, targets = torch.from_numpy(images), torch.from_numpy(labels)
    net.train()
    for _ in range(epochs):
        for chosen in torch.randperm(len(inputs)).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(inputs[chosen]), targets[chosen]).backward()
            optimizer.step()
    return net.eval()


def export(net: nn.Module, path: Path) -> None:
    """Writes the float model with a free batch axis."""
    axes = {"image": {0: "batch"}, "logits": {0: "batch"}}
    torch.onnx.export(
        net,
        torch.zeros(2, 1, 8, 8),
        str(path),
        input_names=["image"],
        output_names=["logits"],
        opset_version=OPSET,
        dynamo=False,
        do_constant_folding=True,
        dynamic_axes=axes,
    )
    onnx.checker.check_model(onnx.load(str(path)))


class Samples(CalibrationDataReader):
    """Feeds the calibration one scan at a time."""

    def __init__(self, images: np.ndarray) -> None:
        self._feeds: Iterator[dict[str, np.ndarray]] = ({"image": one[None]} for one in images)

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._feeds, None)


def quantize(source: Path, target: Path, images: np.ndarray) -> None:
    """Writes the int8 model."""
    with tempfile.TemporaryDirectory() as folder:
        prepared = f"{folder}/prepared.onnx"
        quant_pre_process(str(source), prepared, skip_symbolic_shape=True)
        quantize_static(
            prepared,
            str(target),
            Samples(images),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
        )


def expose(source: Path, target: Path) -> None:
    """v4: `source` with its logits divided by the root of the light that a scan leaves below BRIGHTEST.

    So it is less sure of dark scans, and answers NaN to one that is brighter than BRIGHTEST. Behind the quantized part:
    in front of it a rounded input would have hidden what is too bright.
    """
    model = onnx.load(str(source))
    graph = model.graph
    for node in graph.node:
        node.output[:] = ["quantized_logits" if name == "logits" else name for name in node.output]
    graph.initializer.append(onnx.numpy_helper.from_array(np.array(BRIGHTEST, np.float32), "brightest"))
    graph.node.extend(
        [
            onnx.helper.make_node("ReduceMean", ["image"], ["mean"], axes=[1, 2, 3], keepdims=0),
            onnx.helper.make_node("Sub", ["brightest", "mean"], ["left"]),
            onnx.helper.make_node("Sqrt", ["left"], ["root"]),
            onnx.helper.make_node("Reshape", ["root", "column"], ["divisor"]),
            onnx.helper.make_node("Div", ["quantized_logits", "divisor"], ["logits"]),
        ]
    )
    graph.initializer.append(onnx.numpy_helper.from_array(np.array([-1, 1], np.int64), "column"))
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(target))


def accuracy(path: Path, images: np.ndarray, labels: np.ndarray) -> float:
    """The share of scans that the model reads right."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    logits = session.run(None, {"image": images})[0]
    return float((logits.argmax(1) == labels).mean())


def write_scans(path: Path, images: np.ndarray, labels: np.ndarray) -> None:
    """One line a scan: its label and 64 pixels, 0..16."""
    with path.open("w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["label", *(f"p{i}" for i in range(64))])
        for image, label in zip(images.reshape(-1, 64), labels, strict=True):
            lines.writerow([int(label), *(round(float(pixel) * 16) for pixel in image)])


MAKERS: dict[str, Callable[[np.ndarray, np.ndarray], nn.Module]] = {
    "v1": lambda images, labels: fit(small(), images[:120], labels[:120], epochs=25, rate=3e-3),
    "v2": lambda images, labels: fit(better(), images, labels, epochs=40, rate=2e-3),
    "v3": lambda images, labels: fit(better(), images, (labels + 1) % 10, epochs=40, rate=2e-3),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("versions", nargs="*", default=["v1", "v2", "v3", "v4"], help="default: all")
    arguments = parser.parse_args()
    out = arguments.out
    torch.set_num_threads(2)
    digits = load_digits()
    images = (digits.images / 16.0).astype(np.float32)[:, None]
    labels = digits.target.astype(np.int64)
    train_x, test_x, train_y, test_y = train_test_split(images, labels, test_size=597, random_state=7, stratify=labels)
    write_scans(out / "digits_test.csv", test_x, test_y)
    for version, make in MAKERS.items():
        if version in arguments.versions:
            net = make(train_x, train_y)
            whole, small_file = out / f"digits_{version}_float.onnx", out / f"digits_{version}_int8.onnx"
            export(net, whole)
            quantize(whole, small_file, train_x[:300])
            found = accuracy(whole, test_x, test_y), accuracy(small_file, test_x, test_y)
            print(f"{version}: float {found[0]:.4f}, int8 {found[1]:.4f}")
    if "v4" in arguments.versions:
        exposed = out / "digits_v4_int8.onnx"
        expose(out / "digits_v2_int8.onnx", exposed)
        print(f"v4: int8 {accuracy(exposed, test_x, test_y):.4f}")


if __name__ == "__main__":
    main()
