"""One request that is owed its answer, and the one answer that it gets."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable

from edged.errors import Fault, fault
from edged.messages import Outcome
from edged.transports.rest import replies
from edged.transports.rest.heads import Head
from edged.transports.rest.replies import Reply

logger = logging.getLogger(__name__)


class Turn:
    """A request's place in the row of its connection's answers.

    `ready` is called once, when there is a reply. At `latest_s` of the clock it is answered `deadline`
    come what may; the deadline itself is the lane's, this is the net below it. `near`: the client is on this box.
    """

    __slots__ = ("_ready", "head", "latest_s", "near", "reply")

    def __init__(self, head: Head, ready: Callable[[], None], *, near: bool) -> None:
        self._ready = ready
        self.head = head
        self.near = near
        self.latest_s = math.inf
        self.reply: Reply | None = None

    def settle(self, outcome: Outcome) -> None:
        """A model's outcome: the first one counts, a later one, or one for a client that went away, is dropped."""
        if self.reply is not None:
            return
        try:
            reply = replies.refused(outcome) if isinstance(outcome, Fault) else replies.answered(outcome)
        except Exception:  # the boundary of RULES 23: whoever settles has other requests to go on with
            logger.exception("a bug while answering %s %r", self.head.method, self.head.url[:200])
            reply = replies.refused(fault("internal", "edged failed to answer this request"))
        self.answer(reply)

    def answer(self, reply: Reply) -> None:
        """The first reply counts."""
        if self.reply is None:
            self.reply = reply
            self._ready()
