"""The text of a configuration to begin with: whatever was found, the reader of configurations takes it."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from edged.cli.starter import text
from edged.cli.starter.box import Broker, Surroundings
from edged.cli.starter.likely import Likely
from edged.config.load import load
from edged.config.schema import Config
from edged.tensors import Signature, TensorSpec

URL = "mqtt://127.0.0.1:1883"
BOX = Surroundings("press-07", 4, 8 * 2**30, "1.31.1", ("cpu",), Broker(URL, there=True, version="5"))
SIGNATURE = Signature((TensorSpec("x", "FP32", (1, 4)),), (TensorSpec("y", "FP32", (1, 3)),))


def section(folder: Path, like: Likely, **more: object) -> text.Section:
    (folder / "m.onnx").write_bytes(b"looked at by nobody")
    made = text.Section("m", "m.onnx", SIGNATURE, like)
    return msgspec.structs.replace(made, **more)


def read(folder: Path, written: str) -> Config:
    (folder / "edged.yaml").write_text(written)
    return load(folder / "edged.yaml")


@pytest.mark.parametrize("kind", ["picture", "values", "raw", "several", "tensors"])
@pytest.mark.parametrize("there", [True, False])
def test_with_and_without_a_broker(tmp_path: Path, kind: str, there: bool) -> None:
    around = msgspec.structs.replace(BOX, broker=Broker(URL, there=there, version="5"))
    like = msgspec.convert({"kind": kind, "about": "what it takes"}, Likely)
    config = read(tmp_path, text.whole(around, section(tmp_path, like), asked=False))
    assert (config.mqtt is not None) == there
    (model,) = config.models
    fed = there and kind in ("picture", "values", "raw")
    assert [one.topic for one in model.inputs] == (
        [{"picture": "m/+source/picture", "values": "m/+source/values", "raw": "m/+source/tensor"}[kind]] if fed else []
    )
    assert model.output.topic == ("m/{source}/result" if fed else "")


def test_steps_names_and_a_limit(tmp_path: Path) -> None:
    names = ("yes", 'a "b"', "c: d", "two  spaces", "é" * 200)
    like = Likely("values", "numbers", ("scale: 2",), "why", ("softmax", "top_k: 2"), "why", 5, names, ("a note",))
    config = read(tmp_path, text.whole(BOX, section(tmp_path, like, memory=2**30), asked=False))
    (model,) = config.models
    assert [type(step).__name__ for step in model.preprocess] == ["Scale"]
    assert [type(step).__name__ for step in model.postprocess] == ["Softmax", "TopK", "Labels", "Round"]
    assert model.postprocess[2].names == names  # type: ignore[union-attr]
    assert model.limits.memory == 2**30


@pytest.mark.parametrize("count", [1, 40, 1000])
def test_names_are_read_back_however_many_lines_they_take(tmp_path: Path, count: int) -> None:
    names = tuple(f"{'a  b ' * (index % 9)}{index}" for index in range(count))
    like = Likely("values", "numbers", after=("top_k: 1",), after_why="why", classes=count, labels=names)
    written = text.whole(BOX, section(tmp_path, like), asked=False)
    assert max(map(len, written.splitlines())) <= 132
    assert read(tmp_path, written).models[0].postprocess[1].names == names  # type: ignore[union-attr]


def test_a_small_board_ends_the_old_version_first(tmp_path: Path) -> None:
    like = Likely("values", "numbers")
    for memory, swap in [(2**30, "stop_start"), (2**31, "parallel")]:
        around = msgspec.structs.replace(BOX, memory=memory)
        config = read(tmp_path, text.whole(around, section(tmp_path, like), asked=False))
        assert config.models[0].swap == swap


def test_a_gpu_that_onnxruntime_is_built_for_is_a_line_to_switch_on(tmp_path: Path) -> None:
    like = Likely("values", "numbers")
    around = msgspec.structs.replace(BOX, providers=("cpu", "cuda"))
    written = text.whole(around, section(tmp_path, like), asked=False)
    assert read(tmp_path, written).models[0].providers == ("cpu",)
    assert read(tmp_path, written.replace("    #providers:", "    providers:")).models[0].providers == ("cuda", "cpu")
    assert "providers:" not in text.whole(BOX, section(tmp_path, like), asked=False)


def test_what_a_broker_says_ends_no_comment(tmp_path: Path) -> None:
    around = msgspec.structs.replace(BOX, broker=Broker(URL, there=True, refused="no\nmodels: {}\r\x85"))
    config = read(tmp_path, text.whole(around, None, asked=False))
    assert config.mqtt is not None
    assert config.models == ()
