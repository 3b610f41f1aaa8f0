"""What the versions of a model have executed, counted as Triton's statistics extension has it.

Cumulative since the daemon started: whoever samples twice subtracts. Times are nanoseconds of wall time. Of inputs
that share a batch each is counted with all of the batch's time, as Triton does: queue and compute of one request then
add up to what its client waited for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

_EXACT: Final = 64  # batch sizes up to here have a figure each; larger ones count as the next power of two


class Spent(msgspec.Struct, frozen=True):
    """How often, and how long in all."""

    count: int = 0
    ns: int = 0


class Ran(msgspec.Struct, frozen=True):
    """A batch that came back. `requests` of it were answered and had waited `waited_s` in all; `spent_ns`: decode, run,
    encode. `rows` are those of each run that it took; several runs are taken for equally long.
    """

    requests: int
    waited_s: float
    spent_ns: tuple[int, int, int]
    rows: Sequence[int]


class Served(msgspec.Struct, frozen=True):
    """What a process has answered by itself: how many inputs had each outcome, and, by index of buckets.BOUNDS_S, how
    long the "ok" ones took, `seconds` in all. `runs`, by their rows: how many there were, and nanoseconds.
    """

    outcomes: Mapping[str, int]
    durations: Mapping[int, int]
    seconds: float
    runs: Mapping[int, tuple[int, int]]


class Executed(msgspec.Struct, frozen=True):
    """The runs of one size, in rows: how many there were and what they took."""

    size: int
    count: int
    input_ns: int
    infer_ns: int
    output_ns: int


class Statistics(msgspec.Struct, frozen=True):
    """One version of a model. `inferences` are rows, of which a request may bring several; `executions` are runs.

    `success` and `fail` are requests, from arrival to answer; `queue`, `input` (decode), `infer` (run) and `output`
    (encode) are parts of `success`. `last_ms` is wall clock, 0 for never.
    """

    inferences: int = 0
    executions: int = 0
    last_ms: int = 0
    success: Spent = Spent()
    fail: Spent = Spent()
    queue: Spent = Spent()
    input: Spent = Spent()
    infer: Spent = Spent()
    output: Spent = Spent()
    batches: tuple[Executed, ...] = ()


class Tally:
    """The counters of one version: every batch that comes back adds to them."""

    __slots__ = ("_batches", "_last_ms", "_ns", "_requests", "_waited_s")

    def __init__(self) -> None:
        self._requests = 0
        self._waited_s = 0.0
        self._ns = (0, 0, 0)
        self._last_ms = 0
        self._batches: dict[int, list[int]] = {}

    def add(self, ran: Ran, now_ms: int) -> None:
        decode_ns, run_ns, encode_ns = ran.spent_ns
        requests, rows = ran.requests, ran.rows
        self._last_ms = now_ms
        self._requests += requests
        self._waited_s += ran.waited_s
        before = self._ns
        self._ns = (
            before[0] + requests * decode_ns,
            before[1] + requests * run_ns,
            before[2] + requests * encode_ns,
        )
        for size in rows:
            figures = self._of(size)
            figures[0] += 1
            figures[1] += size
            figures[2] += decode_ns // len(rows)
            figures[3] += run_ns // len(rows)
            figures[4] += encode_ns // len(rows)

    def add_served(self, served: Served, now_ms: int) -> None:
        """Many runs, of one row a request; their nanoseconds all count as `infer`."""
        self._last_ms = now_ms
        self._requests += served.outcomes.get("ok", 0)
        decode_ns, run_ns, encode_ns = self._ns
        for size, (count, ns) in served.runs.items():
            figures = self._of(size)
            figures[0] += count
            figures[1] += size * count
            figures[3] += ns
            run_ns += size * ns
        self._ns = decode_ns, run_ns, encode_ns

    def _of(self, size: int) -> list[int]:
        key = size if size <= _EXACT else 1 << (size - 1).bit_length()
        return self._batches.setdefault(key, [0, 0, 0, 0, 0])

    def statistics(self, success: Spent, fail: Spent) -> Statistics:
        """All of it, with what is counted of requests elsewhere."""
        return Statistics(
            inferences=sum(figures[1] for figures in self._batches.values()),
            executions=sum(figures[0] for figures in self._batches.values()),
            last_ms=self._last_ms,
            success=success,
            fail=fail,
            queue=Spent(self._requests, round(self._waited_s * 1e9)),
            input=Spent(self._requests, self._ns[0]),
            infer=Spent(self._requests, self._ns[1]),
            output=Spent(self._requests, self._ns[2]),
            batches=tuple(Executed(size, count, *ns) for size, (count, _, *ns) in sorted(self._batches.items())),
        )
