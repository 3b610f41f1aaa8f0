"""The models that the benchmark runs; makers.py makes them."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Final

_SHAPES: Final = {"tiny": (64,), "conv": (128, 9), "image": (3, 224, 224)}
NAMES: Final = tuple(_SHAPES)


@dataclass(frozen=True)
class Model:
    """A model in a folder of its own: x float32[N, *shape] -> y float32[N, classes]."""

    name: str
    folder: Path

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one input, without the batch axis."""
        return _SHAPES[self.name]

    @property
    def file(self) -> Path:
        return self.folder / "model.onnx"

    @property
    def other(self) -> Path:
        """Of the same signature, for a swap."""
        return self.folder / "other.onnx"

    @property
    def heavy(self) -> Path:
        """Of the same signature, 10 MB; of `tiny` alone."""
        return self.folder / "heavy.onnx"

    @property
    def input_file(self) -> Path:
        """One input: raw float32, without a batch axis."""
        return self.folder / "input.raw"

    @property
    def answer_file(self) -> Path:
        """What onnxruntime says to that input, the same way. Written last."""
        return self.folder / "answer.raw"


def made(name: str, below: Path) -> Model:
    """The model of this name, made below a folder unless the same program made it there before."""
    makers = Path(__file__).with_name("makers.py")
    program = hashlib.sha256(makers.read_bytes() + version("onnxruntime").encode()).hexdigest()[:12]
    model = Model(name, below / f"models-{program}" / name)
    if not model.answer_file.exists():
        model.folder.mkdir(parents=True, exist_ok=True)
        subprocess.run([sys.executable, "-m", "benchmarks.makers", name, str(model.folder)], check=True)
    return model
