"""The configurations that we ship, and the tables that docs/configuration.md makes of the schema."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from edged.config import keys
from edged.config.chain import TABLES
from edged.config.load import load
from edged.config.schema import Config, Input, Model, Mqtt, Push, Queue, Sockets, Telemetry
from edged.config.sections import WRITTEN
from edged.config.steps import Scale
from tests.certificates import Authority

ROOT = Path(__file__).resolve().parents[3]
SHIPPED = ROOT / "configs" / "edged.yaml"


# The manifests in configs/kubernetes are looked at in tests/unit/test_containers.py.
OURS = sorted({*(ROOT / "configs").rglob("*.yaml")} - {*(ROOT / "configs/kubernetes").iterdir()})


@pytest.mark.parametrize("file", OURS, ids=lambda file: file.name)
def test_every_shipped_configuration_loads(file: Path, tmp_path: Path) -> None:
    if file.name == "installed.yaml":  # of a file that the package brings along
        text = file.read_text()
        assert "/usr/share/edged/digits.onnx" in text
        file = tmp_path / file.name
        file.write_text(
            text.replace("/usr/share/edged", str(ROOT / "examples/digits")).replace(
                "digits.onnx", "digits_v1_int8.onnx"
            )
        )
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
    for name in ("digits.onnx", "mqtt-password", "labels.txt", "trust.json"):
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
    assert found.push.mqtt is not None
    assert found.push.mqtt.url == ("mqtts://fleet.example:8883",)
    assert found.push == Push(trust=str(tmp_path / "trust.json"), mqtt=found.push.mqtt)
    assert found.telemetry == Telemetry()


def test_every_single_value_may_come_from_the_environment(tmp_path: Path) -> None:
    plain = switched_on(tmp_path)
    file = tmp_path / "edged.yaml"
    text, environment = file.read_text(), {}
    values = list(single_values(yaml.compose(text)))
    assert len(values) > 50
    for number, node in enumerate(sorted(values, key=lambda one: -one.start_mark.index)):
        environment[f"V{number}"] = node.value
        text = f'{text[: node.start_mark.index]}"${{V{number}}}"{text[node.end_mark.index :]}'
    file.write_text(text)
    assert load(file, environment) == plain


def single_values(node: yaml.Node | None, under: str = "") -> Iterator[yaml.ScalarNode]:
    """Every value that is written out; a step without options is the name of one."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield from single_values(value, key.value)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            if not (under in TABLES and isinstance(item, yaml.ScalarNode)):
                yield from single_values(item)
    elif isinstance(node, yaml.ScalarNode) and node.value:
        yield node


def test_the_shipped_file_shows_the_defaults(tmp_path: Path) -> None:
    """What it shows beside a key is that key's default, wherever the default is one value."""
    found = switched_on(tmp_path)
    assert found.mqtt is not None
    shown = (found.mqtt.keepalive, found.mqtt.session, found.mqtt.base, found.mqtt.outbox)
    assert shown == Mqtt.__struct_defaults__[-4:]
    assert (found.groups, Path(found.mqtt.key).name) == (("line-2", "pi4"), "press-07.key")
    plain = Model("digits")
    digits, _ = found.models
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


def test_the_examples_in_the_document_load(tmp_path: Path) -> None:
    """As files of their own, with the secrets that they name beside them."""
    Authority(tmp_path).issue("press-07")
    (tmp_path / "mqtt-password").write_text("x")
    (tmp_path / "mqtt-password").chmod(0o640)
    text = (ROOT / "docs/configuration.md").read_text()
    indented = [
        re.sub("^    ", "", one, flags=re.MULTILINE) for one in re.findall(r"^(?:    .*\n)+", text, re.MULTILINE)
    ]
    examples = [one for one in indented if one.startswith("mqtt:")] + re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    assert len(examples) >= 3
    for example in examples:
        file = tmp_path / "edged.yaml"
        file.write_text(example)
        load(file, {})


def test_the_unit_names_the_credentials_that_the_shipped_file_asks_for() -> None:
    """LoadCredential=NAME:PATH makes NAME what `password_file`, `cert` and `key` find first."""
    unit = (ROOT / "systemd/edged.service").read_text()
    shown = SHIPPED.read_text()
    loaded = re.findall(r"#LoadCredential=([^:]+):/etc/edged/\1$", unit, re.MULTILINE)
    assert {*re.findall(r"#(?:password_file|cert|key): (\S+)", shown)} <= {*loaded}
    assert [name for name in loaded if f": {name}" not in shown] == []
