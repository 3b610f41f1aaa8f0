"""The HTTP API as a bare ASGI application: an address and a body in, an offer to a model, an answer out."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any

import msgspec

from edged.errors import EdgedError, Fault, fault
from edged.messages import Admission, Input, Source
from edged.transports.rest import bodies, describe, replies
from edged.transports.rest.limits import Limits
from edged.transports.rest.peers import Peer, check_control
from edged.transports.rest.replies import Reply
from edged.transports.rest.routes import VERBS, Target, target
from edged.transports.rest.waiting import Waiting, settle

if TYPE_CHECKING:
    from edged.serving.router import ModelView

logger = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class Backend(msgspec.Struct, frozen=True):
    """What the application asks of the rest of the daemon.

    `offer`, `view` and `views` are the router's. `metrics` gives Prometheus text, `status` what
    `edged status` shows. `control(verb, model)` does the verb (`rollback`) and tells how it went, or
    raises EdgedError. `refused(model, code)` is told of every request that is answered with an error
    without having been offered to a model, and of `client_gone`; model is "" but for an input of a known one.
    """

    offer: Callable[[Input], Admission]
    view: Callable[[str], ModelView | None]
    views: Callable[[], tuple[ModelView, ...]]
    metrics: Callable[[], bytes]
    status: Callable[[], dict[str, Any]]
    control: Callable[[str, str], Awaitable[dict[str, Any]]]
    refused: Callable[[str, str], None]


class _Rules(msgspec.Struct, frozen=True):
    """What the configuration says about one model's requests: bytes, and seconds from arrival."""

    message_limit: int
    deadline_s: float


class App:
    """Answers every request, whatever happens: one boundary around each (RULES 23)."""

    def __init__(self, backend: Backend, limits: Limits, clock: Callable[[], float]) -> None:
        self._backend = backend
        self._limits = limits
        self._clock = clock
        self._waiting = Waiting(clock)
        self._rules = {
            view.name: _Rules(view.message_limit, limits.deadline_s if view.deadline_s is None else view.deadline_s)
            for view in backend.views()
        }
        self.stopping = False

    def body_limit(self, url: bytes) -> int:
        """The bytes that a body sent to this raw URL may have."""
        found = target(url)
        rules = self._rules.get(found.model) if found.kind == "infer" else None
        return self._limits.control if rules is None else rules.message_limit

    def largest_body(self) -> int:
        return max([self._limits.control, *(rules.message_limit for rules in self._rules.values())])

    def give_up(self, problem: Fault) -> None:
        """Answers every request that waits for its outcome with `problem`."""
        self._waiting.give_up(problem)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        found = target(scope["raw_path"])
        try:
            reply = await self._reply(found, scope, receive)
        except EdgedError as error:
            reply = self._refused(found, error.fault)
        except Exception:
            logger.exception("a bug while answering %s %r", scope["method"], scope["raw_path"][:200])
            reply = self._refused(found, fault("internal", "edged failed to answer this request"))
        if reply is None:  # the client went away, or the protocol has refused it
            return
        await send({"type": "http.response.start", "status": reply.status, "headers": reply.headers})
        await send({"type": "http.response.body", "body": reply.body})

    def _refused(self, found: Target, problem: Fault, *headers: replies.Header) -> Reply:
        # Only inputs count as a model's; and only configured names: labels that strangers choose grow for ever.
        known = found.kind == "infer" and found.model in self._rules
        self._backend.refused(found.model if known else "", problem.code)
        return replies.refused(problem, *headers)

    async def _reply(self, found: Target, scope: Scope, receive: Receive) -> Reply | None:
        method, kind = scope["method"], found.kind
        # Read before anything is refused: a client that is still sending would read a reset, not why.
        payload = b"" if method in ("GET", "HEAD") else await bodies.read(receive)
        if payload is None:
            return None
        if kind == "nothing":
            raise EdgedError("not_found", f"there is nothing at {_shown(scope)}")
        verb = VERBS[kind]
        if method != verb and not (method == "HEAD" and verb == "GET"):
            problem = fault("method_not_allowed", f"{_shown(scope)} takes {verb}, not {method}")
            return self._refused(found, problem, (b"allow", b"GET, HEAD" if verb == "GET" else b"POST"))
        if kind == "infer":
            return await self._infer(found, scope, payload)
        if kind == "rollback":
            return await self._control(found, scope["state"]["peer"])
        return self._tell(found)

    async def _infer(self, found: Target, scope: Scope, payload: bytes) -> Reply:
        rules = self._rules.get(found.model)
        if rules is None or found.version:
            self._view(found)
        head = bodies.head(scope["headers"])
        bodies.check(head, payload, scope["headers"])
        now_s = self._clock()
        deadline_s = now_s + (rules.deadline_s if rules else self._limits.deadline_s)
        future = self._waiting.open(deadline_s + self._limits.net_s)
        try:
            self._backend.offer(
                Input(
                    model=found.model,
                    payload=payload,
                    source=Source.HTTP,
                    reply=functools.partial(settle, future),
                    arrived_s=now_s,
                    arrived_ms=time.time_ns() // 1_000_000,
                    deadline_s=deadline_s,
                    content_type=head.content_type,
                    json_length=head.json_length,
                    binary=True,  # what the request asks for decides
                )
            )
            outcome = await future
        finally:
            self._waiting.close(future)
        return replies.refused(outcome) if isinstance(outcome, Fault) else replies.answered(outcome)

    async def _control(self, found: Target, peer: Peer | None) -> Reply:
        check_control(peer)
        self._view(found)
        return replies.json(200, await self._backend.control(found.kind, found.model))

    def _tell(self, found: Target) -> Reply:
        match found.kind:
            case "model":
                return replies.json(200, describe.model(self._view(found)))
            case "model_ready":
                return replies.json(200, describe.model_ready(self._view(found)))
            case "live":
                return replies.json(200, {"live": True})
            case "ready":
                return replies.json(*describe.ready(self._backend.views(), stopping=self.stopping))
            case "metrics":
                return replies.metrics(self._backend.metrics())
            case "status":
                return replies.json(200, self._backend.status())
            case _:
                return replies.json(200, describe.server())

    def _view(self, found: Target) -> ModelView:
        """The model that a path names; EdgedError `unknown_model` when it, or that version, does not serve."""
        view = self._backend.view(found.model)
        if view is None:
            raise describe.unknown(found.model, (one.name for one in self._backend.views()))
        describe.check_version(view, found.version)
        return view


def _shown(scope: Scope) -> str:
    path: bytes = scope["raw_path"]
    return path[:200].decode("latin-1")
