"""One client of a model's own socket: its bytes in as requests, its answers out. Nobody waits for it.

What it has sent is read into one buffer, and requests are views of that: nothing more is read before they are answered.
A request in its ring is a view of what it may still write to: whoever runs one copies it first.
"""

from __future__ import annotations

import contextlib
import select
import socket
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from edged import frames
from edged.errors import EdgedError, Fault, fault
from edged.frames import DESCRIBE, DESCRIPTION, HEAD, IN_RING, INFER, MAGIC, RING, RINGED, Malformed
from edged.lent import Place, Rings
from edged.taking import Taking
from edged.worker.direct.limits import Limits, Room
from edged.worker.direct.loan import Loan

_HEAD: Final = HEAD.size
_unpack: Final = HEAD.unpack_from
_HINT: Final = "docs/fast.md has the frames, byte by byte."
_APART: Final = 16 * 1024  # bytes of a result that is not put behind its head
_TOGETHER: Final = 1024  # IOV_MAX: parts that the kernel takes at once; small ones are joined, which is cheaper


class Request(NamedTuple):
    """An infer frame: its body lies in the caller's buffer, or with the flag IN_RING in the client's ring, where it may
    change; `room` is the client's for the result. The deadline counts from its caller's `read_s`.
    """

    id: int
    flags: int
    body: memoryview
    deadline_ms: int
    room: Place | None = None


class Terms(NamedTuple):
    """What holds for all callers of a model. `message`: the largest body in bytes; `failed` counts, by code.

    `description` is what a DESCRIBE is answered.
    """

    model: bytes
    message: int
    limits: Limits
    room: Room
    rings: Rings
    failed: Callable[[str], None]
    description: bytes = b""


class Caller:
    """`requests` are to be answered in their order; bytes among them are the answer already.

    `read_s`: when they came. `untaken`: bytes that wait to be sent; `blocked`: it takes none just now. `gone`: nothing
    more can be said to it; `closing`: nothing more than what waits already.
    """

    __slots__ = (
        "_begun_s",
        "_buffer",
        "_due_s",
        "_end",
        "_framed",
        "_loan",
        "_out",
        "_skip",
        "_start",
        "_taken",
        "_terms",
        "_took",
        "_view",
        "blocked",
        "closing",
        "fd",
        "gone",
        "moved_s",
        "read_s",
        "requests",
        "sock",
        "taking",
        "untaken",
    )

    def __init__(self, sock: socket.socket, terms: Terms, now_s: float) -> None:
        self.sock = sock
        self.fd: Final = sock.fileno()
        self.requests: deque[Request | bytes] = deque()
        self.read_s = self.moved_s = now_s
        self.untaken = 0
        self.gone = self.closing = self.blocked = False
        self._terms = terms
        self._buffer = bytearray(terms.limits.buffer)
        self._view = memoryview(self._buffer)
        self._start = self._end = 0  # of what no request has been made of yet
        self._skip = 0  # bytes of a refused frame that are still to come
        self._out: list[bytes | memoryview] = []
        self.taking: Final = Taking()
        self._took = self._taken = 0  # bytes so far, and until it was last looked whether those are enough
        self._begun_s = now_s
        self._due_s = now_s + terms.limits.frame_s
        self._framed = False  # a frame was seen: a ring comes with the first one or never
        self._loan = Loan(sock, terms.rings)

    @property
    def waits_for_bytes(self) -> bool:
        """A frame has begun and not ended."""
        return self._end > self._start or self._skip > 0

    # --- in -------------------------------------------------------------------------------------------

    def read(self, now_s: float) -> bool:
        """Reads once, what fits; whether there are requests. Only when those before are answered."""
        begins = not self.waits_for_bytes
        self._make_room()
        try:
            got = self._loan.receive(self._view[self._end :])
        except BlockingIOError:
            return False
        except OSError:
            got = 0
        if not got:
            self.gone = True
            return False
        self.read_s = self.moved_s = now_s
        self._end += got
        try:
            self._parse()
        except Malformed as error:
            self._fail(0, fault("bad_input", f"{error}", _HINT))
            self.closing = True
        if begins or self.requests:  # what is still to come is of a frame that has begun with this
            self._begun_s = now_s
        if self._framed or self.closing or self._end - self._start >= _HEAD:  # a ring's frame is a head alone
            self._loan.drop_others()
        return bool(self.requests)

    def _parse(self) -> None:
        """Makes requests of every whole frame. Raises Malformed: then the bytes behind it mean nothing."""
        buffer, view, at, end = self._buffer, self._view, self._start, self._end
        begun = at
        model, most = self._terms.model, self._terms.message
        if self._skip:
            skipped = min(self._skip, end - at)
            self._skip -= skipped
            at += skipped
        while end - at >= _HEAD:
            size, magic, kind, flags, named, number, deadline_ms, zero = _unpack(buffer, at)
            if magic != MAGIC or zero or named > size:
                frames.read_head(buffer, at)  # which says what is wrong with it
            begin, stop = at + _HEAD + named, at + _HEAD + size
            if size - named > most:
                what = f"a body of {size - named} bytes is above the limit of {most}"
                at = self._refuse(number, fault("too_large", what), stop, end)
                continue
            if stop > end:
                if stop - at > len(buffer) and not self._grow(stop - at, at):
                    what = "the frames under way take too much memory"
                    at = self._refuse(number, fault("queue_full", what, "Send less at once."), stop, end)
                    continue
                break
            if named and buffer[at + _HEAD : begin] != model:
                name = bytes(buffer[at + _HEAD : begin]).decode(errors="replace")
                what = f"this is the socket of {model.decode()}, not of {name}"
                self._fail(number, fault("unknown_model", what, "Each model has a socket of its own."))
            elif kind == INFER and flags & IN_RING:
                self._place(Request(number, flags, view[begin:stop], deadline_ms))
            elif kind == INFER:
                self.requests.append(Request(number, flags, view[begin:stop], deadline_ms))
            elif kind == DESCRIBE and begin == stop:
                said = self._terms.description
                self.requests += (frames.head(DESCRIPTION, len(said), number), said)  # one `said`, however often
            elif kind == RING and not size:
                self._take_ring(number, first=at == begun and not self._framed)
            else:
                what = f"there is no kind of frame {kind:#x} for clients to send"
                self._fail(number, fault("bad_input", what, _HINT))
            at = stop
        self._framed |= at > begun
        if self._buffer is buffer:
            self._start = at

    def _take_ring(self, id: int, *, first: bool) -> None:
        try:
            self._loan.take_ring(first=first)
        except EdgedError as error:
            self._fail(id, error.fault)
        else:
            self.requests.append(frames.head(RINGED, 0, id))

    def _place(self, request: Request) -> None:
        """A request whose body says where in the ring it is."""
        try:
            body, room = self._loan.place(request.body, self._terms.message)
        except EdgedError as error:
            self._fail(request.id, error.fault)
        else:
            self.requests.append(request._replace(body=body, room=room))

    def _refuse(self, id: int, problem: Fault, stop: int, end: int) -> int:
        """Answers a frame that is not taken; what there is of it is passed over, and what is still to come."""
        self._fail(id, problem)
        self._skip = max(0, stop - end)
        return min(stop, end)

    def _fail(self, id: int, problem: Fault) -> None:
        """Answers in its turn, behind the requests before it."""
        self._terms.failed(problem.code)
        self.requests.append(frames.error(id, problem))

    def _grow(self, size: int, at: int) -> bool:
        """A buffer for a frame of `size` bytes, the beginning of which lies at `at`; False when there is no room."""
        held = len(self._buffer) if len(self._buffer) > self._terms.limits.buffer else 0
        if not self._terms.room.take(size - held):
            return False
        try:
            buffer = bytearray(size)
        except MemoryError:
            self._terms.room.give(size - held)
            return False
        begun = self._end - at
        buffer[:begun] = self._view[at : self._end]
        # Requests before it, if any, keep the old buffer alive until they are answered.
        self._buffer, self._view, self._start, self._end = buffer, memoryview(buffer), 0, begun
        return True

    def _make_room(self) -> None:
        """Moves what is left of a frame to the front. Nothing looks at the buffer any more but this."""
        left = self._end - self._start
        if self._start and left:
            self._view[:left] = self._view[self._start : self._end]  # which may overlap
        self._start, self._end = 0, left

    def shrink(self) -> None:
        """Gives a large buffer back that nothing is under way in."""
        large = len(self._buffer)
        if large > self._terms.limits.buffer and not (self.requests or self.waits_for_bytes):
            self._terms.room.give(large)
            self._buffer = bytearray(self._terms.limits.buffer)
            self._view = memoryview(self._buffer)

    # --- out ------------------------------------------------------------------------------------------

    def say(self, part: bytes) -> None:
        """Puts it behind what waits; `flush` sends that."""
        self._out.append(part)
        self.untaken += len(part)

    def answer(self, head: bytes, part: bytes) -> None:
        """A result, in one where that is cheaper; a large one is not copied, as the memory may be used up."""
        if len(part) > _APART:
            self.say(head)
            self.say(part)
        else:
            self.say(head + part)

    def flush(self, now_s: float) -> bool:
        """Sends what it takes; whether that was all."""
        out = self._out
        if not out or self.gone:
            return True
        try:
            if len(out) == 1:
                sent = self.sock.send(out[0])
            elif self.untaken > self._terms.limits.buffer:
                sent = self.sock.sendmsg(out[:_TOGETHER])
            else:
                out = [b"".join(out)]
                sent = self.sock.send(out[0])
        except BlockingIOError:
            sent = 0
        except OSError:
            self.gone = True
            return True
        self.untaken -= sent
        self._took += sent
        if not self.untaken:
            self._out = []
            return True
        if sent:
            self.moved_s = now_s
        self._out = _rest(out, sent)
        return False

    def has_left(self) -> bool:
        """Whether the client has closed its end: what it lent is its own again, and maybe lent anew by now."""
        if self.gone:
            return True
        poll = select.poll()
        poll.register(self.fd, 0)
        return bool(poll.poll(0))

    def late(self, now_s: float) -> str:
        """Why it is waited for no longer, "" while it is; for every sweep."""
        limits, taking = self._terms.limits, self.taking
        taking.wrote = self._took + self.untaken
        taking.look(self.untaken, limits.frame_s / limits.sweep_s)
        if not self.untaken or taking.keeps_up(self._taken, limits.frame_s):
            self._taken, self._due_s = taking.taken, now_s + limits.frame_s
        stalls = now_s - self.moved_s > limits.stall_s
        if self.untaken:
            return "answers that are not taken" if stalls or now_s >= self._due_s else ""
        if self.requests or not self.waits_for_bytes:
            return ""
        if stalls:
            return f"half a frame, and nothing more for {limits.stall_s:g} s"
        return f"a frame was not complete after {limits.frame_s:g} s" if now_s - self._begun_s >= limits.frame_s else ""

    def close(self) -> None:
        """May be called again: a caller that is gone may still be among those that have answers."""
        self.requests.clear()
        self._loan.close()
        large = len(self._buffer)
        if large > self._terms.limits.buffer:
            self._terms.room.give(large)
            self._buffer, self._view = bytearray(), memoryview(b"")
        self.gone = True
        with contextlib.suppress(OSError):
            self.sock.close()


def in_excess(callers: Iterable[Caller], most: int) -> list[Caller]:
    """Of those who are slow to take their answers the ones with most, without whom the others leave `most` bytes."""
    slow = sorted(callers, key=lambda one: one.taking.untaken, reverse=True)
    total, found = sum(one.taking.untaken for one in slow), 0
    while total > most:
        total -= slow[found].taking.untaken
        found += 1
    return slow[:found]


def _rest(parts: list[bytes | memoryview], sent: int) -> list[bytes | memoryview]:
    """What is left of `parts` when so many bytes are gone."""
    for index, part in enumerate(parts):
        if sent < len(part):
            return [memoryview(part)[sent:], *parts[index + 1 :]]
        sent -= len(part)
    return []
