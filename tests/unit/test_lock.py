"""The lock files: what pyproject.toml asks for is in them, hashed, and no index or folder of anybody's machine."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
BASE = PROJECT["dependencies"]
EXTRAS = PROJECT["optional-dependencies"]
LOCKS = {
    "requirements.lock": [*BASE, *EXTRAS["image"]],
    "requirements-demo.lock": [*BASE, *EXTRAS["demo"], "hatchling"],
    "requirements-dev.lock": [*BASE, *EXTRAS["demo"], *EXTRAS["dev"], "hatchling"],
    "requirements-bench.lock": [*BASE, *EXTRAS["bench"], "hatchling"],
    "requirements-soak.lock": EXTRAS["soak"],
    "requirements-pip.lock": ["pip"],
}
# Those that have packages which tests never need.
OF_ITS_OWN = {"requirements-bench.lock", "requirements-pip.lock", "requirements-soak.lock"}


def pins(name: str) -> dict[str, str]:
    return dict(re.findall(r"^([\w.-]+)==(\S+)", (ROOT / name).read_text(), re.MULTILINE))


@pytest.mark.parametrize(("name", "wanted"), LOCKS.items())
def test_a_lock_has_what_is_asked_for(name: str, wanted: list[str]) -> None:
    found = pins(name)
    for text in wanted:
        requirement = Requirement(text)
        assert found[requirement.name.lower()] in requirement.specifier


@pytest.mark.parametrize("name", LOCKS)
def test_every_package_of_a_lock_is_hashed_and_comes_from_nowhere_in_particular(name: str) -> None:
    text = (ROOT / name).read_text()
    packages = re.split(r"^(?=[\w.-]+==)", text, flags=re.MULTILINE)[1:]
    assert packages
    assert all("--hash=sha256:" in package for package in packages)
    assert "://" not in text
    assert not re.search(r"^\S+ @|^--", text, re.MULTILINE)


def test_the_locks_agree() -> None:
    largest = pins("requirements-dev.lock")
    for name in LOCKS:
        found = pins(name)
        assert {package: largest.get(package, version) for package, version in found.items()} == found
        assert found.keys() <= largest.keys() or name in OF_ITS_OWN
