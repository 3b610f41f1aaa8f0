"""Copies of what lies in clients' rings, for the batch that is about to run.

No model runs on what a client may change meanwhile, be it an index that has been looked at or what is being sorted; and
inputs are told apart by the bytes that are run. 602 kB take 25 us.
"""

from __future__ import annotations

from typing import Final

from edged.errors import Fault, fault
from edged.worker.direct.caller import Request
from edged.worker.direct.limits import Room


class Copies:
    """Those of one batch, which share `room` with large frames: a few bytes on the socket name any amount of memory."""

    __slots__ = ("_room", "size")

    def __init__(self, room: Room) -> None:
        self._room: Final = room
        self.size = 0

    def of(self, one: Request) -> Request | Fault:
        """The same request in memory of this process."""
        size = len(one.body)
        if not self._room.take(size):
            return fault("queue_full", "the frames under way take too much memory", "Send less at once.")
        self.size += size
        try:
            return one._replace(body=memoryview(bytes(one.body)))
        except MemoryError:
            return fault("over_memory", "the input does not fit into limits.memory")

    def clear(self) -> None:
        """The batch has run."""
        self._room.give(self.size)
        self.size = 0
