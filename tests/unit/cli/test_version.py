"""`edged version`: a line for people, and a bill of materials that a program reads."""

from __future__ import annotations

import json
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import onnxruntime
import pytest

import edged
from edged import cli
from edged.cli.version import licence, packages


def test_one_line_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["version"]) == 0
    assert capsys.readouterr().out == f"edged {edged.__version__}\n"


def test_the_bill_of_materials(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["version", "--json"]) == 0
    bill: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert (bill["edged"], bill["python"]) == (edged.__version__, ".".join(map(str, sys.version_info[:3])))
    assert bill["platform"].keys() == {"system", "release", "machine", "libc"}
    assert bill["onnxruntime"]["version"] == onnxruntime.__version__
    assert "CPUExecutionProvider" in bill["onnxruntime"]["providers"]
    by_name = {one["name"]: one for one in bill["packages"]}
    assert list(by_name) == sorted(by_name)
    assert by_name["pyyaml"] == {
        "name": "pyyaml",
        "version": metadata.version("PyYAML"),
        "licence": "MIT",
        "purl": f"pkg:pypi/pyyaml@{metadata.version('PyYAML')}",
    }


def test_all_that_the_package_is_made_of_is_there_with_a_licence() -> None:
    """Every package of requirements.lock, and not only what edged itself asks for."""
    lock = (Path(__file__).parents[3] / "requirements.lock").read_text()
    locked = {line.split("==")[0] for line in lock.splitlines() if "==" in line}
    found = {one["name"]: one["licence"] for one in packages()}
    assert {"onnxruntime", "numpy", "pillow", "pycparser"} <= locked <= found.keys()
    assert not [name for name in locked if not found[name]]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ("License-Expression: MIT OR Apache-2.0\nLicense: other", "MIT OR Apache-2.0"),
        ("License: MIT License", "MIT License"),
        (f"License: {'a ' * 100}\nClassifier: License :: OSI Approved :: MIT License", "MIT License"),
        ("Classifier: License :: OSI Approved :: B\nClassifier: License :: OSI Approved :: A", "A OR B"),
        ("Classifier: Programming Language :: Python", None),
    ],
)
def test_a_licence_as_packages_say_it(tmp_path: Path, fields: str, said: str | None) -> None:
    folder = tmp_path / "x-1.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.4\nName: x\nVersion: 1\n{fields}\n")
    assert licence(metadata.Distribution.at(folder).metadata) == said
