"""What the processes of a box hold, and its folders: read from /proc while it works."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.box import Box


@dataclass(frozen=True)
class Sample:
    """One process at one moment (monotonic seconds). `role`: daemon, fork server, or `worker MODEL` with the hash of
    its file, as other files take other memory.
    """

    at_s: float
    role: str
    pid: int
    rss: int
    pss: int
    descriptors: int
    threads: int


@dataclass(frozen=True)
class Folder:
    """Bytes and files below one of the box's folders."""

    at_s: float
    name: str
    size: int
    files: int


def look(one: Box) -> list[Sample]:
    """The daemon, what it started, and the live worker of each model. A process that ends meanwhile is left out."""
    at_s = time.monotonic()
    return [sample for role, pid in _roles(one) if (sample := _read(at_s, role, pid)) is not None]


def look_at_folders(one: Box) -> list[Folder]:
    """Its folders for state, cache and sockets; the audit trail, which is there to grow, apart."""
    at_s = time.monotonic()
    found = []
    for name in ("state", "cache", "run"):
        sizes = list(_sizes(one.folder / name))
        kept = [size for file, size in sizes if not file.name.startswith("audit")]
        found.append(Folder(at_s, name, sum(kept), len(kept)))
        if len(kept) < len(sizes):
            found.append(Folder(at_s, "audit", sum(size for _, size in sizes) - sum(kept), len(sizes) - len(kept)))
    return found


def _roles(one: Box) -> Iterator[tuple[str, int]]:
    assert one.process is not None
    yield "daemon", one.process.pid
    with contextlib.suppress(psutil.NoSuchProcess):
        for child in psutil.Process(one.process.pid).children():
            yield "fork server", child.pid
    for model in one.status()["models"]:
        if model["pid"] and model["state"] == "serving":
            yield f"worker {model['name']} {model['sha256'][:6]}", model["pid"]


def _read(at_s: float, role: str, pid: int) -> Sample | None:
    folder = Path(f"/proc/{pid}")
    try:
        status = _numbers((folder / "status").read_text())
        rollup = _numbers((folder / "smaps_rollup").read_text())
        descriptors = len(os.listdir(folder / "fd"))  # noqa: PTH208 - names are enough
    except OSError:
        return None
    if "VmRSS" not in status:  # it has ended, and nobody has asked how
        return None
    kib = 1024
    return Sample(at_s, role, pid, status["VmRSS"] * kib, rollup["Pss"] * kib, descriptors, status["Threads"])


def _numbers(text: str) -> dict[str, int]:
    """The lines `Name: NUMBER ...` of a file of /proc."""
    found = {}
    for line in text.splitlines():
        name, _, rest = line.partition(":")
        if (words := rest.split()) and words[0].isdecimal():
            found[name] = int(words[0])
    return found


def _sizes(folder: Path) -> Iterator[tuple[Path, int]]:
    for parent, _, names in os.walk(folder):
        for name in names:
            file = Path(parent, name)
            with contextlib.suppress(OSError):  # gone since
                yield file, file.lstat().st_size
