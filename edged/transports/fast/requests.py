"""A request of the fast lane, from its head to its answer."""

from __future__ import annotations

import logging
import mmap
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import msgspec

from edged import frames
from edged.errors import EdgedError, Fault, fault
from edged.frames import HEAD, IN_RING, MAGIC, NONFINITE, RESULT, RETRIED
from edged.lent import Place, Rings
from edged.messages import FAST, Input, Outcome, Source
from edged.oip import describe
from edged.oip.backend import Backend
from edged.oip.bodies import Room
from edged.transports.fast.limits import Limits, Pool

if TYPE_CHECKING:
    from edged.transports.fast.connection import Connection

logger = logging.getLogger(__name__)

_JOINED: Final = 16 * 1024  # bytes up to which a copy behind the head costs less than a second part
_SHOWN: Final = 64
_INTERNAL: Final = fault("internal", "edged failed to answer this request")


class Rules(msgspec.Struct, frozen=True):
    """What the configuration says about one model's requests: bytes, and seconds from arrival."""

    model: str
    message_limit: int
    deadline_s: float


class Request:
    """One request that is owed its answer; `buffer` is the pool's, `room` the client's for the result."""

    __slots__ = ("_buffer", "_connection", "_pool", "_room", "id", "latest_s")

    def __init__(
        self,
        connection: Connection,
        id: int,
        latest_s: float,
        pool: Pool,
        buffer: bytearray | None,
        room: Place | None,
    ) -> None:
        self.id = id
        self.latest_s = latest_s
        self._connection = connection
        self._pool = pool
        self._buffer = buffer
        self._room = room

    def settle(self, outcome: Outcome) -> None:
        """The model's outcome; the first one counts. Whoever settles has others to go on with: it raises nothing."""
        if self._buffer is not None:
            self._pool.give(self._buffer)
            self._buffer = None
        if self not in self._connection.owed:
            return
        try:
            parts = _answer(self.id, outcome, self._room)
        except Exception:  # the boundary of RULES 23
            logger.exception("a bug while answering a request")
            parts = (frames.error(self.id, _INTERNAL),)
        self._connection.answered(self, parts)


def _answer(id: int, outcome: Outcome, room: Place | None) -> tuple[bytes, ...]:
    """The frame of an outcome, in one part or, where a copy would cost more, in two."""
    if isinstance(outcome, Fault):
        return (frames.error(id, outcome),)
    payload, version, flags = outcome.payload, outcome.version.encode(), 0
    if outcome.nonfinite:
        flags |= NONFINITE
    if outcome.retried:
        flags |= RETRIED
    if room is not None and (note := room.put(payload)):
        payload = note
        flags |= IN_RING
    head = HEAD.pack(len(version) + len(payload), MAGIC, RESULT, flags, len(version), id, 0, 0)
    return (head + version + payload,) if len(payload) < _JOINED else (head + version, payload)


class App:
    """Answers every request, whatever happens: one boundary around each (RULES 23)."""

    def __init__(self, backend: Backend, limits: Limits, clock: Callable[[], float]) -> None:
        self._backend = backend
        self._limits = limits
        self.clock = clock
        self._rules: dict[bytes, Rules] = {}
        self.room = Room(0)
        self.pool = Pool(self.room)
        self.rings = Rings(limits.ring, limits.rings)
        self.adopt()

    def adopt(self) -> None:
        """The models are others, or their limits are."""
        limits = self._limits
        self._rules = {
            view.name.encode(): Rules(
                view.name, view.message_limit, limits.deadline_s if view.deadline_s is None else view.deadline_s
            )
            for view in self._backend.views()
        }
        self.largest = max((rules.message_limit for rules in self._rules.values()), default=0)
        self.room.size = max(limits.bodies, self.largest + mmap.PAGESIZE)

    def cancel(self) -> None:
        """Nothing of a request is under way but its run."""

    def admit(self, name: bytes, size: int) -> Rules:
        """The model that a body of `size` bytes is for; raises EdgedError where it is not read."""
        rules = self._rules.get(name)
        if rules is None:
            raise self._unknown(name)
        if size > rules.message_limit:
            self._backend.refused(rules.model, "too_large")
            raise EdgedError("too_large", f"the body of {size} bytes is above {rules.message_limit} bytes")
        return rules

    def infer(
        self,
        connection: Connection,
        id: int,
        name: bytes,
        deadline_ms: int,
        payload: bytes | memoryview,
        now_s: float,
        buffer: bytearray | None = None,
        room: Place | None = None,
    ) -> None:
        """Offers a request to its model; its answer goes to the connection. Raises EdgedError as admit."""
        rules = self.admit(name, len(payload))
        deadline_s = now_s + (deadline_ms / 1000 if deadline_ms else rules.deadline_s)
        request = Request(connection, id, deadline_s + self._limits.net_s, self.pool, buffer, room)
        connection.owed.add(request)
        try:
            self._backend.offer(
                Input(
                    model=rules.model,
                    payload=payload,
                    source=Source.FAST,
                    reply=request.settle,
                    arrived_s=now_s,
                    arrived_ms=time.time_ns() // 1_000_000,
                    deadline_s=deadline_s,
                    form=FAST,
                )
            )
        except Exception:
            logger.exception("a bug while taking a request for %s", rules.model)
            self._backend.refused(rules.model, "internal")
            request.settle(_INTERNAL)

    def describe(self, id: int, name: bytes) -> bytes:
        """The model's metadata as a DESCRIPTION frame. Raises EdgedError."""
        view = self._backend.view(name.decode(errors="replace"))
        if view is None:
            raise self._unknown(name)
        body = msgspec.json.encode(describe.model(view))
        return frames.head(frames.DESCRIPTION, len(body), id) + body

    def _unknown(self, name: bytes) -> EdgedError:
        self._backend.refused("", "unknown_model")
        return describe.unknown(name.decode(errors="replace")[:_SHOWN], (view.name for view in self._backend.views()))
