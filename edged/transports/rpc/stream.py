"""One call on its connection: what has come of it, what is owed to it, what waits to be sent."""

from __future__ import annotations

import collections
import math
from typing import TYPE_CHECKING, Final

from edged.errors import Fault, fault
from edged.transports.rpc.heads import Head
from edged.transports.rpc.limits import Limits
from edged.transports.rpc.messages import Messages

if TYPE_CHECKING:
    from edged.transports.rpc.calls import Call
    from edged.transports.rpc.methods import Method


class Stream:
    """`window`: what may be sent. `receivable`: what the client may send; `credit` of it is used and not given anew.

    `calls`: the messages that a model works on. `held`: how many the next one waits for, to keep the order. `due`: what
    waits is taken up soon. `ended`: the client sends no more. `unsent`: bytes of `outgoing`.
    `begun`: headers were sent. `ending`: what is sent behind `outgoing`, None while the call goes on.
    `gone`: nobody is there any more.
    """

    __slots__ = (
        "_began",
        "_due_s",
        "_got",
        "_stalled_s",
        "asked",
        "begun",
        "calls",
        "credit",
        "due",
        "ended",
        "ending",
        "gone",
        "head",
        "held",
        "messages",
        "method",
        "number",
        "outgoing",
        "receivable",
        "unsent",
        "window",
    )

    def __init__(
        self, number: int, head: Head, method: Method, messages: Messages, window: int, receivable: int
    ) -> None:
        self.number: Final = number
        self.head: Final = head
        self.method: Final = method
        self.messages: Final = messages
        self.window = window
        self.receivable = receivable
        self.credit = 0
        self.calls: set[Call] = set()
        self.outgoing: collections.deque[memoryview] = collections.deque()
        self.unsent = 0
        self.asked = False
        self.due = False
        self.held = 0
        self.ended = False
        self.begun = False
        self.ending: bytes | None = None
        self.gone = False
        self._began = -1
        self._got = -1
        self._due_s = math.inf
        self._stalled_s = math.inf

    @property
    def over(self) -> bool:
        """Nothing more is taken of it: its end is sent, or waits behind what the client has to take."""
        return self.gone or self.ending is not None

    def late(self, now_s: float, limits: Limits) -> Fault | None:
        """Why the client is waited for no longer, looked at now and then: a message that has begun has its time."""
        if self.ended or (not self.messages.partial and (self.asked or self.method.streaming)):
            self._began = -1
            return None
        if self._began != self.messages.began:
            self._began, self._got = self.messages.began, -1
            self._due_s = now_s + limits.body_s
        if self._got != self.messages.got:
            self._stalled_s = now_s + limits.stall_s
        self._got = self.messages.got
        if now_s >= self._due_s:
            return fault("timeout", f"the message was not complete after {limits.body_s:g} s")
        if now_s >= self._stalled_s:
            return fault("timeout", f"the message stood still for {limits.stall_s:g} s")
        return None
