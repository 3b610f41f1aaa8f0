"""Pieces for boxes that ask: what comes of a need list, whatever is in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from edged.fleet.answering import Answers
from edged.fleet.parcel import Parcel
from tests.releases import content, folder_of
from tests.signing import Operator

CHUNK = 4096


@pytest.fixture
def parcel(tmp_path: Path) -> Parcel:
    folder_of(tmp_path, {"model.onnx": content(80 * CHUNK)}, Operator(), chunk=CHUNK)
    return Parcel.open(tmp_path)


def need(parcel: Parcel, *positions: int) -> bytes:
    return b"".join(bytes.fromhex(parcel.blobs[one].sha256) for one in positions)


def test_what_is_asked_for_is_given_once(parcel: Parcel) -> None:
    answers = Answers(parcel)
    answers.asked(need(parcel, 3, 5), 0.0)
    answers.asked(need(parcel, 5, 7), 0.0)  # another box, which waits for some of the same
    given = list(answers.due(0.1))
    assert [blob.sha256 for blob, _ in given] == [parcel.blobs[one].sha256 for one in (3, 5, 7)]
    assert [payload for _, payload in given] == [parcel.read(parcel.blobs[one]) for one in (3, 5, 7)]
    assert list(answers.due(0.2)) == []


def test_what_was_sent_within_a_second_is_not_sent_again(parcel: Parcel) -> None:
    answers = Answers(parcel)
    answers.asked(need(parcel, 1), 0.0)
    assert len(list(answers.due(0.0))) == 1
    answers.asked(need(parcel, 1), 0.9)
    assert list(answers.due(0.9)) == []
    answers.asked(need(parcel, 1), 1.0)
    assert len(list(answers.due(1.0))) == 1


@pytest.mark.parametrize("payload", [b"", b"x", bytes(31), bytes(33), bytes(32 * 65), bytes(32), b'{"json": true}'])
def test_what_is_no_list_or_of_another_release_is_counted_and_nothing_comes_of_it(
    parcel: Parcel, payload: bytes
) -> None:
    answers = Answers(parcel)
    answers.asked(payload, 0.0)
    assert answers.strange == 1
    assert list(answers.due(0.0)) == []


def test_a_flood_of_lists_is_worth_no_more_than_the_release(parcel: Parcel) -> None:
    answers = Answers(parcel)
    for _ in range(1000):
        answers.asked(need(parcel, *range(64)), 0.0)
    assert len(list(answers.due(0.0))) == 64
