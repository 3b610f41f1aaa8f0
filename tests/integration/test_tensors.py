"""Every kind of tensor through a running daemon: what went in comes out, bit for bit, in JSON and in binary."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto

from edged.config.schema import Model
from edged.serving.rehearsal import rehearse
from edged.tensors import BY_NUMPY
from tests import models, tensor_models
from tests.box import Box, box
from tests.clients.oip import Array, Client
from tests.unit.worker.formats.samples import extremes, same

JSON = "application/json"
NAMES = (" ", "é/∂ 名前", "a/b/../c", "\"'\\", "__class__", "line\nfeed\t\x1b[31m", "{brace}%s", "x" * 6000)
FILES = {
    "every": models.identities(),
    "scalar": models.identities(shape=()),
    "three": models.identity("float32", (3, 2)),
    "table": models.identity("float32", ("rows", "columns")),
    "zipmap": tensor_models.zipmap(),
    "zipmap_numbers": tensor_models.zipmap([0, 1, 7]),
    "pieces": tensor_models.pieces(),
    "sometimes": tensor_models.sometimes(),
    "called": tensor_models.called(NAMES),
    "scalars": tensor_models.scalars(),
    "places": tensor_models.found_places(),
    "twelve": tensor_models.twelve(),
    "one_length": tensor_models.one_length(),
    "products": tensor_models.products(),
    "sorting": tensor_models.sorting(),
    "broken_text": tensor_models.strings_not_utf8(),
}


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    folder = tmp_path_factory.mktemp("models")
    lines = ""
    for name, content in FILES.items():
        (folder / f"{name}.onnx").write_bytes(content)
        lines += f"\n  {name}: {{file: {folder}/{name}.onnx, batch: {{wait: 50ms}}}}"
    with box(f"device: press-07\nmodels:{lines}\n") as running:
        assert {model["name"]: model["state"] for model in running.status()["models"]} == dict.fromkeys(
            FILES, "serving"
        )
        yield running


@pytest.fixture
def client(one: Box) -> Iterator[Client]:
    with Client(one.socket) as opened:
        yield opened


def request(tensors: Mapping[str, Array]) -> bytes:
    inputs = [
        {"name": name, "datatype": BY_NUMPY[array.dtype.name].oip, "shape": array.shape, "data": array.ravel().tolist()}
        for name, array in tensors.items()
    ]
    return json.dumps({"inputs": inputs}).encode()


def as_json(client: Client, model: str, tensors: Mapping[str, Array]) -> dict[str, Any]:
    """The whole answer to a JSON request."""
    reply = client.post(model, request(tensors), JSON)
    assert reply.status == 200, reply.json()
    return reply.json()


def outputs(answer: dict[str, Any]) -> dict[str, Any]:
    return {output["name"]: output for output in answer["outputs"]}


def samples(columns: int) -> dict[str, Array]:
    """`x_<dtype>` [rows, columns]: each datatype's extremes, all with the same number of rows."""
    found, rows = {}, 8
    for dtype in models.DTYPES:
        values = extremes(BY_NUMPY[dtype].oip)
        found[f"x_{dtype}"] = np.resize(values, (rows, columns))
    return found


def check(sent: Mapping[str, Array], got: Mapping[str, Array]) -> None:
    assert len(got) == len(sent)
    for name, array in sent.items():
        assert same(got[name.replace("x_", "y_")], array), name


# --- the 13 datatypes -----------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["json", "binary"])
def test_every_datatype_comes_back_exactly(client: Client, way: str) -> None:
    sent = samples(2)
    if way == "binary":
        check(sent, client.infer("every", sent))
        return
    answer = as_json(client, "every", sent)
    assert "nonfinite" not in answer.get("parameters", {})
    got = {
        name: np.array(output["data"], dtype=sent[name.replace("y_", "x_")].dtype).reshape(output["shape"])
        for name, output in outputs(answer).items()
    }
    check(sent, got)


@pytest.mark.parametrize("way", ["json", "binary"])
def test_empty_tensors_and_empty_strings(client: Client, way: str) -> None:
    empty = {f"x_{dtype}": np.empty((0, 2), dtype=dtype) for dtype in models.DTYPES}
    if way == "binary":
        check(empty, client.infer("every", empty))
    else:
        for name, output in outputs(as_json(client, "every", empty)).items():
            assert (output["shape"], output["data"]) == ([0, 2], []), name
    sent = {f"x_{dtype}": np.array([["", ""]] if dtype == "object" else [[0, 0]], dtype) for dtype in models.DTYPES}
    check(sent, client.infer("every", sent))


@pytest.mark.parametrize("rows", [2**32 - 1, 2**40])
def test_rows_without_a_value_are_answered_and_end_no_process(one: Box, client: Client, rows: int) -> None:
    """They take no byte, so there may be more of them than any run has."""
    sent = np.empty((rows, 0), np.float32)
    assert same(client.infer("table", {"x": sent})["y"], sent)
    (table,) = (model for model in one.status()["models"] if model["name"] == "table")
    assert table["restarts"] == 0


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_exact_in_binary_and_null_with_a_flag_in_json(client: Client, value: float) -> None:
    sent = {f"x_{dtype}": np.full((1, 2), 1, dtype=dtype) for dtype in models.DTYPES if dtype != "object"}
    sent["x_object"] = np.array([["nan", "inf"]], dtype=object)
    floats = ("x_float16", "x_float32", "x_float64")
    for name in floats:
        sent[name] = np.array([[value, -0.0]], dtype=sent[name].dtype)
    check(sent, client.infer("every", sent))
    if np.isnan(value):  # JSON has no infinity; null stands for NaN
        nulls = {
            name: np.array([[None, -0.0]], dtype=object) if name in floats else array for name, array in sent.items()
        }
        inputs = [
            {
                "name": name,
                "datatype": BY_NUMPY[sent[name].dtype.name].oip,
                "shape": [1, 2],
                "data": array.ravel().tolist(),
            }
            for name, array in nulls.items()
        ]
        answer = client.post("every", json.dumps({"inputs": inputs}).encode(), JSON).json()
        assert answer["parameters"] == {"nonfinite": True}
        found = outputs(answer)
        for name in floats:
            assert found[name.replace("x_", "y_")]["data"] == [None, -0.0]
            assert str(found[name.replace("x_", "y_")]["data"][1]) == "-0.0"


@pytest.mark.parametrize("way", ["json", "binary"])
def test_tensors_without_axes(client: Client, way: str) -> None:
    for index in range(8):
        sent = {name: np.array(array.flat[index], dtype=array.dtype) for name, array in samples(1).items()}
        if way == "binary":
            check(sent, client.infer("scalar", sent))
            continue
        got = {
            name: np.array(output["data"][0], dtype=sent[name.replace("y_", "x_")].dtype).reshape(output["shape"])
            for name, output in outputs(as_json(client, "scalar", sent)).items()
        }
        check(sent, got)


def test_a_whole_number_alone(client: Client) -> None:
    a, b = np.array(2**62), np.array(-1)
    assert client.infer("scalars", {"a": a, "b": b})["sum"] == 2**62 - 1
    body = b'{"inputs":[{"name":"a","shape":[],"datatype":"INT64","data":9007199254740993},%s]}' % (
        b'{"name":"b","shape":[],"datatype":"INT64","data":[-9007199254740994]}'
    )
    found = outputs(client.post("scalars", body, JSON).json())
    assert (found["sum"]["shape"], found["sum"]["data"]) == ([], [-1])
    assert (found["positive"]["shape"], found["positive"]["data"]) == ([], [False])


def beside_each_other(senders: int, send: Callable[[int], None]) -> None:
    """Calls `send` with the number of each sender, in a thread of its own."""
    threads = [threading.Thread(target=send, args=(number,)) for number in range(senders)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()


def test_many_senders_at_once_get_their_own_back(one: Box) -> None:
    """Inputs that wait for company and share a run; each sender's values are its own."""
    senders, wrong = 8, list[str]()
    base = samples(2)
    together = threading.Barrier(senders)

    def send(number: int) -> None:
        sent = {name: np.roll(array, number, axis=0) for name, array in base.items()}
        with Client(one.socket) as client:
            for _ in range(5):
                together.wait(30)
                got = client.infer("every", sent)
                wrong.extend(name for name in sent if not same(got[name.replace("x_", "y_")], sent[name]))

    beside_each_other(senders, send)
    assert wrong == []


# --- shapes ---------------------------------------------------------------------------------------------


def test_a_fixed_batch_of_three(client: Client) -> None:
    rows = np.arange(6, dtype=np.float32).reshape(3, 2)
    assert same(client.infer("three", {"x": rows})["y"], rows)
    flat = client.post("three", b"[0, 1, 2, 3, 4, 5]", JSON).json()
    assert (flat["outputs"][0]["shape"], flat["outputs"][0]["data"]) == ([3, 2], [0, 1, 2, 3, 4, 5])
    for wrong in (b"[0, 1]", b"[[0, 1], [2, 3]]", b"[0, 1, 2, 3, 4, 5, 6, 7]"):
        reply = client.post("three", wrong, JSON)
        assert (reply.status, reply.json()["code"]) == (400, "bad_input")
        assert "[3, 2]" in reply.json()["error"]


def test_shapes_that_depend_on_the_values(client: Client) -> None:
    x = np.array([[1, 0, 0], [0, 0, 0], [-5, 0, 1]], dtype=np.float32)
    got = client.infer("places", {"x": x})
    assert same(got["places"], np.array([[0, 2, 2], [0, 0, 2]], dtype=np.int64))
    assert same(got["rows"], x[:1])
    nothing = client.infer("places", {"x": np.zeros((3, 3), dtype=np.float32)})
    assert (nothing["places"].shape, nothing["rows"].shape) == ((2, 0), (0, 3))
    found = outputs(as_json(client, "places", {"x": np.zeros((3, 3), dtype=np.float32)}))
    assert [(found[name]["shape"], found[name]["data"]) for name in ("places", "rows")] == [([2, 0], []), ([0, 3], [])]


def test_axes_of_one_name_must_agree(client: Client) -> None:
    ids, weights, scale = (np.ones(shape, dtype) for shape, dtype in [((2, 5), "i8"), ((2, 5), "f4"), ((5,), "f4")])
    good = client.infer("one_length", {"ids": ids, "weights": weights, "scale": scale})
    assert good["y"].shape == (2, 5)
    for name, wrong in [("weights", weights[:1]), ("weights", weights[:, :1]), ("scale", scale[:1])]:
        reply = client.post("one_length", request({"ids": ids, "weights": weights, "scale": scale, name: wrong}), JSON)
        assert (reply.status, reply.json()["code"]) == (400, "bad_input")
        assert name in reply.json()["error"]
        assert "must agree" in reply.json()["error"]


@pytest.mark.parametrize("model", ["products", "sorting"])
def test_rows_that_see_each_other_are_never_stacked(one: Box, model: str) -> None:
    """A sender alone would never see another's rows; eight at once must not either."""
    together, wrong = threading.Barrier(8), list[int]()

    def send(number: int) -> None:
        x = np.full((2, 3) if model == "products" else (2,), number + 1, dtype=np.float32)
        expected = x @ x.T if model == "products" else x
        with Client(one.socket) as client:
            together.wait(30)
            if not same(client.infer(model, {"x": x})["y"], expected):
                wrong.append(number)

    beside_each_other(8, send)
    assert wrong == []


def test_twelve_outputs_and_any_of_them(client: Client) -> None:
    x = np.array([[1, 2, 3]], dtype=np.float32)
    got = client.infer("twelve", {"x": x})
    assert list(got) == [f"y{index}" for index in range(12)]
    assert all(same(got[f"y{index}"], x + np.float32(index)) for index in range(12))
    assert list(client.infer("twelve", {"x": x}, ["y11", "y3"])) == ["y11", "y3"]


# --- outputs that are no tensors ------------------------------------------------------------------------


def test_a_classifiers_map_is_an_object_in_json_and_its_text_in_binary(one: Box, client: Client) -> None:
    scores = np.array([[0.5, 0.25, 0.25], [0, 1, 0]], dtype=np.float32)
    answer = as_json(client, "zipmap", {"scores": scores})
    maps = [
        {"asleep": 0.5, "awake": 0.25, 'in "é" doubt': 0.25},
        {"asleep": 0.0, "awake": 1.0, 'in "é" doubt': 0.0},
    ]
    assert answer["outputs"] == [
        {"name": "label", "datatype": "INT64", "shape": [2], "data": [0, 1]},
        {"name": "probabilities", "datatype": "BYTES", "shape": [2], "data": maps},
    ]
    binary = client.infer("zipmap", {"scores": scores})["probabilities"]
    assert [json.loads(text) for text in binary] == maps
    numbers = outputs(as_json(client, "zipmap_numbers", {"scores": scores[:1]}))["probabilities"]
    assert numbers["data"] == [{"0": 0.5, "1": 0.25, "7": 0.25}]
    _, told, _ = one.request("GET", "/v2/models/zipmap")
    assert json.loads(told)["outputs"] == [
        {"name": "label", "datatype": "INT64", "shape": [-1]},
        {
            "name": "probabilities",
            "datatype": "BYTES",
            "shape": [-1],
            "parameters": {"content_type": "application/json"},
        },
    ]


def test_a_map_with_nan_has_null_and_the_flag(client: Client) -> None:
    body = b'{"inputs":[{"name":"scores","shape":[1,3],"datatype":"FP32","data":[null,1,2]}]}'
    answer = client.post("zipmap", body, JSON).json()
    assert answer["parameters"] == {"nonfinite": True}
    assert outputs(answer)["probabilities"]["data"] == [{"asleep": None, "awake": 1.0, 'in "é" doubt': 2.0}]


def test_a_sequence_of_tensors_is_nested_lists(client: Client) -> None:
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    found = outputs(as_json(client, "pieces", {"x": x}))["pieces"]
    assert (found["datatype"], found["shape"], found["data"]) == ("BYTES", [2], [[[0, 1, 2]], [[3, 4, 5]]])
    none = outputs(as_json(client, "pieces", {"x": x[:0]}))["pieces"]
    assert (none["shape"], none["data"]) == ([0], [])


def test_an_optional_output_is_there_or_left_out(one: Box, client: Client) -> None:
    x = np.array([[1, 2, 3]], dtype=np.float32)
    got = client.infer("sometimes", {"given": np.array(True), "x": x})
    assert list(got) == ["maybe", "y"]
    assert same(got["maybe"], x)
    assert list(client.infer("sometimes", {"given": np.array(False), "x": x})) == ["y"]
    assert list(client.infer("sometimes", {"given": np.array(False), "x": x}, ["maybe"])) == []
    _, told, _ = one.request("GET", "/v2/models/sometimes")
    maybe, y = json.loads(told)["outputs"]
    assert maybe == {"name": "maybe", "datatype": "FP32", "shape": [-1, 3], "parameters": {"optional": True}}
    assert "parameters" not in y


def test_a_string_that_is_no_text_is_the_models_fault(client: Client) -> None:
    reply = client.post("broken_text", b"[[1, 2, 3]]", JSON)
    assert (reply.status, reply.json()["code"]) == (500, "model_failed")
    assert "not UTF-8" in reply.json()["error"]


# --- names and types ------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["json", "binary"])
def test_names_are_only_names(one: Box, client: Client, way: str) -> None:
    sent = {f"in{name}": np.full((1, 3), index, dtype=np.float32) for index, name in enumerate(NAMES)}
    if way == "binary":
        got = client.infer("called", sent)
        assert {name: float(array[0, 0]) for name, array in got.items()} == dict(zip(NAMES, range(8), strict=True))
    else:
        found = outputs(as_json(client, "called", sent))
        assert {name: output["data"][0] for name, output in found.items()} == dict(zip(NAMES, range(8), strict=True))
    _, told, _ = one.request("GET", "/v2/models/called")
    assert [spec["name"] for spec in json.loads(told)["inputs"]] == list(sent)
    del sent["in__class__"]
    reply = client.post("called", request(sent), JSON)
    assert (reply.status, reply.json()["code"]) == (400, "bad_input")
    assert "__class__" in reply.json()["error"]


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (tensor_models.casting(TensorProto.BFLOAT16), "bfloat16"),
        (tensor_models.casting(TensorProto.FLOAT8E4M3FN), "float8e4m3fn"),
        (tensor_models.casting(TensorProto.INT4), "int4"),
        (tensor_models.map_input(), "map(string,tensor(float))"),
        (tensor_models.sequence_input(), "seq(tensor(float))"),
    ],
    ids=["bfloat16", "float8", "int4", "map", "sequence"],
)
def test_what_is_not_carried_is_said(one: Box, content: bytes, word: str) -> None:
    """In the words of `edged check`, which loads a model as the daemon does."""
    file = one.folder / "odd.onnx"
    file.write_bytes(content)
    problem = rehearse([Model("odd", str(file))]).faults["odd"].fault
    assert problem.code == "unsupported"
    assert word in problem.message
    assert "Cast others" in problem.hint


def test_a_name_that_is_no_text_is_no_model(one: Box) -> None:
    file = one.folder / "odd.onnx"
    file.write_bytes(tensor_models.not_utf8())
    problem = rehearse([Model("odd", str(file))]).faults["odd"].fault
    assert (problem.code, "not UTF-8" in problem.message) == ("not_a_model", True)
