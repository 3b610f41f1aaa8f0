"""What `threads: auto` makes of a box's cores."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edged.config.schema import Model
from edged.serving.cores import cores, quota, threads

AUTO = Model("m", threads=None)


@pytest.mark.parametrize(
    ("box", "models", "expected"), [(4, 1, 4), (4, 2, 2), (4, 3, 1), (4, 9, 1), (1, 1, 1), (256, 1, 64)]
)
def test_auto_shares_the_cores_out(box: int, models: int, expected: int) -> None:
    assert threads(AUTO, models=models, cores=box) == expected


def test_a_number_stands_and_named_cores_are_all_used() -> None:
    assert threads(Model("m", threads=3), models=9, cores=1) == 3
    assert threads(Model("m", threads=3, cpus=(0,)), models=1, cores=8) == 3
    assert threads(Model("m", threads=None, cpus=(2, 3)), models=9, cores=16) == 2


def test_a_control_group_counts_and_so_do_those_above_it(tmp_path: Path) -> None:
    inner = tmp_path / "system.slice" / "edged.service"
    inner.mkdir(parents=True)
    assert quota(inner, tmp_path) == 64
    (inner / "cpu.max").write_text("max 100000\n")
    assert quota(inner, tmp_path) == 64
    (inner.parent / "cpu.max").write_text("150000 100000\n")
    assert quota(inner, tmp_path) == 1.5
    (inner / "cpu.max").write_text("50000 100000\n")
    assert quota(inner, tmp_path) == 0.5
    (inner / "cpu.max").write_text("nonsense\n")
    assert quota(inner, tmp_path) == 1.5


def test_the_affinity_counts() -> None:
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert cores() == 1
    finally:
        os.sched_setaffinity(0, before)
    assert 1 <= cores() <= len(before)
