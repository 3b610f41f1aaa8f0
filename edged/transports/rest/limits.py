"""What one HTTP client may take, and where a connection stands in the request it is sending: no I/O."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from edged.errors import EdgedError, Fault, fault

_PER_HEADER: Final = 4  # ": " and the line's end


class Limits(msgspec.Struct, frozen=True):
    """Sizes in bytes, times in seconds; `header` to `body_s` are the numbers of RULES 21.

    `connections` is per listener. `bodies`: how much of half-received bodies there may be on all of them
    together, one of the largest allowed at least. `deadline_s` is for models that set none. `control` is
    the body limit of every address but `infer`, whose limit is the model's. `idle_s`: how
    long a kept-alive connection may rest (nginx's default). `linger_s`: how long a refused sender is
    still listened to, so that it reads why instead of a reset. `net_s`: how long after its deadline a
    request whose outcome never came is answered all the same.
    """

    header: int = 16 * 1024
    header_s: float = 10.0
    body_s: float = 30.0
    connections: int = 256
    bodies: int = 64 * 1024 * 1024
    deadline_s: float = 10.0
    control: int = 64 * 1024
    idle_s: float = 75.0
    linger_s: float = 2.0
    net_s: float = 5.0


class Room:
    """The memory that bodies under way share, so that many senders at once cannot take all of it."""

    def __init__(self, size: int) -> None:
        self._size = size
        self.used = 0

    def take(self, size: int) -> None:
        """Raises EdgedError `queue_full` when there is not enough; what was taken is given back in any case."""
        self.used += size
        if self.used > self._size:
            raise EdgedError("queue_full", f"the bodies under way are above {self._size} bytes", "Send less at once.")


class Intake:
    """One connection's way through its requests: header, body, and again.

    The protocol reports what the parser found. Anything that is neither the end of a header nor a piece
    of a body counts against `header`, so that endless headers, trailers, chunk extensions and empty
    lines all end the same way.
    """

    __slots__ = ("_body", "_body_limit", "_limits", "_most", "_moved", "_quiet", "_received", "_room", "step")

    def __init__(self, limits: Limits, body_limit: Callable[[bytes], int], room: Room) -> None:
        self._limits = limits
        self._room = room
        self._body_limit = body_limit
        self._body = 0
        self._most = 0
        self._moved = False
        self._quiet = 0
        self._received = 0
        self.step = 0  # + 1 when a request begins, when its header is read, when its body is; never back

    @property
    def between(self) -> bool:
        return self.step % 3 == 0

    @property
    def in_body(self) -> bool:
        return self.step % 3 == 2

    @property
    def limit_s(self) -> float:
        """How long this step may take: a whole header, or a whole body."""
        return self._limits.body_s if self.in_body else self._limits.header_s

    def late(self) -> Fault:
        """What to say when it took longer."""
        part = "body" if self.in_body else "header"
        return fault("timeout", f"the request's {part} was not complete after {self.limit_s:g} s")

    def receiving(self, size: int) -> None:
        """`size` bytes go to the parser now."""
        self._received = size
        self._moved = False

    def received(self) -> Fault | None:
        """The parser has taken them; a Fault when too many in a row brought nothing."""
        self._quiet = 0 if self._moved else self._quiet + self._received
        return self._long_header().fault if self._quiet > self._limits.header else None

    def next(self) -> None:
        """One step is done: a request has begun, its header is read, or its body is."""
        self.step += 1
        self._moved = True
        self.forget()

    def header(self, url: bytes, headers: Sequence[tuple[bytes, bytes]]) -> None:
        """Judges a complete header (names in lower case) before its body; EdgedError `too_large`."""
        if self._quiet + self._received > self._limits.header:
            size = len(url) + sum(len(name) + len(value) + _PER_HEADER for name, value in headers)
            if size > self._limits.header:
                raise self._long_header()
        self._most = 0
        for name, value in headers:
            if name == b"content-length":
                self._most = self._body_limit(url)
                if int(value) > self._most:
                    raise EdgedError("too_large", f"the body of {int(value)} bytes is above {self._most} bytes")
            elif name == b"transfer-encoding":
                self._most = self._body_limit(url)

    def body(self, size: int) -> None:
        """Another `size` bytes of body; EdgedError `too_large` or `queue_full`."""
        self._moved = True
        if self._body + size > self._most:
            raise EdgedError("too_large", f"the body is above {self._most} bytes")
        self._body += size
        self._room.take(size)

    def forget(self) -> None:
        """The body under way is complete, or will never be."""
        self._room.used -= self._body
        self._body = 0

    def _long_header(self) -> EdgedError:
        return EdgedError(
            "too_large", f"the header is above {self._limits.header} bytes", "Send fewer or shorter headers."
        )
