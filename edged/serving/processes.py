"""The processes of one model: starts them as the model's settings say, and sees each of them to its end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import msgspec

from edged.channel import Open
from edged.config.steps import Predicting
from edged.errors import EdgedError
from edged.serving.cores import cores, threads
from edged.serving.generation import Generation
from edged.serving.memory import Guard
from edged.serving.prepared import PreparedModels
from edged.serving.release import Release, Tally
from edged.serving.starter import Starter
from edged.serving.terms import Terms

log = logging.getLogger("edged.serving")


class Processes:
    """All processes of a model that have not ended. `on_end` is given to each that loads the model."""

    def __init__(self, starter: Starter, on_end: Callable[[Generation, bool], None]) -> None:
        self.prepared: PreparedModels | None = None
        self.neighbours: Callable[[], int] = lambda: 1  # how many models share the box, this one counted
        self._starter: Final = starter
        self._on_end: Final = on_end
        self._loop = asyncio.get_running_loop()
        self._starting: list[str] = []
        self._running: dict[asyncio.Task[None], Generation] = {}

    def __iter__(self) -> Iterator[Generation]:
        return iter(self._running.values())

    def hashes(self) -> frozenset[str]:
        """Of the model files that run here, or are about to."""
        return frozenset([*(generation.release.sha256 for generation in self), *self._starting])

    async def start(self, release: Release, tally: Tally, terms: Terms, *, low: bool) -> Generation:
        """A process that has loaded `release` under `terms`, of `low` priority or not.

        Raises EdgedError when it cannot be loaded.
        """
        self._starting.append(release.sha256)
        try:
            return await self._start(release, tally, terms, low=low)
        finally:
            self._starting.remove(release.sha256)

    async def _start(self, release: Release, tally: Tally, terms: Terms, *, low: bool) -> Generation:
        """From the prepared form where there is one; else, or when that fails, from the model's own file.

        The prepared form is of the CPU's kernels: only what runs nowhere else is loaded from it.
        """
        opening, prepared = self._opening(release, terms), ""
        if self.prepared is not None and terms.settings.providers == ("cpu",):
            write = partial(self._prepare, release, terms, low=low)
            prepared = await self.prepared.path(release.sha256, release.file, write)
        if prepared and self.prepared is not None:
            try:
                quick = msgspec.structs.replace(opening, file=prepared, prepared=True)
                return await self._load(await self._process(release, tally, terms, low=low), quick, terms)
            except EdgedError as error:
                text = "the prepared form cannot be loaded: %s; the model is loaded from its own file"
                log.warning(text, error.fault.message, extra={"model": release.model, "version": release.version})
                await self.prepared.distrust(release.sha256)
        return await self._load(await self._process(release, tally, terms, low=low), opening, terms)

    async def _process(self, release: Release, tally: Tally, terms: Terms, *, low: bool) -> Generation:
        """A process that has loaded nothing yet, of `low` priority or not."""
        worker = await self._starter.start(f"edged-{release.model}-{release.version}", candidate=low)
        generation = Generation(worker, release, tally, message_limit=terms.settings.limits.message)
        generation.low = low
        Guard(generation, int(release.under(terms.settings).limits.memory), terms.settings.providers)
        reaper = self._loop.create_task(self._reap(generation))
        self._running[reaper] = generation
        reaper.add_done_callback(self._running.pop)
        return generation

    async def _prepare(self, release: Release, terms: Terms, folder: Path, *, low: bool) -> None:
        """Has a process of its own write the prepared form of a release."""
        generation = await self._process(release, Tally(), terms, low=low)
        await generation.prepare(msgspec.structs.replace(self._opening(release, terms), prepare=str(folder)))

    def _opening(self, release: Release, terms: Terms) -> Open:
        """Raises EdgedError bad_settings where what the release sets does not go with what stays the box's."""
        settings = release.under(terms.settings)
        if settings.output.format == "prediction" and not any(isinstance(s, Predicting) for s in settings.postprocess):
            text = "the box's output.format is prediction, and no step of the release's postprocess makes one"
            raise EdgedError("bad_settings", text)
        return terms.opening(release, threads(terms.settings, models=self.neighbours(), cores=cores()))

    async def _load(self, generation: Generation, opening: Open, terms: Terms) -> Generation:
        run_s = terms.settings.limits.run
        generation.on_end = self._on_end
        await generation.load(opening, run_limit_s=None if run_s is None else float(run_s))
        if not generation.alive:
            raise EdgedError("trial_crash", "its process ended right after it was loaded")
        return generation

    async def end(self, some: Sequence[Generation] | None = None) -> None:
        """Closes the channel of each, or of `some`, and returns when they have ended, by themselves or by our hand."""
        ending = {reaper: one for reaper, one in self._running.items() if some is None or one in some}
        for generation in ending.values():
            generation.close()
        if ending:
            await asyncio.wait(ending)  # and not gather: whoever stops waiting must not stop the reapers

    async def _reap(self, generation: Generation) -> None:
        ended = await generation.ended(self._starter)
        release = generation.release
        level = logging.INFO if ended.code == 0 else logging.WARNING
        extra = {"model": release.model, "version": release.version}
        log.log(level, "the process %d of version %s %s", generation.pid, release.version, ended, extra=extra)
