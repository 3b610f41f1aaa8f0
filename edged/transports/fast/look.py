"""A look at a client's first bytes before asyncio reads them: that asks for no descriptors, and they would be dropped.

asyncio asks where to read to just before it reads. All bytes but the last are read at that moment, with room for what
lies beside them, and the last is looked at without being taken: so asyncio finds what it was called for. What lies
beside that one is held until it has been read, or the reading would be what closes it.
"""

from __future__ import annotations

import os
import socket
from typing import Final

from edged import passed

_AT_ONCE: Final = 32 * 1024


class Look:
    """`handed`: what was beside them. `over`: there can be no more of it, and everything is asyncio's to read."""

    def __init__(self, descriptor: int) -> None:
        """`descriptor` is the connection's, and stays the caller's."""
        self._sock: Final = socket.socket(fileno=os.dup(descriptor))
        self._left = 0  # bytes that something may lie beside
        self._ahead = 0
        self.handed: Final = passed.Handed()
        self.over = False

    def before(self, into: memoryview) -> memoryview:
        """asyncio is about to read into `into`; the part of it that it is to read into."""
        if self.over:
            return into
        if not self._left:
            self._left = passed.refuse_more(self._sock)
        most = min(self._left, len(into), _AT_ONCE)
        self._ahead = 0
        try:
            while most - self._ahead > 1:
                got, found = passed.receive(self._sock, into[self._ahead : most - 1])
                self.handed.add(found)
                self._ahead += got
                if not got:
                    break
            if most:
                self.handed.add(passed.receive(self._sock, into[self._ahead : self._ahead + 1], socket.MSG_PEEK)[1])
        except OSError:  # asyncio meets it too
            pass
        return into[self._ahead :] if most == self._left else into[self._ahead : self._ahead + 1]

    def after(self, got: int) -> int:
        """It has read so many bytes; how many there are with those before them."""
        if self.over:
            return got
        got, self._ahead = got + self._ahead, 0
        self.handed.drop_others()
        self._left -= got
        if self._left <= 0:
            self._left = 0
            self._sock.close()
            self.over = True
        return got

    def end(self) -> None:
        """The connection ends. What it has not read is read, or its end would be what closes that."""
        self.handed.drop()
        if not self.over:
            self.over = True
            passed.drop(self._sock)
            self._sock.close()
