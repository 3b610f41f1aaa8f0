"""One fast-lane client: its bytes in, its requests on to their models, their answers out as they come.

Each read goes either into the gate's scratch, where frames are looked for, or straight into the buffer of a large
body that a head has announced. Nothing here waits. The loop writes what one turn brings in one go.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from typing import Final

from edged import frames, passed
from edged.errors import EdgedError, Fault, fault
from edged.frames import DESCRIBE, HEAD, IN_RING, INFER, RING, Head, Malformed
from edged.lent import Ring
from edged.oip.courtesy import Courtesy
from edged.oip.gate import Gate
from edged.taking import Taking
from edged.transports.fast.limits import Limits
from edged.transports.fast.look import Look
from edged.transports.fast.requests import App, Request

logger = logging.getLogger(__name__)

_IN_PLACE: Final = 16 * 1024  # bytes of a frame above which its body gets a buffer of its own
_HINT: Final = "docs/fast.md has the frames, byte by byte."


class Body:
    """A body on its way, with its head: `size` bytes into `buffer`, or, without one, read and dropped."""

    __slots__ = ("buffer", "got", "head", "name", "size", "view")

    def __init__(self, head: Head, name: bytes, size: int, buffer: bytearray | None) -> None:
        self.head = head
        self.name = name
        self.size = size
        self.buffer = buffer
        self.view = memoryview(buffer)[:size] if buffer is not None else None
        self.got = 0


class Connection(asyncio.BufferedProtocol):
    """Takes requests until a frame is refused or `leave`. `owed`: those that have no answer yet."""

    def __init__(self, gate: Gate[App, Limits, Connection]) -> None:
        self._gate = gate
        self._app = gate.application
        self._transport: asyncio.Transport | None = None
        self._held = b""  # what was read of a frame that is not complete
        self._body: Body | None = None
        self._ring: Ring | None = None
        self._look: Look | None = None  # for a ring, until the first frame is there
        self._writable = True
        self._paused = False
        self._refused = False  # nothing is taken after it
        self._last = False  # no request is taken any more: the end comes behind the answers that are owed
        self._read = 0  # bytes so far, and frames
        self._frames = 0
        self._seen = (0, 0)  # the same at the sweep before
        self._courtesy = Courtesy(gate.clock, self._go_on)
        self._begun_s = self._moved_s = self._ends_s = math.inf
        self.owed: set[Request] = set()
        self.taking = Taking()

    # --- what asyncio calls -------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # a stream's always is
        self._transport = transport
        crowded = self._gate.enter(self)
        if self._gate.listener.local:
            with contextlib.suppress(OSError):  # no descriptor is left: it has to do without a ring
                self._look = Look(transport.get_extra_info("socket").fileno())
        if self._gate.crowded:
            self.abort()
        elif crowded is not None:
            self.refuse(crowded)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002  -  asyncio's name for what it would like
        body = self._body
        into = self._gate.scratch if body is None or body.view is None else body.view[body.got :]
        return into if self._look is None else self._look.before(into)

    def buffer_updated(self, nbytes: int) -> None:
        look = self._look
        if look is None:
            self._take(nbytes)
            return
        self._take(look.after(nbytes))
        if self._frames or self._body is not None or self._refused:  # a ring comes with the first frame or never
            look.handed.drop()
            if look.over:
                self._look = None

    def _take(self, nbytes: int) -> None:
        self._read += nbytes
        if self._refused or self._last:
            return  # read and dropped: a sender that is reset would not read why
        gate, body = self._gate, self._body
        if body is not None:
            body.got += nbytes
            if body.got < body.size:
                return
            if body.view is not None:
                self._whole(body)
                return
            over, self._body = body.got - body.size, None  # what was dropped has come to its end
            self._parse(gate.buffer, gate.scratch, nbytes - over, nbytes)
        elif self._held:
            data = bytearray(b"".join((self._held, gate.scratch[:nbytes])))
            self._held = b""
            self._parse(data, memoryview(data), 0, len(data))
        else:
            self._parse(gate.buffer, gate.scratch, 0, nbytes)

    def eof_received(self) -> None:
        """Whoever ends its side is taken as gone: None closes the transport."""

    def pause_writing(self) -> None:
        self._writable = False
        self._pause()

    def resume_writing(self) -> None:
        self._writable = True
        self._go_on()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  -  whatever it was, it is over
        self._transport = None
        self._drop_body()
        if self._look is not None:
            self._look.end()
        if self._ring is not None:
            self._app.rings.give(self._ring)
            self._ring = None
        if self.owed:
            self._gate.count("client_gone")
            self.owed.clear()
        self._gate.leave(self)

    # --- bytes to requests --------------------------------------------------------------------------

    def _parse(self, data: bytearray, view: memoryview, at: int, stop: int) -> None:
        """Takes frames from `data`, from `at` to `stop`, as far as they go; holds what is left. `view` is of `data`."""
        now_s = self._app.clock()
        self._courtesy.begin()
        while stop - at >= HEAD.size and self._body is None and not self._waits():
            try:
                head = frames.read_head(data, at)
            except Malformed as error:
                self.refuse(fault("bad_input", str(error), _HINT))
                return
            start, end = at + HEAD.size + head.name, at + HEAD.size + head.size
            if start > stop or (end > stop and end - at <= _IN_PLACE):
                break
            try:
                name = bytes(view[at + HEAD.size : start])
                if end > stop:
                    self._begin(head, name, view[start:stop])
                    return
                self._frame(head, name, view[start:end], now_s)
            except EdgedError as error:
                self._answer_refused(head.id, error.fault)
            except Exception:  # the boundary of RULES 23
                logger.exception("a frame could not be taken in")
                self.refuse(fault("internal", "edged could not take in the frame"), head.id)
            if self._refused:
                return
            self._frames += 1
            at = end
            if at < stop:  # 64 KiB of frames that ask for metadata take a tenth of a second
                self._courtesy.between()
        if at < stop:
            self._held = bytes(view[at:stop])
        if self._waits():
            self._pause()

    def _waits(self) -> bool:
        """Whether the next frame has to wait: for answers to leave, or for others to have their turn."""
        return not self._writable or self._courtesy.yields or len(self.owed) >= self._gate.limits.pipeline

    def _frame(self, head: Head, name: bytes, body: memoryview, now_s: float) -> None:
        """Deals with a whole frame; `body` is gone with the next read. Raises EdgedError: what it is answered with."""
        if head.kind != INFER:
            self._other(head, name)
        elif head.flags & IN_RING:
            if self._ring is None:
                raise EdgedError("bad_input", "a request in the ring, and no ring was handed over", _HINT)
            payload, room = self._ring.place(body)
            self._app.infer(self, head.id, name, head.deadline_ms, payload, now_s, room=room)
        else:
            self._app.infer(self, head.id, name, head.deadline_ms, bytes(body), now_s)

    def _other(self, head: Head, name: bytes) -> None:
        if head.kind == DESCRIBE and head.size == head.name:
            self._write((self._app.describe(head.id, name),))
        elif head.kind == RING and not head.size:
            self._take_ring(head.id)
        else:
            self.refuse(fault("bad_input", f"no frame of kind 0x{head.kind:02X} with such a body", _HINT), head.id)

    def _begin(self, head: Head, name: bytes, have: memoryview) -> None:
        """A large body is on its way. Where it cannot be taken it is answered now, and dropped as it comes."""
        size = head.size - head.name
        buffer = None
        try:
            if head.kind != INFER or head.flags & IN_RING:
                self._other(head, name)  # which has no such body
                return
            self._app.admit(name, size)
            buffer = self._app.pool.take(size)
        except EdgedError as error:
            if size > self._app.largest:  # as long as it says: nobody reads that to its end
                self.refuse(error.fault, head.id)
                return
            self._answer_refused(head.id, error.fault)
        self._body = Body(head, name, size, buffer)
        if self._body.view is not None:
            self._body.view[: len(have)] = have
        self._body.got = len(have)

    def _whole(self, body: Body) -> None:
        """A large body is complete."""
        self._body = None
        self._frames += 1
        head = body.head
        try:
            view = body.view or memoryview(b"")
            self._app.infer(self, head.id, body.name, head.deadline_ms, view, self._app.clock(), body.buffer)
        except EdgedError as error:  # the model has gone meanwhile
            if body.buffer is not None:
                self._app.pool.give(body.buffer)
            self._answer_refused(head.id, error.fault)
        if self._waits():
            self._pause()

    def _drop_body(self) -> None:
        if self._body is not None and self._body.buffer is not None:
            self._app.pool.give(self._body.buffer)
        self._body = None

    # --- the ring -----------------------------------------------------------------------------------

    def _take_ring(self, id: int) -> None:
        if self._ring is not None or self._frames:
            raise EdgedError("bad_input", "a ring is handed over once, with the first frame", _HINT)
        self._ring = self._app.rings.take(self._look.handed if self._look is not None else passed.Handed())
        self._write((frames.head(frames.RINGED, 0, id),))

    # --- answers ------------------------------------------------------------------------------------

    def answered(self, request: Request, parts: tuple[bytes, ...]) -> None:
        """The answer to one that is owed."""
        self.owed.discard(request)
        if self._refused:
            return  # the end was said, and a write behind it would raise into whoever settles
        self._write(parts)
        if self._paused:
            self._go_on()
        if self._last and not self.owed and self._transport is not None:
            self._transport.close()

    def _answer_refused(self, id: int, problem: Fault) -> None:
        self._write((frames.error(id, problem),))

    def _write(self, parts: tuple[bytes, ...]) -> None:
        if self._transport is not None:
            for part in parts:
                self.taking.wrote += len(part)
                self._transport.write(part)

    def _pause(self) -> None:
        if not self._paused and self._transport is not None and not self._refused:
            self._paused = True
            self._transport.pause_reading()

    def _go_on(self) -> None:
        """Takes what was left lying, then reads again, unless something else has to be waited for."""
        if not self._paused or self._waits() or self._transport is None:
            return
        self._paused = False
        if self._held and not (self._refused or self._last):
            data, self._held = bytearray(self._held), b""  # answers that come at once come back here
            self._parse(data, memoryview(data), 0, len(data))
        if not self._paused and self._transport is not None:
            self._transport.resume_reading()

    # --- the end ------------------------------------------------------------------------------------

    def leave(self) -> None:
        """Takes no further request; the connection ends when what is owed is answered: at once when nothing is."""
        self._last = True
        self._held = b""
        self._drop_body()
        if self._transport is not None and not self.owed and not self._refused:
            self._transport.close()

    def give_up(self, problem: Fault) -> None:
        """Answers everything that is owed with `problem`."""
        for request in tuple(self.owed):
            request.settle(problem)

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def refuse(self, problem: Fault, id: int = 0) -> None:
        """Takes nothing more from this client, says why, and ends: what it is owed is lost to it."""
        if self._refused or self._transport is None:
            return
        self._refused = True
        self._gate.count(problem.code)
        self._drop_body()
        self._held = b""
        self._ends_s = self._app.clock() + self._gate.limits.linger_s
        self._write((frames.error(id, problem),))
        if self._transport.can_write_eof():
            self._transport.write_eof()
        if self._paused:
            self._paused = False
            self._transport.resume_reading()  # and drop it

    # --- time ---------------------------------------------------------------------------------------

    def sweep(self, now_s: float) -> None:
        """Ends what took too long by `now_s`; called every `sweep_s`."""
        if self._transport is None:
            return
        for request in tuple(self.owed):
            if request.latest_s < now_s:
                request.settle(fault("deadline", "no outcome came, long after the deadline"))
        limits, transport = self._gate.limits, self._transport
        unsent = transport.get_write_buffer_size() if transport is not None else 0
        self.taking.look(unsent, limits.frame_s / limits.sweep_s)
        if now_s >= self._ends_s:
            self.abort()
        elif not self._refused:
            self._hurry(now_s)

    def _hurry(self, now_s: float) -> None:
        """A frame that has begun goes on, and comes to its end."""
        read, frame = self._seen
        self._seen = self._read, self._frames
        if self._paused or not (self._held or self._body):
            self._begun_s = self._moved_s = math.inf
            return
        if frame != self._frames or self._begun_s == math.inf:
            self._begun_s = now_s
        if read != self._read or self._moved_s == math.inf:
            self._moved_s = now_s
        limits = self._gate.limits
        if now_s - self._moved_s >= limits.stall_s:
            self.refuse(fault("timeout", f"a frame stood still for {limits.stall_s:g} s"))
        elif now_s - self._begun_s >= limits.frame_s:
            self.refuse(fault("timeout", f"a frame was not complete after {limits.frame_s:g} s"))
