"""The parts of `edged init` that take no model: names, the picture that is made up, and texts as YAML has them."""

from __future__ import annotations

import argparse
import io
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from edged.cli.init import name_of
from edged.cli.starter.box import hidden
from edged.cli.starter.model import png
from edged.cli.words import quoted
from edged.topics import is_name


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("digits_v1_int8.onnx", "digits"),
        ("squeezenet1_float.onnx", "squeezenet1"),
        ("dtln_1_float.onnx", "dtln_1"),
        ("yolov8n.onnx", "yolov8n"),
        ("My Model.v2.quantized.ONNX", "my_model"),
        ("int8.onnx", "int8"),
        ("-v2.onnx", "model"),
        ("ü.onnx", "model"),
        (f"{'x' * 300}.onnx", "x" * 64),
    ],
)
def test_a_models_name_is_its_files_without_how_it_was_made(file: str, name: str) -> None:
    found = name_of(argparse.Namespace(model=None, file=Path("somewhere") / file))
    assert found == name
    assert is_name(found)


@given(st.text())
def test_yaml_reads_back_what_is_quoted(text: str) -> None:
    if any("\ud800" <= character <= "\udfff" for character in text):
        return  # half a character: no file has it
    assert yaml.safe_load(f"a: {quoted(text)}") == {"a": text}
    assert yaml.safe_load(f"{{a: [{quoted(text)}, b]}}") == {"a": [text, "b"]}


@pytest.mark.parametrize(
    "text", ["yes", "null", "1e3", ".inf", "mqtt://127.0.0.1:1883", "/a/b.onnx", "a: b", "a:", "Y"]
)
def test_words_that_yaml_would_take_for_something_else(text: str) -> None:
    assert yaml.safe_load(f"[{quoted(text)}]") == [text]


def test_the_picture_is_one() -> None:
    image = Image.open(io.BytesIO(png(64, 48)))
    image.load()
    assert (image.size, image.mode) == ((64, 48), "RGB")
    assert image.getpixel((32, 24)) == (127, 127, 128)


def test_what_the_service_does_not_see() -> None:
    assert hidden(Path("/home/me/x.onnx"))
    assert not hidden(Path("/usr/local/share/edged/x.onnx"))
