"""The ports that tests give to what they start (tests/ports.py)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.box import ROOT
from tests.ports import free_port

_TAKE = "from tests.ports import free_port\nprint(*[free_port() for _ in range(120)])"


def test_processes_beside_each_other_never_have_the_same_port() -> None:
    command = [sys.executable, "-c", _TAKE]
    others = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    given = [{free_port() for _ in range(120)}]
    given += [{int(port) for port in other.communicate(timeout=60)[0].split()} for other in others]
    assert [len(ports) for ports in given] == [120, 120, 120]
    assert len(set().union(*given)) == 360


def test_no_client_can_take_one() -> None:
    low = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert free_port() < low
