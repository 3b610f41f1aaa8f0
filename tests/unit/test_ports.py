"""The ports that tests give to what they start (tests/ports.py)."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path

from tests.box import ROOT
from tests.ports import free_port

# Says what it was given and then lives until its input ends: what a process has had is free again when it is gone.
_TAKE = """
import sys
from tests.ports import free_port
print(*[free_port() for _ in range(120)], flush=True)
sys.stdin.read()
"""


def test_processes_beside_each_other_never_have_the_same_port() -> None:
    command = [sys.executable, "-c", _TAKE]
    given = [{free_port() for _ in range(120)}]
    with contextlib.ExitStack() as living:
        pipe = subprocess.PIPE
        others = [subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True) for _ in range(2)]
        for other in others:
            living.enter_context(other)
        given += [{int(port) for port in str(other.stdout and other.stdout.readline()).split()} for other in others]
    assert [len(ports) for ports in given] == [120, 120, 120]
    assert len(set().union(*given)) == 360


def test_no_client_can_take_one() -> None:
    low = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert free_port() < low
