"""What is told about steps that cannot fit, before an input comes (RULES 27)."""

from __future__ import annotations

import pytest

from edged.config.steps import (
    Argmax,
    Cast,
    Labels,
    MinScore,
    Normalize,
    Postprocess,
    Preprocess,
    Reshape,
    Round,
    Scale,
    Sigmoid,
    Softmax,
    TopK,
    UseOutput,
)
from edged.tensors import Signature, TensorSpec
from edged.worker.steps.check import check

NAMES = tuple("abcdefghij")


def model(shape: tuple[int, ...] = (-1, 1, 8, 8), datatype: str = "FP32", inputs: int = 1) -> Signature:
    return Signature(
        tuple(TensorSpec(f"x{index}", datatype, shape) for index in range(inputs)),
        (
            TensorSpec("logits", "FP32", (-1, 10)),
            TensorSpec("label", "INT64", (-1,)),
            TensorSpec("name", "BYTES", (-1, 1)),
            TensorSpec("photo", "FP32", (1, 1000, 1, 1)),
            TensorSpec("free", "FP16", (-1, -1)),
            TensorSpec("trend", "FP32", (-1, 1)),
            TensorSpec("counts", "UINT8", (-1, 4)),
        ),
    )


@pytest.mark.parametrize(
    "steps",
    [
        (),
        (Scale(0.1), Reshape((1, 8, 8))),
        (Reshape((-1, 8, 8)),),
        (Reshape((2, 1, 8, 8)),),
        (Reshape((64,)), Normalize((1.0, 2.0)), Reshape((1, 8, 8))),
        (Normalize((1.0,)),),
        (Normalize((1.0,) * 8),),
        (Cast("uint8"), Scale(2)),
        (Cast("float32"),),
    ],
)
def test_preprocess_that_fits(steps: tuple[Preprocess, ...]) -> None:
    assert check(steps, (), model()) == []


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ((Cast("float23"),), "no dtype 'float23' (did you mean float32?)"),
        ((Cast("object"),), "no dtype 'object'"),
        ((Reshape((-1, -1)),), "-1 at most once"),
        ((Reshape((0, 8)),), "above 0"),
        ((Reshape((64,)),), "reshape: [64] does not fit input x0 FP32[-1, 1, 8, 8]"),
        ((Reshape((1, 28, 28)),), "does not fit"),
        ((Normalize((1.0, 2.0), (1.0, 2.0, 3.0)),), "2 numbers in mean, 3 in std"),
        ((Normalize((), (1.0,)),), "0 numbers in mean"),
        ((Normalize((1.0,), (0.0,)),), "std must not be 0"),
        ((Normalize((1.0, 2.0, 3.0)),), "does not have 3 channels"),
        ((Cast("uint8"),), "to uint8, but input x0 FP32[-1, 1, 8, 8] is FP32"),
    ],
)
def test_preprocess_that_cannot_fit(steps: tuple[Preprocess, ...], words: str) -> None:
    found = check(steps, (), model())
    assert len(found) == 1
    assert words in found[0]


def test_preprocess_of_other_inputs() -> None:
    assert "takes strings" in check((Scale(2),), (), model((-1,), "BYTES"))[0]
    assert check((), (), model((-1,), "BYTES")) == []
    assert check((Reshape((3,)),), (), model(inputs=2)) == [], "which input it is for is not known yet"
    assert check((Cast("x"),), (), model(inputs=2)) != []
    assert check((Reshape((3,)), Normalize((1.0, 2.0, 3.0))), (), model((3,))) == []
    assert check((Normalize((1.0,) * 3),), (), model((1, -1, 224))) == []


@pytest.mark.parametrize(
    "steps",
    [
        (Softmax(), TopK(3), Labels(NAMES), MinScore(0.1), Round(3)),
        (TopK(10), Labels((*NAMES, "more"))),
        (UseOutput("photo"), Softmax(), TopK(1000)),
        (UseOutput("free"), TopK(1000), Labels(("a",))),
        (UseOutput("trend"), Sigmoid(), MinScore(0.5)),
        (UseOutput("counts"), Argmax(), Round(1)),
        (UseOutput("label"), Round(0)),
        (Softmax(), UseOutput("free"), Sigmoid()),
    ],
)
def test_postprocess_that_fits(steps: tuple[Postprocess, ...]) -> None:
    assert check((), steps, model()) == []


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ((UseOutput("logit"), Softmax()), "output: the model has no output 'logit' (did you mean logits?)"),
        ((TopK(11),), "top_k: 11 of output logits FP32[-1, 10], which has 10 classes"),
        ((TopK(0),), "top_k: 0 of output"),
        ((Argmax(), Labels(NAMES[:9])), "labels: 9 names for the 10 classes of output logits"),
        ((UseOutput("photo"), Labels(NAMES)), "10 names for the 1000 classes"),
        ((UseOutput("name"), Round(1)), "has strings"),
        ((UseOutput("counts"), Softmax()), "softmax: output counts UINT8[-1, 4] has no floating-point numbers"),
        ((UseOutput("label"), Argmax()), "argmax: output label INT64[-1] has one number a row"),
        ((TopK(3), Softmax()), "softmax: comes after top_k, which has made the prediction already"),
        ((Labels(NAMES), UseOutput("free")), "output: comes after labels"),
        ((Argmax(), TopK(3)), "top_k: argmax is there too; keep one of them"),
    ],
)
def test_postprocess_that_cannot_fit(steps: tuple[Postprocess, ...], words: str) -> None:
    found = check((), steps, model())
    assert len(found) == 1
    assert words in found[0]


def test_every_misfit_is_told_at_once() -> None:
    found = check((Cast("x"), Reshape((0,))), (TopK(11), Labels(NAMES[:3]), UseOutput("y")), model())
    assert len(found) == 6
    assert check((), (Softmax(),), Signature((), ())) == []
