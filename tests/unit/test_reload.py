"""A reload that somebody has asked for and waits for no longer, on parts that do nothing."""

from __future__ import annotations

import asyncio
from typing import cast

import msgspec

from edged.config.schema import Config, Model, Push, Sockets
from edged.delivery.installer import Installer
from edged.reload import Reload
from edged.serving.route import Route
from edged.serving.router import Router


class LeavingRoute:
    """Of a model that is gone; `stopped` when its process has ended."""

    def __init__(self, model: Model) -> None:
        self.settings = model
        self.door = self
        self.stopped = False

    def close(self) -> None: ...

    async def drain(self, _limit_s: float) -> None: ...

    async def stop(self, _why: object) -> None:
        self.stopped = True


class Parts:
    """Router, installer and followers of a box with this one model; the installer forgets it when `go_on` is set."""

    def __init__(self, model: Model) -> None:
        self.leaving = LeavingRoute(model)
        self.begun, self.go_on = asyncio.Event(), asyncio.Event()
        self.gone: list[str] = []

    async def forget(self, _model: str) -> None:
        self.begun.set()
        await self.go_on.wait()

    def went(self, model: str) -> None:
        self.gone.append(model)

    def came(self, route: Route) -> None: ...

    def follow(self, config: Config, renumbered: object) -> None: ...

    def reloaded(self) -> None: ...


class PartsAsInstaller:
    def __init__(self, parts: Parts) -> None:
        self.remove = parts.forget

    def adopt(self, _settings: Push) -> None: ...


class PartsAsRouter:
    def __init__(self, parts: Parts) -> None:
        self.remove = lambda _model: parts.leaving


def test_a_model_that_leaves_is_seen_to_its_end_though_nobody_waits_for_it() -> None:
    """As at a stop of the daemon: what the model has taken is still to be answered, and its process to be ended."""

    async def scenario() -> None:
        before = Config("box", Sockets(), models=(Model("m"),))
        parts = Parts(before.models[0])
        reload = Reload(
            before,
            lambda: msgspec.structs.replace(before, models=()),
            router=cast("Router", PartsAsRouter(parts)),
            installer=cast("Installer", PartsAsInstaller(parts)),
            route=lambda _model: cast("Route", parts.leaving),
            followers=parts,
            audit=lambda _decision: None,
            summary=str,
        )
        serving = asyncio.ensure_future(reload.serve())
        asked = asyncio.ensure_future(reload.now("somebody"))
        async with asyncio.timeout(30):
            await parts.begun.wait()
            asked.cancel()
            await asyncio.gather(asked, return_exceptions=True)
            parts.go_on.set()
            await reload.stop()
        serving.cancel()
        assert parts.leaving.stopped
        assert parts.gone == ["m"]

    asyncio.run(scenario())
