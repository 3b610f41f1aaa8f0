"""One model: the release it should serve, the generation that answers, and the one that is warm.

A switch stops feeding the old generation and uses the new one when the old has nothing in flight, so
that results leave in the order of their inputs (RULES 15). A dead generation is followed by a new
process of its release, at once or, when the model itself is at fault, after a pause (RULES 13).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Final

import msgspec

from edged.channel import InputHead, Open
from edged.config.schema import Model
from edged.errors import EdgedError, Fault, fault
from edged.messages import Admission, Input, Source
from edged.serving.cores import cores, threads
from edged.serving.deaths import Deaths
from edged.serving.feeder import Feeder, Observer
from edged.serving.generation import Generation, Release, Tally
from edged.serving.prepared import PreparedModels
from edged.serving.starter import Starter
from edged.tensors import Signature

# A failed model may come back, and for so long what can wait for it does. Then it is answered: on MQTT it
# fills the window in which the broker sends, and the other models' inputs would wait with it.
PATIENCE_S: Final = 10.0

log = logging.getLogger("edged.serving")


class Route:
    """Who answers one model's inputs."""

    def __init__(self, settings: Model, starter: Starter, observer: Observer, *, record: bool) -> None:
        self.settings: Final = settings
        self.feeder: Final = Feeder(settings, observer, record=record)
        self.release: Release | None = None
        self.live: Generation | None = None
        self.previous: Generation | None = None
        self.signature: Signature | None = None
        self.fault: Fault | None = None
        self.on_faulty: Callable[[Generation, Fault], bool] = lambda _generation, _fault: False
        self.on_change: Callable[[str], None] = lambda _model: None
        self.prepared: PreparedModels | None = None
        self.neighbours: Callable[[], int] = lambda: 1  # how many models share the box, this one counted
        self.feeder.on_idle = self._assign
        self._starter = starter
        self._observer = observer
        self._loop = asyncio.get_running_loop()
        self._deaths = Deaths()
        self._next: Generation | None = None
        self._switched: asyncio.Future[None] | None = None
        self._processes: dict[asyncio.Task[None], Generation] = {}  # all that have not ended
        self._revival: asyncio.Task[None] | None = None
        self._patience: asyncio.TimerHandle | None = None
        self._given_up = False

    def offer(self, item: Input) -> Admission:
        """Takes an input, refuses it with a fault (its reply is called), or asks to wait."""
        problem = self._refusal(item)
        return self.feeder.offer(item) if problem is None else self.feeder.refuse(item, problem)

    def _refusal(self, item: Input) -> Fault | None:
        limit = self.settings.limits.message
        if len(item.payload) > limit:
            return fault("input_too_large", f"{len(item.payload)} bytes are above the limit of {limit}")
        if self.release is None:
            return self.fault or fault("starting", "the model waits for its first push")
        if self.fault is None or (item.source is Source.MQTT_QOS1 and not self._given_up):
            return None
        return _failed(self.fault)

    def recent(self) -> list[tuple[InputHead, bytes]]:
        """The last real inputs, for a trial: at most 16 and 4 MiB."""
        return self.feeder.recent()

    async def start(self, release: Release, tally: Tally | None = None) -> Generation:
        """A loaded generation that nobody routes to. Raises EdgedError when it cannot be loaded."""
        opening, prepared = self._opening(release), ""
        if self.prepared is not None:
            prepared = await self.prepared.path(release.sha256, release.file, partial(self._prepare, release))
        if prepared and self.prepared is not None:
            try:
                quick = msgspec.structs.replace(opening, file=prepared, prepared=True)
                return await self._load(await self._process(release, tally), quick)
            except EdgedError as error:
                text = "the prepared form cannot be loaded: %s; the model is loaded from its own file"
                log.warning(text, error.fault.message, extra={"model": release.model, "version": release.version})
                await self.prepared.distrust(release.sha256)
        return await self._load(await self._process(release, tally), opening)

    async def _process(self, release: Release, tally: Tally | None = None) -> Generation:
        """A process that has loaded nothing yet."""
        worker = await self._starter.start(f"edged-{release.model}-{release.version}")
        generation = Generation(worker, release, tally or Tally(), message_limit=self.settings.limits.message)
        reaper = self._loop.create_task(self._reap(generation))
        self._processes[reaper] = generation
        reaper.add_done_callback(self._processes.pop)
        return generation

    async def _prepare(self, release: Release, folder: Path) -> None:
        """Has a process of its own write the prepared form of a release."""
        generation = await self._process(release)
        await generation.prepare(msgspec.structs.replace(self._opening(release), prepare=str(folder)))

    def _opening(self, release: Release) -> Open:
        settings = self.settings
        return Open(
            model=release.model,
            version=release.version,
            file=release.file,
            threads=threads(settings, models=self.neighbours(), cores=cores()),
            memory=int(settings.limits.memory),
            message_limit=int(settings.limits.message),
            batch_max=settings.batch.max,
            forms=tuple(entry.form for entry in settings.inputs),
            preprocess=settings.preprocess,
            postprocess=settings.postprocess,
            cpus=settings.cpus,
        )

    async def _load(self, generation: Generation, opening: Open) -> Generation:
        run_s = self.settings.limits.run
        generation.on_end = self._on_end
        await generation.load(opening, run_limit_s=None if run_s is None else float(run_s))
        if not generation.alive:
            raise EdgedError("trial_crash", "its process ended right after it was loaded")
        return generation

    def in_use(self) -> frozenset[str]:
        """The hashes of the models that run here, or should."""
        running = {generation.release.sha256 for generation in self._processes.values()}
        return frozenset(running | ({self.release.sha256} if self.release else set()))

    async def serve(self, release: Release) -> None:
        """Starts `release` and makes it live; returns after the first try.

        A model that cannot be loaded is failed, and tried again after a pause that grows.
        """
        self.release = release
        await self._try_start(release, Tally())

    def fail(self, problem: Fault) -> None:
        """Nothing can be served, and why."""
        self.fault = problem
        if self._patience is None:
            self._patience = self._loop.call_later(PATIENCE_S, self._give_up, problem)
        self.on_change(self.settings.name)

    def _give_up(self, problem: Fault) -> None:
        self._given_up = True
        self.feeder.abandon(_failed(self.fault or problem))

    async def switch(self, to: Generation) -> None:
        """Makes `to` live once the old generation has nothing in flight; the old one stays as `previous`.

        Raises EdgedError trial_crash when `to` ended before that.
        """
        switched = self._loop.create_future()
        self._next, self._switched = to, switched
        self.feeder.pause()
        if self.feeder.idle:
            self._assign()
        await switched

    async def retire(self, generation: Generation) -> None:
        """Ends the process of a generation that is not live."""
        if generation is self.live:
            raise ValueError("the live generation is not retired")
        if self.previous is generation:
            self.previous = None
        generation.close()

    async def drain(self, limit_s: float) -> None:
        """Waits until nothing is queued or running; at most `limit_s`, and not for a model that is not live."""
        until_s = time.monotonic() + limit_s
        # A poll, once, at the end: an event for it would be set by every answer of the daemon's life.
        while not self.feeder.empty and self.live is not None and time.monotonic() < until_s:  # noqa: ASYNC110
            await asyncio.sleep(0.02)

    async def stop(self) -> None:
        """Answers what is left with `stopping`, and ends every process."""
        self.feeder.use(None)
        self.feeder.abandon(fault("stopping", "the daemon stopped before the answer"))
        self.release = None
        if self._patience is not None:
            self._patience.cancel()
        if self._revival is not None:
            self._revival.cancel()
        for generation in self._processes.values():
            generation.on_end = None
            generation.close()
        await asyncio.gather(*self._processes)

    # --- changes of generation ----------------------------------------------------------------------

    def _assign(self) -> None:
        """The switch: one assignment, when nothing is in flight on the old generation."""
        if self._next is None or self._switched is None:
            return
        to, done, self._next, self._switched = self._next, self._switched, None, None
        if to.alive and not done.cancelled():
            if self.previous is not None and self.previous is not to:
                self.previous.close()
            self.previous = self.live
            self._deaths.forgive()
            self._go_live(to)
            done.set_result(None)
            return
        if not done.cancelled():
            done.set_exception(EdgedError("trial_crash", "its process ended before it became live"))
        self.feeder.use(self.live)

    def _go_live(self, generation: Generation) -> None:
        if self._patience is not None:
            self._patience.cancel()
        self._patience, self._given_up = None, False
        if self.fault is not None:
            extra = {"model": self.settings.name, "version": generation.release.version}
            log.warning("the model answers again", extra=extra)
        self.live, self.release, self.fault = generation, generation.release, None
        if generation.facts is not None:
            self.signature = generation.facts.signature
        self.feeder.use(generation)
        self.on_change(self.settings.name)

    def _on_end(self, generation: Generation, in_probe: bool) -> None:  # noqa: FBT001 - a callback
        """A generation has ended: by itself, by our hand, or by somebody's kill -9."""
        if generation is self.previous:
            self.previous = None
        if generation is not self.live:
            return
        self.live = None
        generation.tally.ended(by_itself=generation.reason is None)
        self._observer.restarted(self.settings.name)
        poison = self.feeder.lost(in_probe=in_probe, reason=generation.reason)
        self._assign()
        if self.live is not None or self.release is None:
            return
        release, tally = generation.release, generation.tally
        if self.release is not release:  # another one is wanted by now
            self._revive(self._try_start(self.release, Tally()))
            return
        if poison:
            self._deaths.forgive()
        elif self._deaths.died(time.monotonic(), answered=generation.answered):
            problem = generation.reason or fault("model_failed", "its process ended by itself, again and again")
            if not self.on_faulty(generation, problem):
                self._revive_later(release, tally, problem)
            return
        self._revive(self._try_start(release, tally))

    async def _try_start(self, release: Release, tally: Tally, *, pause_s: float = 0.0) -> None:
        """Starts `release` and makes it live, unless another release is wanted or live by then."""
        await asyncio.sleep(pause_s)
        if self.release is not release or self.live is not None:
            return
        try:
            generation = await self.start(release, tally)
        except EdgedError as error:
            if self.release is release and self.live is None:
                self._revive_later(release, tally, error.fault)
            return
        if self.release is not release or self.live is not None:
            generation.close()
        else:
            self._go_live(generation)

    def _revive_later(self, release: Release, tally: Tally, problem: Fault) -> None:
        pause_s = self._deaths.pause_s()
        extra = {"model": release.model, "version": release.version, "code": problem.code}
        log.error("the model failed: %s; next start in %g s", problem.message, pause_s, extra=extra)
        self.fail(problem)
        self._revive(self._try_start(release, tally, pause_s=pause_s))

    def _revive(self, work: Coroutine[None, None, None]) -> None:
        self._revival = self._loop.create_task(work)
        self._revival.add_done_callback(_surface)

    async def _reap(self, generation: Generation) -> None:
        ended = await generation.ended(self._starter)
        release = generation.release
        level = logging.INFO if ended.code == 0 else logging.WARNING
        extra = {"model": release.model, "version": release.version}
        log.log(level, "the process %d of version %s %s", generation.pid, release.version, ended, extra=extra)


def _surface(revival: asyncio.Task[None]) -> None:
    """Raises what nobody expected of it, now rather than when the task is collected (RULES 23)."""
    if not revival.cancelled():
        revival.result()


def _failed(problem: Fault) -> Fault:
    return fault("model_failed", f"the model failed: {problem.message}", problem.hint)
