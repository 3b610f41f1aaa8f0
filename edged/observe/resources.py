"""What edged's processes use, from /proc, and the box, through psutil (its only user).

A figure that this box does not give (no sensor, /proc hidden by a sandbox, a process that has ended) is
None, never an error. Samples are taken in a thread, once per telemetry interval, and the loop shares Python's lock with
it: after each system call it may wait 5 ms for a thread that computes. So the processes are found and read with as
little Python as it takes; to find five of them among 120, psutil computes for 7 ms.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, TypeVar

import msgspec
import psutil

_CPU_SENSORS: Final = ("cpu_thermal", "coretemp", "k10temp", "zenpower", "soc_thermal", "acpitz")
_UTIME: Final = 11  # in what follows the name in /proc/PID/stat; the system's share is next to it
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_T = TypeVar("_T")


class Box(msgspec.Struct, frozen=True):
    """The machine. Bytes, seconds, degrees Celsius; `cpu` is the busy share of all cores, 0 to 1.

    `cpu` covers the time since the sample before. Network bytes count every interface but loopback,
    since boot. `disk_*` is the file system of the state directory.
    """

    cores: int
    cpu: float | None = None
    load_1m: float | None = None
    memory_total: int | None = None
    memory_available: int | None = None
    disk_total: int | None = None
    disk_free: int | None = None
    network_received: int | None = None
    network_sent: int | None = None
    temperature: float | None = None
    uptime_s: float | None = None


class Process(msgspec.Struct, frozen=True):
    """One process. Bytes; `cpu_s` is user and system time since it began.

    `pss` shares pages out among the processes that map them, so that it adds up over a tree; `uss` is
    what ending the process would free; `anon` is RssAnon, what limits.memory is about.
    """

    pid: int
    rss: int
    cpu_s: float
    threads: int
    pss: int | None = None
    uss: int | None = None
    anon: int | None = None

    @property
    def memory(self) -> int:
        """The process's share of memory: `pss`, or `rss` where the kernel does not tell."""
        return self.rss if self.pss is None else self.pss


class Total(msgspec.Struct, frozen=True):
    """The sum over processes. Bytes and seconds."""

    processes: int = 0
    memory: int = 0
    cpu_s: float = 0.0


class Resources(msgspec.Struct, frozen=True):
    """One sample of everything. `tree`: the daemon and everything below it, models or not."""

    box: Box
    processes: dict[int, Process]
    tree: Total


class Sampler:
    """Takes samples of the box and of this process's tree. Not for two threads at once."""

    def __init__(self, state: Path, clock: Callable[[], float] = time.time) -> None:
        self._state = state
        self._clock = clock
        self._busy_before = _busy()

    def sample(self) -> Resources:
        """Blocks for some milliseconds: call it in a thread."""
        found = {one.pid: one for one in map(process, _tree_pids()) if one is not None}
        return Resources(self._box(), found, total(found.values()))

    def _box(self) -> Box:
        memory = _known(psutil.virtual_memory)
        disk = _known(lambda: psutil.disk_usage(str(self._state)))
        network = _network()
        boot_s = _known(psutil.boot_time)
        load = _known(psutil.getloadavg)
        return Box(
            cores=psutil.cpu_count() or 1,
            cpu=self._cpu(),
            load_1m=load and load[0],
            memory_total=memory and memory.total,
            memory_available=memory and memory.available,
            disk_total=disk and disk.total,
            disk_free=disk and disk.free,
            network_received=network and network[0],
            network_sent=network and network[1],
            temperature=_temperature(),
            uptime_s=None if boot_s is None else max(0.0, self._clock() - boot_s),
        )

    def _cpu(self) -> float | None:
        before, now = self._busy_before, _busy()
        self._busy_before = now
        if before is None or now is None or now[1] <= before[1]:
            return None
        return min(1.0, max(0.0, (now[0] - before[0]) / (now[1] - before[1])))


def process(pid: int) -> Process | None:
    """One process now; None when it has ended or may not be looked at. The files are those of proc(5)."""
    try:
        told = _sizes(f"/proc/{pid}/status")
        rss = told.get(b"VmRSS")
        if rss is None:
            return None  # ended, and not yet waited for
        stat = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()  # a name may have any bytes
        user, system = int(stat[_UTIME]), int(stat[_UTIME + 1])
        shares = _known(lambda: _sizes(f"/proc/{pid}/smaps_rollup")) or {}
    except (OSError, ValueError, IndexError):
        return None
    private = [size for name, size in shares.items() if name.startswith(b"Private_")]
    return Process(
        pid=pid,
        rss=rss * 1024,
        cpu_s=(user + system) / _TICKS,
        threads=told.get(b"Threads", 1),
        pss=shares[b"Pss"] * 1024 if b"Pss" in shares else None,
        uss=sum(private) * 1024 if private else None,
        anon=told[b"RssAnon"] * 1024 if b"RssAnon" in told else None,
    )


def _sizes(file: str) -> dict[bytes, int]:
    """The lines of a file of proc(5) whose value is one number, mostly kB. Raises OSError."""
    fields = [line.split() for line in Path(file).read_bytes().splitlines()]
    return {line[0].rstrip(b":"): int(line[1]) for line in fields if 2 <= len(line) <= 3 and line[1].isdigit()}


def anonymous(pid: int) -> int | None:
    """RssAnon of a process in bytes, as cheap as it gets (0.03 ms); None when it has ended."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in Path(f"/proc/{pid}/status").read_bytes().splitlines():
            if line.startswith(b"RssAnon:"):
                return int(line.split()[1]) * 1024
    return None


def memory_available() -> int | None:
    """Bytes that processes can have without swapping: MemAvailable of proc(5), where the box tells."""
    memory = _known(psutil.virtual_memory)
    return memory and int(memory.available)


def total(processes: Iterable[Process]) -> Total:
    """The sum; memory by share, so that pages in common count once."""
    found = list(processes)
    return Total(len(found), sum(one.memory for one in found), sum(one.cpu_s for one in found))


def _tree_pids() -> list[int]:
    """This process and all below it, as the kernel lists them; where it does not, found among all of the box's."""
    pids = [os.getpid()]
    try:
        for pid in pids:  # which grows
            pids += _children(pid)
    except FileNotFoundError:  # without CONFIG_PROC_CHILDREN
        below = _known(lambda: psutil.Process().children(recursive=True)) or []
        return [os.getpid(), *(child.pid for child in below)]
    return pids


def _children(pid: int) -> list[int]:
    """Of all threads of a process; none when it has ended. Raises FileNotFoundError where the kernel has no lists."""
    try:
        threads = list(Path(f"/proc/{pid}/task").iterdir())
    except OSError:
        return []
    found: list[int] = []
    for thread in threads:
        try:
            found += map(int, (thread / "children").read_bytes().split())
        except FileNotFoundError:
            if thread.exists():
                raise
        except OSError:
            continue  # ended meanwhile
    return found


def _busy() -> tuple[float, float] | None:
    """Busy and total CPU seconds of the box. Waiting for a disk is idle; `guest` is part of `user` already."""
    times = _known(psutil.cpu_times)
    if times is None:
        return None
    all_s = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
    return all_s - times.idle - getattr(times, "iowait", 0.0), all_s


def _network() -> tuple[int, int] | None:
    interfaces = _known(lambda: psutil.net_io_counters(pernic=True))
    if interfaces is None:
        return None
    outside = [counters for name, counters in interfaces.items() if name != "lo"]
    return sum(one.bytes_recv for one in outside), sum(one.bytes_sent for one in outside)


def _temperature() -> float | None:
    """The hottest reading of the processor's own sensor, or of any sensor where none is known by name."""
    sensors = _known(psutil.sensors_temperatures) or {}
    named = [sensors[name] for name in _CPU_SENSORS if name in sensors][:1]
    readings = [one.current for group in named or sensors.values() for one in group if one.current]
    return max(readings, default=None)


def _known(ask: Callable[[], _T]) -> _T | None:
    """What `ask` returns, or None where this box or its sandbox does not tell."""
    try:
        return ask()
    except (psutil.Error, OSError, RuntimeError):  # NotImplementedError is one of these
        return None
