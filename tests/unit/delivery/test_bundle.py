"""A release's folder as what serving loads."""

from __future__ import annotations

from pathlib import Path

import pytest

from edged.config.steps import Softmax
from edged.delivery.bundle import loadable
from edged.delivery.documents import File, Limits, Release
from edged.errors import EdgedError
from edged.tensors import Signature, TensorSpec

ONE = File(size=1, sha256="a" * 64, index="b" * 64)


def document(*files: str) -> Release:
    limits = Limits(memory=2**20)
    return Release(
        model="m",
        version=7,
        created=0,
        files={"model.onnx": ONE, **dict.fromkeys(files, ONE)},
        inputs=(TensorSpec("x", "FP32", (-1, 4)),),
        outputs=(),
        limits=limits,
    )


def test_what_a_folder_brings(tmp_path: Path) -> None:
    (tmp_path / "model.yaml").write_text("postprocess: [softmax]\n")
    found = loadable(document("weights.bin", "model.yaml"), tmp_path)
    assert (found.model, found.version, found.sha256, found.memory) == ("m", "7", "a" * 64, 2**20)
    assert found.file == str(tmp_path / "model.onnx")
    assert found.signature == Signature((TensorSpec("x", "FP32", (-1, 4)),), ())
    assert found.beside == ("weights.bin", "model.yaml")
    assert found.settings is not None
    assert found.settings.postprocess == (Softmax(),)


def test_a_file_that_is_not_listed_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "model.yaml").write_text("nonsense\n")
    assert loadable(document(), tmp_path).settings is None
    with pytest.raises(EdgedError, match="bad_settings"):
        loadable(document("model.yaml"), tmp_path)
