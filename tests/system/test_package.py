"""The package as a file: what Debian's own checker says of it, and that one for another CPU has nothing of this one."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

_AARCH64 = 183  # e_machine of ELF


def said(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def without_wheels(package: Path, folder: Path) -> Path:
    """The package with what is ours alone in its tree."""
    tree = folder / "tree"
    said("dpkg-deb", "--raw-extract", package, tree)
    (site,) = tree.glob("opt/edged/lib/*/site-packages")
    for one in site.iterdir():
        if not one.name.startswith("edged"):
            shutil.rmtree(one) if one.is_dir() else one.unlink()
    sums = tree / "DEBIAN/md5sums"
    kept = [line for line in sums.read_text().splitlines(keepends=True) if (tree / line.rstrip("\n")[34:]).is_file()]
    sums.write_text("".join(kept))
    said("dpkg-deb", "--root-owner-group", "-Zgzip", "-z1", "--build", tree, folder / "edged.deb")
    return folder / "edged.deb"


@pytest.mark.skipif(shutil.which("lintian") is None, reason="lintian is not installed; scripts/test installs it")
def test_lintian_has_nothing_to_say(package: Path, tmp_path: Path, soak: bool) -> None:
    """But for what the package overrides, with its reasons. What is others' in it takes a minute: with --soak."""
    looked_at = package if soak else without_wheels(package, tmp_path)
    assert said("lintian", "--allow-root", "--fail-on", "error,warning", looked_at) == ""


def test_it_owns_what_it_should(package: Path) -> None:
    lines = [line.split() for line in said("dpkg-deb", "--contents", package).splitlines()]
    assert {line[1] for line in lines} == {"root/root"}
    assert not [line[5] for line in lines if line[0][0] in "d-" and line[0][8] == "w"]
    assert said("dpkg-deb", "--info", package, "conffiles").split() == ["/etc/edged/edged.yaml"]
    places = {line[5] for line in lines}
    for place in ("usr/bin/edged", "usr/lib/systemd/system/edged.service", "usr/share/man/man1/edged.1.gz"):
        assert f"./{place}" in places


def test_bash_completes_commands_and_their_options(package: Path, tmp_path: Path) -> None:
    said("dpkg-deb", "--extract", package, tmp_path)
    script = tmp_path / "usr/share/bash-completion/completions/edged"

    def completed(*words: str) -> set[str]:
        ask = (
            f'. {script}; COMP_WORDS=({" ".join(words)}); COMP_CWORD={len(words) - 1}; _edged; echo "${{COMPREPLY[@]}}"'
        )
        return set(said("bash", "-c", ask).split())

    assert completed("edged", "sta") == {"status"}
    assert "--config" in completed("edged", "check", "--")
    assert "status" in completed("edged", "fleet", "s")


def test_a_package_for_another_cpu_has_nothing_of_this_one(build: Callable[..., Path], tmp_path: Path) -> None:
    """It is not run: that its files are for that CPU and that Python, and no others, is what can be seen from here."""
    package = build("trixie", "arm64")
    assert said("dpkg-deb", "--field", package, "Architecture").strip() == "arm64"
    assert "python3 (>= 3.13), python3 (<< 3.14)" in said("dpkg-deb", "--field", package, "Depends")
    said("dpkg-deb", "--extract", package, tmp_path / "tree")
    machines = {}
    for file in (tmp_path / "tree").rglob("*"):
        if file.is_file() and not file.is_symlink():
            with file.open("rb") as opened:
                start = opened.read(20)
            if start[:4] == b"\x7fELF":
                machines[file.name] = int.from_bytes(start[18:20], "little")
    for module in ("onnxruntime_pybind11_state.", "_imaging.", "loop."):  # the model's, pictures', the loop's
        assert any(name.startswith(module) for name in machines)
    assert set(machines.values()) == {_AARCH64}
    assert not [name for name in machines if ".cpython-" in name and ".cpython-313-" not in name]
