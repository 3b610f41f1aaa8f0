"""docs/formats.md: every example in it is decoded, and gives what the page says."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edged.config.steps import Form
from edged.errors import EdgedError
from edged.tensors import Signature, TensorSpec
from edged.worker.steps.prepare import prepare
from tests.unit.worker.formats.samples import ask

PAGE = (Path(__file__).parents[4] / "docs" / "formats.md").read_text(encoding="utf-8")
EXAMPLE = re.compile(r"<!-- example (\{.*\}) -->\n```(json|text|hex)\n((?s:.*?))```\n(Gives|Refused): `(.*)`\n")
EXAMPLES = [re.match(EXAMPLE, PAGE[found.start() :]) for found in re.finditer(r"<!-- example", PAGE)]


def payload(kind: str, block: str) -> bytes:
    """A block's bytes: of a hex line what stands before three spaces, of others the text without its last newline."""
    if kind != "hex":
        return block.removesuffix("\n").encode()
    return bytes.fromhex("".join(line.split("   ")[0] for line in block.splitlines()))


def shown(options: dict[str, Any], kind: str, block: str) -> str:
    """What the decoder makes of an example, in the page's notation."""
    found = re.fullmatch(r"(\w+) (\w+)\[([-0-9,]*)\]", options["model"])
    assert found is not None
    shape = tuple(int(size) for size in found[3].split(",") if size)
    signature = Signature((TensorSpec(found[1], found[2], shape),), ())
    form = msgspec.convert(options.get("form", {}), Form)
    try:
        decoded = ask(payload(kind, block), signature, form, json_length=options.get("json_length", -1))
    except EdgedError as error:
        return error.fault.message
    tensors = decoded.tensors if decoded.picture is None else prepare(decoded, (), signature).tensors
    ((name, tensor),) = tensors.items()
    if "time" in options.get("form", {}):
        assert decoded.ts_ms == 1_700_000_000_500
    elements = " ".join(map(repr, tensor.ravel().tolist()))
    return f"{name} {tensor.dtype}{json.dumps(tensor.shape, separators=(',', ':'))} {elements}"


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_page_says_what_happens(example: re.Match[str] | None) -> None:
    assert example is not None, "an example on the page is not written as the test expects it"
    options, kind, block, verdict, expected = example.groups()
    got = shown(json.loads(options), kind, block)
    assert got == expected
    assert got.startswith("x ") == (verdict == "Gives")


def test_the_page_has_its_examples() -> None:
    assert len(EXAMPLES) == 16
