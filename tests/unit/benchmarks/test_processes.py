"""CPU time and memory of real processes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from benchmarks.processes import Meter, TreeChangedError, cpu_ns, pss_bytes, tree

# Starts a child that waits, then burns CPU for as many milliseconds as each line says, and says so.
WORKER = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
print("ready", flush=True)
for line in sys.stdin:
    if line.strip() == "child":
        child.stdin.close(); child.wait()
    else:
        end = time.process_time() + float(line) / 1000
        while time.process_time() < end: pass
    print("done", flush=True)
"""


@pytest.fixture
def worker() -> Iterator[subprocess.Popen[str]]:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", WORKER], text=True, **pipes) as process:  # type: ignore[call-overload]
        assert process.stdout is not None
        process.stdout.readline()
        yield process


def tell(worker: subprocess.Popen[str], line: str) -> None:
    assert worker.stdin is not None
    assert worker.stdout is not None
    worker.stdin.write(f"{line}\n")
    worker.stdin.flush()
    assert worker.stdout.readline() == "done\n"


def test_the_clock_is_that_of_the_process() -> None:
    own = time.process_time_ns()
    assert own <= cpu_ns(os.getpid()) <= time.process_time_ns()


def test_a_tree_is_the_process_and_what_it_started(worker: subprocess.Popen[str]) -> None:
    members = tree(worker.pid)
    assert len(members) == 2
    assert worker.pid in members
    assert all(pss_bytes(pid) > 100_000 for pid in members)


def test_a_meter_counts_what_was_burnt(worker: subprocess.Popen[str]) -> None:
    meter = Meter.started(worker.pid)
    tell(worker, "50")
    assert meter.read_us(worker.pid) >= 50_000


def test_a_process_that_ended_meanwhile_is_told_not_left_out(worker: subprocess.Popen[str]) -> None:
    meter = Meter.started(worker.pid)
    tell(worker, "child")
    with pytest.raises(TreeChangedError):
        meter.read_us(worker.pid)
