"""Model name -> route: the one door that every transport uses."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import msgspec

from edged.config.schema import Batch
from edged.errors import Fault, fault
from edged.messages import Admission, Input
from edged.observe.heartbeat import Running
from edged.serving.prepared import PreparedModels
from edged.serving.route import Route
from edged.tensors import Signature


class ModelView(msgspec.Struct, frozen=True):
    """One model as others may see it. `state`: serving, starting, waiting or failed; sizes in inputs.

    `unloaded`: it is waiting because somebody has said so. `batch` are the settings of the release that serves.
    `direct`: the path of its own socket, "" for none. `fallback`: why the first of the providers that it is meant for
    does not run it, "" when it does. `topics` are those of its `inputs`, in the configuration's order; `joined`: they
    run together.
    """

    name: str
    state: str
    version: str
    sha256: str
    signature: Signature | None
    fault: Fault | None
    queue: int
    in_flight: int
    pid: int | None
    message_limit: int
    deadline_s: float | None
    batch: Batch = Batch()
    providers: tuple[str, ...] = ()
    unloaded: bool = False
    direct: str = ""
    fallback: str = ""
    topics: tuple[str, ...] = ()
    joined: bool = False


class Router:
    """The models of this box."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._routes = {route.settings.name: route for route in routes}
        self._on_room: Callable[[str], None] = lambda _model: None
        for route in self:
            route.processes.neighbours = self._routes.__len__

    def __iter__(self) -> Iterator[Route]:
        return iter(list(self._routes.values()))

    def add(self, route: Route) -> None:
        """Another model, from now on."""
        route.feeder.on_room = self._on_room
        route.processes.neighbours = self._routes.__len__
        self._routes[route.settings.name] = route

    def remove(self, model: str) -> Route:
        """From now on its inputs are `unknown_model`; what its route has taken is still the route's to answer."""
        return self._routes.pop(model)

    def route(self, model: str) -> Route:
        """Raises KeyError for a model that is not configured."""
        return self._routes[model]

    def use_prepared(self, models: PreparedModels) -> None:
        """Models are loaded from this cache where that pays; it keeps what runs."""
        for route in self:
            route.processes.prepared = models
        models.in_use = lambda: frozenset().union(*(route.in_use() for route in self))

    def offer(self, item: Input) -> Admission:
        """Hands an input to its model; `item.reply` gets its one outcome unless the answer is BLOCKED."""
        route = self._routes.get(item.model)
        if route is None:
            known = ", ".join(sorted(self._routes)) or "none"
            item.reply(fault("unknown_model", f"no model {item.model!r} here; there is: {known}"))
            return Admission.REFUSED
        return route.offer(item)

    def on_room(self, callback: Callable[[str], None]) -> None:
        """`callback` gets the name of each model whose lane said BLOCKED and has room again."""
        self._on_room = callback
        for route in self:
            route.feeder.on_room = callback

    def running(self, now_s: float) -> tuple[Running, ...]:
        """The oldest batch of each model that answers."""
        live = [(route.settings.name, route.live.overtime) for route in self if route.live is not None]
        return tuple(Running(name, overtime.oldest_s(now_s), overtime.limit_s) for name, overtime in live)

    def views(self) -> tuple[ModelView, ...]:
        return tuple(_view(route) for route in self)

    def view(self, model: str) -> ModelView | None:
        route = self._routes.get(model)
        return _view(route) if route is not None else None


def _view(route: Route) -> ModelView:
    live, release, settings = route.live, route.release, route.settings
    if live is not None:
        state = "serving"
    elif route.fault is not None:
        state = "failed"
    else:
        state = "starting" if release is not None else "waiting"
    deadline = settings.queue.deadline
    return ModelView(
        name=settings.name,
        state=state,
        version=release.version if release else "",
        sha256=release.sha256 if release else "",
        signature=route.signature,
        fault=route.fault,
        queue=len(route.feeder.lane),
        in_flight=sum(flight.inputs for flight in live.flights) if live else 0,
        pid=live.pid if live else None,
        message_limit=int(settings.limits.message),
        deadline_s=None if deadline is None else float(deadline),
        batch=(release.under(settings) if release else settings).batch,
        providers=live.facts.providers if live and live.facts else (),
        unloaded=route.unloaded,
        direct=route.door.address,
        fallback=live.facts.fallback if live and live.facts else "",
        topics=tuple(one.topic for one in settings.inputs),
        joined=settings.joined,
    )
