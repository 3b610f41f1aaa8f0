"""A route without processes: the seam that delivery drives, in memory.

What a generation does is written in its file: `good`, `nan`, `error`, `crash`, `slow`, `hang`, `other`
(another signature), `broken` (cannot be loaded), `random`, each followed by anything that makes the hash
differ: `b"good 1"`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import cast

from edged.channel import InputHead, Ready
from edged.errors import EdgedError, Fault, fault
from edged.serving.generation import Died, Generation, Probe
from edged.serving.release import Release, Tally
from edged.serving.route import Route
from edged.tensors import Signature, TensorSpec

SIGNATURE = Signature((TensorSpec("x", "FP32", (-1, 4)),), (TensorSpec("y", "FP32", (-1, 3)),))
OTHER = Signature((TensorSpec("x", "FP32", (-1, 5)),), (TensorSpec("y", "FP32", (-1, 3)),))
HANG_S = 0.5  # until `limits.run` ends a run


class MemoryGeneration:
    """One release that is loaded, as its file says it behaves."""

    def __init__(self, release: Release) -> None:
        content = Path(release.file).read_bytes()
        self.kind = content.split(b" ")[0].decode()
        self.release = release
        self.tally = Tally()
        signature = OTHER if self.kind == "other" else SIGNATURE
        self.facts = Ready(signature, ("cpu",), 0.0, 0.0, 1, 1.0)
        self.reason: Fault | None = None
        self.alive = True
        self.runs = 0

    async def generate(self, seed: int) -> tuple[bytes, int]:
        self._check_alive()
        return b"{}", 2

    async def probe(self, head: InputHead, payload: bytes) -> Probe:
        await asyncio.sleep(0)
        self._check_alive()
        self.runs += 1
        if self.kind == "hang":
            await asyncio.sleep(HANG_S)
            self.kill(fault("model_failed", "the run took longer than its limit"))
            raise Died(self.release.version)
        if self.kind == "crash":
            self.alive = False
            raise Died(self.release.version)
        problem = fault("model_failed", "it cannot") if self.kind == "error" else None
        answer = str(self.runs).encode() if self.kind == "random" else b"answer"
        return Probe(
            problem, problem is not None, self.kind == "nan", 9.0 if self.kind == "slow" else 0.001, 0.0, answer
        )

    def kill(self, reason: Fault | None = None) -> None:
        self.reason = self.reason or reason
        self.alive = False

    def _check_alive(self) -> None:
        if not self.alive:
            raise Died(self.release.version)


class MemoryRoute:
    """Who answers, without answering. `started` counts the loads of each version."""

    def __init__(self) -> None:
        self.live: MemoryGeneration | None = None
        self.previous: MemoryGeneration | None = None
        self.release: Release | None = None
        self.signature: Signature | None = None
        self.fault: Fault | None = None
        self.unloaded = False
        self.on_faulty: Callable[[Generation, Fault], bool] = lambda _generation, _fault: False
        self.inputs: list[tuple[InputHead, bytes]] = []
        self.started: list[str] = []
        self.ended: list[str] = []
        self.refuses_switch = False

    def as_route(self) -> Route:
        return cast("Route", self)

    async def make_room(self, release: Release) -> None:
        """There is memory for two."""

    def resume(self) -> None:
        """Nothing was ended to make room."""

    async def start(self, release: Release, *, candidate: bool = False) -> MemoryGeneration:
        await asyncio.sleep(0)
        self.started.append(release.version)
        try:
            generation = MemoryGeneration(release)
        except OSError as error:  # as a worker says it
            raise EdgedError("not_a_model", f"{release.file}: {error.strerror}", "") from error
        if generation.kind == "broken":
            raise EdgedError("not_a_model", "this is no model")
        return generation

    async def serve(self, release: Release) -> None:
        self.release = release
        if self.live is None:
            try:
                self._go_live(await self.start(release))
            except EdgedError as error:
                self.fault = error.fault

    async def unload(self, _limit_s: float) -> None:
        self.live, self.release, self.unloaded = None, None, True

    async def switch(self, to: MemoryGeneration) -> None:
        await asyncio.sleep(0)
        if self.refuses_switch or not to.alive:
            to.alive = False
            raise EdgedError("trial_crash", "its process ended before it became live")
        self.previous = self.live
        self._go_live(to)

    async def retire(self, generation: MemoryGeneration) -> None:
        if generation is self.live:
            raise ValueError("the live generation is not retired")
        if self.previous is generation:
            self.previous = None
        generation.alive = False
        self.ended.append(generation.release.version)

    def recent(self) -> list[tuple[InputHead, bytes]]:
        return self.inputs

    def _go_live(self, generation: MemoryGeneration) -> None:
        self.live, self.release, self.fault, self.unloaded = generation, generation.release, None, False
        self.signature = generation.facts.signature
