"""The configuration, read again while the daemon runs: judged and made ready as a whole, then put into effect.

1. The file is read and checked. A mistake, or a change that needs a restart, ends it here.
2. Every process that the change needs is started beside the ones that answer. One that cannot be ends it here.
3. Only then the models change, each in one turn of the loop: those that go, those that come, those that differ.

So a reload that is refused has changed nothing. Models that did not change are not touched at all.

A model that a signed release brings (`push.models: any`) comes in the same way, without a file that says so.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final, Protocol

import msgspec

from edged.config.arrivals import with_arrived
from edged.config.changes import Changes, changes
from edged.config.mistakes import ConfigErrors
from edged.config.schema import Config, Model
from edged.delivery.audit import Decision, Event
from edged.delivery.installation import Installation
from edged.delivery.installer import Installer
from edged.delivery.renewal import Prepared, discard
from edged.errors import EdgedError, Fault, fault
from edged.messages import Input
from edged.observe.notify import notify
from edged.observe.status import Reloaded
from edged.serving.refusals import NOTHING_YET
from edged.serving.route import Route
from edged.serving.router import Router
from edged.serving.terms import Terms

DRAIN_S: Final = 5.0  # for what a model that goes has taken
ARRIVED: Final = 64  # models that no file names; each is a process
_SHOWN: Final = 3  # mistakes of a file; the journal has a line for each

log = logging.getLogger("edged")


class Followers(Protocol):
    """Whoever has to know which models there are, and under which settings. None of it may fail, or wait."""

    def follow(self, config: Config, renumbered: Callable[[Input], Input]) -> None:
        """The models and settings from this turn of the loop on; `renumbered` is for inputs that wait somewhere."""

    def came(self, route: Route) -> None:
        """A model is new."""

    def went(self, model: str) -> None:
        """A model is gone, and has answered everything."""

    def reloaded(self) -> None:
        """A reload has ended, well or not: `last` tells."""


class _Ready(msgspec.Struct, frozen=True, eq=False):
    """What has been started for a reload that may still be refused."""

    coming: dict[str, tuple[Route, Installation]] = msgspec.field(default_factory=dict)
    changing: dict[str, Prepared] = msgspec.field(default_factory=dict)


class Reload:
    """`config` is what runs. `read` gives the file anew, or raises ConfigErrors; None where there is no file."""

    def __init__(
        self,
        config: Config,
        read: Callable[[], Config] | None,
        *,
        router: Router,
        installer: Installer,
        route: Callable[[Model], Route],
        followers: Followers,
        audit: Callable[[Decision], None],
        summary: Callable[[], str],
    ) -> None:
        self.config = config
        self.last: Reloaded | None = None
        self._read: Final = read
        self._router: Final = router
        self._installer: Final = installer
        self._route: Final = route
        self._followers: Final = followers
        self._audit: Final = audit
        self._summary: Final = summary
        self._wanted: Final = asyncio.Event()
        self._open: Final = asyncio.Event()
        self._turn: Final = asyncio.Lock()
        self._leaving: Final[set[asyncio.Task[None]]] = set()
        self._arrived: tuple[str, ...] = ()

    def want(self) -> None:
        """Somebody wants a reload, and does not wait for it."""
        self._wanted.set()

    async def serve(self) -> None:
        """From now on reloads are done: the daemon has started. Until cancelled."""
        self._open.set()
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            with contextlib.suppress(EdgedError):  # told in the journal, the status and over MQTT
                await self.now("SIGHUP")

    async def now(self, by: str) -> Changes:
        """One reload; returns what has changed. Raises EdgedError when it was refused: then nothing has."""
        await self._open.wait()
        async with self._turn:
            notify(RELOADING=1, MONOTONIC_USEC=time.monotonic_ns() // 1000)
            try:
                return await self._run(by)
            finally:
                last = self.last
                self._followers.reloaded()
                notify(READY=1, STATUS=self._summary() + (f"; {last.message}" if last and last.code else ""))

    async def _run(self, by: str) -> Changes:
        try:
            config, difference = await self._judged()
            difference = await self._with_files(config, difference)
            ready = await self._made_ready(config, difference)
        except EdgedError as error:
            self._failed("reload_refused", "the configuration was not reloaded", error.fault, by)
            raise
        if stuck := await self._put_into_effect(config, difference, ready):
            problem = fault("model_failed", "; ".join(stuck), "Everything else of the file is in effect.")
            self._failed("reloaded", "the configuration was reloaded in part", problem, by)
            raise EdgedError(problem.code, problem.message, problem.hint)
        text = f"the configuration was reloaded: {difference}"
        self.last = Reloaded(_now_ms(), text, by=by)
        self._audit(Decision("reloaded", text, by=by))
        return difference

    def _failed(self, event: Event, what: str, problem: Fault, by: str) -> None:
        text = f"{what}: {problem.message}"
        self.last = Reloaded(_now_ms(), text, problem.code, problem.hint, by)
        self._audit(Decision(event, text, code=problem.code, by=by))

    # --- models that no file names ----------------------------------------------------------------------

    async def restore(self, names: Iterable[str]) -> None:
        """Takes up the models that had arrived when the daemon was last here; before it serves anything."""
        self._arrived = tuple(names)
        here = {one.name for one in self.config.models}
        self.config = with_arrived(self.config, self._arrived)
        for model in self.config.models:
            if model.name not in here:
                route = self._route(model)
                self._installer.add(model.name, await self._installer.newcomer(model, route))
                self._router.add(route)
                self._followers.came(route)
        self._followers.follow(self.config, _as_it_is)

    async def bring(self, name: str) -> None:
        """Makes `name` a model of this box, which waits for its release. Raises EdgedError unknown_model, busy."""
        await self._open.wait()
        async with self._turn:
            if any(one.name == name for one in self.config.models):
                return
            if self.config.push.models != "any":
                raise EdgedError("unknown_model", f"no model {name[:64]!r} here, and push.models is not any")
            if len(self._arrived) >= ARRIVED:
                raise EdgedError("busy", f"{ARRIVED} models have arrived already", "Name it in the configuration.")
            config = with_arrived(self.config, [name])
            difference = changes(self.config, config)
            await self._put_into_effect(config, difference, await self._made_ready(config, difference))
            await self._installer.model(name).has_arrived()
            self._arrived = (*self._arrived, name)
            self._audit(Decision("arrived", "a signed release brings a model that no configuration names", name))

    async def check(self) -> Changes:
        """What `run` would change, as far as the file alone tells. Raises EdgedError when it would refuse it."""
        return (await self._judged())[1]

    async def stop(self) -> None:
        """Waits for models that are leaving."""
        await asyncio.gather(*self._leaving)

    # --- may it be --------------------------------------------------------------------------------------

    async def _judged(self) -> tuple[Config, Changes]:
        if self._read is None:
            raise EdgedError("unsupported", "edged runs without a configuration file: there is none to read again")
        try:
            config = await asyncio.to_thread(self._read)
        except ConfigErrors as errors:
            for mistake in errors.mistakes:
                log.error("%s", mistake, extra={"code": "bad_config"})
            more = len(errors.mistakes) - _SHOWN
            text = "; ".join(map(str, errors.mistakes[:_SHOWN])) + (f"; and {more} more" if more > 0 else "")
            raise EdgedError("bad_config", text) from errors
        config = with_arrived(config, self._arrived)
        difference = changes(self.config, config)
        if difference.restart:
            raise EdgedError("needs_restart", f"{', '.join(difference.restart)} cannot change while edged runs")
        return config, difference

    async def _with_files(self, config: Config, difference: Changes) -> Changes:
        """A factory model's file that holds something else now is a change too, under the same settings."""
        known = (*difference.added, *difference.changed)
        other = [one.name for one in config.models if one.name not in known]
        changed = [name for name in other if await self._installer.model(name).is_outdated()]
        return msgspec.structs.replace(difference, changed=(*difference.changed, *changed))

    async def _made_ready(self, config: Config, difference: Changes) -> _Ready:
        ready = _Ready()
        models = {model.name: model for model in config.models}
        name = ""
        try:
            for name in difference.changed:
                ready.changing[name] = await self._installer.model(name).prepare(models[name])
            for name in difference.added:
                await self._newcomer(models[name], len(models), ready)
        except EdgedError as error:
            await self._called_off(ready)
            raise EdgedError(error.fault.code, f"models.{name}: {error.fault.message}", error.fault.hint) from error
        except BaseException:
            await self._called_off(ready)
            raise
        return ready

    async def _newcomer(self, model: Model, models: int, ready: _Ready) -> None:
        route = self._route(model)
        route.processes.neighbours = lambda: models
        installation = await self._installer.newcomer(model, route)
        ready.coming[model.name] = route, installation  # before it starts: a start that fails is called off too
        route.door.open()
        release = installation.boot_release()
        if release is not None:
            await route.serve(release)
        elif installation.boot_fault is None:
            route.door.refuse(NOTHING_YET)
        problem = route.fault or installation.boot_fault
        if problem is not None:
            raise EdgedError(problem.code, problem.message, problem.hint)

    async def _called_off(self, ready: _Ready) -> None:
        for name, prepared in ready.changing.items():
            await discard(self._router.route(name), prepared)
        for route, installation in ready.coming.values():
            await route.stop()
            await installation.stop()  # gives back the attempt that its coming counted

    # --- so be it ---------------------------------------------------------------------------------------

    async def _put_into_effect(self, config: Config, difference: Changes, ready: _Ready) -> list[str]:
        """Returns what stays as it was: models whose new process ended before it could take over."""
        old = {model.name: model for model in self.config.models}
        self._installer.adopt(config.push)
        leaving = [self._router.remove(name) for name in difference.removed]
        for name, (route, installation) in ready.coming.items():
            self._router.add(route)
            self._installer.add(name, installation)
        # A model that changes goes on under its old settings until its own turn.
        self.config = msgspec.structs.replace(
            config, models=tuple(old[one.name] if one.name in ready.changing else one for one in config.models)
        )
        for route, _ in ready.coming.values():
            self._followers.came(route)
        self._followers.follow(self.config, _as_it_is)
        for route in leaving:
            self._leaving.add(task := asyncio.create_task(self._leave(route)))
            task.add_done_callback(self._leaving.discard)
        new = [model for model in config.models if model.name in ready.changing]
        stuck = await asyncio.gather(*(self._renew(one, ready.changing[one.name]) for one in new))
        if self._leaving:
            await asyncio.wait(self._leaving)  # and not gather: whoever stops waiting must not stop them
        return [problem for problem in stuck if problem is not None]

    async def _renew(self, model: Model, prepared: Prepared) -> str | None:
        try:
            await self._installer.model(model.name).renew(prepared, partial(self._cut, model, prepared.terms))
        except EdgedError as error:
            return f"models.{model.name}: {error.fault.message}"
        return None

    def _cut(self, model: Model, terms: Terms) -> None:
        """The moment in which a model's new settings begin."""
        models = tuple(model if one.name == model.name else one for one in self.config.models)
        self.config = msgspec.structs.replace(self.config, models=models)
        self._followers.follow(self.config, partial(_renumbered, terms))

    async def _leave(self, route: Route) -> None:
        """A model that is gone answers what it has taken."""
        name = route.settings.name
        await self._installer.remove(name)
        route.door.close()
        await route.drain(DRAIN_S)
        await route.stop(fault("unknown_model", f"{name} was taken out of the configuration"))
        self._followers.went(name)


def _as_it_is(item: Input) -> Input:
    return item


def _renumbered(terms: Terms, item: Input) -> Input:
    return terms.renumbered(item) if item.model == terms.settings.name else item


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
