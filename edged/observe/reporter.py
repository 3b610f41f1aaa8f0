"""Says how the box is doing: the status, the scrape, telemetry, and the retained states on the broker.

Knows no part of the daemon: what it reports comes from the closures it is handed.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec

from edged import __version__
from edged.errors import as_json
from edged.observe import status, telemetry
from edged.observe.executions import Statistics
from edged.observe.facts import ModelFacts, MqttFacts
from edged.observe.metrics import Metrics
from edged.observe.resources import Resources, Sampler
from edged.topics import Tree

Retain = Callable[[str, bytes], None]
Publish = Callable[[str, bytes, int], None]

_SETTLED_S: Final = 0.5  # after another process answers, until it is sampled


class Reporter:
    """`models`, `mqtt`, `info` and `rules` (presence.py) are asked anew each time; `retain` and `publish` do nothing
    without a broker.

    `fell_back` is told of a model that another provider runs than the first that it is meant for.
    """

    def __init__(
        self,
        tree: Tree,
        metrics: Metrics,
        sampler: Sampler,
        *,
        models: Callable[[], Sequence[ModelFacts]],
        mqtt: Callable[[], MqttFacts | None],
        info: Callable[[], Mapping[str, object]],
        audit: Callable[[], status.Audit] = status.Audit,
        reload: Callable[[], status.Reloaded | None] = lambda: None,
        rules: Callable[[], Sequence[str]] = tuple,
        fell_back: Callable[[ModelFacts], None] = lambda _model: None,
        retain: Retain,
        publish: Publish,
    ) -> None:
        self._tree = tree
        self._metrics = metrics
        self._sampler = sampler
        self._models = models
        self._mqtt = mqtt
        self._info = info
        self._audit = audit
        self._reload = reload
        self._rules = rules
        self._fell_back = fell_back
        self._fallen: dict[str, str] = {}  # why, for each model whose fallback was told
        self._retain = retain
        self._publish = publish
        self._started_s = time.monotonic()
        self._resources: Resources | None = None
        self._installs: dict[str, Mapping[str, object]] = {}
        self._seq = 0
        self.interval_s = 0.0
        self._sampling = asyncio.Lock()
        self._settling: asyncio.Task[None] | None = None

    # --- asked for ----------------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """What `GET /edged/status` answers."""
        mqtt = self._mqtt()
        daemon = status.DaemonStatus(
            version=__version__,
            device=self._tree.device,
            pid=os.getpid(),
            uptime_s=round(time.monotonic() - self._started_s, 3),
            mqtt=msgspec.to_builtins(mqtt) if mqtt else None,
            audit=self._audit(),
            reload=self._reload(),
            flags=tuple(self._rules()),
        )
        built = status.build(daemon, self._models(), self._metrics.figures(), self._resources, self._installs)
        found: dict[str, Any] = msgspec.to_builtins(built)
        return found

    def scrape(self) -> bytes:
        """What `GET /metrics` answers."""
        return self._metrics.render(self._models(), self._resources, self._mqtt())

    def statistics(self, model: ModelFacts) -> tuple[Statistics, int | None]:
        """What the version that serves has executed, and the memory of its process at the last sample."""
        used = self._resources.processes.get(model.pid or 0) if self._resources else None
        return self._metrics.statistics(model.name, model.version), used.memory if used else None

    # --- told ---------------------------------------------------------------------------------------

    def install_changed(self, model: str, document: Mapping[str, object]) -> None:
        """A push of `model` has come to another phase."""
        self._installs[model] = document
        self._retain(self._tree.install(model), msgspec.json.encode(document))

    def model_changed(self, model: str) -> None:
        """Another generation answers, or none."""
        for one in self._models():
            if one.name == model:
                self._tell(one)
                self._look_down(one)
        self.info_changed()
        if self._settling is None:
            self._settling = asyncio.create_task(self._settle())
            self._settling.add_done_callback(self._settled)

    def _tell(self, one: ModelFacts) -> None:
        document = {
            "state": one.state,
            "version": one.version,
            "sha256": one.sha256,
            "error": as_json(one.fault) if one.fault else None,
            "providers": one.providers,
            "fallback": one.fallback,
            "flags": self._rules(),
        }
        self._retain(self._tree.model_status(one.name), msgspec.json.encode(document))

    def reloaded(self) -> None:
        """Another configuration: what every status says of its rules may be something else."""
        for one in self._models():
            self._tell(one)
        self.info_changed()

    def _look_down(self, model: ModelFacts) -> None:
        """Tells of a fallback once: not again for a process that takes the place of one in the same case."""
        if model.fallback and self._fallen.get(model.name) != model.fallback:
            self._fell_back(model)
        if model.state == "serving":
            self._fallen[model.name] = model.fallback

    def model_removed(self, model: str) -> None:
        """It is gone, and so is what the broker keeps of it."""
        self._installs.pop(model, None)
        self._fallen.pop(model, None)
        self._retain(self._tree.model_status(model), b"")
        self._retain(self._tree.install(model), b"")
        self.info_changed()

    def info_changed(self) -> None:
        self._retain(self._tree.info, msgspec.json.encode(self._info()))

    # --- by the clock -------------------------------------------------------------------------------

    async def sample(self) -> Resources:
        """A fresh sample of the box, taken in a thread."""
        async with self._sampling:
            self._resources = await asyncio.to_thread(self._sampler.sample)
            return self._resources

    async def _settle(self) -> None:
        """Samples the new process, for the status: not while its first inputs, and all that waited, are answered."""
        await asyncio.sleep(_SETTLED_S)
        await self.sample()

    def _settled(self, settling: asyncio.Task[None]) -> None:
        self._settling = None
        if not settling.cancelled():
            settling.result()

    async def run(self, interval_s: float) -> None:
        """Publishes telemetry each interval, until cancelled; `interval_s` may change meanwhile."""
        self.interval_s = interval_s
        while True:
            await asyncio.sleep(self.interval_s)
            resources = await self.sample()
            self._seq += 1
            document = telemetry.build(
                self._models(),
                self._metrics.roll(),
                resources,
                self._mqtt(),
                ts_ms=time.time_ns() // 1_000_000,
                seq=self._seq,
            )
            self._publish(self._tree.telemetry, msgspec.json.encode(document), 0)
