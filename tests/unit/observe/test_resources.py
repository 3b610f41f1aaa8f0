"""Figures of the box and of real processes: growing, shared, ended, hidden."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from edged.observe.resources import Process, Sampler, anonymous, process, total
from tests.waiting import until

HOLDER = """
import sys
held = bytearray(b"x") * (32 * 2**20)
print("holding", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def holder() -> Iterator[subprocess.Popen[bytes]]:
    """A process that holds 32 MiB."""
    command = [sys.executable, "-c", HOLDER]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"holding\n"
        yield child
        child.kill()


def test_a_process_shows_what_it_holds(holder: subprocess.Popen[bytes]) -> None:
    found = process(holder.pid)
    assert found is not None
    held = 32 * 2**20
    assert found.anon is not None
    assert found.uss is not None
    assert held < found.anon <= found.rss
    assert held < found.uss <= found.memory <= found.rss
    assert found.cpu_s > 0
    assert found.threads == 1
    assert found.anon == pytest.approx(anonymous(holder.pid), rel=0.1)


def test_a_process_that_ended_is_none_waited_for_or_not(holder: subprocess.Popen[bytes]) -> None:
    holder.kill()
    os.waitid(os.P_PID, holder.pid, os.WEXITED | os.WNOWAIT)
    assert process(holder.pid) is None
    assert anonymous(holder.pid) is None
    holder.wait()
    assert process(holder.pid) is None
    assert anonymous(holder.pid) is None


def test_the_tree_has_this_process_and_its_children(tmp_path: Path, holder: subprocess.Popen[bytes]) -> None:
    sample = Sampler(tmp_path).sample()
    assert {os.getpid(), holder.pid} <= sample.processes.keys()
    assert sample.tree.processes == len(sample.processes)
    assert sample.tree.memory >= sample.processes[holder.pid].memory + sample.processes[os.getpid()].memory


def test_a_process_is_read_as_psutil_reads_it(holder: subprocess.Popen[bytes]) -> None:
    other = psutil.Process(holder.pid)

    def is_as_read() -> bool:
        """Not each time: who else comes and goes on this machine changes what is shared in between."""
        found, full = process(holder.pid), other.memory_full_info()
        return found is not None and (found.rss, found.pss, found.uss) == (full.rss, full.pss, full.uss)

    until(is_as_read)
    found, times = process(holder.pid), other.cpu_times()
    assert found is not None
    assert found.cpu_s == pytest.approx(times.user + times.system)


def test_a_name_with_brackets_and_blanks_is_no_field_of_its_own(tmp_path: Path) -> None:
    odd = tmp_path / "a) 1 (b"
    odd.symlink_to(sys.executable)
    works = "import time\nwhile time.process_time() < 0.3: pass\nprint(flush=True)\ninput()"
    with subprocess.Popen([odd, "-c", works], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        found = process(child.pid)
        child.kill()
    assert found is not None
    assert 0.2 < found.cpu_s < 3  # in ticks of the kernel


@pytest.mark.parametrize("lists", [True, False])
def test_the_tree_has_a_childs_child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, lists: bool) -> None:
    if not lists:  # a kernel without CONFIG_PROC_CHILDREN

        def unlisted(pid: int) -> list[int]:
            raise FileNotFoundError(pid)

        monkeypatch.setattr("edged.observe.resources._children", unlisted)
    starts = "import subprocess, sys; child = subprocess.Popen(['sleep', '60']); print(child.pid, flush=True); input()"
    command = [sys.executable, "-c", starts]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        grandchild = int(child.stdout.readline())
        found = Sampler(tmp_path).sample().processes
        os.kill(grandchild, signal.SIGKILL)
        child.kill()
    assert {os.getpid(), child.pid, grandchild} <= found.keys()


def test_memory_without_shares_falls_back_to_rss() -> None:
    known, unknown = Process(1, rss=100, cpu_s=1.0, threads=1, pss=40), Process(2, rss=100, cpu_s=2.0, threads=1)
    summed = total([known, unknown])
    assert (summed.processes, summed.memory, summed.cpu_s) == (2, 140, 3.0)


def test_the_box_is_plausible(tmp_path: Path) -> None:
    sampler = Sampler(tmp_path)
    end = time.monotonic() + 0.2
    while time.monotonic() < end:
        pass
    box = sampler.sample().box
    assert box.cpu is not None
    assert box.memory_total is not None
    assert box.memory_available is not None
    assert box.disk_total is not None
    assert box.disk_free is not None
    assert 0.5 / box.cores < box.cpu <= 1  # one core was busy for all of the time
    assert 0 < box.memory_available < box.memory_total
    assert 0 < box.disk_free < box.disk_total
    assert box.uptime_s
    assert box.network_received is not None


def test_a_box_that_tells_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "PROCFS_PATH", str(tmp_path))
    box = Sampler(tmp_path / "gone").sample().box
    assert (box.memory_total, box.disk_total, box.cpu, box.uptime_s, box.network_sent) == (None,) * 5
