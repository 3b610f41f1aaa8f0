"""A real route on real worker processes, for tests that look at one model from the inside."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import uvloop

from edged import listening
from edged.config.schema import Model
from edged.messages import Admission, Input, Outcome, Source
from edged.observe.executions import Ran, Served
from edged.serving.release import Release
from edged.serving.route import Route
from edged.serving.starter import Starter


class Counters:
    """Counts what serving reports."""

    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter()
        self.drops: Counter[str] = Counter()
        self.restarts = 0
        self.faults: Counter[str] = Counter()
        self.runs: list[int] = []

    def answered(self, model: str, version: str, outcome: str, seconds: float) -> None:
        self.outcomes[outcome] += 1

    def dropped(self, model: str, reason: str) -> None:
        self.drops[reason] += 1

    def restarted(self, model: str) -> None:
        self.restarts += 1

    def fault(self, where: str) -> None:
        self.faults[where] += 1

    def ran(self, model: str, version: str, ran: Ran) -> None:
        self.runs.extend(ran.rows)

    def served(self, model: str, version: str, served: Served) -> None:
        assert sum(served.durations.values()) == served.outcomes.get("ok", 0)
        self.outcomes.update(served.outcomes)
        self.runs.extend(size for size, (count, _) in served.runs.items() for _ in range(count))


class Bench:
    """One model's route, and a sender."""

    def __init__(self, route: Route, counters: Counters, folder: Path) -> None:
        self.route = route
        self.counters = counters
        self._folder = folder

    def release(self, content: bytes, version: int = 1) -> Release:
        file = self._folder / f"{version}.onnx"
        file.write_bytes(content)
        return Release(self.route.settings.name, str(version), f"{version:064d}", str(file))

    def send(
        self,
        payload: bytes | memoryview,
        source: Source = Source.HTTP,
        *,
        deadline_s: float | None = None,
        name: str = "",
    ) -> asyncio.Future[Outcome]:
        """Offers an input; the future has its one outcome. A second reply fails the test."""
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

        def reply(outcome: Outcome) -> None:
            if not future.cancelled():  # whoever waited has given up
                future.set_result(outcome)

        now_s = time.monotonic()
        item = Input(
            self.route.settings.name,
            payload,
            source,
            reply,
            now_s,
            deadline_s=None if deadline_s is None else now_s + deadline_s,
            id=name,
        )
        if self.route.offer(item) is Admission.BLOCKED:
            future.cancel()
        return future

    async def until(self, condition: Callable[[], Any], limit_s: float = 30) -> None:
        async with asyncio.timeout(limit_s):
            while not condition():  # noqa: ASYNC110 - conditions of another process, too
                await asyncio.sleep(0.005)


def at(folder: Path) -> Callable[[], listening.Bound]:
    """What opens a model's own socket below `folder`."""
    return partial(listening.unix, folder / "m.sock", descriptors=True)


async def serve(bench: Bench, content: bytes) -> str:
    """The address of the socket, served by a process of this model."""
    bench.route.door.open()
    await bench.route.serve(bench.release(content))
    return bench.route.door.address


Scenario = Callable[[Bench], Awaitable[None]]


@pytest.fixture
def play(short_path: Path) -> Callable[..., None]:
    """Runs a scenario with a route of a model with these settings, and ends every process after it."""

    @contextlib.asynccontextmanager
    async def bench(settings: Model, more: dict[str, Any]) -> AsyncIterator[Bench]:
        starter, counters = Starter(), Counters()
        route = Route(settings, starter, counters, **{"record": True, **more})
        try:
            yield Bench(route, counters, short_path)
        finally:
            await route.stop()
            starter.stop()

    def run(scenario: Scenario, settings: Model | None = None, **more: Any) -> None:
        async def main() -> None:
            async with bench(settings or Model("m"), more) as one:
                await scenario(one)

        uvloop.run(main())

    return run
