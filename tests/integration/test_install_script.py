"""scripts/install into a folder: what it refuses, and that nothing has changed then. The real thing: tests/system."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

INSTALL = Path(__file__).resolve().parents[2] / "scripts/install"


def install(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [INSTALL, *arguments], env={**os.environ, **environment}, capture_output=True, text=True, timeout=110
    )


def program(folder: Path, name: str, *lines: str) -> Path:
    """A shell's script that is found by this name."""
    file = folder / name
    file.parent.mkdir(exist_ok=True)
    file.write_text("\n".join(["#!/bin/sh", *lines]) + "\n")
    file.chmod(0o755)
    return file


def tree(folder: Path) -> dict[str, str | None]:
    """Each path below, with a file's text."""
    return {
        str(path.relative_to(folder)): path.read_text() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A version that is installed in it, with what is its user's."""
    root = tmp_path / "root"
    for place, text in {
        "opt/edged/bin/edged": "the version that is there",
        "opt/edged/files": "usr/bin/edged\nusr/share/doc/edged/docs/keys.md\nusr/share/edged/digits.onnx\n",
        "opt/edged/installed.yaml": "models: {}\n",
        "usr/bin/edged": "a link",
        "usr/bin/other": "of somebody else",
        "usr/share/doc/edged/docs/keys.md": "a page",
        "usr/share/edged/digits.onnx": "a model",
        "etc/edged/edged.yaml": "models: {}  # mine\n",
        "var/lib/edged/state.json": "{}",
    }.items():
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        (root / place).write_text(text)
    return root


@pytest.mark.parametrize("arguments", [["--nonsense"], ["--root"], ["--purge"]])
def test_wrong_use_is_told(arguments: list[str]) -> None:
    done = install(*arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("install [--onnxruntime FILE.whl]")
    assert "install --uninstall [--purge]" in done.stderr


@pytest.mark.parametrize("arguments", [[], ["--uninstall"]])
def test_who_is_not_root_is_told_so(tmp_path: Path, arguments: list[str]) -> None:
    program(tmp_path, "id", "echo 1000")
    done = install(*arguments, PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert done.returncode == 2
    assert "sudo scripts/install" in done.stderr


def test_a_machine_without_systemd_is_refused(tmp_path: Path) -> None:
    program(tmp_path, "id", "echo 0")
    for name in ("bash", "dirname", "uname", "realpath"):
        (tmp_path / name).symlink_to(f"/usr/bin/{name}")
    done = install(PATH=str(tmp_path))
    assert done.returncode == 2
    assert "there is no systemd" in done.stderr


def test_an_old_python_is_refused(root: Path, tmp_path: Path) -> None:
    before = tree(root)
    for name in ("python3", *(f"python3.{minor}" for minor in range(11, 15))):
        program(tmp_path / "bin", name, 'case "$1" in --version) echo Python 3.9.2;; *) exit 1;; esac')
    done = install("--root", root, PATH=f"{tmp_path}/bin:{os.environ['PATH']}", PYTHON="python3")
    assert done.returncode == 2
    assert "edged needs Python 3.11 or newer; found Python 3.9.2" in done.stderr
    assert tree(root) == before


@pytest.fixture
def without_venv(tmp_path: Path) -> str:
    """A Python as Debian has it at first."""
    lines = 'case "$*" in "-m venv"*) echo No module named venv; exit 1;; esac', 'exec python3 "$@"'
    return str(program(tmp_path, "python", *lines))


def test_a_python_without_venv_is_refused(root: Path, without_venv: str) -> None:
    before = tree(root)
    done = install("--root", root, PYTHON=without_venv)
    assert done.returncode == 2
    assert "No module named venv" in done.stderr
    assert "apt install python3-venv" in done.stderr
    assert tree(root) == before


@pytest.mark.parametrize("last", ["tools.lock", "requirements.lock"])
def test_when_the_network_goes_what_is_there_stays(root: Path, tmp_path: Path, last: str) -> None:
    """pip fetches what makes edged's wheel, then what it runs on; this one's network goes at one of the two."""
    pip = program(tmp_path, "pip", f'case "$*" in *{last}*) echo no network; exit 1;; esac')
    making = f'mkdir -p "$3/bin"; cp {pip} "$3/bin/python"; exit'
    python = program(tmp_path, "python", f'case "$*" in "-m venv"*/tools) {making};; esac', 'exec python3 "$@"')
    before = tree(root)
    done = install("--root", root, PYTHON=str(python))
    assert done.returncode == 1
    assert done.stdout.endswith("no network\n")
    assert tree(root) == before


def test_an_installation_that_was_cut_off_is_taken_back_by_the_next(root: Path, without_venv: str) -> None:
    """The plug was pulled between the two renames; the next one does not get far either."""
    before = tree(root)
    (root / "opt/edged").rename(root / "opt/edged.old")
    (root / "opt/edged.new/bin").mkdir(parents=True)
    assert install("--root", root, PYTHON=without_venv).returncode == 2
    assert tree(root) == before


def test_a_packages_tree_is_left_to_the_package(root: Path) -> None:
    (root / "opt/edged/files").unlink()
    for arguments in ([], ["--uninstall"]):
        before = tree(root)
        done = install("--root", root, *arguments)
        assert done.returncode == 2
        assert "apt remove edged" in done.stderr
        assert tree(root) == before


def test_uninstalling_keeps_what_is_the_users_unless_it_is_a_purge(root: Path) -> None:
    wanted = root / "etc/systemd/system/multi-user.target.wants/edged.service"
    wanted.parent.mkdir(parents=True)
    wanted.symlink_to("/usr/lib/systemd/system/edged.service")
    done = install("--uninstall", "--root", root)
    assert done.returncode == 0, done.stderr
    assert {path for path, text in tree(root).items() if text is not None} == {
        "etc/edged/edged.yaml",
        "usr/bin/other",
        "var/lib/edged/state.json",
    }
    assert not (root / "usr/share/doc/edged").exists()
    assert not wanted.is_symlink()
    assert install("--uninstall", "--root", root).returncode == 2
    done = install("--uninstall", "--purge", "--root", root)
    assert done.returncode == 0, done.stderr
    assert {path for path, text in tree(root).items() if text is not None} == {"usr/bin/other"}
