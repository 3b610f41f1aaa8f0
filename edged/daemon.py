"""The composition root: builds every part from the configuration, starts bottom-up, stops top-down.

The parts do not know each other; where two meet, the closure between them is made here.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import platform
import socket
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec

from edged import __version__, listening
from edged.config import schema
from edged.config.identity import instance
from edged.config.places import places
from edged.config.schema import Config, Model, Push
from edged.control import Control
from edged.delivery.audit import Decision, Entry, fell_back
from edged.delivery.installer import Installer
from edged.delivery.orders import Clock
from edged.delivery.store import Store
from edged.delivery.trail import Trail
from edged.delivery.want import Box
from edged.errors import EdgedError
from edged.messages import Admission, Input
from edged.observe import presence, status
from edged.observe.clock import WallClock
from edged.observe.heartbeat import Pulse
from edged.observe.metrics import Metrics
from edged.observe.notify import notify
from edged.observe.reporter import Reporter
from edged.observe.resources import Sampler
from edged.observe.watchdog import watch
from edged.oip.backend import Backend, Transport
from edged.oip.regions import Regions
from edged.reload import Reload
from edged.serving.prepared import PreparedModels
from edged.serving.refusals import NOTHING_YET
from edged.serving.route import Route
from edged.serving.router import Router
from edged.serving.starter import Starter, clear_leftovers
from edged.topics import Ota, Tree
from edged.transports.fast.listeners import bind as bind_fast
from edged.transports.fast.server import fast
from edged.transports.mqtt.clocks import Clocks
from edged.transports.mqtt.counts import Facts
from edged.transports.mqtt.desk import Recipient
from edged.transports.mqtt.mqtt import Mqtt
from edged.transports.mqtt.namesake import Machine
from edged.transports.rest.listeners import bind
from edged.transports.rest.server import rest
from edged.worker.library import onnxruntime_version

DRAIN_S: Final = 5.0
_LOADING_S: Final = 10.0  # how often systemd hears that models are still loading
_IN_THE_WAY: Final = (
    "Give it to the user that edged runs as, or take away what lies in its place: "
    "edged does not begin without what it has kept."
)
_READ_ONLY: Final = "A worn card shows so: look at dmesg. edged does not begin where it can keep nothing."

log = logging.getLogger("edged")


@contextmanager
def _using(state: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:  # read-only, somebody else's, something else in the place of a file or a folder
        what, inside = error.filename or str(state), error.filename not in (None, str(state))
        hint = _READ_ONLY if error.errno == errno.EROFS else _IN_THE_WAY if inside else None
        raise EdgedError("no_state", f"{what} cannot be used: {error.strerror or error}", hint) from error


def has_terminal() -> bool:
    """Whether there is a terminal that may be closed (tty(4)); when it is, it cannot be opened any more."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True


class Daemon:
    """Every part of the running daemon. `leave` is set to end it; `fell` says that a bug did."""

    def __init__(self, config: Config, read: Callable[[], Config] | None = None) -> None:
        self.leave = asyncio.Event()
        self.fell = False
        self._place = places()
        self._trail = Trail(self._place.state, self._tell)
        self._machine = Machine(instance(self._place.state), socket.gethostname())
        self._versions = {"python": platform.python_version(), "onnxruntime": onnxruntime_version()}
        self._tree = tree = Tree(config.mqtt.base if config.mqtt else "edged", config.device)
        self._metrics = Metrics(model.name for model in config.models)
        self._starter = Starter()
        self._sockets = config.sockets
        self._prepared = PreparedModels(self._place.cache)
        self._router = Router(map(partial(self._route, config.push), config.models))
        self._router.use_prepared(self._prepared)
        self._reporter = Reporter(
            tree,
            self._metrics,
            Sampler(self._place.state),
            models=self._router.views,
            mqtt=self._mqtt_facts,
            info=self._info,
            audit=lambda: status.Audit(self._trail.behind, self._trail.lost),
            reload=lambda: self._reload.last,
            rules=lambda: presence.rules(self._reload.config),
            fell_back=lambda one: self._trail.add(fell_back(one.name, one.version, one.sha256, one.fallback)),
            retain=self._retain,
            publish=self._publish,
        )
        self._installer = Installer(
            config.models,
            config.push,
            Store(self._place.state),
            route=self._router.route,
            publish=self._reporter.install_changed,
            box=Box(config.device, config.groups),
            ota=Ota(tree.base),
            audit=self._trail.add,
            refused=self._metrics.refused,
            wall=Clock(synced=WallClock().synced),
        )
        self._reload = Reload(
            config,
            read,
            router=self._router,
            installer=self._installer,
            route=lambda model: self._route(self._reload.config.push, model),
            followers=self,
            audit=self._trail.add,
            summary=self._summary,
        )
        self._installer.orders.bring = self._reload.bring
        self._control = Control(config.device, self._place.state, self._trail, self._installer, self._reload)
        self._mqtt = self._broker(config)
        self._listening: list[Transport] = []
        self._regions = Regions()
        self._tasks: list[asyncio.Task[Any]] = []

    def _broker(self, config: Config) -> Mqtt | None:
        """The transport that knows the broker, where one is configured, told of by those that it serves."""
        if config.mqtt is None:
            return None
        mqtt = Mqtt(
            config.mqtt,
            self._tree,
            config.models,
            self._machine,
            offer=self._router.offer,
            push=config.push,
            recipient=Recipient(
                self._installer.on_push,
                self._installer.refuse,
                self._installer.orders.on_document,
                self._installer.orders.on_courier,
            ),
            dropped=self._metrics.dropped,
            bug=partial(self._metrics.fault, "mqtt"),
            clocks=Clocks(synced=WallClock().synced),
            groups=config.groups,
            ask=self._control.remote,
            folder=self._place.state / "outbox",
        )
        self._router.on_room(mqtt.on_room)
        self._installer.orders.use(mqtt.courier)
        return mqtt

    async def start(self) -> None:
        """Bottom-up: state, processes, listeners, broker. Returns when every model answers, waits or failed."""
        with _using(self._place.state):
            self._place.state.mkdir(parents=True, exist_ok=True)
        self._listen(self._reload.config.sockets)
        clear_leftovers(self._place.runtime)
        await self._starter.warm()
        with _using(self._place.state):
            await self._installer.open()
            await self._reload.restore(self._installer.arrived)
            await self._trail.open()
        for route in self._router:
            route.door.open()
        self._trail.add(Decision("started", f"edged {__version__} has started"))
        self._spawn(self._trail.run())
        for route in self._router:
            route.on_change = self._reporter.model_changed
        models = asyncio.gather(*(self._serve(route) for route in self._router))
        for transport in self._listening:
            await transport.start()
        if self._mqtt is not None:
            await self._mqtt.start()
        await self._loaded(models)
        await asyncio.to_thread(self._prepared.prune, self._prepared.in_use())
        await self._reporter.sample()
        interval_s = float(self._reload.config.telemetry.interval)
        for work in (
            self._installer.run(),
            self._reporter.run(interval_s),
            watch(self._pulse, self._summary),
            self._reload.serve(),
        ):
            self._spawn(work)
        notify(READY=1, STATUS=self._summary())
        log.info("%s", self._summary())

    async def _loaded(self, models: asyncio.Future[list[None]]) -> None:
        """Waits for the first start of every model; meanwhile systemd hears that it goes on."""
        try:
            while not models.done():
                notify(STATUS=self._summary(), EXTEND_TIMEOUT_USEC=round(3e6 * _LOADING_S))
                await asyncio.wait((models,), timeout=_LOADING_S)
        finally:  # a stop may come first; it ends the processes, and waits for no start
            models.cancel()
            models.add_done_callback(_heard)
        await models

    async def stop(self) -> None:
        """Top-down: listeners first, then what is under way, generations last."""
        notify(STOPPING=1)
        drained_s = time.monotonic() + DRAIN_S
        for task in self._tasks:
            task.remove_done_callback(self._ended)
        if self._mqtt is not None:
            self._mqtt.stop_taking()
        await asyncio.gather(*(transport.stop(DRAIN_S) for transport in self._listening))
        for route in self._router:
            route.door.close()
        left_s = max(0.0, drained_s - time.monotonic())
        await asyncio.gather(*(route.drain(left_s) for route in self._router))
        self._trail.add(Decision("stopped", "edged stops", code="internal" if self.fell else ""))
        await self._trail.close()
        if self._mqtt is not None:
            await self._mqtt.stop()  # before the rest is abandoned: an unacknowledged input comes back
        await self._reload.stop()
        await self._installer.stop(clean=not self.fell)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(route.stop() for route in self._router))
        await self._starter.end()
        log.info("stopped")

    def broken(self, _loop: asyncio.AbstractEventLoop, context: Mapping[str, Any]) -> None:
        """An exception that nobody expected: logged, and the end of the daemon (RULES 23)."""
        log.critical("a fault of edged: %s", context.get("message"), exc_info=context.get("exception"))
        self.fell = True
        self.leave.set()

    # --- another configuration ----------------------------------------------------------------------

    def hang_up(self, *, terminal: bool) -> None:
        """SIGHUP: the end of the terminal that it was started from, or the wish for a reload."""
        if terminal and not has_terminal():
            self.leave.set()
        else:
            self._reload.want()

    def follow(self, config: Config, renumbered: Callable[[Input], Input]) -> None:
        """What the parts that know the models have to know of a change (reload.Followers)."""
        self._installer.orders.meant(Box(config.device, config.groups))
        for route in self._router:
            route.feeder.record(on=config.push.record)
        if self._mqtt is not None:
            self._mqtt.adopt(config.models, config.groups, config.push, renumbered)
        for transport in self._listening:
            transport.adopt()
        self._reporter.interval_s = float(config.telemetry.interval)
        self._reporter.reloaded()

    def came(self, route: Route) -> None:
        name = route.settings.name
        self._metrics.add(name)
        route.on_change = self._reporter.model_changed
        self._reporter.model_changed(name)

    def reloaded(self) -> None:
        self._reporter.info_changed()

    def went(self, model: str) -> None:
        self._metrics.remove(model)
        self._reporter.model_removed(model)

    # --- models -------------------------------------------------------------------------------------

    def _route(self, push: Push, model: Model) -> Route:
        fast = self._sockets.fast
        listen = None
        if fast is not None and fast.direct:
            listen = partial(listening.unix, Path(fast.of(model.name)), "sockets.fast", descriptors=True)
        route = Route(model, self._starter, self._metrics, record=push.record, listen=listen)
        route.processes.prepared = self._prepared
        return route

    async def _serve(self, route: Route) -> None:
        name = route.settings.name
        release = self._installer.boot_release(name)
        problem = self._installer.boot_fault(name)
        if release is not None:
            await route.serve(release)
        elif problem is not None:
            route.fail(problem)
        else:
            route.door.refuse(NOTHING_YET)
        self._reporter.model_changed(name)

    def _listen(self, sockets: schema.Sockets) -> None:
        self._listening.append(rest(bind(sockets), self._backend("http")))
        if sockets.fast is not None:
            self._listening.append(fast(bind_fast(sockets.fast.path), self._backend("fast")))
        if sockets.grpc:
            from edged.transports.rpc import server as grpc  # 1.7 MB that few boxes need

            self._listening.append(grpc.rpc(grpc.bind(sockets), self._backend("grpc")))

    def _backend(self, transport: str) -> Backend:
        return Backend(
            offer=self._offer,
            view=self._router.view,
            views=self._router.views,
            metrics=self._reporter.scrape,
            status=self._reporter.status,
            control=self._control.local,
            refused=partial(self._refused, transport),
            statistics=self._reporter.statistics,
            regions=self._regions,
        )

    def _offer(self, item: Input) -> Admission:
        return self._router.offer(item if self._mqtt is None else self._mqtt.also(item))

    def _refused(self, transport: str, model: str, code: str) -> None:
        if code == "internal":
            self._metrics.fault(transport)
        self._metrics.answered(model, "", code, 0.0)

    # --- what the box says --------------------------------------------------------------------------

    def _retain(self, topic: str, payload: bytes) -> None:
        if self._mqtt is not None:
            self._mqtt.retain(topic, payload)

    def _publish(self, topic: str, payload: bytes, qos: int) -> None:
        if self._mqtt is not None:
            self._mqtt.publish(topic, payload, qos)

    def _tell(self, entries: Sequence[Entry]) -> None:
        """New lines of the audit, one message for all of a second."""
        self._publish(self._tree.event, msgspec.json.encode({"events": entries}), 1)

    def _mqtt_facts(self) -> Facts | None:
        return None if self._mqtt is None else self._mqtt.facts()

    def _info(self) -> Mapping[str, object]:
        machine: dict[str, str] = msgspec.structs.asdict(self._machine)
        return presence.info(self._reload.config, machine | self._versions, self._router.views(), self._reload.last)

    def _summary(self) -> str:
        facts = self._mqtt_facts()
        return presence.summary(self._router.views(), self._tree.device, facts.namesake if facts else "")

    def _pulse(self, now_s: float) -> Pulse:
        return Pulse(now_s, self._mqtt is None or self._mqtt.alive(), self._router.running(now_s))

    # --- its parts --------------------------------------------------------------------------------------

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Runs a part that ends only with the daemon."""
        task = asyncio.create_task(work)
        task.add_done_callback(self._ended)
        self._tasks.append(task)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self.broken(asyncio.get_running_loop(), {"message": "a part of the daemon ended", "exception": error})


def _heard(models: asyncio.Future[list[None]]) -> None:
    """Reads how the starts ended: cancelled ones nobody waits for would be told as a fault of edged's own."""
    if not models.cancelled():
        models.exception()
