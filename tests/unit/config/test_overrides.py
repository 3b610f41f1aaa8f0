"""What a release's model.yaml may set, and that it reads nothing but the release's own files."""

from __future__ import annotations

from pathlib import Path

import pytest

from edged.config import overrides
from edged.config.overrides import Overrides
from edged.config.schema import Batch, Limits, Model
from edged.config.steps import Argmax, Labels, Scale, Softmax
from edged.config.units import Duration, Size
from edged.errors import EdgedError

BOX = Model(
    "m", preprocess=(Scale(2.0),), postprocess=(Argmax(),), batch=Batch(4), limits=Limits(memory=Size(64 * 2**20))
)


def read(folder: Path, text: str | bytes, *listed: str) -> Overrides:
    (folder / "model.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
    return overrides.read(folder, ("model.onnx", "model.yaml", *listed))


def refused(folder: Path, text: str | bytes, *listed: str) -> str:
    with pytest.raises(EdgedError) as found:
        read(folder, text, *listed)
    assert found.value.fault.code == "bad_settings"
    return found.value.fault.message


@pytest.mark.parametrize(
    ("text", "changed"),
    [
        ("preprocess: [{scale: 0.5}]\n", {"preprocess": (Scale(0.5),)}),
        ("postprocess: [softmax, argmax]\n", {"postprocess": (Softmax(), Argmax())}),
        ("preprocess:\npostprocess: []\n", {"preprocess": (), "postprocess": ()}),
        ("batch: {max: 2}\n", {"batch": Batch(2)}),
        ("batch: {wait: 5ms}\n", {"batch": Batch(16, Duration(0.005))}),  # as a whole: the box's 4 does not stay
        ("# nothing\n", {}),
    ],
)
def test_each_section_replaces_the_boxs_as_a_whole(tmp_path: Path, text: str, changed: dict[str, object]) -> None:
    found = read(tmp_path, text).over(BOX)
    for name in Model.__struct_fields__:
        assert getattr(found, name) == changed.get(name, getattr(BOX, name))


def test_labels_come_from_the_releases_folder(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("cat\ndog\n")
    found = read(tmp_path, "postprocess:\n  - argmax\n  - labels: labels.txt\n", "labels.txt")
    assert found.postprocess == (Argmax(), Labels(("cat", "dog")))


@pytest.mark.parametrize("name", ["../secret.txt", "/etc/hostname", "sub/labels.txt", "secret.txt", "./labels.txt", ""])
def test_ota_F45_no_other_file_is_read(tmp_path: Path, name: str) -> None:
    """A path, a neighbour that nobody listed: refused before anything is opened."""
    folder = tmp_path / "release"
    (folder / "sub").mkdir(parents=True)
    for file in (tmp_path / "secret.txt", folder / "secret.txt", folder / "sub/labels.txt", folder / "labels.txt"):
        file.write_text("do not read me\n")
    said = refused(folder, f"postprocess:\n  - argmax\n  - labels: '{name}'\n", "labels.txt")
    assert said.startswith("model.yaml:3: postprocess[1].labels: ")
    assert "none of the release's files" in said
    assert "do not read" not in said


def test_ota_F45_a_link_is_no_file_of_the_release(tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("do not read me\n")
    (tmp_path / "labels.txt").symlink_to("secret.txt")
    assert "none of the release's files" in refused(
        tmp_path, "postprocess: [argmax, {labels: labels.txt}]", "labels.txt"
    )
    (tmp_path / "model.yaml").rename(tmp_path / "real.yaml")
    (tmp_path / "model.yaml").symlink_to("real.yaml")
    with pytest.raises(EdgedError, match="none of the release's files"):
        overrides.read(tmp_path, ("model.onnx", "model.yaml"))


def test_nothing_comes_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "x")
    for value in ("${SECRET}", "${SECRET:-y}", "${"):
        assert "environment" in refused(tmp_path, f"postprocess: [argmax, {{labels: ['{value}']}}]\n")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("limits: {memory: 1GiB}\n", "model.yaml:1: limits: is the box's to say, not the release's"),
        ("\nqueue: {size: 1}\n", "model.yaml:2: queue: is the box's to say"),
        ("inputs: []\n", "model.yaml:1: inputs: is the box's to say"),
        ("file: /etc/passwd\n", "model.yaml:1: file: is the box's to say"),
        ("window: 3\n", "model.yaml:1: window: is not in this version of edged"),
        ("preproces: []\n", "model.yaml:1: preproces: unknown key (did you mean preprocess?)"),
        ("postprocess: [sofmax]\n", "model.yaml:1: postprocess[0]: 'sofmax' is no step (did you mean softmax?)"),
        ("preprocess: [{scale: a}]\nbatch: {max: 0}\n", "model.yaml:2: batch.max: 0 is out of range"),
        ("- a\n", "model.yaml:1: expected keys and values"),
        ("a: &x [*x]\n", "model.yaml:1: a[0]: * begins an alias"),
        ("a: [" * 40, "model.yaml:1: it is nested too deeply"),
        (b"\xff\xfe", "is no text in UTF-8"),
        (b"", "is empty"),
        ("#" * (64 * 2**10 + 1), "is too large for a model.yaml"),
        ("postprocess: {a: 1", "model.yaml:1: "),
    ],
)
def test_mistakes_have_their_line(tmp_path: Path, text: str | bytes, said: str) -> None:
    assert said in refused(tmp_path, text)


def test_every_mistake_is_said_up_to_a_limit(tmp_path: Path) -> None:
    said = refused(tmp_path, "".join(f"key{number}: 1\n" for number in range(20)))
    assert "key0" in said
    assert said.endswith("; and 12 more")
