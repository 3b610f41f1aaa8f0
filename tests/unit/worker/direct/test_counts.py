"""What a worker keeps of its clients' inputs for trials."""

from __future__ import annotations

from edged.channel import INLINE, MEMFD
from edged.worker.direct.counts import Counts

SMALL, LARGE, HUGE = (memoryview(bytes(size)) for size in (1000, 2**20, 4 * 2**20 + 1))


def sampled(counts: Counts, body: memoryview, now_s: float) -> tuple[int, int]:
    """Bytes that are told of an input that was answered, and where they are."""
    counts.sample(body, now_s)
    told, payload = counts.take(now_s)
    return sum(map(len, payload)), told.place


def test_large_inputs_are_kept_now_and_then_and_huge_ones_never() -> None:
    """Each takes a memfd, of the worker and of the daemon: 20 MB a second were they told every time."""
    counts = Counts(0.0)
    assert sampled(counts, SMALL, 9.8) == (1000, INLINE)
    assert sampled(counts, LARGE, 10.0) == (2**20, MEMFD)
    assert sampled(counts, LARGE, 10.2) == (0, INLINE)
    assert sampled(counts, SMALL, 10.4) == (1000, INLINE)
    assert sampled(counts, LARGE, 14.9) == (0, INLINE)
    assert sampled(counts, LARGE, 15.0) == (2**20, MEMFD)
    assert sampled(counts, HUGE, 30.0) == (0, INLINE)
