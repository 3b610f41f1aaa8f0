"""TCP ports of loopback for what a test starts: no two processes are ever given the same one.

A port that was bound a moment ago may be anybody's by the time a broker binds it: another test process beside this one
(pytest-xdist), or a client, whose own end the kernel numbers as it likes. So ports come from below the range that the
kernel takes from, in blocks, and a block belongs to whoever has bound its name: an abstract UNIX socket, which one
process of a network namespace can hold, and which goes with the process.
"""

from __future__ import annotations

import atexit
import random
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_FIRST: Final = 10_000
_BLOCK: Final = 50


def free_port() -> int:
    """A port on which nobody listens, another one at each call."""
    return next(_ports)


def _numbers() -> Iterator[int]:
    low = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    blocks = list(range(_FIRST, low - _BLOCK, _BLOCK))
    random.shuffle(blocks)
    for first in blocks:
        claim = socket.socket(socket.AF_UNIX)
        try:
            claim.bind(f"\0edged-tests-ports-{first}")
        except OSError:
            claim.close()
            continue
        atexit.register(claim.close)  # a block is ours for as long as this process lives
        yield from filter(_is_free, range(first, first + _BLOCK))
    raise RuntimeError(f"there is no free port between {_FIRST} and {low}")


def _is_free(port: int) -> bool:
    with socket.socket() as sock:
        # As servers do: what lingers of a connection that has ended is in nobody's way.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


_ports: Final = _numbers()
