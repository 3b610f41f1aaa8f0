"""Axes that a model names: which must agree, and what follows for stacking."""

from __future__ import annotations

import numpy as np
import pytest

from edged.errors import EdgedError
from edged.tensors import Signature, TensorSpec
from edged.worker.axes import batch_names, check_shared, shared_axes, stackable
from edged.worker.formats.decoded import Array

IDS = TensorSpec("ids", "INT64", (-1, -1), ("batch", "length"))
MASK = TensorSpec("mask", "INT64", (-1, -1), ("batch", "length"))
SCALE = TensorSpec("scale", "FP32", (-1, 3), ("length", ""))
ANY = TensorSpec("any", "FP32", (-1, -1))
Y = TensorSpec("y", "FP32", (-1, 2), ("batch", ""))


def zeros(**shapes: tuple[int, ...]) -> dict[str, Array]:
    return {name: np.zeros(shape) for name, shape in shapes.items()}


def test_only_names_that_are_there_twice_are_looked_at() -> None:
    assert shared_axes(Signature((IDS, ANY), (Y,))) == ()
    expected = (("batch", (("ids", 0), ("mask", 0))), ("length", (("ids", 1), ("mask", 1), ("scale", 0))))
    assert shared_axes(Signature((IDS, MASK, SCALE), (Y,))) == expected
    square = TensorSpec("x", "FP32", (-1, -1), ("n", "n"))
    assert shared_axes(Signature((square,), (Y,))) == (("n", (("x", 0), ("x", 1))),)


def test_axes_of_one_name_have_one_size() -> None:
    shared = shared_axes(Signature((IDS, MASK, SCALE), (Y,)))
    check_shared(zeros(ids=(2, 5), mask=(2, 5), scale=(5, 3)), shared)
    check_shared(zeros(ids=(0, 0), mask=(0, 0), scale=(0, 3)), shared)
    for wrong, words in [
        (zeros(ids=(2, 5), mask=(3, 5), scale=(5, 3)), "axis 0 of input mask has 3, axis 0 of ids has 2"),
        (zeros(ids=(2, 5), mask=(2, 4), scale=(5, 3)), "axis 1 of input mask has 4, axis 1 of ids has 5"),
        (zeros(ids=(2, 5), mask=(2, 5), scale=(1, 3)), "axis 0 of input scale has 1, axis 1 of ids has 5"),
    ]:
        with pytest.raises(EdgedError, match=words) as caught:
            check_shared(wrong, shared)
        assert caught.value.fault.code == "bad_input"


def test_the_batch_is_the_free_first_axis() -> None:
    assert batch_names(Signature((IDS, SCALE, ANY), (Y,))) == {"batch", "length"}
    assert batch_names(Signature((TensorSpec("x", "FP32", (1, -1), ("", "n")),), ())) == frozenset()
    assert batch_names(Signature((TensorSpec("x", "INT64", ()),), ())) == frozenset()


def test_what_can_be_stacked() -> None:
    assert stackable(Signature((IDS, MASK, ANY), (Y,)))
    assert not stackable(Signature((), ()))
    assert not stackable(Signature((TensorSpec("x", "FP32", (1, 3)),), (Y,)))
    assert not stackable(Signature((IDS,), (TensorSpec("y", "FP32", ()),)))
    assert not stackable(Signature((IDS,), (TensorSpec("y", "FP32", (-1, 2), optional=True),)))
    assert not stackable(Signature((IDS,), (TensorSpec("y", "FP32", (-1, -1), ("batch", "batch")),)))
    assert not stackable(Signature((IDS, SCALE), (Y,)))  # its first axis is the other's second
