"""The HTTP API: a header and a body in, an offer to a model, an answer out."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Final

import msgspec

from edged.errors import EdgedError, Fault, fault
from edged.messages import Input, Outcome, Source
from edged.oip import config, describe, repository, stats
from edged.oip.backend import Backend
from edged.oip.bodies import Room
from edged.oip.inflate import Inflater, Inflation
from edged.oip.parameters import Wishes, wishes
from edged.oip.shared import Brought, laying_down, manage, read
from edged.oip.works import BUG, INTERNAL, Works
from edged.topics import TopicFilter
from edged.transports.rest import replies, shared
from edged.transports.rest.heads import Head, check_length
from edged.transports.rest.limits import Limits
from edged.transports.rest.replies import Reply
from edged.transports.rest.routes import CONTROL, UNSERVED, VERBS, Target
from edged.transports.rest.turns import Turn

if TYPE_CHECKING:
    from edged.serving.router import ModelView

logger = logging.getLogger(__name__)

_BYTES: Final = frozenset({"offer", "chunk"})  # control verbs whose body is taken as it is


class _Rules(msgspec.Struct, frozen=True):
    """What the configuration says about one model's requests: bytes, and seconds from arrival."""

    message_limit: int
    deadline_s: float
    topics: tuple[TopicFilter, ...]
    joined: bool

    def form(self, topic: str) -> int:
        """Which of the model's `inputs` reads what comes on a topic. Raises EdgedError `bad_input`."""
        if self.joined:
            alone = "its inputs run together, and this is one of them"
            raise EdgedError("bad_input", alone, "Leave the topic out and send all of the model's tensors.")
        for index, one in enumerate(self.topics):
            if one.match(topic) is not None:
                return index
        listed = ", ".join(one.text for one in self.topics) or "none are configured"
        raise EdgedError("bad_input", f"{topic[:200]} is no input of this model", f"Its inputs: {listed}.")


class App:
    """Answers every request, whatever happens: one boundary around each (RULES 23)."""

    def __init__(self, backend: Backend, limits: Limits, clock: Callable[[], float]) -> None:
        self._backend = backend
        self._limits = limits
        self._clock = clock
        self._rules: dict[str, _Rules] = {}
        self._works = Works()
        self._inflater = Inflater()
        self.room = Room(0)
        self.adopt()

    def adopt(self) -> None:
        """The models are others, or their limits are."""
        limits = self._limits
        self._rules = {
            view.name: _Rules(
                message_limit=view.message_limit,
                deadline_s=limits.deadline_s if view.deadline_s is None else view.deadline_s,
                topics=tuple(map(TopicFilter.parse, view.topics)),
                joined=view.joined,
            )
            for view in self._backend.views()
        }
        messages = [rules.message_limit for rules in self._rules.values()]
        self.room.size = max([limits.bodies, limits.control, limits.chunk, *messages])

    def cancel(self) -> None:
        """Ends what is under way."""
        self._works.cancel()

    def admit(self, head: Head) -> int:
        """The bytes that the body of such a request may have. Raises EdgedError for one that is asked of nobody."""
        if head.target.kind == "chunk":
            return self._limits.chunk
        if head.target.kind == "load" and head.length > self._limits.control:
            raise repository.no_files()  # else it would be told that its file is too large
        most = self._most(self._rules.get(head.target.model) if head.target.kind == "infer" else None)
        if head.chunked or head.length > most:  # else a mistyped address would be told that its body is too large
            self._check_address(head)
        return most

    def take(self, head: Head, payload: bytes, turn: Turn, check_control: Callable[[Head], str]) -> None:
        """Sees to it that `turn` gets its reply; raises nothing. `check_control` says who asks or raises EdgedError."""
        try:
            self._check_address(head)
            verb = VERBS[head.target.kind]
            if head.method != verb and not (head.method == "HEAD" and verb == "GET"):
                turn.answer(self._other_verb(head, verb))
            elif head.target.kind == "infer":
                self._infer(head, payload, turn)
            elif head.target.kind in CONTROL:
                by = check_control(head)
                if head.target.model:
                    self._view(head.target)
                self._later(head, turn, self._control(head, _arguments(head.target, payload), by, turn))
            else:
                turn.answer(self._memory(head.target, payload, turn) or self._tell(head.target, payload))
        except EdgedError as error:
            turn.answer(self._refused(head.target, error.fault))
        except Exception:
            logger.exception(BUG, f"{head.method} {_shown(head)}")
            turn.answer(self._refused(head.target, INTERNAL))

    def _check_address(self, head: Head) -> None:
        """Raises EdgedError where nothing answers, whatever the verb and the body."""
        found = head.target
        if found.kind in UNSERVED:
            raise EdgedError("unsupported", UNSERVED[found.kind])
        if found.kind not in VERBS:
            raise EdgedError("not_found", f"there is nothing at {_shown(head)}")
        if found.kind == "infer" and found.model not in self._rules:
            self._view(found)

    def _refused(self, found: Target, problem: Fault, *headers: tuple[bytes, bytes]) -> Reply:
        # Only inputs count as a model's; and only configured names: labels that strangers choose grow for ever.
        known = found.kind == "infer" and found.model in self._rules
        self._backend.refused(found.model if known else "", problem.code)
        return replies.refused(problem, *headers)

    def _other_verb(self, head: Head, verb: str) -> Reply:
        problem = fault("method_not_allowed", f"{_shown(head)} takes {verb}, not {head.method}")
        return self._refused(head.target, problem, (b"allow", b"GET, HEAD" if verb == "GET" else b"POST"))

    def _infer(self, head: Head, payload: bytes, turn: Turn) -> None:
        rules = self._rules.get(head.target.model)
        if head.target.version:
            self._view(head.target)
        if head.problem is not None:
            raise EdgedError(head.problem.code, head.problem.message, head.problem.hint)
        if not head.coding:
            self._offer(head, payload, turn)
            return
        body = self._inflater.at_once(head.coding, payload, self._most(rules))
        if isinstance(body, bytes):
            self._offer(head, body, turn)
        else:
            self._later(head, turn, self._inflated(head, body, turn))

    def _most(self, rules: _Rules | None) -> int:
        return self._limits.control if rules is None else rules.message_limit

    async def _inflated(self, head: Head, body: Inflation, turn: Turn) -> None:
        self._offer(head, await self._inflater.later(body), turn)

    def _offer(self, head: Head, payload: bytes, turn: Turn) -> None:
        """Offers a body as its sender meant it to the model. Raises EdgedError."""
        check_length(head, payload)
        asked, regions = wishes(payload, head.json_length), self._backend.regions
        if len(regions) and shared.uses(payload, head.json_length):
            most = self._most(self._rules.get(head.target.model))
            brought = shared.bring(payload, head.json_length, regions, most) if turn.near else None
            if brought is not None:
                self._bring(head, brought, asked, turn)
                return
        self._queue(head, payload, head.json_length, asked, turn, turn.settle)

    def _bring(self, head: Head, brought: Brought, asked: Wishes, turn: Turn) -> None:
        """Offers a request with tensors in shared memory, when they are read."""
        later = functools.partial(self._later, head, turn)
        reply = laying_down(brought, shared.shortened, turn.settle, later)
        read(brought, lambda body: self._queue(head, body, len(brought.head), asked, turn, reply), later)

    def _queue(
        self,
        head: Head,
        payload: bytes,
        json_length: int,
        asked: Wishes,
        turn: Turn,
        reply: Callable[[Outcome], None],
    ) -> None:
        rules = self._rules.get(head.target.model)
        now_s = self._clock()
        deadline_s = now_s + (rules.deadline_s if rules else self._limits.deadline_s)
        turn.latest_s = deadline_s + self._limits.net_s
        self._backend.offer(
            Input(
                model=head.target.model,
                payload=payload,
                source=Source.HTTP,
                reply=reply,
                arrived_s=now_s,
                arrived_ms=time.time_ns() // 1_000_000,
                deadline_s=deadline_s,
                form=rules.form(head.topic) if head.topic and rules is not None else -1,
                content_type=head.content_type,
                json_length=json_length,
                binary=True,  # what the request asks for decides
                start_by_s=None if asked.timeout_s is None else now_s + asked.timeout_s,
                priority=asked.priority,
            )
        )

    def _later(self, head: Head, turn: Turn, work: Coroutine[Any, Any, None]) -> None:
        """Does what cannot be done at once; `turn` gets a reply, whatever happens."""
        self._works.do(
            work, f"{head.method} {_shown(head)}", lambda problem: turn.answer(self._refused(head.target, problem))
        )

    async def _control(self, head: Head, arguments: dict[str, Any], by: str, turn: Turn) -> None:
        turn.answer(replies.json(200, await self._backend.control(head.target.kind, arguments, by)))

    def _memory(self, found: Target, payload: bytes, turn: Turn) -> Reply | None:
        """What is asked of shared memory; None where something else is. Raises EdgedError."""
        if found.kind in ("cuda_status", "cuda_unregister"):  # there is none, which is what the client wants to hear
            return replies.json(200, [] if found.kind == "cuda_status" else {})
        if found.kind not in ("shared_status", "shared_register", "shared_unregister"):
            return None
        said = _object(payload) if found.kind == "shared_register" else {}
        rows = manage(self._backend.regions, found.kind, found.region, said, near=turn.near)
        return replies.json(200, rows if found.kind == "shared_status" else {})

    def _tell(self, found: Target, payload: bytes) -> Reply:
        match found.kind:
            case "model":
                return replies.json(200, describe.model(self._view(found)))
            case "model_ready":
                return replies.json(200, describe.model_ready(self._view(found)))
            case "config":
                return replies.json(200, config.model(self._view(found)))
            case "statistics":
                return replies.json(200, stats.models(self._counted(found), self._backend))
            case "index":
                ready = repository.wants_ready(_object(payload))
                return replies.json(200, repository.index(self._backend.views(), ready=ready))
            case "live":
                return replies.json(200, {"live": True})
            case "ready":
                return replies.json(*describe.ready(self._backend.views()))
            case "metrics":
                return replies.metrics(self._backend.metrics())
            case "status":
                return replies.json(200, self._backend.status())
            case _:
                return replies.json(200, describe.server())

    def _counted(self, found: Target) -> tuple[ModelView, ...]:
        """The models whose statistics are asked for. Raises EdgedError for one that does not serve."""
        if not found.model:
            return self._backend.views()
        view = self._view(found)
        describe.check_serving(view)
        return (view,)

    def _view(self, found: Target) -> ModelView:
        return describe.named(self._backend, found.model, found.version)


def _arguments(found: Target, payload: bytes) -> dict[str, Any]:
    """What a control verb is told. Raises EdgedError `bad_input` for a body that is no JSON object."""
    if found.kind in _BYTES:
        return {"payload": payload, "sha256": found.sha256}
    return {**_object(payload), "model": found.model}


def _object(payload: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(payload, type=dict[str, Any]) if payload else {}
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        hint = "docs/http-api.md has what each address takes; most take no body."
        raise EdgedError("bad_input", f"the body is no JSON object: {error}"[:200], hint) from error


def _shown(head: Head) -> str:
    return head.url[:200].decode("latin-1")
