"""sd_notify over real datagram sockets, by path and in the abstract namespace."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from edged.observe.notify import notify, watchdog_interval_s


@pytest.mark.parametrize("abstract", [False, True])
def test_fields_arrive(short_path: Path, *, abstract: bool) -> None:
    name = f"edged-test-{os.getpid()}" if abstract else str(short_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.settimeout(5)
        manager.bind(f"\0{name}" if abstract else name)
        environment = {"NOTIFY_SOCKET": f"@{name}" if abstract else name}
        assert notify(environment, READY=1, STATUS="digits 2\nSTOPPING=1 é", EXTEND_TIMEOUT_USEC=5_000_000)
        received = manager.recv(4096).decode()
    assert received == "READY=1\nSTATUS=digits 2 STOPPING=1 é\nEXTEND_TIMEOUT_USEC=5000000"


def test_without_systemd_nothing_happens(short_path: Path) -> None:
    assert not notify({}, READY=1)
    assert not notify({"NOTIFY_SOCKET": "vsock:2:1"}, READY=1)
    assert not notify({"NOTIFY_SOCKET": str(short_path / "gone")}, READY=1)


def test_a_manager_that_does_not_read_blocks_nobody(short_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(short_path / "notify"))
        environment = {"NOTIFY_SOCKET": str(short_path / "notify")}
        assert not all(notify(environment, WATCHDOG=1) for _ in range(10_000))


def test_the_watchdogs_interval() -> None:
    assert watchdog_interval_s({}) is None
    assert watchdog_interval_s({"WATCHDOG_USEC": "0"}) is None
    assert watchdog_interval_s({"WATCHDOG_USEC": "soon"}) is None
    assert watchdog_interval_s({"WATCHDOG_USEC": "30000000"}) == 15.0
    assert watchdog_interval_s({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}) == 15.0
    assert watchdog_interval_s({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}) is None
