"""`edged init` as a new user has it: what it writes is valid, serves, and answers; nothing is written over."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from edged import cli
from edged.config.load import load
from edged.worker.session import Model
from tests import models, tensor_models
from tests.box import DIGITS, box
from tests.brokers import Mosquitto, have_mosquitto
from tests.clients.mqtt import collect
from tests.integration.mqtt.box import User
from tests.pictures import file as picture

Edged = Callable[..., tuple[int, str, str]]


@pytest.fixture
def edged(capsys: pytest.CaptureFixture[str]) -> Edged:
    """(exit code, standard output, standard error) of a command line."""

    def run(*words: str | Path) -> tuple[int, str, str]:
        code = cli.main([str(word) for word in words])
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def nobody(port: Callable[[], int]) -> str:
    """The address of a broker that is not there."""
    return f"mqtt://127.0.0.1:{port()}"


def put(folder: Path, name: str, content: bytes) -> Path:
    (folder / name).write_bytes(content)
    return folder / name


def yolo(names: str) -> bytes:
    """[1, 3, 64, 64] -> YOLOv8's [1, 4 + 2, 84], with one object of the second class around (32, 32), of 32 x 16."""
    found = np.zeros((1, 6, 84), np.float32)
    found[0, :, 40] = 32, 32, 32, 16, 0.1, 0.9
    nodes = [
        helper.make_node(
            "ReduceMax", ["images"], ["light"], keepdims=0
        ),  # 1 where pixels are 0 to 1, as they should be
        helper.make_node("Mul", ["found", "light"], ["output0"]),
    ]
    inputs, outputs = [("images", "float32", (1, 3, 64, 64))], [("output0", "float32", (1, 6, 84))]
    return noted(
        models.build(nodes, inputs, outputs, {"found": found}), {"names": names, "task": "detect", "stride": "32"}
    )


def noted(content: bytes, metadata: dict[str, str]) -> bytes:
    """The same model with its exporter's notes."""
    import onnx

    model = onnx.load_from_string(content)
    helper.set_model_props(model, metadata)
    written: bytes = model.SerializeToString()
    return written


@pytest.mark.parametrize("version", ["v1", "v2", "v3", "v4"])
def test_the_examples_are_served_with_what_is_written(
    edged: Edged, nobody: str, short_path: Path, version: str
) -> None:
    """As right and as wrong as the model by itself; of the second version that is nearly always right."""
    source = DIGITS / f"digits_{version}_int8.onnx"
    table = np.loadtxt(DIGITS / "digits_test.csv", delimiter=",", skiprows=1, max_rows=40, dtype=np.float32)
    np.savetxt(short_path / "scans.csv", table[:, 1:] / 16, delimiter=",", fmt="%.4f")
    alone = Model.open(source).run({"image": (table[:, 1:] / 16).reshape(-1, 1, 8, 8)})["logits"].argmax(axis=1)
    target = short_path / "edged.yaml"
    code, said, _ = edged("init", source, "--output", target, "--broker", nobody)
    assert (code, said.splitlines()[0]) == (0, f"{target}: written")
    assert edged("check", "--config", target)[0] == 0
    with box(target.read_text()) as one:
        code, answers, _ = edged("infer", "digits", short_path / "scans.csv", "--socket", one.socket)
    read = [int(line.split()[0]) for line in answers.splitlines()]
    assert (code, read) == (0, alone.tolist())
    if version == "v2":
        assert sum(a == b for a, b in zip(read, table[:, 0], strict=True)) >= 39


@pytest.mark.skipif(not have_mosquitto(), reason="mosquitto is not installed; scripts/test installs it")
def test_a_broker_that_answers_is_written_and_used(edged: Edged, broker: Mosquitto, short_path: Path) -> None:
    file, target = put(short_path, "sum.onnx", models.linear(4, 3)), short_path / "edged.yaml"
    code, said, _ = edged("init", file, "--output", target, "--broker", broker.url)
    assert (code, f"broker  {broker.url} answers" in said) == (0, True)
    assert "# This broker answers, in MQTT 5." in target.read_text()
    with box(target.read_text().replace("sum.onnx", str(file))) as one, User(broker.port, "sum/+/result") as user:
        one.wait(lambda: one.status()["daemon"]["mqtt"]["connected"])
        user.client.publish("sum/left/values", "[1, 2, 3, 4]", 1)
        (answer,) = collect(user, "sum/left/result", 1)
    assert answer["outputs"][0]["shape"] == [1, 3]


@pytest.mark.skipif(not have_mosquitto(), reason="mosquitto is not installed; scripts/test installs it")
def test_a_broker_that_wants_a_password_is_told_apart_from_none(
    edged: Edged, tmp_path: Path, short_path: Path, nobody: str
) -> None:
    target = short_path / "edged.yaml"
    with Mosquitto(tmp_path, "allow_anonymous false") as broker:
        code, said, _ = edged("init", "--output", target, "--broker", broker.url)
    assert (code, f"broker  {broker.url} refuses: " in said) == (0, True), said
    assert "lets nobody in like that: the broker refuses the connection: Not auth" in target.read_text()
    assert edged("check", "--config", target)[0] == 0
    assert edged("init", "--output", target, "--broker", nobody, "--force")[0] == 0
    assert "did not answer just now" in target.read_text()


def test_without_a_model_it_says_how_to_add_one(edged: Edged, nobody: str, tmp_path: Path) -> None:
    target = tmp_path / "below" / "edged.yaml"  # the folder is made
    code, said, _ = edged("init", "--output", target, "--broker", nobody)
    assert (code, "edged init FILE.onnx" in said) == (0, True)
    code, said, _ = edged("check", "--config", target)
    assert (code, "model   none" in said) == (0, True)


def test_nothing_is_written_over(edged: Edged, nobody: str, tmp_path: Path) -> None:
    target = put(tmp_path, "edged.yaml", b"device: mine\n")
    code, _, said = edged("init", "--output", target, "--broker", nobody)
    assert (code, target.read_text()) == (2, "device: mine\n")
    assert "is there already" in said
    assert edged("init", "--output", target, "--broker", nobody, "--force")[0] == 0
    assert "device: mine" not in target.read_text()
    assert [one.name for one in tmp_path.iterdir()] == ["edged.yaml"]


def test_it_can_be_looked_at_first(edged: Edged, nobody: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = put(tmp_path, "sum.onnx", models.linear())
    monkeypatch.chdir(tmp_path)
    code, text, _ = edged("init", "sum.onnx", "--output", "-", "--broker", nobody)
    assert (code, [one.name for one in tmp_path.iterdir()]) == (0, ["sum.onnx"])
    (model,) = load(put(tmp_path, "shown.yaml", text.encode())).models
    assert (model.name, model.file) == ("sum", str(file))


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (models.identity("object"), "strings"),
        (models.identity("bool"), "4 numbers"),
        (models.identity("int8", (4,)), "4 numbers"),
        (models.identity("float32", ("batch", "time", 3)), "numbers; how many, the model leaves open"),
        (models.identity("float32", ("batch", 3, "h", "w")), "the model leaves the size open"),
        (models.identity("uint8", (32, 40, 3)), "pictures, 40 x 32 in colours"),
        (models.identity("float16", (1, 32, 32, 1)), "pictures, 32 x 32 in shades of grey"),
        (models.identity("float32", (1, 100_000)), "100000 numbers"),
        (models.identities(), "13 inputs"),
        (models.gather(), "2 numbers"),
        (models.lying_shape(), "64 numbers"),
        (tensor_models.zipmap(), "3 numbers"),
        (tensor_models.sometimes(), "2 inputs"),
        (tensor_models.scalars(), ""),
        (tensor_models.called(["yes", 'a "b"', "c: d # e", "${HOME}", "é\u0085"]), "5 inputs"),
        (tensor_models.called(["- [x]: 'y'"]), ""),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_whatever_a_model_takes_the_configuration_is_valid(
    edged: Edged, nobody: str, tmp_path: Path, content: bytes, kind: str
) -> None:
    file, target = put(tmp_path, "odd model.onnx", content), tmp_path / "edged.yaml"
    code, said, why = edged("init", file, "--output", target, "--broker", nobody)
    assert (code, kind in said) == (0, True), said + why
    code, said, why = edged("check", "--config", target)
    assert (code, "model   odd_model" in said) == (0, True), target.read_text() + why


def test_objects_are_found_with_the_names_that_the_file_has(edged: Edged, nobody: str, short_path: Path) -> None:
    file, target = put(short_path, "yolov8n.onnx", yolo("{0: 'cat', 1: 'dog: ${x'}")), short_path / "edged.yaml"
    assert edged("init", file, "--output", target, "--broker", nobody)[0] == 0
    assert "labels" not in target.read_text()  # a name that would be a variable: none at all
    file.write_bytes(yolo("{0: 'cat', 1: 'do\"g'}"))
    assert edged("init", file, "--output", target, "--broker", nobody, "--force")[0] == 0
    (model,) = load(target).models
    assert [type(step).__name__ for step in model.preprocess] == ["Resize", "Layout", "Normalize"]
    photo = put(short_path, "photo.png", picture(np.full((128, 128, 3), 255, np.uint8)))
    with box(target.read_text().replace("yolov8n.onnx", str(file))) as one:
        _, said, _ = edged("infer", "yolov8n", photo, "--socket", one.socket)
    assert said == 'do"g 0.9 at 32, 48 to 96, 80\n'


def test_steps_that_do_not_fit_are_left_out_and_it_says_why(edged: Edged, nobody: str, tmp_path: Path) -> None:
    """Looks like a picture, and is a table of numbers below four: the made-up picture is refused by the graph."""
    nodes = [
        helper.make_node("Cast", ["x"], ["ids"], to=TensorProto.INT64),
        helper.make_node("Gather", ["table", "ids"], ["y"]),
    ]
    given, taken = [("x", "uint8", (1, 3, 16, 16))], [("y", "float32", (1, 3, 16, 16))]
    content = models.build(nodes, given, taken, {"table": np.zeros(4, np.float32)})
    target = tmp_path / "edged.yaml"
    code, said, _ = edged("init", put(tmp_path, "x.onnx", content), "--output", target, "--broker", nobody)
    assert (code, "are left out: " in said) == (0, True)
    assert "preprocess:" not in target.read_text()
    assert edged("check", "--config", target)[0] == 0


def test_a_model_that_needs_more_memory_gets_it(edged: Edged, nobody: str, tmp_path: Path) -> None:
    target = tmp_path / "edged.yaml"
    file = put(tmp_path, "greedy.onnx", models.greedy(0.35))
    assert edged("init", file, "--output", target, "--broker", nobody)[0] == 0
    assert load(target).models[0].limits.memory == 512 * 2**20
    assert edged("check", "--config", target)[0] == 0


@pytest.mark.parametrize("content", [b"", b"no model"], ids=["empty", "text"])
def test_what_cannot_be_served_is_said_and_nothing_is_written(
    edged: Edged, nobody: str, tmp_path: Path, content: bytes
) -> None:
    target = tmp_path / "edged.yaml"
    code, _, said = edged("init", put(tmp_path, "x.onnx", content), "--output", target, "--broker", nobody)
    assert (code, target.exists(), said.startswith("edged: ")) == (1, False, True)


def test_a_pipe_is_no_model_and_is_not_waited_for(edged: Edged, nobody: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.onnx")
    code, _, said = edged("init", tmp_path / "x.onnx", "--output", tmp_path / "edged.yaml", "--broker", nobody)
    assert (code, "is no file" in said) == (1, True)


def test_what_to_type_next_can_be_typed(edged: Edged, nobody: str, tmp_path: Path) -> None:
    target = tmp_path / "two words.yaml"
    _, said, _ = edged("init", "--output", target, "--broker", nobody)
    (line,) = [line for line in said.splitlines() if line.startswith("  next ")]
    assert shlex.split(line)[1:] == ["edged", "run", "--config", str(target)]


def test_wrong_words(edged: Edged, tmp_path: Path) -> None:
    target = tmp_path / "edged.yaml"
    for words, why in [
        (["--broker", "localhost"], "did you mean mqtt://localhost"),
        ([str(tmp_path / "none.onnx")], "No such file"),
        ([str(tmp_path / "x.onnx"), "--model", "a/b"], "that is no name"),
    ]:
        code, _, said = edged("init", *words, "--output", target)
        assert code > 0
        assert why in said
        assert not target.exists()


def test_a_mistake_in_a_drop_in_is_told_as_its_own(edged: Edged, nobody: str, tmp_path: Path) -> None:
    (tmp_path / "conf.d").mkdir()
    put(tmp_path / "conf.d", "10-mine.yaml", b"mqtt: {port: 1883}\n")
    target = tmp_path / "edged.yaml"
    code, _, said = edged("init", "--output", target, "--broker", nobody)
    assert (code, target.exists()) == (2, False)
    assert "10-mine.yaml:1: mqtt.port: unknown key" in said


def test_the_answer_is_json_too(edged: Edged, nobody: str, short_path: Path) -> None:
    """What the configuration answers, read by a program."""
    file, target = put(short_path, "sum.onnx", models.linear(2, 5)), short_path / "edged.yaml"
    put(short_path, "labels.txt", b"a\nb\nc\nd\ne\n")
    assert edged("init", file, "--output", target, "--broker", nobody)[0] == 0
    text = target.read_text().replace("sum.onnx", str(file)).replace("labels.txt", str(short_path / "labels.txt"))
    put(short_path, "x.json", b"[1, 2]")
    with box(text) as one:
        _, said, _ = edged("infer", "sum", short_path / "x.json", "--json", "--socket", one.socket)
    assert {entry["label"] for entry in json.loads(said)["prediction"]} <= set("abcde")
