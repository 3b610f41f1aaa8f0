"""`threads` and `cpus` in running workers, as the kernel tells."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from edged.config.schema import Model
from edged.serving.cores import cores
from edged.serving.rehearsal import rehearse
from tests import models
from tests.box import Box, box

MINE = sorted(os.sched_getaffinity(0))


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("models") / "linear.onnx"
    found.write_bytes(models.linear())
    return found


@pytest.fixture(scope="module")
def one(file: Path) -> Iterator[Box]:
    configuration = f"""
device: press-07
models:
  plain: {{file: {file}}}
  four: {{file: {file}, threads: 4}}
  pinned: {{file: {file}, cpus: {MINE[-1]}, threads: 2}}
  fitted: {{file: {file}, cpus: {MINE[:2]}, threads: auto}}
  shared: {{file: {file}, threads: auto}}
"""
    with box(configuration) as running:
        yield running


def worker(one: Box, name: str) -> tuple[int, set[int]]:
    """How many threads the model's process has, and the cores that each of them may use."""
    pid = one.model(name)["pid"]
    threads = [int(task.name) for task in Path(f"/proc/{pid}/task").iterdir()]
    (allowed,) = {frozenset(os.sched_getaffinity(task)) for task in threads}
    return len(threads), set(allowed)


def test_a_run_has_the_threads_it_is_given(one: Box) -> None:
    assert worker(one, "plain") == (1, set(MINE))
    assert worker(one, "four") == (4, set(MINE))
    assert worker(one, "shared") == (max(1, cores() // 5), set(MINE))


def test_a_process_and_its_threads_stay_on_its_cores(one: Box) -> None:
    assert worker(one, "pinned") == (2, {MINE[-1]})
    assert worker(one, "fitted") == (len(MINE[:2]), set(MINE[:2]))


def test_a_core_that_is_not_there_is_a_mistake_in_the_configuration(file: Path) -> None:
    problem = rehearse([Model("m", str(file), cpus=(MINE[0], 4095))]).faults["m"].fault
    assert problem.code == "bad_config"
    assert "no core 4095" in problem.message
    assert "taskset" in problem.hint
