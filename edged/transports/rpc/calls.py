"""One message that is owed its answer, and the one answer that it gets."""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING

from edged.errors import Fault, fault
from edged.messages import Outcome
from edged.transports.rpc import answers

if TYPE_CHECKING:
    from edged.transports.rpc.exchange import Exchange
    from edged.transports.rpc.heads import Head
    from edged.transports.rpc.methods import Method
    from edged.transports.rpc.stream import Stream

logger = logging.getLogger(__name__)


class Call:
    """`coding` is how its message is compressed, "" for not at all. `model` and `id` are the request's own, once it is
    read: for the counters, and for an error in a stream. At `latest_s` of the clock it is answered `deadline` come what
    may; the deadline itself is the lane's, this is the net below it.
    """

    __slots__ = ("_done", "_exchange", "_stream", "coding", "id", "latest_s", "model")

    def __init__(self, exchange: Exchange, stream: Stream) -> None:
        self._exchange = exchange
        self._stream = stream
        self._done = False
        self.coding = stream.messages.coding
        self.id = b""
        self.model = ""
        self.latest_s = math.inf

    @property
    def head(self) -> Head:
        return self._stream.head

    @property
    def method(self) -> Method:
        return self._stream.method

    @property
    def near(self) -> bool:
        """The client is on this box."""
        return self._exchange.near

    def hold(self) -> None:
        """What comes next on its stream waits until `let_go`: this is not done with, and order is kept."""
        self._stream.held += 1

    def let_go(self) -> None:
        self._exchange.let_go(self._stream)

    def controller(self) -> str:
        """Who may control the box, for the audit. Raises EdgedError `forbidden`."""
        return self._exchange.controller(self._stream.head)

    def settle(self, outcome: Outcome) -> None:
        """A model's outcome: the first one counts, and one for a client that went away is dropped."""
        if self._done:
            return
        if isinstance(outcome, Fault):
            self.fail(outcome)
            return
        try:
            message = answers.inferred(outcome)
        except Exception:  # the boundary of RULES 23: whoever settles has other requests to go on with
            logger.exception("a bug while answering %r", self.head.path[:200])
            self.fail(fault("internal", "edged failed to answer this request"))
        else:
            self.answer(message)

    def answer(self, message: bytes) -> None:
        """The first answer counts."""
        if not self._done:
            self._done = True
            streamed = answers.streamed(message) if self.method.streaming else message
            self._exchange.answer(self._stream, self, streamed)

    def fail(self, problem: Fault) -> None:
        """An error is the end of a call, and one message among others in a stream, as it is with Triton."""
        if self._done:
            return
        if self.method.streaming:
            self._done = True
            self._exchange.answer(self._stream, self, answers.stream_error(problem, self.id))
        else:
            self._done = True
            self._exchange.fail(self._stream, problem, self)
