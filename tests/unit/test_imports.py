"""The house is kept: who may import whom (import-linter), and what a process of each kind really has loaded."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HEAVY = {"numpy", "onnxruntime"}
DAEMONS = {"paho", "uvloop", "httptools", "psutil", "cryptography", "yaml", "asyncio"}


def loaded(code: str) -> set[str]:
    """The top-level packages in a new interpreter's sys.modules after `code`."""
    code += "\nimport sys; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_the_daemon_loads_neither_numpy_nor_onnxruntime() -> None:
    assert not HEAVY & loaded("import edged.daemon, edged.cli.run, edged.config.load")


def test_grpc_is_loaded_where_it_is_configured_alone() -> None:
    late = "edged.transports.rpc.server"
    code = f"import edged.daemon, sys; assert {late!r} not in sys.modules; import {late}"
    assert not {"grpc", "google", *HEAVY} & loaded(code)


def test_a_worker_loads_nothing_of_the_daemons() -> None:
    modules = loaded("import edged.worker.main")
    assert modules >= HEAVY
    assert not DAEMONS & modules
    assert not {"zipfile", "lzma", "bz2"} & modules, "a megabyte and a half that only a candidate needs"


def test_entry_points_load_the_standard_library_only() -> None:
    """They run in the main module of every process (RULES 1)."""
    for entry in ("edged.__main__", "edged.worker.entry"):
        assert not loaded(f"import {entry}") & (HEAVY | DAEMONS | {"msgspec", "importlib_metadata"})


def test_the_fork_server_starts_before_the_daemon_is_loaded() -> None:
    """It loads its own 0.2 s of libraries at the same time."""
    code = """
import sys
from edged.serving import forkserver
forkserver.warm = lambda: sys.exit(f"{'edged.daemon' in sys.modules=}")
from edged import cli
cli.main(["run", "--model", "a=b.onnx"])
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stderr == "'edged.daemon' in sys.modules=False\n"


def test_asking_for_help_is_cheap() -> None:
    code = """
import contextlib, io
import edged.cli
with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):
    edged.cli.main(["--help"])
"""
    assert not loaded(code) & (HEAVY | (DAEMONS - {"asyncio"}))


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A copy of the code to break."""
    shutil.copytree(ROOT / "edged", tmp_path / "edged", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def complaints(house: Path) -> str:
    """What import-linter says of `house`, "" when nothing."""
    linter = Path(sys.executable).parent / "lint-imports"
    done = subprocess.run(
        [linter, "--no-cache"], cwd=house, env={"PYTHONPATH": str(house)}, capture_output=True, text=True
    )
    return done.stdout + done.stderr if done.returncode else ""


def test_the_layers_are_kept(house: Path) -> None:
    assert complaints(house) == ""


@pytest.mark.parametrize(
    ("file", "line", "says"),
    [
        ("edged/utils.py", "", "utils"),
        ("edged/topics.py", "import edged.config.schema", "edged.topics -> edged.config.schema"),
        ("edged/config/schema.py", "import edged.channel", "edged.config.schema -> edged.channel"),
        (
            "edged/delivery/store.py",
            "import edged.transports.rest.app",
            "edged.delivery.store -> edged.transports.rest",
        ),
        (
            "edged/transports/mqtt/__init__.py",
            "import edged.transports.rest.app",
            "edged.transports.mqtt -> edged.transports",
        ),
        ("edged/serving/lane.py", "import numpy", "edged.serving.lane -> numpy"),
        ("edged/worker/main.py", "import psutil", "edged.worker.main -> psutil"),
        ("edged/worker/main.py", "import onnxruntime", "edged.worker.main -> onnxruntime"),
        ("edged/delivery/store.py", "import paho", "edged.delivery.store -> paho"),
        ("edged/cli/run.py", "import yaml", "edged.cli.run -> yaml"),
        ("edged/delivery/trust.py", "import cryptography", "edged.delivery.trust -> cryptography"),
    ],
)
def test_a_module_in_the_wrong_place_is_noticed(house: Path, file: str, line: str, says: str) -> None:
    path = house / file
    path.write_text((path.read_text() if path.exists() else "") + f"\n{line}\n")
    assert says in complaints(house)
