"""How long a connection may go on as it does: the clock comes in as an argument, no I/O."""

from __future__ import annotations

import enum
import math
from typing import NamedTuple

from edged.errors import Fault, fault
from edged.taking import Taking
from edged.transports.rest.limits import Limits


class Doing(enum.Enum):
    """What a connection is waiting for."""

    HEADER = "the client sends a header, or should"
    BODY = "the client sends a body"
    WORK = "the client waits for us"
    REST = "the client has all it asked for, and may take its time"
    END = "the client has been refused, and may still read why"


class Late(NamedTuple):
    """It took too long; `problem` is what the client is told, None where there is nobody to tell."""

    problem: Fault | None


class Patience:
    """One connection's deadlines, looked at now and then: a timer for each request would cost more than its parsing.

    Time starts anew with each `step` of the connection, not with each byte: what drips is late too. Only a
    client that goes on taking its answer, at more than a drip, is given time for that.
    """

    __slots__ = ("_due_s", "_got", "_limits", "_stalled_s", "_step", "_taken")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._step = -1
        self._got = 0
        self._taken = 0  # when time last started anew
        self._due_s = math.inf
        self._stalled_s = math.inf

    def look(self, now_s: float, step: int, doing: Doing, *, got: int, taking: Taking) -> Late | None:
        """Late when this step has taken too long by `now_s`. `got` is bytes of body."""
        limit_s = self._limit_s(doing)
        if step != self._step or taking.keeps_up(self._taken, limit_s):
            self._due_s = now_s + limit_s
            self._taken = taking.taken
        if step != self._step or got != self._got:
            self._stalled_s = now_s + self._limits.stall_s
        self._step, self._got = step, got
        if now_s >= self._due_s:
            return Late(self._problem(doing))
        if doing is Doing.BODY and now_s >= self._stalled_s:
            return Late(fault("timeout", f"the request's body stood still for {self._limits.stall_s:g} s"))
        return None

    def _limit_s(self, doing: Doing) -> float:
        match doing:
            case Doing.HEADER:
                return self._limits.header_s
            case Doing.BODY:
                return self._limits.body_s
            case Doing.WORK:
                return math.inf  # each request has its own deadline
            case Doing.REST:
                return self._limits.idle_s
            case Doing.END:
                return self._limits.linger_s

    def _problem(self, doing: Doing) -> Fault | None:
        if doing not in (Doing.HEADER, Doing.BODY):
            return None
        part = doing.name.lower()
        return fault("timeout", f"the request's {part} was not complete after {self._limit_s(doing):g} s")
