"""Two models at once: how long a tiny one's clients wait while another model is saturated, and what of that is the
machine's: the same for a plain process, which has no edged between it and its clients.
"""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks import cost, subjects
from benchmarks.load import Clients, Report
from benchmarks.models import Model

SATURATING: Final = 4  # connections, each with one request of the large model always under way
_BEFORE_S: Final = 0.5  # of that load, until the tiny model's clients come


@dataclass(frozen=True)
class Beside:
    """One client of the tiny model, one request at a time, without and with the other model's load. `rate`: of that
    one's answers meanwhile, a second.
    """

    subject: str
    model: str
    other: str
    p50_alone_ms: float
    p99_alone_ms: float
    p50_ms: float
    p99_ms: float
    rate: float
    faults: int


def measured(tiny: Model, image: Model, clients: Clients, folder: Path, seconds: float) -> list[Beside]:
    """edged's fast lane, its direct lane, and the plain process; always beside the same load of edged's other model."""
    with contextlib.ExitStack() as stack:
        lane, floor = folder / "fast.sock", folder / "tiny.sock"
        configured = subjects.configuration([tiny, image], fast=lane, direct=True)
        box = stack.enter_context(subjects.edged(configured))
        assert box.process is not None
        peer = stack.enter_context(subjects.peer("unix_raw.py", tiny.file, floor))
        direct = Path(box.model(tiny.name)["direct"])
        found = []
        other = subjects.ring_target(subjects.fast_target(box.process.pid, lane, image, folder), image, folder)
        for name, pid, where in (
            (cost.EDGED_FAST, box.process.pid, lane),
            (cost.EDGED_DIRECT, box.process.pid, direct),
            (cost.FLOOR, peer, floor),
        ):
            target = subjects.fast_target(pid, where, tiny, folder)

            def asked(seconds: float, target: subjects.Target = target) -> Report:
                return clients.fast(target.where, target.request, 1, seconds)

            alone = asked(seconds)
            with _saturated(clients, other, seconds) as load:
                beside = asked(seconds)
            rest = load()
            faults = alone.faults + beside.faults + rest.faults
            times_ms = (alone.p50_ms, alone.p99_ms, beside.p50_ms, beside.p99_ms)
            found.append(Beside(name, tiny.name, image.name, *times_ms, rest.rate, faults))
    return found


@contextlib.contextmanager
def _saturated(clients: Clients, other: subjects.Target, seconds: float) -> Iterator[Callable[[], Report]]:
    """The load of the other model from before until after; gives what tells of it at the end."""
    with ThreadPoolExecutor(1) as pool:
        length_s = seconds + 2 * _BEFORE_S
        load = pool.submit(clients.fast, other.where, other.request, SATURATING, length_s, ring=Path(other.answers))
        time.sleep(_BEFORE_S)
        yield load.result


def medians(runs: Sequence[Sequence[Beside]]) -> list[Beside]:
    """Each subject's runs as one: medians, and all faults."""
    return [_median(same) for same in zip(*runs, strict=True)]


def _median(same: Sequence[Beside]) -> Beside:
    first = same[0]
    return Beside(
        first.subject,
        first.model,
        first.other,
        statistics.median(one.p50_alone_ms for one in same),
        statistics.median(one.p99_alone_ms for one in same),
        statistics.median(one.p50_ms for one in same),
        statistics.median(one.p99_ms for one in same),
        statistics.median(one.rate for one in same),
        sum(one.faults for one in same),
    )
