"""Outputs as an answer shows them: which, and as classes."""

from __future__ import annotations

import numpy as np
import pytest

from edged.worker.formats.decoded import Decoded
from edged.worker.formats.shown import classes, shown


def test_the_best_of_each_row_with_their_names() -> None:
    scores = np.array([[0.5, 2.0, -1.25], [3.0, 3.0, 9.0]], dtype=np.float32)
    assert classes(scores, 2, ("cat", "dog")).tolist() == [
        ["2.000000:1:dog", "0.500000:0:cat"],
        ["9.000000:2", "3.000000:0:cat"],  # of equals the first; the third has no name
    ]


@pytest.mark.parametrize(
    ("values", "most", "expected"),
    [
        (np.array([1, 5, 3], dtype=np.int8), 2, ["5:1", "3:2"]),
        (np.array([1, 5], dtype=np.uint64), 9, ["5:1", "1:0"]),
        (np.array([np.nan, -np.inf, 1], dtype=np.float16), 3, ["1.000000:2", "-inf:1", "nan:0"]),
        (np.array(2.5), 1, ["2.500000:0"]),
        (np.zeros((0, 3), dtype=np.float32), 2, []),
        (np.zeros((2, 0), dtype=np.float32), 1, [[], []]),
        (np.arange(8.0).reshape(1, 2, 2, 2), 1, [["7.000000:7"]]),
    ],
)
def test_any_shape_and_dtype(
    values: np.ndarray[tuple[int, ...], np.dtype[np.generic]], most: int, expected: list[str]
) -> None:
    assert classes(values, most, ()).tolist() == expected


def test_only_what_was_asked_for_and_is_there() -> None:
    outputs = {"y": np.array([1.0]), "z": np.array([2])}
    everything = shown(Decoded({}, plain=False), outputs, ["y", "z", "optional"], {})
    assert [(name, datatype, binary) for name, datatype, _, binary in everything] == [
        ("y", "FP64", False),
        ("z", "INT64", False),
    ]
    asked = Decoded({}, plain=False, requested=("z",), binary=frozenset("z"), classes={"z": 1})
    ((name, datatype, array, binary),) = shown(asked, outputs, ["y", "z"], {"z": ("one",)})
    assert (name, datatype, array.tolist(), binary) == ("z", "BYTES", ["2:0:one"], True)
