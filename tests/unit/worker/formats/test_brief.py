"""Results in other words than the protocol's: prediction, value, raw."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from edged.messages import Answer, with_members
from edged.worker.formats.brief import encode_brief

SCORES = np.array([[0.25, 0.75]], dtype=np.float32)
ESPRESSO = {"label": "espresso", "index": 1, "score": 0.75}
TEA = {"label": "tea", "index": 0, "score": 0.25}


def object_of(found: dict[str, list[Any]]) -> Any:
    payload, _ = encode_brief("prediction", found, SCORES, None)
    return json.loads(payload)


def value_of(found: dict[str, list[Any]] | None, output: Any = SCORES, decimals: int | None = None) -> bytes:
    return encode_brief("value", found, output, decimals)[0]


def test_a_prediction_is_flat_with_the_best_on_top() -> None:
    assert object_of({"prediction": [ESPRESSO, TEA]}) == {**ESPRESSO, "prediction": [ESPRESSO, TEA]}
    assert object_of({"prediction": [{"index": 1, "score": 0.75}]})["label"] is None
    assert object_of({"prediction": []}) == {"label": None, "index": None, "score": None, "prediction": []}


def test_of_several_rows_or_boxes_none_is_the_best() -> None:
    for found in ({"prediction": [[ESPRESSO], [TEA]]}, {"detections": [{**TEA, "box": [0, 0, 1, 1]}]}):
        assert object_of(found) == found


@pytest.mark.parametrize(
    ("found", "text"),
    [
        ({"prediction": [ESPRESSO, TEA]}, b"espresso"),
        ({"prediction": [{"index": 7, "score": 1.0}]}, b"7"),
        ({"prediction": []}, b"null"),
        ({"prediction": [[ESPRESSO], [TEA]]}, b'["espresso","tea"]'),
        ({"detections": [{}, {}]}, b"2"),
        ({"detections": []}, b"0"),
        ({"detections": [[{}], []]}, b"[1,0]"),
    ],
)
def test_a_value_is_the_best_label_or_a_count(found: dict[str, list[Any]], text: bytes) -> None:
    assert value_of(found) == text


@pytest.mark.parametrize(
    ("output", "text"),
    [
        (np.array([[21.5]], dtype=np.float32), b"21.5"),
        (np.array(3, dtype=np.int64), b"3"),
        (np.array([True]), b"true"),
        (np.array([["warm"]], dtype=object), b"warm"),
        (np.array([1, 2], dtype=np.uint8), b"[1,2]"),
        (np.array(["a", "b"], dtype=object), b'["a","b"]'),
        (np.array([np.nan], dtype=np.float32), b"null"),
        (np.zeros((0, 4), dtype=np.float32), b"[]"),
        (None, b"null"),
    ],
)
def test_without_a_prediction_a_value_is_the_output(output: Any, text: bytes) -> None:
    assert value_of(None, output) == text


def test_a_distance_has_no_class_but_a_score() -> None:
    found = {"prediction": [{"index": 0, "score": 0.125}]}
    assert encode_brief("value", found, SCORES, None, "score")[0] == b"0.125"


def test_a_value_is_rounded_as_the_steps_say() -> None:
    assert value_of(None, np.array([0.9], dtype=np.float32), 1) == b"0.9"


def test_raw_is_the_outputs_bytes() -> None:
    payload, nonfinite = encode_brief("raw", {"prediction": [TEA]}, SCORES.T.copy().T, None)
    assert (payload, nonfinite) == (SCORES.tobytes(), False)
    assert encode_brief("raw", None, np.array([1, np.inf], dtype=np.float16), None) == (b"\x00<\x00|", True)


@pytest.mark.parametrize("payload", [b"{}", b'{"index":1}'])
def test_members_are_put_behind(payload: bytes) -> None:
    answer = Answer(payload, 0, "1", nonfinite=True)
    assert json.loads(with_members(answer, {"ts": 5})) == {**json.loads(payload), "ts": 5, "nonfinite": True}
