"""The configurations that we ship, and the tables that docs/configuration.md makes of the schema."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from edged.config import keys
from edged.config.chain import TABLES
from edged.config.load import load
from edged.config.schema import Config, Input, Model, Mqtt, Push, Queue, Sockets, Telemetry
from edged.config.sections import WRITTEN
from edged.config.steps import Scale
from tests.certificates import Authority

ROOT = Path(__file__).resolve().parents[3]
SHIPPED = ROOT / "configs" / "edged.yaml"


@pytest.mark.parametrize("file", sorted((ROOT / "configs").rglob("*.yaml")), ids=lambda file: file.name)
def test_every_shipped_configuration_loads(file: Path) -> None:
    load(file, {})


def test_the_shipped_file_changes_no_default(tmp_path: Path) -> None:
    empty = tmp_path / "empty.yaml"
    empty.write_text("")
    assert load(SHIPPED, {}) == load(empty, {})


def switched_on(folder: Path) -> Config:
    """The shipped file with every setting in it switched on."""
    text = re.sub(r"^( *)#(?=[a-z-])", r"\1", SHIPPED.read_text(), flags=re.MULTILINE)
    text = text.replace("/usr/share/edged/digits.onnx", "digits.onnx")
    Authority(folder).issue("press-07")
    for name in ("digits.onnx", "mqtt-password", "labels.txt"):
        (folder / name).write_text("x")
        (folder / name).chmod(0o640)
    for name in ("http-token", "admin-token"):
        (folder / name).write_text(f"{name}-of-at-least-16")
        (folder / name).chmod(0o640)
    file = folder / "edged.yaml"
    file.write_text(text)
    return load(file, {})


def test_every_setting_that_the_shipped_file_shows_is_valid(tmp_path: Path) -> None:
    found = switched_on(tmp_path)
    assert found.mqtt is not None
    assert found.mqtt.url == ("mqtts://broker.plant:8883",)
    assert found.models[0].preprocess[0] == Scale(0.0625)
    assert found.push == Push()
    assert found.telemetry == Telemetry()


def test_the_shipped_file_shows_the_defaults(tmp_path: Path) -> None:
    """What it shows beside a key is that key's default, wherever the default is one value."""
    found = switched_on(tmp_path)
    assert found.mqtt is not None
    assert (found.mqtt.keepalive, found.mqtt.session, found.mqtt.base) == Mqtt.__struct_defaults__[-3:]
    assert (found.groups, Path(found.mqtt.key).name) == (("line-2", "pi4"), "press-07.key")
    plain = Model("digits")
    (digits,) = found.models
    assert digits.batch == plain.batch
    assert digits.limits.memory == plain.limits.memory
    assert digits.limits.message == plain.limits.message
    assert digits.queue.size == plain.queue.size


def test_the_shipped_file_shows_every_key_and_step() -> None:
    text = SHIPPED.read_text()
    owners = (Config, Mqtt, Sockets, Model, Input, Queue, Push, Telemetry)
    names = {name for owner in owners for name in WRITTEN.get(owner, keys.fields(owner))}
    assert [name for name in names if f"{name}:" not in text] == []
    assert [step for table in TABLES.values() for step in table if step not in text] == []


def test_the_digits_example_reads_the_model_beside_it(digits: Path) -> None:
    (model,) = load(ROOT / "configs/examples/digits.yaml", {}).models
    assert Path(model.file).samefile(digits / "digits_v1_int8.onnx")
    assert model.inputs[0].form.fields == ("pixels",)


def test_the_documents_tables_are_the_schemas() -> None:
    """A changed key, default or bound shows here until scripts/generate_docs.py has run."""
    program = ROOT / "scripts" / "generate_docs.py"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, program, "--check"], capture_output=True, text=True, env=environment)
    assert "docs/configuration.md" not in done.stdout, done.stdout
    assert not done.stderr
    text = (ROOT / "docs/configuration.md").read_text()
    assert "| `mqtt.keepalive` | `30s` | 5s to 1h |" in text
    assert "| `models.NAME.inputs[].topic` | required |" in text
    assert "| `top_k` | postprocess |" in text
