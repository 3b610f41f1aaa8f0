"""What was answered on a model's own socket since the daemon was last told, and one input of it for a trial."""

from __future__ import annotations

import contextlib
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Sequence
from typing import Final

from edged.channel import INLINE, MEMFD, MESSAGE_LIMIT
from edged.door import Sampled, Tallies
from edged.observe.buckets import BOUNDS_S

EVERY_S: Final = 0.2  # the daemon is told at most so often; of a process that is killed, so much is not counted
_SAMPLED_CPU: Final = 16  # inputs whose CPU time is told at once
_SMALL: Final = MESSAGE_LIMIT // 2  # bytes of an input that travels in the message
_LARGEST: Final = 4 * 2**20  # bytes; larger ones are kept for no trial
_LARGE_EVERY_S: Final = 5.0  # so often at most one that takes memory of its own


class Counts:
    """The counts; `told_s` is when the daemon was told last."""

    def __init__(self, now_s: float) -> None:
        self.told_s = now_s
        self._large_s = 0.0
        self._begin()

    def _begin(self) -> None:
        self._outcomes: defaultdict[str, int] = defaultdict(int)
        self._durations: defaultdict[int, int] = defaultdict(int)
        self._seconds = 0.0
        self._own = self._nonfinite = 0
        self._cpu_ns: list[int] = []
        self._runs: dict[int, tuple[int, int]] = {}
        self._sample: bytes | None = None

    @property
    def any(self) -> bool:
        """Whether there is something to tell."""
        return bool(self._outcomes)

    def ok(self, count: int, seconds: float, nonfinite: int = 0) -> None:
        """So many inputs were answered well, each so long after it was read."""
        self._outcomes["ok"] += count
        self._durations[bisect_left(BOUNDS_S, seconds)] += count
        self._seconds += seconds * count
        self._nonfinite += nonfinite

    def failed(self, code: str, *, own: bool = False) -> None:
        """One was answered with an error; `own`: the model is to blame."""
        self._outcomes[code] += 1
        self._own += own

    def ran(self, rows: Sequence[int], nanoseconds: int) -> None:
        """A batch took runs of so many rows each, and so long in all."""
        for size in rows:
            count, spent_ns = self._runs.get(size, (0, 0))
            self._runs[size] = count + 1, spent_ns + nanoseconds // len(rows)

    @property
    def wants_cpu(self) -> bool:
        return len(self._cpu_ns) < _SAMPLED_CPU

    def cpu(self, nanoseconds: int) -> None:
        """What one input took of this process's CPU."""
        self._cpu_ns.append(nanoseconds)

    def sample(self, body: memoryview, now_s: float) -> None:
        """Keeps one of the inputs that were answered well."""
        if self._sample is not None or len(body) > _LARGEST:
            return
        if len(body) > _SMALL:
            if now_s - self._large_s < _LARGE_EVERY_S:
                return
            self._large_s = now_s
        with contextlib.suppress(MemoryError):
            self._sample = bytes(body)

    def take(self, now_s: float, *, left: bool = False) -> tuple[Tallies, list[bytes]]:
        """What is to be told, and its payload; counted anew from then on."""
        sample = self._sample
        told = Tallies(
            dict(self._outcomes),
            dict(self._durations),
            self._seconds,
            self._own,
            self._nonfinite,
            tuple(self._cpu_ns),
            self._runs,
            () if sample is None else (Sampled(len(sample)),),
            MEMFD if sample is not None and len(sample) > _SMALL else INLINE,
            left,
        )
        self.told_s = now_s
        self._begin()
        return told, [] if sample is None else [sample]
