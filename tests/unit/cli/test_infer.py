"""`edged infer`: what each kind of file becomes, and what people read."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edged import cli
from edged.cli.infer import rows, show
from edged.errors import EdgedError
from tests.pictures import file, gradient
from tests.unit.cli.daemon import Double, double

INFER = "/v2/models/digits/infer"
ANSWER = {
    "model_name": "digits",
    "model_version": "2",
    "outputs": [{"name": "logits", "datatype": "FP32", "shape": [1, 2], "data": [0.25, None]}],
}
PREDICTED = {**ANSWER, "prediction": [{"label": "seven", "index": 7, "score": 0.98765}, {"index": 1, "score": 0.01}]}


@pytest.fixture
def daemon(short_path: Path) -> Iterator[Double]:
    with double(short_path) as server:
        server.answers[INFER] = 200, ANSWER
        yield server


def edged(daemon: Double, *words: str) -> int:
    return cli.main(["infer", "digits", *words, "--socket", str(daemon.path)])


def npy(path: Path, array: object) -> str:
    np.save(path, np.asarray(array))
    return str(path)


def test_npy_goes_as_it_is(daemon: Double, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = npy(tmp_path / "x.npy", np.zeros((1, 64), np.float32))
    assert edged(daemon, file) == 0
    assert capsys.readouterr().out == "logits FP32[1, 2]: 0.25 nan\n"
    (asked,) = daemon.asked
    assert (asked.headers["content-type"], asked.body) == ("application/x-npy", Path(file).read_bytes())
    assert "inference-header-content-length" not in asked.headers


def test_json_goes_as_it_is_and_the_raw_answer_comes_back(
    daemon: Double, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.json").write_text("[1, 2]")
    assert edged(daemon, str(tmp_path / "x.json"), "--json") == 0
    assert json.loads(capsys.readouterr().out) == ANSWER
    assert (daemon.asked[0].headers["content-type"], daemon.asked[0].body) == ("application/json", b"[1, 2]")


def test_a_prediction_is_what_people_read(daemon: Double, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    daemon.answers[INFER] = 200, PREDICTED
    assert edged(daemon, npy(tmp_path / "x.npy", [1.0])) == 0
    assert capsys.readouterr().out == "seven 0.9877, 1 0.01\n"


def test_csv_is_an_input_a_row(daemon: Double, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.csv").write_text("temp,current\n1,2.5\n\n3,\n")
    assert edged(daemon, str(tmp_path / "x.csv")) == 0
    assert [json.loads(one.body) for one in daemon.asked] == [[1, 2.5], [3, None]]
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_a_word_below_the_header_of_a_csv_is_an_error() -> None:
    with pytest.raises(EdgedError, match=r"x\.csv:2: .*'b'"):
        list(rows(b"1,2\n3,b\n", "x.csv"))
    with pytest.raises(EdgedError, match="not UTF-8"):
        list(rows(b"\xff\xfe1", "x.csv"))


def test_lines_of_standard_input_have_a_line_each_even_when_one_fails(
    daemon: Double, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"[1]\n\n1, 2\n")))
    daemon.answers[INFER] = 400, {"error": "two\nmore", "code": "bad_input", "hint": "h"}
    assert edged(daemon, "-") == 1
    assert capsys.readouterr().out == "error: two more [bad_input]\n" * 2
    assert [one.body for one in daemon.asked] == [b"[1]", b"1, 2"]


def test_a_model_that_is_not_there_ends_it_at_once(
    daemon: Double, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"1\n2\n3\n")))
    daemon.answers[INFER] = 404, {"error": "no model", "code": "unknown_model"}
    assert edged(daemon, "-") == 1
    assert len(daemon.asked) == 1
    assert "no model [unknown_model]" in capsys.readouterr().err


def test_named_inputs_make_one_binary_request(daemon: Double, tmp_path: Path) -> None:
    inputs = [{"name": "a", "datatype": "FP32", "shape": [2]}, {"name": "b", "datatype": "INT64", "shape": [1]}]
    daemon.answers["/v2/models/digits"] = 200, {"inputs": inputs}
    big_endian = npy(tmp_path / "a.npy", np.array([1.5, 2.5], ">f8"))
    (tmp_path / "b.json").write_text("[7]")
    assert edged(daemon, "--input", f"a={big_endian}", "--input", f"b={tmp_path / 'b.json'}") == 0
    asked = daemon.asked[-1]
    length = int(asked.headers["inference-header-content-length"])
    head = json.loads(asked.body[:length])
    assert [(one["name"], one["datatype"], one["shape"]) for one in head["inputs"]] == [
        ("a", "FP32", [2]),
        ("b", "INT64", [1]),
    ]
    assert asked.body[length:] == np.array([1.5, 2.5], "<f4").tobytes() + np.array([7], "<i8").tobytes()


@pytest.mark.parametrize(
    ("named", "why", "code"),
    [
        ("a={folder}/half.npy", "half.npy: float64 does not go for INT64", 1),
        ("a={folder}/text.json", "text.json: text does not go for INT64", 1),
        ("a={folder}/object.json", "expected a number or text, or lists of one shape of them; found an object", 1),
        ("a={folder}/ragged.json", "lists of one shape", 1),
        ("a={folder}/null.json", "lists of one shape", 1),
        ("a={folder}/huge.json", "lists of one shape", 1),
        ("c={folder}/half.npy", "no input 'c', only a", 1),
        ("a={folder}/objects.npy", "allow_pickle", 1),
        ("a", "expected NAME=FILE", 2),
        ("a={folder}/none.npy", "No such file", 2),
    ],
)
def test_what_does_not_fit_is_said_before_anything_is_sent(
    daemon: Double, tmp_path: Path, capsys: pytest.CaptureFixture[str], named: str, why: str, code: int
) -> None:
    daemon.answers["/v2/models/digits"] = 200, {"inputs": [{"name": "a", "datatype": "INT64", "shape": [1]}]}
    np.save(tmp_path / "half.npy", np.array([0.5]))
    np.save(tmp_path / "objects.npy", np.array([None]), allow_pickle=True)
    written = {
        "text": '["a"]',
        "object": '{"inputs": []}',
        "ragged": "[[1], [2, 3]]",
        "null": "[null]",
        "huge": f"[{2**70}]",
    }
    for name, text in written.items():
        (tmp_path / f"{name}.json").write_text(text)
    assert edged(daemon, "--input", named.format(folder=tmp_path)) == code
    assert why in capsys.readouterr().err
    assert all(one.path != INFER for one in daemon.asked)


@pytest.mark.parametrize(("name", "kind"), [("a.jpg", "jpeg"), ("b.JPEG", "jpeg"), ("c.png", "png")])
def test_pictures_go_as_they_are(daemon: Double, tmp_path: Path, name: str, kind: str) -> None:
    (tmp_path / name).write_bytes(b"pixels")
    assert edged(daemon, str(tmp_path / name)) == 0
    assert (daemon.asked[0].headers["content-type"], daemon.asked[0].body) == (f"image/{kind}", b"pixels")


def test_a_file_of_another_kind(daemon: Double, capsys: pytest.CaptureFixture[str]) -> None:
    assert edged(daemon, "scan.gif") == 2
    assert "not a .npy, .json, .jpg, .png or .csv" in capsys.readouterr().err


def test_a_topic_goes_in_place_of_the_type_and_any_file_is_a_message(daemon: Double, tmp_path: Path) -> None:
    for name in ("a.json", "b.bin", "c.npy"):
        (tmp_path / name).write_bytes(b"[1]")
        assert edged(daemon, str(tmp_path / name), "--topic", "cells/3/caf\u00e9") == 0
        asked = daemon.asked[-1]
        assert (asked.headers["edged-topic"].encode("latin-1").decode(), asked.body) == ("cells/3/caf\u00e9", b"[1]")
        assert "content-type" not in asked.headers


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--input", "a=b.npy", "--topic", "t"), "--input and --topic"),
        (("x.json", "--topic", "cells/+"), "no wildcard"),
        (("x.json", "--topic", "a\nb"), "control characters"),
    ],
)
def test_a_topic_that_cannot_be_asked_for(
    daemon: Double, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], why: str
) -> None:
    assert edged(daemon, *words) == 2
    assert why in capsys.readouterr().err
    assert not daemon.asked


def test_without_a_file_standard_input_is_read(daemon: Double, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"1\n2\n")))
    assert edged(daemon) == 0
    assert [one.body for one in daemon.asked] == [b"1", b"2"]


def test_without_a_file_at_a_terminal_is_wrong_use(daemon: Double, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = os.openpty()
    with os.fdopen(ours, "rb"), os.fdopen(theirs, "r") as terminal:
        monkeypatch.setattr("sys.stdin", terminal)
        with pytest.raises(SystemExit) as caught:
            edged(daemon)
    assert caught.value.code == 2
    assert not daemon.asked


def test_long_outputs_are_cut_and_labels_cannot_steer_the_terminal() -> None:
    many = {"name": "x", "datatype": "INT64", "shape": [20], "data": list(range(20))}
    assert show({"outputs": [many]}) == ["x INT64[20]: 0 1 2 3 4 5 6 7 8 9 10 11 ... (20 values)"]
    assert show({"prediction": [{"label": "\x1b[2Jcat", "score": 0.5}]}) == ["[2Jcat 0.5"]
    found = {"label": "face", "index": 1, "score": 0.99, "box": [1.0, 2.25, 30.0, 40.5]}
    assert show({"detections": [found, found]}) == ["face 0.99 at 1, 2.25 to 30, 40.5"] * 2
    assert show({"detections": []}) == ["nothing found"]
    assert show({"detections": [[found], [], [found]]}) == ["face 0.99 at 1, 2.25 to 30, 40.5"] * 2
    assert show({"prediction": [[{"index": 1, "score": 0.5}], []]}) == ["1 0.5", "nothing above min_score"]
    assert show({"prediction": []}) == ["nothing above min_score"]


@pytest.mark.parametrize("between", [b"", b"\r\n--part\r\nContent-Type: image/jpeg\r\n\r\n"])
def test_pictures_of_a_stream_have_a_line_each(
    daemon: Double, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], between: bytes
) -> None:
    pictures = [file(gradient(8, 8), "JPEG"), file(gradient(5, 9), "JPEG")]
    stream = between.lstrip() + between.join(pictures)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(stream)))
    found = {"label": "face", "index": 1, "score": 0.99, "box": [1.0, 2.25, 30.0, 40.5]}
    daemon.answers[INFER] = 200, {**ANSWER, "detections": [found, found]}
    assert edged(daemon, "-") == 0
    assert capsys.readouterr().out == "face 0.99 at 1, 2.25 to 30, 40.5  face 0.99 at 1, 2.25 to 30, 40.5\n" * 2
    assert [(one.headers["content-type"], one.body) for one in daemon.asked] == [
        ("image/jpeg", one) for one in pictures
    ]
