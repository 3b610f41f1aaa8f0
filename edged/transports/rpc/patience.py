"""How long a connection may go on as it does: the clock comes in as an argument. Pure."""

from __future__ import annotations

import enum
import math

from edged.taking import Taking
from edged.transports.rpc.limits import Limits


class Doing(enum.Enum):
    """What a connection waits for."""

    BEGIN = "the client has begun something, a frame or the connection itself"
    SEND = "there are answers that the client does not take"
    WORK = "calls are under way, each of which has its own time"
    REST = "the client calls nothing"
    END = "all is said"


class Patience:
    """Time starts anew when something else is waited for, or when the client goes on taking its answers."""

    def __init__(self, limits: Limits) -> None:
        self._limit_s = {
            Doing.BEGIN: limits.header_s,
            Doing.SEND: limits.body_s,
            Doing.WORK: math.inf,
            Doing.REST: limits.idle_s,
            Doing.END: limits.linger_s,
        }
        self._doing: Doing | None = None
        self._taken = 0
        self._due_s = math.inf

    def over(self, now_s: float, doing: Doing, taking: Taking) -> bool:
        """Whether it has gone on for too long."""
        if doing is not self._doing or taking.keeps_up(self._taken, self._limit_s[doing]):
            self._doing = doing
            self._due_s = now_s + self._limit_s[doing]
            self._taken = taking.taken
        return now_s >= self._due_s
