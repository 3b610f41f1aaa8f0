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
from typing import Final

from edged.channel import InputHead
from edged.config.schema import Model
from edged.errors import EdgedError, Fault, fault
from edged.messages import Admission, Input, Source
from edged.observe.resources import memory_available
from edged.serving.deaths import Deaths
from edged.serving.direct import Door, Listener
from edged.serving.feeder import Feeder
from edged.serving.footing import cramped, steady
from edged.serving.generation import Generation
from edged.serving.observer import Observer
from edged.serving.processes import Processes
from edged.serving.refusals import NOTHING_YET, UNLOADED, failed
from edged.serving.release import Release, Tally
from edged.serving.starter import Starter
from edged.serving.succession import Succession, surface
from edged.serving.terms import Terms
from edged.tensors import Signature

# A failed model may come back, and for so long what can wait for it does. Then it is answered: on MQTT it
# fills the window in which the broker sends, and the other models' inputs would wait with it.
PATIENCE_S: Final = 10.0

log = logging.getLogger("edged.serving")


class Route:
    """Who answers one model's inputs."""

    def __init__(
        self,
        settings: Model,
        starter: Starter,
        observer: Observer,
        *,
        record: bool,
        listen: Callable[[], Listener] | None = None,
        available: Callable[[], int | None] = memory_available,
    ) -> None:
        self.terms = Terms.of(settings)
        self.feeder: Final = Feeder(settings, observer, record=record)
        self.door: Final = Door(settings, listen, observer, self.feeder.sampled)
        self.release: Release | None = None
        self.live: Generation | None = None
        self.previous: Generation | None = None
        self.signature: Signature | None = None
        self.fault: Fault | None = None
        self.unloaded = False  # by somebody's word
        self.on_faulty: Callable[[Generation, Fault], bool] = lambda _generation, _fault: False
        self.on_change: Callable[[str], None] = lambda _model: None
        self.processes: Final = Processes(starter, self._on_end)
        self.feeder.on_idle = self._assign
        self._available = available
        self._observer = observer
        self._loop = asyncio.get_running_loop()
        self._deaths = Deaths()
        self._next: Generation | None = None
        self._cut: Callable[[], None] = _nothing
        self._switched: asyncio.Future[None] | None = None
        self._vacant: asyncio.Future[list[Generation]] | None = None  # who had to go, once nothing is in flight
        self._vacated = False  # its process was ended, or is about to be, so that another one fits
        self._answering: Tally | None = None  # of what went live last, alive or not
        self._revival: asyncio.Task[None] | None = None
        self._trying: object = None  # whoever is the last to start what should answer
        self._succession = Succession(
            start=lambda low: self.start(low.release, low.tally),
            take_over=self.switch,
            holds=lambda low: self.live is low and self._next is None and not self._vacated,
            cramped=lambda low: cramped(low, low.release.file, self.settings, available()),
        )
        self._patience: asyncio.TimerHandle | None = None
        self._given_up = False

    @property
    def settings(self) -> Model:
        return self.terms.settings

    def offer(self, item: Input) -> Admission:
        """Takes an input, refuses it with a fault (its reply is called), or asks to wait."""
        problem = self._refusal(item)
        return self.feeder.offer(item) if problem is None else self.feeder.refuse(item, problem)

    def _refusal(self, item: Input) -> Fault | None:
        settings, size = self.terms.settings, len(item.payload)
        if size > settings.limits.message:
            return fault("input_too_large", f"{size} bytes are above the limit of {settings.limits.message}")
        if self.release is None:
            return self.fault or (UNLOADED if self.unloaded else NOTHING_YET)
        if size > self.release.memory_of(settings):  # it would end the process that only takes it in
            return fault("over_memory", f"{size} bytes are more than limits.memory allows a process")
        if self.fault is None or (item.source is Source.MQTT_QOS1 and not self._given_up):
            return None
        return failed(self.fault)

    def recent(self) -> list[tuple[InputHead, bytes]]:
        """The last real inputs, for a trial: at most 16 and 4 MiB."""
        return self.feeder.recent()

    async def start(
        self, release: Release, tally: Tally | None = None, *, candidate: bool = False, terms: Terms | None = None
    ) -> Generation:
        """A loaded generation that nobody routes to, under `terms` or the present ones.

        A `candidate` has a low priority while another generation answers; with none, senders wait for it.
        Raises EdgedError when it cannot be loaded.
        """
        low = candidate and not self._vacated
        fresh = await self.processes.start(release, tally or Tally(), terms or self.terms, low=low)
        return steady(self.live, fresh)

    def in_use(self) -> frozenset[str]:
        """The hashes of the models that run here, or should."""
        return self.processes.hashes() | ({self.release.sha256} if self.release else set())

    async def serve(self, release: Release) -> None:
        """Starts `release` and makes it live; returns after the first try.

        A model that cannot be loaded is failed, and tried again after a pause that grows.
        """
        self.release, self._vacated, self.unloaded = release, False, False
        await self._try_start(release, Tally())

    async def unload(self, limit_s: float) -> None:
        """Refuses inputs, and ends the processes when what was taken is answered, or after `limit_s`.

        `serve` and a switch load it again.
        """
        self.release, self.fault, self.unloaded = None, None, True
        self.on_change(self.settings.name)
        await self.drain(limit_s)
        if self.release is None:
            leaving = self._leave()
            self.feeder.abandon(UNLOADED)
            self.door.refuse(UNLOADED)
            await self.door.left()
            await self.processes.end(leaving)
            self._assign()  # where a switch has waited for what was given up
            self.on_change(self.settings.name)
        elif self.live is not None:  # loaded again meanwhile: it never left
            self.door.serve_by(self.live)

    def fail(self, problem: Fault) -> None:
        """Nothing can be served, and why."""
        self.fault = problem
        if self._patience is None:
            self._patience = self._loop.call_later(PATIENCE_S, self._give_up, problem)
        self.on_change(self.settings.name)

    def _give_up(self, problem: Fault) -> None:
        self._given_up = True
        self.feeder.abandon(failed(self.fault or problem))
        self.door.refuse(failed(self.fault or problem))

    def adopt(self, terms: Terms) -> None:
        """Other settings from now on, also for what waits and for what would run again."""
        self.terms = terms
        self.feeder.adopt(terms)
        self.door.adopt(terms.settings)

    async def switch(self, to: Generation, cut: Callable[[], None] | None = None) -> None:
        """Makes `to` live once the old generation has nothing in flight; the old one stays as `previous`.

        `cut` is called in that moment: before it no input has reached `to`, after it none reaches the old one.
        Raises EdgedError trial_crash when `to` ended before that, superseded when another switch took its place.
        """
        if self._switched is not None and not self._switched.done():
            self._switched.set_exception(EdgedError("superseded", "another switch took its place"))
        self._keep_place()
        switched = self._loop.create_future()
        self._next, self._switched, self._cut = to, switched, cut or _nothing
        self._succession.ready(to)
        self.feeder.pause()
        if self.feeder.idle:
            self._assign()
        await switched
        self._succession.of(self.live)

    async def retire(self, generation: Generation) -> None:
        """Ends the process of a generation that is not live."""
        if generation is self.live:
            raise ValueError("the live generation is not retired")
        if self.previous is generation:
            self.previous = None
        self.door.retire(generation)
        self._succession.of(self.live)  # for a fresh process there may be memory now

    async def make_room(self, release: Release) -> None:
        """Before a process of `release` is started beside the live one: sees that the box has the memory (RULES 7).

        Where it has not, `swap: stop_start` lets the live one end first, and `resume` brings it back. Raises
        EdgedError no_space for `swap: parallel`; busy while somebody else makes room; superseded when a switch
        or a `resume` came first.
        """
        if self._switched is not None and not self._switched.done():
            await asyncio.wait((self._switched,))
        problem = cramped(self.live, release.file, self.settings, self._available())
        if problem is None:
            return
        if self.settings.swap == "parallel":
            raise EdgedError(problem.code, problem.message, problem.hint)
        if self._vacant is not None and not self._vacant.done():
            raise EdgedError("busy", "room is being made for another process of this model")
        extra = {"model": release.model, "version": release.version}
        log.warning("the version that answers is ended first: %s", problem.message, extra=extra)
        await self._vacate()

    def resume(self) -> None:
        """Serves again what `make_room` ended, where nothing has taken its place."""
        if not self._vacated or self.release is None:
            return
        self._keep_place()
        self._vacated = False
        if self.live is not None:  # it was not ended yet
            self.feeder.use(self.live)
        else:
            self._revive(self._try_start(self.release, Tally()))

    async def _vacate(self) -> None:
        """Ends the live process once it has answered what it was sent, and the warm one; inputs wait."""
        self._vacated = True
        self._vacant = vacant = self._loop.create_future()
        self.feeder.pause()
        if self.feeder.idle:
            self._assign()
        try:
            leaving = await vacant
        except BaseException:
            self.resume()
            raise
        await self.door.left()
        await self.processes.end(leaving)
        self.on_change(self.settings.name)

    def _keep_place(self) -> None:
        """Whoever waits for the live one's place does not get it."""
        if self._vacant is not None and not self._vacant.done():
            self._vacant.set_exception(
                EdgedError("superseded", "another process takes the place, or the old one stays")
            )
            self._vacated = False

    async def drain(self, limit_s: float) -> None:
        """Waits until nothing is queued or running; at most `limit_s`, and not for a model that is not live."""
        until_s = time.monotonic() + limit_s
        self.door.serve_by(None)
        await self.door.left(limit_s)
        # A poll, once, at the end: an event for it would be set by every answer of the daemon's life.
        while not self.feeder.empty and self.live is not None and time.monotonic() < until_s:  # noqa: ASYNC110
            await asyncio.sleep(0.02)

    async def stop(self, why: Fault | None = None) -> None:
        """Answers what is left with `why`, else `stopping`, and ends every process."""
        self.feeder.use(None)
        self.feeder.abandon(why or fault("stopping", "the daemon stopped before the answer"))
        self.release = None
        if self._patience is not None:
            self._patience.cancel()
        self._succession.stop()
        if self._revival is not None:
            self._revival.cancel()
        for generation in self.processes:
            generation.on_end = None
        self.door.close()
        await self.processes.end()

    # --- changes of generation ----------------------------------------------------------------------

    def _assign(self) -> None:
        """The switch: one assignment, when nothing is in flight on the old generation."""
        if self._vacant is not None and not self._vacant.done():
            self._vacant.set_result(self._leave())
            return
        if self._next is None or self._switched is None:
            return
        to, done, self._next, self._switched = self._next, self._switched, None, None
        if to.alive and not done.cancelled():
            old = self.live
            # Another process of what answers already: nothing to go back to.
            renewed = to.tally is self._answering
            if not renewed:
                if self.previous is not None and self.previous is not to:
                    self.door.retire(self.previous)
                self.previous = old
                self._deaths.forgive()
            self._cut()
            self._go_live(to)
            if renewed and old is not None:
                self.door.retire(old)
            done.set_result(None)
            return
        if not done.cancelled():
            done.set_exception(EdgedError("trial_crash", "its process ended before it became live"))
        self.feeder.use(self.live)

    def _leave(self) -> list[Generation]:
        """Nobody answers from now on; returns who did, or was warm for it."""
        leaving = [one for one in (self.live, self.previous) if one is not None]
        self.live = self.previous = None
        self.feeder.use(None)
        self.door.serve_by(None)
        return leaving

    def _go_live(self, generation: Generation) -> None:
        if self._patience is not None:
            self._patience.cancel()
        self._patience, self._given_up, self._vacated, self.unloaded = None, False, False, False
        if self.fault is not None:
            extra = {"model": self.settings.name, "version": generation.release.version}
            log.warning("the model answers again", extra=extra)
        self.live, self.release, self.fault = generation, generation.release, None
        self._answering = generation.tally
        if generation.facts is not None:
            self.signature = generation.facts.signature
        self.feeder.use(generation)
        self.door.serve_by(generation)
        self.on_change(self.settings.name)

    def _on_end(self, generation: Generation, in_probe: bool) -> None:  # noqa: FBT001 - a callback
        """A generation has ended: by itself, by our hand, or by somebody's kill -9."""
        in_probe = in_probe or self.door.running(generation)
        poison = self.door.lost(generation)
        if generation is self.previous:
            self.previous = None
        if generation is not self.live:
            return
        self.live = None
        generation.tally.ended(by_itself=generation.reason is None)
        self._observer.restarted(self.settings.name)
        poison = self.feeder.lost(in_probe=in_probe, reason=generation.reason) or poison
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

    def _try_start(self, release: Release, tally: Tally, *, pause_s: float = 0.0) -> Coroutine[None, None, None]:
        """Starts `release` and makes it live, unless another release is wanted or live by then.

        Of several the last one goes on: a load of what has failed must not add one that tries again for ever.
        """
        self._trying = mine = object()  # now, whenever a task comes to begin with it
        return self._start(mine, release, tally, pause_s)

    async def _start(self, mine: object, release: Release, tally: Tally, pause_s: float) -> None:
        await asyncio.sleep(pause_s)
        if self.release is not release or self.live is not None or self._vacated or self._trying is not mine:
            return
        try:
            generation = await self.start(release, tally)
        except EdgedError as error:
            if self.release is release and self.live is None and self._trying is mine:
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
        self._revival.add_done_callback(surface)


def _nothing() -> None:
    """Nothing happens at a switch but the switch."""
