"""Whether a release that answers real inputs may stay (RULES 26). Pure: figures in, a judgement out.

- Only the model's own faults count: a run that failed or timed out, NaN or infinity, a process that died.
- They count above the previous release's own rate: a sensor that gives every release NaN is nobody's fault.
- `max_errors` is exceeded strictly, and with at least 5 faults.
- Latency is CPU time per input, medians; too much is past both `max_latency` and one millisecond more.
- It is kept when `time` has passed and `runs` are done; with little traffic at 10 x `time`, as `untested_live`.
"""

from __future__ import annotations

import statistics
from collections.abc import Collection
from typing import Final

import msgspec

from edged.config.schema import Probation
from edged.config.units import Duration, Factor, Percent
from edged.delivery.documents import Watching
from edged.delivery.record import Baseline, Watched
from edged.errors import Fault, fault

FAULTS: Final = 5
PATIENCE: Final = 10
SLACK_S: Final = 0.001  # below a millisecond more nobody on the box can tell
SAMPLES: Final = 5  # runs below which a median says nothing

UNTESTED_LIVE: Final = "untested_live"


def overlaid(settings: Probation, watching: Watching) -> Probation:
    """The box's settings, with what the release's want says of them."""
    said = {
        "time": None if watching.time_s is None else Duration(max(0.1, watching.time_s)),
        "runs": watching.runs,
        "max_errors": None if watching.max_errors is None else Percent(min(1.0, watching.max_errors)),
        "max_latency": None if watching.max_latency is None else Factor(max(1.0, watching.max_latency)),
    }
    return msgspec.structs.replace(settings, **{name: one for name, one in said.items() if one is not None})


def faulty(settings: Probation, watched: Watched, baseline: Baseline, cpu_s: Collection[float]) -> Fault | None:
    """Why the release must go, or None. `cpu_s` is the CPU time of its newest inputs, in seconds."""
    return _errors(settings, watched, baseline) or _latency(settings, baseline, cpu_s)


def complete(settings: Probation, watched: Watched) -> tuple[bool, tuple[str, ...]]:
    """Whether probation is over for a release without fault, and the flags that it then carries."""
    if watched.elapsed_s >= settings.time and watched.runs >= settings.runs:
        return True, ()
    if watched.elapsed_s >= PATIENCE * settings.time:
        return True, (UNTESTED_LIVE,)
    return False, ()


def left_s(settings: Probation, watched: Watched) -> float:
    """Seconds that must still pass; 0 while only runs are missing."""
    return max(0.0, settings.time - watched.elapsed_s)


def most_s(settings: Probation, watched: Watched) -> float:
    """Seconds after which it is over, however few runs there were."""
    return max(0.0, PATIENCE * settings.time - watched.elapsed_s)


def too_slow(cpu_s: float, than_s: float, factor: float) -> bool:
    """RULES 25: past both a factor and a millisecond. False where there is nothing to compare with."""
    return than_s > 0 and cpu_s > factor * than_s and cpu_s > than_s + SLACK_S


def median(values: Collection[float]) -> float:
    """The median, 0 of nothing."""
    return statistics.median(values) if values else 0.0


def _errors(settings: Probation, watched: Watched, baseline: Baseline) -> Fault | None:
    if watched.bad < FAULTS:
        return None
    runs = max(watched.runs, watched.bad)  # a run that ended its process may not have been counted as one
    usual = baseline.bad / baseline.runs if baseline.runs else 0.0
    allowed = (settings.max_errors + min(usual, 1.0)) * runs
    if watched.bad <= allowed + 1e-9:  # strictly more, whatever the rounding of a percentage
        return None
    said = f"{watched.bad} faults in {runs} runs, {usual:.2%} before it, {float(settings.max_errors):.2%} allowed"
    if watched.crashes >= max(watched.faults, watched.nonfinite):
        return fault("probation_crash", f"its process ended {watched.crashes} times: {said}")
    if watched.nonfinite > watched.faults:
        return fault("nonfinite", f"it answered NaN or infinity {watched.nonfinite} times: {said}")
    return fault("probation_errors", said)


def _latency(settings: Probation, baseline: Baseline, cpu_s: Collection[float]) -> Fault | None:
    if len(cpu_s) < SAMPLES:
        return None
    now_s = median(cpu_s)
    if not too_slow(now_s, baseline.cpu_s, settings.max_latency):
        return None
    return fault(
        "probation_latency",
        f"{now_s * 1e3:.3g} ms of CPU per input, {baseline.cpu_s * 1e3:.3g} ms before it, "
        f"{float(settings.max_latency):g}x allowed",
    )
