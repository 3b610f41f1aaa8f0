"""Minutes of atheris on each parser: `scripts/test --soak tests/fuzz`."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.parsers import PARSERS

FUZZER = Path(__file__).with_name("parsers.py")
SECONDS = int(os.environ.get("EDGED_FUZZ_S", "45"))  # a parser
pytestmark = [pytest.mark.soak, pytest.mark.timeout(SECONDS + 120)]


@pytest.fixture(scope="module", autouse=True)
def have_atheris() -> None:
    if importlib.util.find_spec("atheris") is None:
        pytest.skip("atheris is not installed: `scripts/test --soak` installs it where it has a wheel")


def fuzzed(name: str, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, str(FUZZER), name, str(folder), "-max_len=4096", "-timeout=5", "-print_final_stats=1"]
    return subprocess.run([*words, *options], cwd=folder, capture_output=True, text=True)


@pytest.mark.parametrize("name", PARSERS)
def test_a_parser_reads_or_refuses(name: str, tmp_path: Path) -> None:
    done = fuzzed(name, tmp_path, f"-max_total_time={SECONDS}")
    assert done.returncode == 0, done.stdout + done.stderr[-6000:]
    tried = re.search(r"number_of_executed_units: (\d+)", done.stderr)
    assert tried is not None
    assert int(tried[1]) > 1000  # else it is the fuzzer that is broken
