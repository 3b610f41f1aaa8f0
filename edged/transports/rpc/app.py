"""The gRPC API: a message in, an offer to a model, an answer out."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import msgspec

from edged.errors import EdgedError, fault
from edged.messages import GRPC, Input, Source
from edged.oip import config, describe, parameters, repository, stats
from edged.oip.backend import Backend
from edged.oip.bodies import Room
from edged.oip.rights import Rights
from edged.transports.rpc import requests, shapes
from edged.transports.rpc.calls import Call
from edged.transports.rpc.heads import Head
from edged.transports.rpc.limits import Limits
from edged.transports.rpc.methods import METHODS, Method

if TYPE_CHECKING:
    from edged.serving.router import ModelView

logger = logging.getLogger(__name__)

_BUG: Final = "a bug while answering %r"
_INTERNAL: Final = fault("internal", "edged failed to answer this request")
_NOT_HERE: Final = frozenset({"system_shared_memory"})  # of what HTTP announces
_SERVING, _NOT_SERVING = 1, 2  # of grpc.health.v1


class _Rules(msgspec.Struct, frozen=True):
    """What the configuration says about one model's requests: seconds from arrival, None where it says nothing."""

    deadline_s: float | None


class App:
    """Answers every call, whatever happens: one boundary around each (RULES 23)."""

    def __init__(self, backend: Backend, limits: Limits, clock: Callable[[], float]) -> None:
        self._backend = backend
        self._limits = limits
        self._clock = clock
        self._rules: dict[str, _Rules] = {}
        self._largest = limits.control
        self._under_way: set[asyncio.Task[None]] = set()  # control verbs: all else is answered without waiting
        self.room = Room(0)
        self.adopt()

    def adopt(self) -> None:
        """The models are others, or their limits are."""
        views = self._backend.views()
        self._rules = {view.name: _Rules(view.deadline_s) for view in views}
        self._largest = max([self._limits.control, *(view.message_limit for view in views)])
        self.room.size = max(self._limits.bodies, self._largest)

    def cancel(self) -> None:
        """Ends the control verbs that are under way."""
        for task in self._under_way:
            task.cancel()

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
        return method, self._largest if method.kind == "infer" else self._limits.control

    def take(self, call: Call, payload: bytes) -> None:
        """Sees to it that `call` gets its answer; raises nothing."""
        model = ""
        try:
            kind = call.method.kind
            if kind == "infer":
                asked = requests.infer(payload)
                model, call.id = asked.model, asked.id
                self._infer(call, asked, payload)
            elif kind in ("load", "unload"):
                self._control(call, kind, _read(shapes.LOAD, payload), call.controller())
            else:
                call.answer(self._tell(kind, payload))
        except EdgedError as error:
            # Only inputs count as a model's; and only configured names: labels that strangers choose grow for ever.
            self._backend.refused(model if model in self._rules else "", error.fault.code)
            call.fail(error.fault)
        except Exception:
            logger.exception(_BUG, call.head.path[:200])
            self._backend.refused("", "internal")
            call.fail(_INTERNAL)

    def _infer(self, call: Call, asked: requests.Asked, payload: bytes) -> None:
        rules = self._rules.get(asked.model)
        if rules is None or asked.version:
            self._view(asked.model, asked.version)
        wishes = parameters.of(asked.timeout, asked.priority)
        now_s, limits = self._clock(), self._limits
        said_s = call.head.timeout_s
        own_s = rules.deadline_s if rules else None
        within_s = min([one for one in (said_s, own_s) if one is not None], default=limits.deadline_s)
        call.latest_s = now_s + within_s + limits.net_s
        self._backend.offer(
            Input(
                model=asked.model,
                payload=payload,
                source=Source.GRPC,
                reply=call.settle,
                arrived_s=now_s,
                arrived_ms=time.time_ns() // 1_000_000,
                deadline_s=now_s + within_s,
                form=GRPC,
                start_by_s=None if wishes.timeout_s is None else now_s + wishes.timeout_s,
                priority=wishes.priority,
            )
        )

    def _control(self, call: Call, verb: str, said: dict[str, Any], by: str) -> None:
        arguments = {"model": said.get("model_name", ""), "parameters": said.get("parameters", {})}
        self._view(arguments["model"])

        async def perform() -> None:
            try:
                await self._backend.control(verb, arguments, by)
            except EdgedError as error:
                self._backend.refused("", error.fault.code)
                call.fail(error.fault)
            except Exception:
                logger.exception(_BUG, call.head.path[:200])
                self._backend.refused("", "internal")
                call.fail(_INTERNAL)
            else:
                call.answer(b"")

        task = asyncio.create_task(perform())
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    def _tell(self, kind: str, payload: bytes) -> bytes:
        match kind:
            case "live":
                return shapes.encode(shapes.LIVE, {"live": True})
            case "ready":
                return shapes.encode(shapes.READY, {"ready": self._ready()})
            case "health":
                return shapes.encode(shapes.HEALTH, {"status": _SERVING if self._ready() else _NOT_SERVING})
            case "server":
                said = describe.server()
                served = [name for name in said["extensions"] if name not in _NOT_HERE]
                return shapes.encode(shapes.SERVER, {**said, "extensions": served})
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
        """EdgedError `unknown_model` when there is no such model, or that version of it does not serve."""
        view = self._backend.view(model)
        if view is None:
            raise describe.unknown(model, (one.name for one in self._backend.views()))
        describe.check_version(view, version)
        return view


def _read(shape: shapes.Shape, payload: bytes) -> dict[str, Any]:
    try:
        return shapes.decode(shape, payload)
    except (ValueError, IndexError) as error:
        raise EdgedError("bad_input", f"the request is not what it has to be: {error}") from error
