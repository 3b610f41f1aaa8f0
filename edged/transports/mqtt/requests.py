"""`request/<verb>` -> `response/<verb>`: what somebody asks of the box rather than of a model.

A request is acknowledged before it is done: one that comes again after a crash would be done twice. Whoever
hears nothing asks again.
"""

from __future__ import annotations

import asyncio
import collections
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, NoReturn

import msgspec

from edged.errors import EdgedError, Fault, as_json, fault
from edged.topics import Tree, is_name
from edged.transports.mqtt.allowance import Allowance
from edged.transports.mqtt.inputs import Arrival, answerable
from edged.transports.mqtt.outbox import Publication
from edged.transports.mqtt.subscriptions import OWN

LARGEST: Final = 64 * 1024
UNDER_WAY: Final = 8
A_SECOND: Final = 50
_REMEMBERED: Final = 16

_log = logging.getLogger(__name__)

Ask = Callable[[str, dict[str, Any], str], Awaitable[Any]]


async def nobody(verb: str, _arguments: dict[str, Any], _by: str) -> NoReturn:
    """Nobody does anything here."""
    raise EdgedError("not_found", f"there is no request {verb[:64]!r}")


class Request(msgspec.Struct, frozen=True):
    """A request as it came: `response` is where its answer goes."""

    verb: str
    arguments: dict[str, Any]
    response: str
    correlation: bytes | None
    transaction: Any
    by: str


class Requests:
    """`ask(verb, arguments, by)` does it and tells how it went, as JSON can say it, or raises EdgedError.

    `publish` takes the answer, `packet_limit()` is the broker's, `dropped(reason)` counts what is not answered.
    """

    def __init__(
        self,
        tree: Tree,
        groups: Sequence[str],
        ask: Ask,
        *,
        publish: Callable[[Publication], None],
        packet_limit: Callable[[], int],
        dropped: Callable[[str], None],
        bug: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tree = tree
        self._ask = ask
        self._publish = publish
        self._packet_limit = packet_limit
        self._dropped = dropped
        self._bug = bug
        self._clock = clock
        self._allowance = Allowance(A_SECOND)
        self._tasks: set[asyncio.Task[None]] = set()
        self._seen: collections.deque[tuple[str, bytes, int]] = collections.deque(maxlen=_REMEMBERED)
        self._stopping = False
        self.groups = tuple(groups)

    def verb(self, topic: str) -> str | None:
        """What a topic asks for, None when it is no topic for requests."""
        if (
            "/request/" not in topic
        ):  # asked for each message: to look at no filter saves 5 % of what a result costs here
            return None
        for one in self._tree.requests(self.groups):
            prefix = one[:-1]
            if topic.startswith(prefix) and "/" not in topic[len(prefix) :]:
                return topic[len(prefix) :]
        return None

    def take(self, arrival: Arrival, verb: str) -> None:
        """One message on a topic of requests; it counts as acknowledged."""
        if arrival.retain or not self._is_new(arrival):
            return
        if not self._allowance.take("", self._clock()):
            self._dropped("request_rate")
            return
        request = self._request(arrival, verb)
        problem = self._unreadable(arrival) or self._refusal()
        if problem is None:
            try:
                request = _with_arguments(request, arrival.payload)
            except ValueError as error:
                problem = fault("bad_input", f"the request is no JSON object: {error}", '{"model": "digits"}, or empty')
        if problem is not None:
            self._answer(request, problem=problem)
            return
        task = asyncio.get_running_loop().create_task(self._perform(request))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def stop(self) -> None:
        """From now on requests are answered with `stopping`; what is under way is given up."""
        self._stopping = True
        for task in self._tasks:
            task.cancel()

    def _is_new(self, arrival: Arrival) -> bool:
        """Not the copy of another subscription, nor one that the broker sends again because it missed our word."""
        if arrival.identifiers and OWN not in arrival.identifiers and arrival.topic.startswith(f"{self._tree.root}/"):
            return False
        mark = (arrival.topic, arrival.payload, arrival.mid)
        if arrival.again and mark in self._seen:
            return False
        if arrival.qos and len(arrival.payload) <= LARGEST:
            self._seen.append(mark)
        return True

    def _request(self, arrival: Arrival, verb: str) -> Request:
        own = self._tree.response(verb if is_name(verb) else "unknown")
        response = arrival.response_topic
        usable = bool(response) and not answerable(self._tree, response)
        by = f"MQTT {arrival.topic}"
        return Request(verb, {}, response if usable else own, arrival.correlation, None, by)

    def _unreadable(self, arrival: Arrival) -> Fault | None:
        if len(arrival.payload) > LARGEST:
            return fault("too_large", f"a request has at most {LARGEST} bytes", "Send less.")
        if arrival.response_topic and (reason := answerable(self._tree, arrival.response_topic)):
            return fault("bad_input", reason, "Name another response topic.")
        return None

    def _refusal(self) -> Fault | None:
        if self._stopping:
            return fault("stopping", "the daemon is stopping")
        if len(self._tasks) >= UNDER_WAY:
            return fault("busy", f"{UNDER_WAY} requests are under way", "Ask again in a moment.")
        return None

    async def _perform(self, request: Request) -> None:
        try:
            found = await self._ask(request.verb, request.arguments, request.by)
            self._answer(request, data=found)
        except EdgedError as error:
            self._answer(request, problem=error.fault)
        except asyncio.CancelledError:
            self._answer(request, problem=fault("stopping", "the daemon stopped before the answer"))
            raise
        except Exception:  # noqa: BLE001  logged and counted: what a sender wrote must not end the daemon (RULES 23)
            _log.exception("a bug while answering a request for %r", request.verb[:64])
            self._bug()
            self._answer(request, problem=fault("internal", "edged failed to answer this request"))

    def _answer(self, request: Request, *, data: Any = None, problem: Fault | None = None) -> None:
        shape: dict[str, Any] = {"status": "ok", "data": data} if problem is None else _error(problem)
        if request.transaction is not None:
            shape["transaction"] = request.transaction
        message = Publication(request.response, msgspec.json.encode(shape), 1)
        message.content_type = "application/json"
        message.correlation, message.status = request.correlation, shape["status"]
        if message.size > self._packet_limit() and problem is None:
            size = f"the answer is above the broker's limit of {self._packet_limit()} bytes a packet"
            self._answer(request, problem=fault("output_too_large", size, "Ask for less."))
        else:
            self._publish(message)


def _error(problem: Fault) -> dict[str, Any]:
    return {"status": "error", "error": as_json(problem)}


def _with_arguments(request: Request, payload: bytes) -> Request:
    """Raises ValueError for a payload that is no object; an empty one is an empty object."""
    try:
        found = msgspec.json.decode(payload, type=dict[str, Any]) if payload.strip() else {}
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(str(error)) from error
    transaction = found.pop("transaction", None)
    return msgspec.structs.replace(request, arguments=found, transaction=transaction)
