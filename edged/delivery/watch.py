"""What a release on probation has done so far, gathered from the tallies of its processes."""

from __future__ import annotations

from collections.abc import Callable, Collection

from edged.delivery import probation
from edged.delivery.record import Baseline, Watched
from edged.serving.generation import Generation
from edged.serving.release import Tally


class Watch:
    """Adds up from `begun` on. Time counts only while the model is live; the clock is monotonic seconds."""

    def __init__(self, begun: Watched, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._begun = begun  # before the tally that is read now
        self._tally: Tally | None = None
        self._elapsed_s = begun.elapsed_s
        self._looked_s = clock()

    def look(self, live: Generation | None) -> tuple[Watched, Collection[float]]:
        """What was seen up to now, and the CPU seconds of its newest inputs."""
        now_s = self._clock()
        if live is not None:
            self._elapsed_s += now_s - self._looked_s
            if live.tally is not self._tally:
                self._begun, self._tally = self._sum(), live.tally
        self._looked_s = now_s
        return self._sum(), self._tally.cpu_s if self._tally else ()

    def _sum(self) -> Watched:
        begun, tally = self._begun, self._tally or Tally()
        return Watched(
            elapsed_s=round(self._elapsed_s, 3),
            runs=begun.runs + tally.runs,
            faults=begun.faults + tally.faults,
            nonfinite=begun.nonfinite + tally.nonfinite,
            crashes=begun.crashes + tally.crashes,
        )


def baseline(live: Generation | None, trial_cpu_s: float) -> Baseline:
    """How the release before behaved; `trial_cpu_s` where it has answered too little to have a median."""
    if live is None:
        return Baseline()
    tally = live.tally
    enough = len(tally.cpu_s) >= probation.SAMPLES
    return Baseline(
        runs=tally.runs,
        bad=tally.faults + tally.nonfinite + tally.crashes,
        cpu_s=probation.median(tally.cpu_s) if enough else trial_cpu_s,
    )
