"""`edged release`: what it makes, what it refuses as a box would, and that it says so of a folder that was changed."""

from __future__ import annotations

import json
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edged import cli
from edged.delivery import documents, envelope
from edged.delivery.bundle import loadable
from edged.delivery.documents import Golden, Limits, Release
from edged.errors import EdgedError
from edged.fleet import checking
from tests import models

INPUTS = np.random.default_rng(5).random((4, 4)).astype(np.float32)
WEIGHTS = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)  # of models.linear
EPOCH_MS = 1_700_000_000_000


@pytest.fixture(autouse=True)
def at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An operator with a fleet.yaml that is not there yet, in a folder of their own."""
    monkeypatch.setenv("EDGED_FLEET", str(tmp_path / "fleet/fleet.yaml"))
    (tmp_path / "fleet").mkdir()
    (tmp_path / "fleet/fleet.yaml").write_text("keys: keys\n")
    monkeypatch.setenv("SOURCE_DATE_EPOCH", str(EPOCH_MS // 1000))
    monkeypatch.chdir(tmp_path)
    Path("m.onnx").write_bytes(models.linear())
    np.savez("in.npz", x=INPUTS)


def release(*words: str, name: str = "m.onnx") -> int:
    return cli.main(["release", name, "--model", "m", "--version", "7", *words])


def made(folder: str = "m-7") -> Release:
    return documents.read_release(envelope.decode(Path(folder, "release.json").read_bytes(), "release").payload)


def test_a_release_with_everything(capsys: pytest.CaptureFixture[str]) -> None:
    Path("model.yaml").write_text("postprocess: [softmax, argmax, {labels: labels.txt}]\nbatch: {max: 2}\n")
    Path("labels.txt").write_text("a\nb\nc\n")
    words = ["--unsigned", "--golden", "in.npz", "--atol", "0.01", "--settings", "model.yaml", "--file", "labels.txt"]
    words += ["--label", "tuesday", "--onnxruntime", "1.21"]
    limits = ["--max-load", "5s", "--max-memory", "128MiB", "--max-cpu", "2.5ms"]
    assert release(*words, *limits) == 0
    printed = capsys.readouterr()
    assert "not signed yet: edged sign m-7" in printed.out
    assert "not quantized" in printed.err
    document = made()
    assert (document.model, document.version, document.label, document.created) == ("m", 7, "tuesday", EPOCH_MS)
    assert set(document.files) == {"model.onnx", "model.yaml", "labels.txt", "golden.npz"}
    assert document.limits == Limits(load_s=5, memory=128 * 2**20, cpu_ms=2.5)
    assert document.golden == Golden(atol=0.01)
    assert [spec.name for spec in (*document.inputs, *document.outputs)] == ["x", "y"]
    assert loadable(document, Path("m-7")).settings is not None
    with np.load("m-7/golden.npz") as golden:
        assert golden["in/x"].tolist() == INPUTS.tolist()
        np.testing.assert_allclose(golden["out/y"], INPUTS @ WEIGHTS, rtol=1e-5)
    assert {stat.S_IMODE(path.stat().st_mode) for path in Path("m-7").iterdir()} == {0o644}
    assert cli.main(["release", "--verify", "m-7"]) == 0
    assert "signed by nobody" in capsys.readouterr().out


def test_what_fails_its_golden_answers_is_a_release_only_when_somebody_insists(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The answers that it was given go with it as they are: a box judges it by them."""
    wrong: dict[str, Any] = {"in/x": INPUTS, "out/y": INPUTS @ WEIGHTS + 1}
    np.savez("wrong.npz", **wrong)
    assert release("--unsigned", "--golden", "wrong.npz") == 1
    assert "[golden]" in capsys.readouterr().err
    assert not Path("m-7").exists()
    assert release("--unsigned", "--golden", "wrong.npz", "--untried") == 0
    assert "not tried here" in capsys.readouterr().err
    assert Path("m-7/golden.npz").read_bytes() == Path("wrong.npz").read_bytes()
    assert made().golden == Golden()
    assert [spec.name for spec in (*made().inputs, *made().outputs)] == ["x", "y"]


def test_golden_inputs_alone_are_not_enough_where_nobody_makes_answers(capsys: pytest.CaptureFixture[str]) -> None:
    for name, what, code in (("in.npz", "has no answers", 1), ("m.onnx", "is no .npz", 1), ("none.npz", "No such", 2)):
        assert release("--unsigned", "--golden", name, "--untried") == code
        assert what in capsys.readouterr().err


def test_what_cannot_be_loaded_is_refused_untried_too(capsys: pytest.CaptureFixture[str]) -> None:
    Path("m.onnx").write_bytes(b"no model")
    assert release("--unsigned", "--untried") == 1
    assert "[not_a_model]" in capsys.readouterr().err


def test_pieces_for_a_broker_with_a_small_limit(capsys: pytest.CaptureFixture[str]) -> None:
    assert release("--unsigned", "--chunk", "2KiB") == 0
    assert made().files["model.onnx"].chunk == 2048
    assert cli.main(["release", "--verify", "m-7"]) == 0
    assert release("--unsigned", "--chunk", "512", "--out", "other") == 2
    assert "--chunk 512" in capsys.readouterr().err


def test_the_same_again_is_the_same_document(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        assert release("--unsigned", "--golden", "in.npz", "--out", folder) == 0
    one, two = ({path.name: path.read_bytes() for path in Path(folder).iterdir()} for folder in ("one", "two"))
    assert one == two
    assert release("--unsigned", "--golden", "in.npz", "--out", "two") == 0, "again into the same folder"
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")], "nothing is left over"


def test_a_folder_with_something_else_stays(capsys: pytest.CaptureFixture[str]) -> None:
    assert release("--unsigned") == 0
    before = {path.name: path.read_bytes() for path in Path("m-7").iterdir()}
    assert release("--unsigned", "--notes", "other") == 1
    assert "is there already" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in Path("m-7").iterdir()} == before


def test_signed_by_the_role_and_verified(capsys: pytest.CaptureFixture[str]) -> None:
    """Keys, trust, release: as a newcomer does it. A second key's signature joins the first."""
    for name in ("root", "release", "deploy", "stranger"):
        assert cli.main(["keys", "new", name]) == 0
    assert cli.main(["trust", "init", "--root", "root", "--release", "release", "--deploy", "deploy"]) == 0
    assert release("--golden", "in.npz") == 0
    assert cli.main(["release", "--verify", "m-7"]) == 0
    assert "enough of the role release in trust version 1" in capsys.readouterr().out
    assert release("--golden", "in.npz", "--key", "stranger") == 1, "it is none of the role's"
    assert release("--unsigned", "--out", "bare") == 0
    assert cli.main(["release", "--verify", "bare"]) == 1
    assert "[signature]" in capsys.readouterr().err
    assert cli.main(["release", "--verify", "m-7", "--trust", "fleet/trust.json"]) == 0


# --- what a box would refuse ----------------------------------------------------------------------------


def refused(capsys: pytest.CaptureFixture[str], *words: str, name: str = "m.onnx") -> str:
    code = release("--unsigned", *words, name=name)
    assert not Path("m-7").exists()
    assert not [path for path in Path().iterdir() if path.name.startswith(".")]
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert code == (2 if "[bad_config]" in said or "[bad_settings]" in said else 1)
    return said


def test_files_that_are_no_models(capsys: pytest.CaptureFixture[str]) -> None:
    assert "[bad_config]" in refused(capsys, name="absent.onnx")
    Path("bad.onnx").write_bytes(b"no model")
    assert "[not_a_model]" in refused(capsys, name="bad.onnx")
    Path("bad.onnx").write_bytes(models.linear()[:-30])
    assert "[not_a_model]" in refused(capsys, name="bad.onnx")


def test_ota_F47_weights_in_a_file_that_is_not_brought(capsys: pytest.CaptureFixture[str]) -> None:
    model = onnx.load_from_string(models.linear())
    onnx.save(model, "big.onnx", save_as_external_data=True, size_threshold=0, location="weights.bin")
    assert "'weights.bin', which no release lists" in refused(capsys, name="big.onnx")
    assert release("--unsigned", "--file", "weights.bin", name="big.onnx") == 0
    assert set(made().files) == {"model.onnx", "weights.bin"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--settings", "m.yaml"], "m.yaml: No such file"),
        (["--file", "UPPER.txt"], "cannot be the name of a release's file"),
        (["--file", "in.npz", "--file", "fleet/in.npz"], "two files would be called in.npz"),
        (["--max-load", "soon"], "--max-load soon"),
        (["--atol", "-1"], "--atol -1"),
        (["--label", "x" * 10_000], "8192 characters [bad_config]"),
        (["--version", "0"], "0 is no version: a whole number from 1 on [bad_config]"),
        (["--model", "a.b"], "'a.b' is no name for a model [bad_config]"),
    ],
)
def test_orders_that_make_no_sense(capsys: pytest.CaptureFixture[str], words: list[str], said: str) -> None:
    for name in ("UPPER.txt", "fleet/in.npz"):
        Path(name).write_bytes(b"")
    assert said in refused(capsys, *words)


@pytest.mark.parametrize(
    ("yaml", "said"),
    [
        ("limits: {memory: 1GiB}\n", "model.yaml:1: limits: is the box's to say"),
        ("preprocess: [{crop: [8, 8]}]\n", "a picture becomes [8, 8, ?]"),
        ("postprocess: [argmax, {labels: labels.txt}]\n", "none of the release's files"),
    ],
)
def test_settings_that_are_not_valid(capsys: pytest.CaptureFixture[str], yaml: str, said: str) -> None:
    Path("s.yaml").write_text(yaml)
    found = refused(capsys, "--settings", "s.yaml")
    assert "[bad_settings]" in found
    assert said in found


@pytest.mark.parametrize(
    ("make", "arrays", "said"),
    [
        (models.linear, {"z": INPUTS}, "'z' is none of the model's inputs: x"),
        (models.linear, {"x": INPUTS.astype(complex)}, "x is complex128, the model takes float32"),
        (models.linear, {"x": np.zeros((300, 4), np.float32)}, "1 to 256, not 300"),
        (models.linear, {"x": np.zeros((0, 4), np.float32)}, "1 to 256, not 0"),
        (models.linear, {"x": np.zeros((2, 5), np.float32)}, "the run of case 0 fails"),
        (models.linear, {"x": INPUTS, "out/y": np.zeros((4, 3), np.float32)}, "case 0: y["),
        (models.linear, {"x": INPUTS, "out/y": (INPUTS @ WEIGHTS)[:2]}, "out/y has 2 cases, fewer than the inputs"),
        (models.add, {"a": INPUTS}, "no array for the input b"),
        (models.random_normal, {"x": INPUTS}, "two runs of case 0 differ"),
        (models.nan_weights, {"image": np.zeros((1, 1, 8, 8), np.float32)}, "has NaN or infinity"),
    ],
)
def test_golden_inputs_that_make_no_golden_answers(
    capsys: pytest.CaptureFixture[str], make: Callable[[], bytes], arrays: dict[str, Any], said: str
) -> None:
    Path("other.onnx").write_bytes(make())
    np.savez("golden.npz", **arrays)
    found = refused(capsys, "--golden", "golden.npz", name="other.onnx")
    assert "[golden]" in found
    assert said in found


def test_golden_answers_that_come_with_the_inputs() -> None:
    """Of another runtime, say: the model has to give them, within the tolerance."""
    arrays: dict[str, Any] = {"in/x": INPUTS, "out/y": (INPUTS @ WEIGHTS) + np.float32(0.001)}
    np.savez("golden.npz", **arrays)
    assert release("--unsigned", "--golden", "golden.npz", "--atol", "0.01") == 0
    with np.load("m-7/golden.npz") as golden:
        np.testing.assert_array_equal(golden["out/y"], arrays["out/y"])


def test_a_memory_limit_that_it_does_not_keep(capsys: pytest.CaptureFixture[str]) -> None:
    Path("wide.onnx").write_bytes(models.linear(2048, 2048))
    assert "[over_memory]" in refused(capsys, "--max-memory", "4MiB", name="wide.onnx")


def test_a_limit_on_time_that_it_does_not_keep(capsys: pytest.CaptureFixture[str]) -> None:
    assert "[too_slow]" in refused(capsys, "--max-cpu", "0.0001ms")


# --- a folder that was changed --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda folder: (folder / "model.onnx").write_bytes(b"other"), "is not the file that was released"),
        (lambda folder: (folder / "golden.npz").unlink(), "is missing"),
        (lambda folder: (folder / "extra.txt").write_text("x"), "does not name: extra.txt"),
        (lambda folder: (folder / "release.json").write_text("{}"), "bad_release"),
        (lambda folder: (folder / "release.json").write_bytes(b"x" * 10**6), "bad_release"),
    ],
)
def test_a_folder_that_was_changed(change: Callable[[Path], Any], said: str) -> None:
    assert release("--unsigned", "--golden", "in.npz") == 0
    change(Path("m-7"))
    with pytest.raises(EdgedError) as found:
        checking.check(Path("m-7"), None)
    assert found.value.fault.code == "bad_release"
    assert said in str(found.value)


def test_a_document_that_says_something_else_about_the_chunks() -> None:
    assert release("--unsigned") == 0
    path = Path("m-7/release.json")
    found = envelope.decode(path.read_bytes(), "release")
    plain = json.loads(found.payload)
    plain["files"]["model.onnx"]["index"] = "0" * 64
    path.write_bytes(envelope.Envelope("release", json.dumps(plain).encode()).encode())
    with pytest.raises(EdgedError, match="is not the file that was released"):
        checking.check(Path("m-7"), None)
    shutil.rmtree("m-7")
