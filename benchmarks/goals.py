"""What the figures ought to be, beside what they are. No I/O."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from benchmarks import cost
from benchmarks.figures import Row, median_of
from benchmarks.footprint import Process
from benchmarks.swap import Swap, Trial

_HTTP_TINY_US = {1: 75, 16: 40, 64: 35}  # hand-made FastAPI on the machine of these goals: 83, 77, 81
_GRPC_TINY_US = {1: 220, 16: 110, 64: 100}  # KServe's own on the machine of these goals: 366, 291, 289
_MQTT_TINY_US = {1: 110, 16: 50}
_FAST_TINY_US = {1: 55, 16: 14, 64: 10}  # Python on a socket: 12 to 14 (the row `python unix`)
_RING_TIMES_BARE = 1.1
_QOS1_P99_MS = 7
_IMAGE_TIMES_BARE = 1.1
_SWAP_TIMES, _SWAP_MS = 3, 5
_TRIAL_TIMES, _TRIAL_MS = 2, 5
_START_S = 0.5
_PSS_MB = 80
_IDLE_PERCENT = 0.5


@dataclass(frozen=True)
class Results:
    """Everything that was measured; what was not asked for is empty."""

    bare_us: dict[str, float] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    starts_s: list[float] = field(default_factory=list)
    processes: list[Process] = field(default_factory=list)
    peers_pss_bytes: dict[str, int] = field(default_factory=dict)
    idle_percent: float | None = None
    swaps: list[Swap] = field(default_factory=list)
    trials: list[Trial] = field(default_factory=list)

    @property
    def pss_mb(self) -> float | None:
        """All processes of an idle daemon with one tiny model, in 10^6 bytes."""
        return sum(process.pss_bytes for process in self.processes) / 1e6 if self.processes else None


@dataclass(frozen=True)
class Goal:
    """One goal: met when the value is at most the limit."""

    what: str
    value: float
    limit: float
    unit: str

    @property
    def met(self) -> bool:
        return self.value <= self.limit


def goals(results: Results) -> Iterator[Goal]:
    """Those whose figures were measured."""
    rows = {(row.subject, row.model, row.in_flight): row for row in results.rows}
    for path in (cost.EDGED_UNIX, cost.EDGED_TCP):
        for count, limit in _HTTP_TINY_US.items():
            if row := rows.get((path, "tiny", count)):
                yield Goal(f"{path}, tiny, {count} in flight: CPU a request", row.cpu_us, limit, "us")
    for count, limit in _FAST_TINY_US.items():
        if row := rows.get((cost.EDGED_FAST, "tiny", count)):
            yield Goal(f"{cost.EDGED_FAST}, tiny, {count} in flight: CPU a request", row.cpu_us, limit, "us")
    rings = [row for row in results.rows if (row.subject, row.model) == (cost.EDGED_RING, "image")]
    if times := [row.times_bare for row in rings if row.times_bare]:
        yield Goal(f"{cost.EDGED_RING}, image: CPU x onnxruntime alone, the worst", max(times), _RING_TIMES_BARE, "x")
    for count, limit in _GRPC_TINY_US.items():
        if row := rows.get((cost.EDGED_GRPC, "tiny", count)):
            yield Goal(f"{cost.EDGED_GRPC}, tiny, {count} in flight: CPU a request", row.cpu_us, limit, "us")
    path = cost.EDGED_MQTT.format(qos=0)
    for count, limit in _MQTT_TINY_US.items():
        if row := rows.get((path, "tiny", count)):
            yield Goal(f"{path}, tiny, {count} in flight: CPU a request", row.cpu_us, limit, "us")
    path = cost.EDGED_MQTT.format(qos=1)
    for count in (1, 4, 16):  # at 64 a closed loop measures its own queue
        if row := rows.get((path, "tiny", count)):
            yield Goal(f"{path}, tiny, {count} in flight: p99", row.p99_ms, _QOS1_P99_MS, "ms")
    for path in (cost.EDGED_UNIX, cost.EDGED_TCP):
        found = [
            row.times_bare for row in results.rows if (row.subject, row.model) == (path, "image") and row.times_bare
        ]
        if found:
            yield Goal(f"{path}, image: CPU x onnxruntime alone, the worst", max(found), _IMAGE_TIMES_BARE, "x")
    for swap in results.swaps:
        limit_ms = max(_SWAP_TIMES * swap.p99_before_ms, _SWAP_MS)
        yield Goal(f"swap, {swap.model} over {swap.path}: p99 during", swap.p99_during_ms, limit_ms, "ms")
        yield Goal(f"swap, {swap.model} over {swap.path}: lost", swap.lost, 0, "")
    for trial in results.trials:
        limit_ms = max(_TRIAL_TIMES * trial.p99_before_ms, _TRIAL_MS)
        what = f"{trial.model} over {trial.path}, 10 MB on trial"
        yield Goal(f"{what}: p99", trial.p99_trial_ms, limit_ms, "ms")
        yield Goal(f"{what}: lost", trial.lost, 0, "")
    if (start_s := median_of(results.starts_s)) is not None:
        yield Goal("from exec to READY=1", start_s, _START_S, "s")
    if results.pss_mb is not None:
        yield Goal("PSS of all processes, one tiny model", results.pss_mb, _PSS_MB, "MB")
    if results.idle_percent is not None:
        yield Goal("CPU while idle, broker connected", results.idle_percent, _IDLE_PERCENT, "%")
