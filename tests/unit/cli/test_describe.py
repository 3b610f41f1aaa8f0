"""`edged inspect` on a real model with the real onnxruntime."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edged import cli
from edged.cli.describe import inspect
from tests import tensor_models

DIGITS = Path(__file__).parents[3] / "examples" / "digits" / "digits_v1_int8.onnx"


def test_everything_it_says() -> None:
    found = inspect(DIGITS, threads=1)
    assert found["bytes"] == DIGITS.stat().st_size
    assert (len(found["sha256"]), found["opset"]) == (64, 17)
    assert found["inputs"] == [
        {"name": "image", "datatype": "FP32", "shape": [-1, 1, 8, 8], "axes": ["batch", "", "", ""]}
    ]
    assert found["outputs"] == [{"name": "logits", "datatype": "FP32", "shape": [-1, 10], "axes": ["batch", ""]}]
    assert found["providers"] == ["CPUExecutionProvider"]
    assert 0 < found["run_ms"] < 100
    assert max(found["weights"], key=found["weights"].__getitem__) == "int8"


def test_for_people_and_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["inspect", str(DIGITS)]) == 0
    text = capsys.readouterr().out
    assert "input         image   FP32  [batch, 1, 8, 8]" in text
    assert "quantization  QDQ: 5 QuantizeLinear, 9 DequantizeLinear" in text
    assert cli.main(["inspect", str(DIGITS), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["batching"].keys() == {"rows", "gain"}


def test_axes_with_a_name_and_outputs_that_are_no_tensors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, content in [("map", tensor_models.zipmap()), ("maybe", tensor_models.sometimes())]:
        (tmp_path / f"{name}.onnx").write_bytes(content)
    assert cli.main(["inspect", str(tmp_path / "map.onnx")]) == 0
    assert "output        probabilities  BYTES  [?], items as JSON\n" in capsys.readouterr().out
    assert cli.main(["inspect", str(tmp_path / "maybe.onnx")]) == 0
    assert "output        maybe  FP32  [batch, 3], optional\n" in capsys.readouterr().out
    assert inspect(tmp_path / "map.onnx", threads=1)["outputs"] == [
        {"name": "label", "datatype": "INT64", "shape": [-1], "axes": ["batch"]},
        {"name": "probabilities", "datatype": "BYTES", "shape": [-1], "json": True},
    ]


def test_no_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.onnx").write_text("hello")
    assert cli.main(["inspect", str(tmp_path / "x.onnx")]) == 1
    assert "[not_a_model]" in capsys.readouterr().err
    assert cli.main(["inspect", str(tmp_path / "none.onnx")]) == 2
    assert "none.onnx: No such file or directory [bad_config]" in capsys.readouterr().err
