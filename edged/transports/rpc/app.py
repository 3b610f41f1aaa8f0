"""The gRPC API: a message in, an offer to a model, an answer out."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

import msgspec

from edged.errors import EdgedError, Fault
from edged.messages import GRPC, Input, Outcome, Source
from edged.oip import config, describe, parameters, repository, stats
from edged.oip.backend import Backend
from edged.oip.bodies import Room
from edged.oip.inflate import Inflater, Inflation
from edged.oip.parameters import Wishes
from edged.oip.rights import Rights
from edged.oip.shared import Brought, laying_down, manage, read
from edged.oip.works import BUG, INTERNAL, Works
from edged.transports.rpc import requests, shapes, shared
from edged.transports.rpc.calls import Call
from edged.transports.rpc.heads import Head
from edged.transports.rpc.limits import Limits
from edged.transports.rpc.methods import METHODS, Method

if TYPE_CHECKING:
    from edged.serving.router import ModelView

logger = logging.getLogger(__name__)

_SERVING, _NOT_SERVING = 1, 2  # of grpc.health.v1


class _Rules(msgspec.Struct, frozen=True):
    """What the configuration says about one model's requests: bytes, and seconds from arrival where it says so."""

    message_limit: int
    deadline_s: float | None


class App:
    """Answers every call, whatever happens: one boundary around each (RULES 23)."""

    def __init__(self, backend: Backend, limits: Limits, clock: Callable[[], float]) -> None:
        self._backend = backend
        self._limits = limits
        self._clock = clock
        self._rules: dict[str, _Rules] = {}
        self._largest = limits.control
        self._works = Works()
        self._inflater = Inflater()
        self.room = Room(0)
        self.adopt()

    def adopt(self) -> None:
        """The models are others, or their limits are."""
        views = self._backend.views()
        self._rules = {view.name: _Rules(view.message_limit, view.deadline_s) for view in views}
        self._largest = max([self._limits.control, *(view.message_limit for view in views)])
        self.room.size = max(self._limits.bodies, self._largest)

    def cancel(self) -> None:
        """Ends what is under way."""
        self._works.cancel()

    def admit(self, head: Head, rights: Rights) -> tuple[Method, int]:
        """What is called, and the bytes that each of its messages may have. Raises EdgedError."""
        method = METHODS.get(head.path)
        rights.check("" if method is None else method.kind, head.token)
        if method is None or not head.grpc:
            raise EdgedError("unsupported", f"there is no call {head.path[:200].decode('latin-1')}")
        if head.problem is not None:
            raise EdgedError(head.problem.code, head.problem.message, head.problem.hint)
        if method.unserved:
            raise EdgedError("unsupported", method.unserved)
        return method, self._most(method)

    def _most(self, method: Method) -> int:
        return self._largest if method.kind == "infer" else self._limits.control

    def take(self, call: Call, payload: bytes) -> None:
        """Sees to it that `call` gets its answer; raises nothing."""
        try:
            if not call.coding:
                self._take(call, payload)
                return
            message = self._inflater.at_once(call.coding, payload, self._most(call.method))
            if isinstance(message, bytes):
                self._take(call, message)
            else:
                self._later(call, self._inflated(call, message))
        except EdgedError as error:
            self._refuse(call, error.fault)
        except Exception:
            logger.exception(BUG, _shown(call))
            self._refuse(call, INTERNAL)

    async def _inflated(self, call: Call, message: Inflation) -> None:
        self._take(call, await self._inflater.later(message))

    def _take(self, call: Call, payload: bytes) -> None:
        """Answers a message as its sender meant it, or offers it to the model. Raises EdgedError."""
        kind = call.method.kind
        if kind == "infer":
            self._infer(call, payload)
        elif kind in ("load", "unload"):
            said, by = _read(shapes.LOAD, payload), call.controller()
            self._view(said.get("model_name", ""))
            self._later(call, self._control(call, kind, said, by))
        elif kind in ("shared_status", "shared_register", "shared_unregister"):
            said = {"key": "", "byte_size": 0, **_read(shapes.REGION, payload)}
            rows = manage(self._backend.regions, kind, said.get("name", ""), said, near=call.near)
            regions = {row.name: msgspec.structs.asdict(row) for row in rows}
            call.answer(shapes.encode(shapes.REGIONS, {"regions": regions}))
        else:
            call.answer(self._tell(kind, payload))

    def _refuse(self, call: Call, problem: Fault) -> None:
        # Only inputs count as a model's; and only configured names: labels that strangers choose grow for ever.
        self._backend.refused(call.model if call.model in self._rules else "", problem.code)
        call.fail(problem)

    def _infer(self, call: Call, payload: bytes) -> None:
        asked, regions = requests.infer(payload), self._backend.regions
        call.model, call.id = asked.model, asked.id
        rules = self._rules.get(asked.model)
        if rules is None or asked.version:
            self._view(asked.model, asked.version)
        wishes = parameters.of(asked.timeout, asked.priority)
        if len(regions) and call.near and shared.uses(payload):
            brought = shared.bring(payload, regions, rules.message_limit if rules else self._limits.control)
            if brought is not None:
                self._bring(call, wishes, brought)
                return
        self._queue(call, wishes, payload, call.settle)

    def _bring(self, call: Call, wishes: Wishes, brought: Brought) -> None:
        """Offers a request with tensors in shared memory, when they are read."""
        later = functools.partial(self._later, call)
        reply = laying_down(brought, shared.shortened, call.settle, later)
        read(brought, lambda payload: self._queue(call, wishes, payload, reply), later)

    def _queue(self, call: Call, wishes: Wishes, payload: bytes, reply: Callable[[Outcome], None]) -> None:
        rules = self._rules.get(call.model)
        now_s, limits = self._clock(), self._limits
        said_s = call.head.timeout_s
        own_s = rules.deadline_s if rules else None
        within_s = min([one for one in (said_s, own_s) if one is not None], default=limits.deadline_s)
        call.latest_s = now_s + within_s + limits.net_s
        self._backend.offer(
            Input(
                model=call.model,
                payload=payload,
                source=Source.GRPC,
                reply=reply,
                arrived_s=now_s,
                arrived_ms=time.time_ns() // 1_000_000,
                deadline_s=now_s + within_s,
                form=GRPC,
                start_by_s=None if wishes.timeout_s is None else now_s + wishes.timeout_s,
                priority=wishes.priority,
            )
        )

    def _later(self, call: Call, work: Coroutine[Any, Any, None]) -> None:
        """Does what cannot be done at once, while what follows on its stream waits; `call` gets its answer."""
        call.hold()
        self._works.do(work, _shown(call), functools.partial(self._refuse, call), call.let_go)

    async def _control(self, call: Call, verb: str, said: dict[str, Any], by: str) -> None:
        arguments = {"model": said.get("model_name", ""), "parameters": said.get("parameters", {})}
        await self._backend.control(verb, arguments, by)
        call.answer(b"")

    def _tell(self, kind: str, payload: bytes) -> bytes:
        match kind:
            case "live":
                return shapes.encode(shapes.LIVE, {"live": True})
            case "ready":
                return shapes.encode(shapes.READY, {"ready": self._ready()})
            case "health":
                return shapes.encode(shapes.HEALTH, {"status": _SERVING if self._ready() else _NOT_SERVING})
            case "server":
                return shapes.encode(shapes.SERVER, describe.server())
            case "nothing":
                return b""
            case "index":
                rows = repository.index(
                    self._backend.views(), ready=repository.wants_ready(_read(shapes.INDEX, payload))
                )
                return shapes.encode(shapes.ROWS, {"models": rows})
        asked = _read(shapes.MODEL, payload)
        if kind == "statistics" and not asked.get("name"):
            return shapes.encode(shapes.STATISTICS, stats.models(self._backend.views(), self._backend))
        if kind == "model_ready":
            return shapes.encode(shapes.READY, {"ready": self._answers(asked)})
        view = self._view(asked.get("name", ""), asked.get("version", ""))
        match kind:
            case "config":
                return shapes.encode(shapes.CONFIG, {"config": config.model(view)})
            case "statistics":
                describe.check_serving(view)
                return shapes.encode(shapes.STATISTICS, stats.models((view,), self._backend))
            case _:
                return shapes.encode(shapes.METADATA, describe.model(view))

    def _ready(self) -> bool:
        status, _ = describe.ready(self._backend.views())
        return status == 200

    def _answers(self, asked: dict[str, Any]) -> bool:
        """Whether a model answers: over gRPC one that does not, or is none, is not ready, and no error (Triton)."""
        try:
            describe.model_ready(self._view(asked.get("name", ""), asked.get("version", "")))
        except EdgedError:
            return False
        return True

    def _view(self, model: str, version: str = "") -> ModelView:
        return describe.named(self._backend, model, version)


def _shown(call: Call) -> str:
    return call.head.path[:200].decode("latin-1")


def _read(shape: shapes.Shape, payload: bytes) -> dict[str, Any]:
    try:
        return shapes.decode(shape, payload)
    except (ValueError, IndexError) as error:
        raise EdgedError("bad_input", f"the request is not what it has to be: {error}") from error
