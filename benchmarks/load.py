"""The load: the C clients built from clients/, and what they report."""

from __future__ import annotations

import itertools
import json
import resource
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_HERE: Final = Path(__file__).parent
_SOURCES: Final = [(_HERE / "clients" / "hload.c", []), (_HERE / "clients" / "mqload.c", ["-lmosquitto"])]
_ECHO: Final = _HERE / "peers" / "echo.c"
_PATIENCE_S: Final = 90.0  # beyond the load's own seconds: both clients give up before


@dataclass(frozen=True)
class Report:
    """What a client saw; `rate` in answers a second, `gap_ms` the longest time without an answer."""

    sent: int
    answers: int
    bad: int
    broken: int
    rate: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    gap_ms: float
    client_cpu_us: float

    @property
    def lost(self) -> int:
        """Requests without a good answer."""
        return self.sent - self.answers

    @property
    def faults(self) -> int:
        """All that ought not to be: lost requests, and connections that were refused or broken."""
        return max(self.lost, self.bad + self.broken)


def parsed(line: str) -> Report:
    """The line of JSON that a client prints. Raises ValueError when it is anything else."""
    try:
        return Report(**json.loads(line))
    except TypeError as error:
        raise ValueError(f"not a load client's report: {line[:200]!r}") from error


def logged(text: str, seconds: float, spent_s: float) -> Report:
    """A log of h2load's: start, status and duration of each request, in microseconds; of a load of so many seconds,
    for which the client has spent `spent_s` of CPU time. Raises ValueError for a log without a request.
    """
    rows = [tuple(map(int, line.split())) for line in text.splitlines()]
    if not rows:
        raise ValueError("h2load has sent nothing")
    times_ms = sorted(took_us / 1000 for _, status, took_us in rows if status == 200)
    ends_us = sorted(start + took for start, status, took in rows if status == 200)
    good = len(times_ms)
    return Report(
        sent=len(rows),
        answers=good,
        bad=len(rows) - good,
        broken=0,
        rate=good / seconds,
        p50_ms=times_ms[good // 2] if good else 0.0,
        p99_ms=times_ms[good * 99 // 100] if good else 0.0,
        max_ms=times_ms[-1] if good else 0.0,
        gap_ms=max((after - before for before, after in itertools.pairwise(ends_us)), default=0) / 1000,
        client_cpu_us=spent_s * 1e6 / max(good, 1),
    )


class Clients:
    """Both clients and the floor of C, built below `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        for source, libraries in [*_SOURCES, (_ECHO, [])]:
            subprocess.run(["gcc", "-O2", "-o", folder / source.stem, source, *libraries], check=True)

    def echo(self) -> str:
        """The program that answers frames with themselves: the floor of C."""
        return str(self._folder / _ECHO.stem)

    def http(self, target: str, request: Path, in_flight: int, seconds: float, times: Path | None = None) -> Report:
        """`target`: a port on loopback, or the path of a UNIX socket. `times`: where to keep every latency."""
        return self._run("hload", seconds, [target, request, in_flight, seconds], times)

    def fast(
        self,
        target: str,
        request: Path,
        in_flight: int,
        seconds: float,
        times: Path | None = None,
        ring: Path | None = None,
    ) -> Report:
        """`target`: the path of a UNIX socket; `request`: a frame. `ring`: what each connection has in its ring."""
        arguments: list[object] = [target, request, in_flight, seconds, times or "-"]
        return self._run("hload", seconds, [*arguments, *([] if ring is None else [ring])], None)

    def mqtt(
        self,
        port: int,
        qos: int,
        topics: tuple[str, str],
        body: Path,
        in_flight: int,
        seconds: float,
        times: Path | None = None,
    ) -> Report:
        """`topics`: where inputs go, and where answers come from."""
        return self._run("mqload", seconds, [port, qos, *topics, body, in_flight, seconds], times)

    def grpc(self, port: int, path: str, body: Path, in_flight: int, seconds: float) -> Report:
        """h2load of nghttp2: one connection, `in_flight` calls of `path` at a time, each with the message in `body`."""
        times = self._folder / "h2load.log"
        times.unlink(missing_ok=True)
        options = ["-c1", f"-m{in_flight}", f"-D{round(seconds * 1000)}ms", f"--log-file={times}", "-d", str(body)]
        options += ["-H", "content-type: application/grpc", "-H", "te: trailers", f"http://127.0.0.1:{port}{path}"]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(["h2load", *options], stdout=subprocess.DEVNULL, timeout=seconds + _PATIENCE_S, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return logged(times.read_text(), seconds, spent_s)

    def _run(self, name: str, seconds: float, arguments: list[object], times: Path | None) -> Report:
        command = [str(self._folder / name), *map(str, arguments), *([] if times is None else [str(times)])]
        done = subprocess.run(command, stdout=subprocess.PIPE, timeout=seconds + _PATIENCE_S, check=True)
        return parsed(done.stdout.decode())
