"""Measures a model on this box: how many inputs a second it answers, by threads of a run and inputs in a batch.

In worker processes as the daemon starts them, one for each number of threads, with made-up inputs and two batches under
way at a time, as a lane sends them. What the figures mean for a configuration is `choose`'s, which is pure.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Sequence
from typing import Final, NamedTuple

import msgspec

from edged.channel import InputHead
from edged.config.schema import Batch, Model
from edged.errors import EdgedError, Fault, fault
from edged.serving.generation import Died, Generation
from edged.serving.rehearsal import started

BATCHES: Final = (1, 2, 4, 8, 16, 32, 64)
NEAR: Final = 0.9  # of the best: within the noise of it, and what asks for less is better
_IN_FLIGHT: Final = 2  # batches (RULES 10)
_INPUTS: Final = 4  # made up, and sent in turn
_LEAST: Final = 3  # batches that a figure rests on, however long they take
_BYTES: Final = 32 * 2**20  # of a batch: above it memory is what is measured
_OVER: Final = frozenset(
    {"over_memory", "too_slow", "trial_crash", "model_failed"}
)  # fewer threads, or inputs, may fit


class Row(msgspec.Struct, frozen=True):
    """One number of threads, one size of batch. `rate`: inputs a second. `batch_ms`: until a batch alone is answered,
    the median. `cpu_us`: what an input takes of the worker.
    """

    threads: int
    batch: int
    rate: float
    batch_ms: float
    cpu_us: float


class Failed(msgspec.Struct, frozen=True):
    """A combination that does not run within the model's limits; larger batches were not tried then."""

    threads: int
    batch: int
    fault: Fault


class Measured(NamedTuple):
    """At least one row, and what could not be measured."""

    rows: list[Row]
    failed: list[Failed]


def threads_for(cores: int) -> tuple[int, ...]:
    """1, 2, 4 .. and as many as there are cores, at most 64."""
    most = min(max(cores, 1), 64)
    return (*(count for count in (1, 2, 4, 8, 16, 32) if count < most), most)


def choose(rows: Sequence[Row]) -> Row:
    """The fewest threads that answer NEAR as many inputs as the best; with these the smallest batch that is NEAR the
    least CPU for an input.

    More threads are there for more answers, or they take a core from other models. A batch is there to save CPU:
    one that is larger and saves none makes whoever is in it, and behind it, wait for the whole of it, and answers no
    more than the others once the box has other work.
    """
    best = max(row.rate for row in rows)
    threads = min(row.threads for row in rows if row.rate >= NEAR * best)
    among = [row for row in rows if row.threads == threads]
    least_us = min(row.cpu_us for row in among)
    return min((row for row in among if NEAR * row.cpu_us <= least_us), key=lambda row: row.batch)


def measure(settings: Model, threads: Sequence[int], limit_s: float) -> Measured:
    """Every combination, in about `limit_s`. Not for a running loop.

    Raises EdgedError when the model cannot be loaded, or what it made of an input that was made up for it; so too when
    nothing runs within its limits.
    """
    return asyncio.run(_measure(settings, threads, limit_s))


async def _measure(settings: Model, threads: Sequence[int], limit_s: float) -> Measured:
    found = Measured([], [])
    for count in threads:
        changed = msgspec.structs.replace(settings, threads=count, batch=Batch(max=BATCHES[-1]))
        try:
            async with started(changed) as generation:
                async for one in _rows(generation, count, limit_s / len(threads)):
                    if isinstance(one, Row):
                        found.rows.append(one)
                    else:
                        found.failed.append(one)
        except EdgedError as error:
            found.failed.append(_failed(count, 1, error))
    if not found.rows:
        first = found.failed[0]
        text = f"with {_counted(first.threads, 'thread')} and {_counted(first.batch, 'input')}: {first.fault.message}"
        raise EdgedError(first.fault.code, text, "Raise the model's limits: see limits.run and limits.memory.")
    return found


def _failed(threads: int, batch: int, error: EdgedError) -> Failed:
    """Raises the error where it is not about a limit."""
    if error.fault.code not in _OVER:
        raise error
    return Failed(threads, batch, error.fault)


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


async def _rows(generation: Generation, threads: int, limit_s: float) -> AsyncIterator[Row | Failed]:
    """Batches of each size that the worker would stack, which it has found out; the first that fails is the last."""
    count = 1
    try:
        inputs = [await generation.generate(seed) for seed in range(_INPUTS)]
        size = max(len(payload) for payload, _ in inputs)
        batches = [one for one in BATCHES if one == 1 or (one <= generation.batch_max and one * size <= _BYTES)]
        until_s = time.monotonic() + limit_s
        for left, count in zip(range(len(batches), 0, -1), batches, strict=True):
            sent = [inputs[index % len(inputs)] for index in range(count)]
            load = _Load(generation, sent)
            alone_s = [await load.once() for _ in range(_LEAST)]
            rate, cpu_s = await load.keep(max(0.0, until_s - time.monotonic()) / left)
            yield Row(threads, count, rate, 1000 * statistics.median(alone_s), 1e6 * cpu_s)
    except Died:
        yield Failed(threads, count, generation.reason or fault("model_failed", "its process crashed"))
    except EdgedError as error:
        yield _failed(threads, count, error)


class _Load:
    """The same batch again and again. Its methods raise Died, and EdgedError for a fault of the model's."""

    def __init__(self, generation: Generation, inputs: Sequence[tuple[bytes, int]]) -> None:
        self._generation: Final = generation
        self._heads: Final = [InputHead(len(payload), json_length=json_length) for payload, json_length in inputs]
        self._payloads: Final = [payload for payload, _ in inputs]
        self._batches = 0
        self._cpu_ns = 0

    async def once(self) -> float:
        """How long it took, in s."""
        began_s = time.monotonic()
        answers = await self._generation.run(self._heads, self._payloads)
        for head in answers.heads:
            if head.fault is not None:
                raise EdgedError(head.fault.code, f"an input that was made up: {head.fault.message}", head.fault.hint)
        self._batches += 1
        self._cpu_ns += answers.cpu_ns
        return time.monotonic() - began_s

    async def keep(self, limit_s: float) -> tuple[float, float]:
        """Two under way for so long, at least three in all: (inputs a second, CPU of the worker for one in s)."""
        self._batches = self._cpu_ns = 0
        began_s = time.monotonic()
        until_s = began_s + limit_s

        async def again() -> None:
            while time.monotonic() < until_s or self._batches < _LEAST:
                await self.once()

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(_IN_FLIGHT):
                    group.create_task(again())
        except ExceptionGroup as both:
            raise both.exceptions[0] from both
        inputs = self._batches * len(self._heads)
        return inputs / (time.monotonic() - began_s), self._cpu_ns / 1e9 / inputs
