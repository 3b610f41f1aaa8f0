"""What the figures ought to be, beside what they are. No I/O."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from benchmarks import cost
from benchmarks.beside import Beside
from benchmarks.figures import Row, median_of
from benchmarks.footprint import Process
from benchmarks.swap import Swap, Trial

_HTTP_US: Final[dict[int, float]] = {1: 75, 16: 40, 64: 35}
_CPU_US: Final[dict[tuple[str, str], dict[int, float]]] = {  # of a path and a model, by the number in flight
    (cost.EDGED_UNIX, "tiny"): _HTTP_US,
    (cost.EDGED_TCP, "tiny"): _HTTP_US,  # hand-made FastAPI on the machine of these goals: 83, 77, 81
    (cost.EDGED_UNIX, "conv"): {16: 70},
    (cost.EDGED_TCP, "conv"): {16: 70},
    (cost.EDGED_FAST, "tiny"): {1: 55, 16: 14, 64: 10},  # Python on a socket: 12 to 14 (the row `python unix`)
    (cost.EDGED_DIRECT, "tiny"): {1: 20, 16: 14, 64: 8},
    (cost.EDGED_GRPC, "tiny"): {1: 220, 16: 110, 64: 100},  # KServe's own: 366, 291, 289
    (cost.EDGED_MQTT.format(qos=0), "tiny"): {1: 90, 16: 40, 64: 36},  # the paho script: 65, 30, 30
    (cost.EDGED_MQTT.format(qos=1), "tiny"): {1: 130, 16: 70, 64: 65},  # the paho script: 97, 61, 60
}
_TIMES_BARE: Final = dict.fromkeys(  # `image`, the worst
    (cost.EDGED_RING, cost.EDGED_DIRECT_RING, cost.EDGED_UNIX, cost.EDGED_TCP), 1.1
)
_QOS1_P99_MS = 7
_BESIDE_P99_MS = 1
_SWAP_TIMES, _SWAP_MS, _SWAP_GAP_MS, _SWAP_NEW_MS = 2, 5, 5, 100
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
    beside: list[Beside] = field(default_factory=list)

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
    for (path, model), limits in _CPU_US.items():
        for count, limit in limits.items():
            if row := rows.get((path, model, count)):
                yield Goal(f"{path}, {model}, {count} in flight: CPU a request", row.cpu_us, limit, "us")
    path = cost.EDGED_MQTT.format(qos=1)
    for count in (1, 4, 16):  # at 64 a closed loop measures its own queue
        if row := rows.get((path, "tiny", count)):
            yield Goal(f"{path}, tiny, {count} in flight: p99", row.p99_ms, _QOS1_P99_MS, "ms")
    for path, limit in _TIMES_BARE.items():
        images = [row for row in results.rows if (row.subject, row.model) == (path, "image")]
        if times := [row.times_bare for row in images if row.times_bare]:
            yield Goal(f"{path}, image: CPU x onnxruntime alone, the worst", max(times), limit, "x")
    for one in results.beside:
        if one.subject != cost.FLOOR:
            what = f"{one.subject}, {one.model} beside {one.other}, saturated: p99"
            yield Goal(what, one.p99_ms, _BESIDE_P99_MS, "ms")
    for swap in results.swaps:
        limit_ms = max(_SWAP_TIMES * swap.p99_before_ms, _SWAP_MS)
        yield Goal(f"swap, {swap.model} over {swap.path}: p99 during", swap.p99_during_ms, limit_ms, "ms")
        yield Goal(f"swap, {swap.model} over {swap.path}: gap at the switch", swap.switch_gap_ms, _SWAP_GAP_MS, "ms")
        yield Goal(f"swap, {swap.model} over {swap.path}: longest gap", swap.gap_ms, _SWAP_GAP_MS, "ms")
        yield Goal(f"swap, {swap.model} over {swap.path}: first new answer", swap.new_ms, _SWAP_NEW_MS, "ms")
        yield Goal(f"swap, {swap.model} over {swap.path}: last old answer", swap.old_ms, _SWAP_NEW_MS, "ms")
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
