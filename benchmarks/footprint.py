"""What edged takes when nobody asks anything of it: time to start, memory, CPU time while idle."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from benchmarks import subjects
from benchmarks.models import Model
from benchmarks.processes import Meter, pss_bytes, tree
from tests.box import Box

_PATIENCE_S: Final = 60.0
_SETTLE_S: Final = 2.0  # after the start: what is said once has been said


@dataclass(frozen=True)
class Process:
    """One process of the tree: daemon, fork server or worker."""

    role: str
    pss_bytes: int


def starts_s(model: Model, folder: Path, runs: int) -> list[float]:
    """Seconds from exec to READY=1, each from a stopped box that was up before: files are cached, compiled, known."""
    with (
        subjects.broker(folder / "broker") as broker,
        _notified(folder / "notify") as heard,
        subjects.edged(subjects.configuration([model], broker=broker)) as box,
    ):
        box.environment["NOTIFY_SOCKET"] = str(folder / "notify")
        found = []
        for _ in range(runs):
            box.stop()
            _drain(heard)
            began_s = time.monotonic()
            box.start(wait=False)
            _until_ready(heard)
            found.append(time.monotonic() - began_s)
            box.wait_ready()
        return found


def memory(model: Model, folder: Path) -> list[Process]:
    """Each process of a daemon that serves one model, has answered, and is connected to its broker."""
    with _connected(model, folder) as box:
        assert box.process is not None
        subjects.http_target(box.process.pid, str(box.socket), model, subjects.oip_request(model), folder)
        return [Process(_role(box.process.pid, pid), pss_bytes(pid)) for pid in tree(box.process.pid)]


def peers_memory(model: Model, folder: Path) -> dict[str, int]:
    """PSS in bytes of the scripts that edged is compared with, each after an answer."""
    found = {}
    port = subjects.free_port()
    with subjects.peer("fastapi_raw.py", model.file, port) as pid:
        subjects.http_target(pid, str(port), model, subjects.raw_request(model), folder)
        found["fastapi"] = pss_bytes(pid)
    with subjects.broker(folder / "broker") as broker:
        topics = ("peer/in", "peer/out")
        with subjects.peer("paho_raw.py", model.file, broker.port, 1, *topics) as pid:
            subjects.mqtt_target(pid, broker.port, topics, model)
            found["paho"] = pss_bytes(pid)
    return found


def idle_percent(model: Model, folder: Path, seconds: float) -> float:
    """CPU time of the whole tree in percent of one core, over `seconds` without a request, broker connected."""
    with _connected(model, folder) as box:
        assert box.process is not None
        meter, began_s = Meter.started(box.process.pid), time.monotonic()
        time.sleep(seconds)
        return meter.read_us(box.process.pid) / 1e4 / (time.monotonic() - began_s)


@contextlib.contextmanager
def _connected(model: Model, folder: Path) -> Iterator[Box]:
    with (
        subjects.broker(folder / "broker") as broker,
        subjects.edged(subjects.configuration([model], broker=broker)) as box,
    ):
        subjects.wait_connected(box)
        time.sleep(_SETTLE_S)
        yield box


@contextlib.contextmanager
def _notified(path: Path) -> Iterator[socket.socket]:
    """What systemd would be: a datagram socket for sd_notify."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(os.fspath(path))
        try:
            yield heard
        finally:
            path.unlink()


def _drain(heard: socket.socket) -> None:
    heard.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            heard.recv(4096)


def _until_ready(heard: socket.socket) -> None:
    heard.settimeout(_PATIENCE_S)
    while b"READY=1" not in heard.recv(4096).splitlines():
        pass


def _role(daemon: int, pid: int) -> str:
    if pid == daemon:
        return "daemon"
    return "fork server" if psutil.Process(pid).ppid() == daemon else "worker"
