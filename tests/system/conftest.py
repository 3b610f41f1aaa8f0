"""Packages and machines, made once a session. Where none can be booted all of this is skipped, with a loud word."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.machines import Machine, lacking

ROOT = Path(__file__).resolve().parents[2]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    why = lacking()
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.timeout(900))
            if why:
                item.add_marker(
                    pytest.mark.skip(reason=f"tests/system: SKIPPED: no real systemd can be booted here: {why}")
                )


def built(suite: str, arch: str, folder: Path) -> Path:
    """The package for a suite, by the script that users of it run."""
    options = ["--arch", arch, "--suite", suite, "--level", "1", "--output", str(folder)]
    done = subprocess.run([ROOT / "scripts/build-deb", *options], cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    return Path(str(done.stdout).strip().splitlines()[-1])


@pytest.fixture(scope="session")
def boots(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Whether a bare machine boots here: what stands in the way of that is no fault of edged's."""
    try:
        with Machine("bookworm", tmp_path_factory.mktemp("bare")) as bare:
            bare.run("true")
    except (OSError, subprocess.SubprocessError, AssertionError) as error:
        pytest.skip(f"tests/system: SKIPPED: a bare machine does not boot here: {str(error)[:500]}")


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built("bookworm", "amd64", tmp_path_factory.mktemp("packages"))


def installed(suite: str, package: Path, state: Path) -> Machine:
    """A booted machine with the package; the caller ends it."""
    machine = Machine(suite, state)
    machine.boot()
    try:
        machine.put(package, "/root/edged.deb")
        machine.run("apt-get install -y /root/edged.deb", limit_s=300)
    except BaseException:
        machine.poweroff()
        raise
    return machine


@pytest.fixture(scope="module")
def machine(boots: None, package: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    one = installed("bookworm", package, tmp_path_factory.mktemp("machine"))
    yield one
    one.poweroff()
