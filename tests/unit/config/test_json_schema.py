"""`edged check --schema`: what we ship fits it, it refuses what is misspelt, and it is never stricter than we are."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]  # its stubs would be one more package, for two calls
import pytest
import yaml

from edged import cli
from edged.config import chain, json_schema
from tests.unit.config.test_examples import ROOT, switched_on
from tests.unit.config.test_load import LATER, UNKNOWN, WHOLE

VALID = jsonschema.Draft7Validator(json_schema.document())


def accepts(text: str) -> bool:
    return bool(VALID.is_valid(yaml.safe_load(text)))


def test_every_shipped_file_fits_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By a program of others, as a user's editor or pipeline does; also with every setting switched on."""
    assert cli.main(["check", "--schema"]) == 0
    schema = tmp_path / "schema.json"
    schema.write_text(capsys.readouterr().out)
    switched_on(tmp_path)
    program = [sys.executable, "-m", "check_jsonschema"]
    subprocess.run([*program, "--check-metaschema", str(schema)], check=True)
    ours = [file for file in sorted((ROOT / "configs").rglob("*.yaml")) if file.parent.name != "kubernetes"]
    files = [*ours, tmp_path / "edged.yaml"]
    assert len(files) >= 4
    subprocess.run([*program, "--schemafile", str(schema), *map(str, files)], check=True)
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("mqtt: {url: mqtt://b, keepaliv: 5s}\n")
    done = subprocess.run([*program, "--schemafile", str(schema), str(wrong)], capture_output=True, text=True)
    assert done.returncode == 1
    assert "keepaliv" in done.stdout


def test_reading_no_file_it_needs_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check", "--schema", "--config", str(tmp_path / "none.yaml")]) == 0
    assert json.loads(capsys.readouterr().out)["title"] == "The configuration of edged"


@pytest.mark.parametrize("text", UNKNOWN | LATER)
def test_it_refuses_what_is_misspelt_or_not_there_yet(text: str) -> None:
    assert not accepts(text)


@pytest.mark.parametrize(
    "text",
    [
        "mqtt: {}",
        "mqtt: {url: mqtt://b, keepalive: 30}",
        "mqtt: {url: mqtt://b, version: 4}",
        "push: {max_size: 64M}",
        "push: {record: maybe}",
        "push: {probation: {max_errors: 5}}",
        "models: {a.b: {}}",
        "models: {a: {threads: 0}}",
        "models: {a: {threads: two}}",
        "models: {a: {cpus: [1, 1]}}",
        "models: {a: {inputs: [{qos: 1}]}}",
        "models: {a: {inputs: {topic: a}}}",
        "models: {a: {preprocess: [softmax]}}",
        "models: {a: {preprocess: [{resize: {short: 8}}]}}",
        "models: {a: {preprocess: [{normalize: 2}]}}",
        "models: {a: {postprocess: [{top_k: 0}]}}",
        "models: {a: {postprocess: [{softmax: 1, argmax: 2}]}}",
        "models: {a: {output: {topic: {cell: }}}}",
        "defaults: {file: a.onnx}",
        "groups: [a, a]",
        "[]",
    ],
)
def test_it_refuses_what_we_refuse(text: str) -> None:
    assert not accepts(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "models:\n",
        "models: {a: }",
        "mqtt: {url: '${URL}', version: 5, keepalive: '${K:-5s}', session: 0}",
        "mqtt: {url: mqtt://b, version: '5', username: 1.10, password: no}",
        "sockets: {http: 127.0.0.1:8080}",
        "sockets: {http: ['127.0.0.1:8080', '[::1]:8080']}",
        "push: {record: yes, require_signature: 'Off', probation: {max_errors: 0.5%, max_latency: 2x}}",
        "models: {a: {threads: auto, cpus: 2}, b: {cpus: [2, 3]}}",
        "models: {a: {threads: '${T}', postprocess: [softmax, {softmax: }, {labels: a.txt}, {labels: [a, no]}]}}",
        "models: {a: {preprocess: [{normalize: {mean: 1, std: [1, 2]}}, {scale: 2}], inputs: , postprocess: }}",
        "defaults: {queue: {size: 1}}",
        "groups: line-2",
    ],
)
def test_it_accepts_what_we_accept(text: str) -> None:
    assert accepts(text)


@pytest.mark.parametrize("step", chain.EXAMPLES, ids=lambda step: step.__name__)
def test_it_accepts_every_step_as_it_is_shown(step: type) -> None:
    shown = chain.EXAMPLES[step]
    section = next(name for name, table in chain.TABLES.items() if step in table.values())
    assert accepts(
        f"models: {{a: {{{section}: [{{{shown}}}]}}}}" if ":" in shown else f"models: {{a: {{{section}: [{shown}]}}}}"
    )


def test_it_accepts_the_file_that_uses_everything() -> None:
    assert accepts(WHOLE)


def test_every_key_is_explained() -> None:
    def keys(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
        for name, inner in schema.get("properties", {}).items():
            yield f"{path}.{name}", inner
            yield from keys(inner, f"{path}.{name}")

    whole = json_schema.document()
    parts = {"": whole, **{name: part for name, part in whole["definitions"].items() if "properties" in part}}
    found = {key: inner for name, part in parts.items() for key, inner in keys(part, name)}
    assert found["mqtt.keepalive"]["default"] == "30s"
    assert found["model.limits.memory"]["description"] == "the memory of the model's process (1MiB to 256GiB)"
    by_reference = {"mqtt", "sockets", "push", "defaults", "models", "inputs", "preprocess", "postprocess"}
    bare = [
        key for key, inner in found.items() if "description" not in inner and key.split(".")[-1] not in by_reference
    ]
    assert bare == []
