"""Descriptors that a client passes beside its bytes: all of them taken, and closed where nobody waits for that.

Whoever reads a UNIX socket without asking for them has the kernel close them, and the last close of a TCP socket may
last as long as its SO_LINGER says, that of a file in user space as long as its maker likes. So the first bytes of a
client are looked at with room for all that may come beside them, and then it can pass nothing more (Linux 6.16).
"""

from __future__ import annotations

import array
import contextlib
import fcntl
import os
import queue
import socket
import struct
import termios
import threading
from collections.abc import Sequence
from typing import Final

_SO_PASSRIGHTS: Final = 83  # of asm-generic/socket.h; Python has no name for it
_MOST: Final = 253  # SCM_MAX_FD of linux/net/scm.h: beside one message
_ROOM: Final = socket.CMSG_SPACE(4 * _MOST)
_AT_ONCE: Final = 64 * 1024
_BACKLOG: Final = 1024  # descriptors that wait to be closed: those of four messages
_NO_LINGER: Final = struct.pack("ii", 0, 0)
_FLAGS: Final = int(socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC)


def refuse_more(sock: socket.socket) -> int:
    """The client can pass nothing more from its first byte on; how many bytes are there by now, 0 for none yet."""
    if not _waiting_in(sock):
        return 0
    _forbid(sock)
    return _waiting_in(sock)


def _forbid(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):  # an older kernel
        sock.setsockopt(socket.SOL_SOCKET, _SO_PASSRIGHTS, 0)


def _waiting_in(sock: socket.socket) -> int:
    said = bytearray(4)
    fcntl.ioctl(sock, termios.FIONREAD, said)
    return int.from_bytes(said, "little")


def receive(sock: socket.socket, into: memoryview, flags: int = 0) -> tuple[int, list[int]]:
    """Reads once: how many bytes, 0 at the end, and the descriptors beside them, which are the caller's.

    What lies beside one message is never mixed with another's bytes. Raises OSError, BlockingIOError for nothing.
    """
    got, ancillary, _, _ = sock.recvmsg_into([into], _ROOM, _FLAGS | flags)
    found = array.array("i")
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            found.frombytes(data[: len(data) - len(data) % found.itemsize])
    return got, list(found)


class Handed:
    """What one client has passed: `came` descriptors. One alone may be what it hands over; others are nobody's."""

    __slots__ = ("_one", "_others", "came")

    def __init__(self) -> None:
        self.came = 0
        self._one = -1
        self._others: list[int] = []

    def add(self, descriptors: Sequence[int]) -> None:
        """Some more, which are its own from now on."""
        self.came += len(descriptors)
        if self.came == 1 and descriptors:
            self._one = descriptors[0]
        else:
            self._others += descriptors

    def one(self) -> int:
        """The descriptor, if it is one alone; the caller's from now on. -1 for none."""
        one, self._one = self._one, -1
        if self.came > 1 and one >= 0:
            close([one])
            return -1
        return one

    def drop_others(self) -> None:
        close(self._others)
        self._others = []

    def drop(self) -> None:
        """Nobody wants what has come."""
        self.drop_others()
        if self._one >= 0:
            close([self._one])
            self._one = -1


def drop(sock: socket.socket) -> None:
    """Reads what a client that is sent away has sent, or closing its socket would close what it has passed."""
    into = memoryview(bytearray(_AT_ONCE))
    _forbid(sock)
    with contextlib.suppress(OSError):
        left = _waiting_in(sock)
        # That a client has left with answers unread is told before what it has sent: once, and here.
        sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        while left > 0:
            got, found = receive(sock, into)
            close(found)
            left = left - got if got else 0


_waiting: Final[queue.SimpleQueue[int]] = queue.SimpleQueue()
_closing = threading.Lock()


def close(descriptors: Sequence[int]) -> None:
    """Closes them in a thread: it may last.

    So many wait for it at most; whatever comes beyond, and where no thread can be had, is closed at once: a file whose
    maker lets nobody close it could otherwise have the process keep descriptors until it has none left.
    """
    for one in descriptors:
        if _waiting.qsize() < _BACKLOG:
            _waiting.put(one)
        else:
            _close(one)
    if descriptors and _closing.acquire(blocking=False):
        try:
            threading.Thread(target=_close_all, name="edged-passed", daemon=True).start()
        except RuntimeError:  # no memory for its stack, or too many threads
            _close_all()


def _close_all() -> None:
    while True:
        try:
            one = _waiting.get_nowait()
        except queue.Empty:
            _closing.release()
            if _waiting.empty() or not _closing.acquire(blocking=False):
                return
            continue
        _close(one)


def _close(descriptor: int) -> None:
    with contextlib.suppress(OSError):  # what is no socket
        sock = socket.socket(fileno=descriptor)
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)  # so that one does not hold up others
        sock.detach()
    with contextlib.suppress(OSError):
        os.close(descriptor)
