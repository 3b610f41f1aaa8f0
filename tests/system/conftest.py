"""Packages and machines, made once a session. Where none can be booted all of this is skipped, with a loud word."""

from __future__ import annotations

import fcntl
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.system.machines import Machine, lacking

ROOT: Final = Path(__file__).resolve().parents[2]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    why = lacking()
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.timeout(900))
            if why:
                item.add_marker(
                    pytest.mark.skip(reason=f"tests/system: SKIPPED: no real systemd can be booted here: {why}")
                )


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """`build(suite, arch)`: the package, by the script that users run; the first to ask builds it for all processes."""
    ours = tmp_path_factory.getbasetemp()
    shared = ours.parent if "PYTEST_XDIST_WORKER" in os.environ else ours

    def built(suite: str, arch: str = "amd64") -> Path:
        folder = shared / f"package-{suite}-{arch}"
        folder.mkdir(exist_ok=True)
        with (folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not list(folder.glob("*.deb")):
                options = ["--arch", arch, "--suite", suite, "--compression", "gzip", "--output", str(folder)]
                done = subprocess.run(
                    [ROOT / "scripts/build-deb", *options], cwd=ROOT, capture_output=True, text=True, timeout=900
                )
                assert done.returncode == 0, done.stderr
        (package,) = folder.glob("*.deb")
        return package

    return built


@pytest.fixture(scope="session")
def package(build: Callable[..., Path]) -> Path:
    return build("bookworm")


def booted(suite: str, state: Path, network: str = "") -> Machine:
    """A bare machine; the caller ends it. What stands in the way of one is no fault of edged's, and skips the test."""
    try:
        machine = Machine(suite, state, network)
        machine.boot()
    except (OSError, subprocess.SubprocessError, AssertionError) as error:
        pytest.skip(f"tests/system: SKIPPED: a bare {suite} does not boot here: {str(error)[-500:]}")
    return machine


def installed(suite: str, package: Path, state: Path, network: str = "") -> Machine:
    """A booted machine with the package; the caller ends it."""
    machine = booted(suite, state, network)
    try:
        machine.put(package, "/root/edged.deb")
        machine.run("apt-get install -y /root/edged.deb", limit_s=300)
    except BaseException:
        machine.poweroff()
        raise
    return machine


@pytest.fixture(scope="module")
def machine(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    one = installed("bookworm", package, tmp_path_factory.mktemp("machine"))
    yield one
    one.poweroff()
