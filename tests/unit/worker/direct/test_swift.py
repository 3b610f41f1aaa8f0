"""Requests that are alike, run together where the memory is short: nothing has happened then."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from edged.worker.direct.swift import Swift
from edged.worker.memory import mapped
from edged.worker.session import Model
from tests import models
from tests.unit.worker.formats.test_fast import body


@contextmanager
def memory(more: int) -> Iterator[None]:
    """As limits.memory does, for a while."""
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (mapped() + more, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def test_what_does_not_fit_the_memory_together_is_left_to_be_run_alone(tmp_path: Path) -> None:
    file = tmp_path / "m.onnx"
    file.write_bytes(models.identity(shape=("batch", 50_000)))
    swift = Swift(Model.open(file), 2**20, usable=True)
    view = memoryview(body({"x": np.ones((1, 50_000), np.float32)}))
    swift.learn(view)
    with memory(48 * 2**20):
        assert swift.run([view] * 400) is None
        assert swift.run([view]) is not None
    ran = swift.run([view] * 3)
    assert ran is not None
    assert (ran.rows, [len(part) for part in ran.parts]) == (3, [200_000] * 3)


def test_rows_without_a_value_are_none_of_its_own(tmp_path: Path) -> None:
    """A request says how many there are, up to 2^32 of them in no byte at all."""
    file = tmp_path / "m.onnx"
    file.write_bytes(models.identity(shape=("batch", "columns")))
    swift = Swift(Model.open(file), 2**20, usable=True)
    view = memoryview(body({"x": np.ones((2**32 - 1, 0), np.float32)}))
    swift.learn(view)
    assert swift.run([view]) is None
