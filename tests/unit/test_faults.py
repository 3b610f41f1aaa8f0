"""docs/model-push.md has every fault that was thought of, with the tests named after it or a word why not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/model-push.md").read_text()
TABLE = PAGE.partition("<!-- faults -->\n")[2].partition("<!-- end of faults -->")[0]
ROWS = {row[0]: row[1:] for row in (line.strip("| ").split(" | ") for line in TABLE.splitlines()[2:])}


def test_none_is_left_out() -> None:
    assert list(ROWS) == [f"F{number:02}" for number in range(1, 56)]


@pytest.mark.parametrize("fault", ROWS)
def test_it_is_tested_where_the_page_says(fault: str) -> None:
    what, done, where = ROWS[fault]
    assert what
    assert done
    if "no test: " in where:
        return
    files = re.findall(r"`([^`]+)`", where)
    assert files
    for file in files:
        named = re.findall(r"def test_ota((?:_[fF]\d\d)+)_", (ROOT / "tests" / file).read_text())
        assert any(fault in name.upper().split("_") for name in named), file


def test_what_is_named_after_a_fault_is_on_the_page() -> None:
    """scripts/generate_docs.py writes the column; scripts/check looks whether it has run."""
    for file in sorted((ROOT / "tests").rglob("test_*.py")):
        for faults in re.findall(r"def test_ota((?:_[fF]\d\d)+)_", file.read_text()):
            for fault in faults.upper().split("_")[1:]:
                assert f"`{file.relative_to(ROOT / 'tests')}`" in ROWS[fault][2], fault
