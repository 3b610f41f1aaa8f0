"""A release's folder is looked through before a byte of it leaves."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from edged.errors import EdgedError
from edged.fleet.parcel import Parcel
from tests.releases import content, folder_of
from tests.signing import Operator

CHUNK = 4096


def parcel_of(folder: Path, files: dict[str, bytes]) -> Parcel:
    folder_of(folder, files, Operator(), chunk=CHUNK)
    return Parcel.open(folder)


def opened(folder: Path, size: int = 3 * CHUNK + 7) -> Parcel:
    return parcel_of(folder, {"model.onnx": content(size), "labels.txt": b"a\nb\n"})


def test_its_blobs_are_the_indexes_and_the_chunks(tmp_path: Path) -> None:
    parcel = opened(tmp_path)
    assert [(one.file, one.index, one.size) for one in parcel.blobs] == [
        ("model.onnx", True, 4 * 32),
        ("model.onnx", False, CHUNK),
        ("model.onnx", False, CHUNK),
        ("model.onnx", False, CHUNK),
        ("model.onnx", False, 7),
        ("labels.txt", True, 32),
        ("labels.txt", False, 4),
    ]
    assert all(hashlib.sha256(parcel.read(one)).hexdigest() == one.sha256 for one in parcel.blobs)
    assert b"".join(parcel.read(one) for one in parcel.blobs[1:5]) == content(3 * CHUNK + 7)
    assert parcel.largest == CHUNK


def test_a_file_is_no_release_and_the_hint_says_how_it_becomes_one(tmp_path: Path) -> None:
    (tmp_path / "digits.onnx").write_bytes(b"model")
    with pytest.raises(EdgedError) as refused:
        Parcel.open(tmp_path / "digits.onnx")
    assert refused.value.fault.code == "bad_config"
    assert "`edged release`" in refused.value.fault.hint
    assert "--simple" in refused.value.fault.hint
    with pytest.raises(EdgedError, match=r"bad_config: there is no .*/release\.json"):
        Parcel.open(tmp_path)


def test_a_piece_that_comes_twice_is_there_once(tmp_path: Path) -> None:
    parcel = parcel_of(tmp_path, {"model.onnx": bytes(3 * CHUNK)})
    assert len(parcel.blobs) == 2
    assert parcel.size == 3 * 32 + CHUNK


def _longer(folder: Path) -> None:
    with (folder / "model.onnx").open("ab") as file:
        file.write(b"!")


def _flipped(folder: Path) -> None:
    data = bytearray((folder / "model.onnx").read_bytes())
    data[CHUNK] ^= 1
    (folder / "model.onnx").write_bytes(data)


@pytest.mark.parametrize(
    ("break_it", "says"),
    [
        (lambda folder: (folder / "release.json").write_bytes(b"{}"), "payloadType"),
        (lambda folder: (folder / "release.json").write_bytes(b"[" * 70_000), "above 65536 bytes"),
        (lambda folder: (folder / "labels.txt").unlink(), "labels.txt is missing"),
        (lambda folder: (folder / "labels.txt").write_bytes(b"a"), "it has 1 bytes of 4"),
        (_longer, "that was released: it has"),
        (_flipped, "not the file that was released"),
    ],
)
def test_a_folder_that_is_not_the_release_is_refused(
    tmp_path: Path, break_it: Callable[[Path], None], says: str
) -> None:
    opened(tmp_path)
    break_it(tmp_path)
    with pytest.raises(EdgedError) as refused:
        Parcel.open(tmp_path)
    assert refused.value.fault.code == "bad_release"
    assert says in refused.value.fault.message


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    """An empty retained message is how MQTT takes one away."""
    with pytest.raises(EdgedError, match="is empty"):
        parcel_of(tmp_path, {"model.onnx": b"x", "labels.txt": b""})


def test_a_file_that_changes_after_it_was_opened_is_not_sent(tmp_path: Path) -> None:
    parcel = opened(tmp_path)
    _flipped(tmp_path)
    with pytest.raises(EdgedError, match="changed meanwhile"):
        parcel.read(parcel.blobs[2])
