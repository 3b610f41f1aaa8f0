"""What one client of a model's own socket lends its worker: a ring, which comes beside its first frame.

Descriptors that nobody asked for come the same way, and later than with the first bytes none can (edged.passed).
"""

from __future__ import annotations

import socket
from typing import Final

from edged import passed
from edged.errors import EdgedError
from edged.lent import Place, Ring, Rings

_HINT: Final = "docs/fast.md has the frames, byte by byte."


class Loan:
    """One client's, with the socket that it is read from."""

    __slots__ = ("_beside", "_handed", "_ring", "_rings", "_sock")

    def __init__(self, sock: socket.socket, rings: Rings) -> None:
        self._sock = sock
        self._rings = rings
        self._beside = -1  # bytes that descriptors may lie beside; -1: nobody has looked yet
        self._handed = passed.Handed()
        self._ring: Ring | None = None

    def receive(self, into: memoryview) -> int:
        """Reads once, as recv_into does. What comes beside is kept, or the reading would be what closes it."""
        if not self._beside:
            return self._sock.recv_into(into)
        if self._beside < 0:
            self._beside = passed.refuse_more(self._sock) or -1
        got, found = passed.receive(self._sock, into[: self._beside] if self._beside > 0 else into)
        self._handed.add(found)
        if self._beside > 0:
            self._beside -= got
        return got

    def drop_others(self) -> None:
        """Whatever was passed and is no ring, or no longer can be one, is nobody's."""
        if self._handed.came:
            self._handed.drop()

    def take_ring(self, *, first: bool) -> None:
        """The client's frame says that it has handed over a ring; `first`: no frame came before. Raises EdgedError."""
        if not first:
            raise EdgedError("bad_input", "a ring is handed over once, with the first frame", _HINT)
        self._ring = self._rings.take(self._handed)

    def place(self, body: memoryview, most: int) -> tuple[memoryview, Place | None]:
        """Where a request's tensors lie, of `most` bytes, and the room for its result. Raises EdgedError."""
        if self._ring is None:
            raise EdgedError("bad_input", "a request in the ring, and no ring was handed over", _HINT)
        found, room = self._ring.place(body)
        if len(found) > most:
            raise EdgedError("too_large", f"a body of {len(found)} bytes is above the limit of {most}")
        return found, room

    def close(self) -> None:
        """Before the socket is closed, or that would be what closes what nobody has read. May be called again."""
        if self._ring is not None:
            self._rings.give(self._ring)
            self._ring = None
        self._handed.drop()
        if self._beside:
            self._beside = 0
            passed.drop(self._sock)
