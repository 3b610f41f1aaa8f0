"""What clients lend and pass: rings for the fast lane, and descriptors that are none."""

from __future__ import annotations

import array
import fcntl
import mmap
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from edged import frames

SIZE = 1 << 20
FIXED = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW
RING = frames.head(frames.RING, 0, 77)


@contextmanager
def memory(size: int = SIZE, seals: int = FIXED, flags: int = 0) -> Iterator[tuple[int, mmap.mmap]]:
    descriptor = os.memfd_create("test", os.MFD_ALLOW_SEALING | flags)
    try:
        os.ftruncate(descriptor, size)
        mapped = mmap.mmap(descriptor, size) if size else mmap.mmap(-1, 1)
        if seals:
            fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
        yield descriptor, mapped
        mapped.close()  # it has a descriptor of its own
    finally:
        os.close(descriptor)


def hand_over(client: socket.socket, descriptors: Sequence[int], data: bytes = RING) -> None:
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
    client.sendmsg([data], rights)


@contextmanager
def lingering() -> Iterator[int]:
    """The last descriptor of a TCP socket whose close lasts a minute: what it has sent is not taken."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        one = socket.create_connection(server.getsockname())
        other, _ = server.accept()
        with other:
            one.setblocking(False)
            with suppress(BlockingIOError):
                while True:
                    one.send(bytes(65536))
            one.setblocking(True)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 60))
            yield one.detach()


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))
