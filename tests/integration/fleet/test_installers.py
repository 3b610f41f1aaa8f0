"""The waves of test_waves.py, on boxes with the real installer: real documents, chunks, trials, probations, stores."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from edged.delivery.documents import RELEASE_FILE
from tests.brokers import Mosquitto
from tests.installers import Boxes
from tests.integration.fleet.test_waves import QUICK, among
from tests.operators import PATIENCE_S, Desk
from tests.routes import SIGNATURE
from tests.signing import release_of, sha256_of

COUNT = 100
NEW = b"good new"


@pytest.fixture
def desk(tmp_path: Path, broker: Mosquitto) -> Desk:
    return Desk(tmp_path / "operator", broker.url)


@pytest.fixture
def boxes(desk: Desk, broker: Mosquitto) -> Iterator[Boxes]:
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None  # disks are other tests' business
    with tempfile.TemporaryDirectory(dir=memory) as folder, Boxes(Path(folder), broker.port, COUNT, desk) as running:
        yield running


def released(folder: Path, desk: Desk) -> str:
    """Writes the folder; the release's name."""
    made = release_of({"model.onnx": NEW})
    made = msgspec.structs.replace(made, inputs=SIGNATURE.inputs, outputs=SIGNATURE.outputs)
    folder.mkdir()
    (folder / "model.onnx").write_bytes(NEW)
    (folder / RELEASE_FILE).write_bytes(desk.sign_release(made))
    return sha256_of(made)


def test_real_installers_in_waves_with_three_that_fail(desk: Desk, boxes: Boxes, tmp_path: Path) -> None:
    folder = tmp_path / "digits-2"
    sha256 = released(folder, desk)
    third, last = among(boxes.names, sha256, 10, 50), among(boxes.names, sha256, 50, 100)
    flawed = {third[0], last[0], last[1]}
    boxes.fail(NEW, flawed)

    with desk.start("fleet", "rollout", str(folder), *QUICK) as process:
        boxes.wait(lambda: boxes.running(sha256) & set(third) or process.poll() is not None, PATIENCE_S)
        process.kill()
        said = process.communicate(timeout=PATIENCE_S)[0]
        assert "goes on to 50 %" in said, said
    boxes.wait(boxes.idle)
    told = {box["name"]: box["models"][0] for box in desk.status()["boxes"]}
    assert {name for name, model in told.items() if model["done"]} == set(boxes.names) - set(last) - flawed
    assert [name for name, model in told.items() if model["failed"]] == [third[0]]
    assert told[third[0]]["code"] == "nonfinite"

    code, said = desk.run("fleet", "rollout", str(folder), *QUICK)
    assert (code, "halts: 3 of 100 failed, more than 2 and more than 2 %" in said) == (1, True), said
    assert boxes.running(sha256).isdisjoint(flawed)

    boxes.mend()
    code, said = desk.run("fleet", "rollout", str(folder), *QUICK, "--retry")
    assert (code, "all waves are through" in said) == (0, True), said
    boxes.wait(lambda: boxes.running(sha256) == set(boxes.names))

    code, said = desk.run("fleet", "undo", "digits")
    assert code == 0, said
    boxes.wait(lambda: not boxes.running(sha256), PATIENCE_S)
    boxes.wait(boxes.idle)
    told = {box["name"]: box["models"][0] for box in desk.status()["boxes"]}
    assert {model["state"] for model in told.values()} == {"undone"}
