"""One HTTP client: its bytes in, its requests one after the other, their answers out in the same order (RULES 21).

Each read goes either into the gate's scratch, where headers are looked for, or straight into the body that a
header has announced. Nothing here waits: a request is handed on with its Turn, and whoever answers the
turn writes to the client.
"""

from __future__ import annotations

import asyncio
import collections
import logging
from typing import Final

from edged.errors import EdgedError, Fault, fault
from edged.oip.bodies import Sized
from edged.oip.courtesy import Courtesy
from edged.taking import Taking
from edged.transports.rest import heads, replies
from edged.transports.rest.application import HttpGate
from edged.transports.rest.chunks import Chunks
from edged.transports.rest.heads import Head
from edged.transports.rest.patience import Doing, Patience
from edged.transports.rest.replies import CLOSE, CONTINUE
from edged.transports.rest.routes import CONTROL
from edged.transports.rest.turns import Turn

logger = logging.getLogger(__name__)

_START: Final = 8  # bytes of what may be a header that are looked at before all of it is there
_JOINED: Final = 16 * 1024  # bytes of body up to which copying it behind its header is cheaper than a second part


class Connection(asyncio.BufferedProtocol):
    """A connection takes requests until one is refused, one asks for the end, or `leave` does.

    Its deadlines are those of its `_step`, which is another one whenever it does something else than before.
    """

    def __init__(self, gate: HttpGate) -> None:
        self._gate = gate
        self._transport: asyncio.Transport | None = None
        self._held = b""  # what was read of a header, or of the framing of chunks, that is not complete
        self._head: Head | None = None  # whose body is under way
        self._body: Sized | Chunks | None = None
        self._in_place = False  # the next read goes into the body
        self._turns: collections.deque[Turn] = collections.deque()
        self._refusal: Fault | None = None  # nothing is taken after it
        self._last = False  # no request is taken any more: the end comes behind the answers that are owed
        self._writable = True
        self._paused = False
        self._behind = False  # a control verb waits for the answers before it
        self._courtesy = Courtesy(gate.clock, self._go_on)
        self._blank = 0  # bytes of empty lines since the last request
        self._fresh = True
        self._step = 0
        self._patience = Patience(gate.limits)
        self.taking = Taking()

    # --- what asyncio calls -------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # a stream's always is
        self._transport = transport
        crowded = self._gate.enter(self)
        if self._gate.crowded:
            transport.abort()
        elif crowded is not None:
            self.refuse(crowded)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002  -  asyncio's name for what it would like
        body = self._body
        if isinstance(body, Sized) and not body.complete:
            self._in_place = True
            return body.rest()
        self._in_place = False
        return self._gate.scratch

    def buffer_updated(self, nbytes: int) -> None:
        if self._refusal is not None or (self._last and self._head is None):
            return  # read and dropped: a sender that is reset would not read why
        if self._in_place:
            self._received(nbytes)
            return
        if self._body is not None:
            self._complete()
        if self._held:
            data = bytearray(b"".join((self._held, self._gate.scratch[:nbytes])))
            self._parse(data, memoryview(data), len(data))
        else:
            self._parse(self._gate.buffer, self._gate.scratch, nbytes)

    def eof_received(self) -> None:
        """Whoever ends its side is taken as gone: None closes the transport."""

    def pause_writing(self) -> None:
        self._writable = False
        self._pause()

    def resume_writing(self) -> None:
        self._writable = True
        self._step += 1
        self._go_on()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  -  whatever it was, it is over
        self._transport = None
        self._drop_body()
        if self._turns:
            self._gate.count("client_gone")
            self._turns.clear()
        self._gate.leave(self)

    # --- bytes to requests --------------------------------------------------------------------------

    def _parse(self, data: bytearray, view: memoryview, stop: int) -> None:
        """Takes requests from the first `stop` bytes of `data`, as far as they go; holds what is left.

        `view` is of `data`: the one can be searched, the other cut without a copy.
        """
        at = 0
        self._courtesy.begin()
        try:
            while at < stop and not self._waits():
                used = self._chunks(view[at:stop]) if self._body is not None else self._header(data, view, at, stop)
                if not used:
                    break
                at += used
                if at < stop:  # 64 KiB of requests for /metrics, or of tiny chunks, take seconds
                    self._courtesy.between()
        except EdgedError as error:
            self.refuse(error.fault)
        except Exception:  # the boundary of RULES 23
            logger.exception("a request could not be taken in")
            self.refuse(fault("internal", "edged could not take in the request"))
        if self._refusal is not None or (self._last and self._head is None):
            self._held = b""
            return
        if at < stop or self._held:
            self._step += self._head is None and not self._held  # a header begins
            self._held = bytes(view[at:stop])
        if self._waits():
            self._pause()

    def _waits(self) -> bool:
        """Whether the next request has to wait: for answers to leave, or for a control verb before or after it."""
        turns = self._turns
        if not self._writable or self._behind or self._courtesy.yields:
            return True
        return bool(turns) and (len(turns) >= self._gate.limits.pipeline or turns[-1].head.target.kind in CONTROL)

    def _header(self, data: bytearray, view: memoryview, at: int, stop: int) -> int:
        """Takes empty lines, or one header and as much of its body as is there; returns how many bytes."""
        if self._last:
            return 0
        limit = self._gate.limits.header
        if data.startswith(b"\r\n", at, stop):
            self._blank += 2
            if self._blank > limit:
                raise _long_header(limit)
            self._step += self._blank == 2
            return 2
        end = data.find(heads.END, at, stop)
        if (end + len(heads.END) if end >= 0 else stop) - at > limit:
            raise _long_header(limit)
        if end < 0:
            heads.check_start(bytes(view[at : min(at + _START, stop)]))
            return 0
        end += len(heads.END)
        head = heads.read(bytes(view[at:end]))
        if head.target.kind in CONTROL and self._turns:
            self._behind = True
            return 0
        self._gate.listener.rights.check(head.target.kind, head.token)
        if head.target.kind in CONTROL and (head.length or head.chunked):
            self._check_control(head)  # before a body is read for whoever may not
        most = self._gate.application.admit(head)
        if head.length > most:
            raise EdgedError("too_large", f"the body of {head.length} bytes is above {most} bytes")
        if not head.chunked and stop - end >= head.length:
            self._request(head, bytes(view[end : end + head.length]))
            return end + head.length - at
        self._begin(head, most, waits=head.expects and end == stop)
        if isinstance(self._body, Sized):
            self._body.add(view[end:stop])
            return stop - at
        return end - at

    def _begin(self, head: Head, most: int, *, waits: bool) -> None:
        """A header is complete and was admitted; its body is on its way, or `waits` for the word to come."""
        limits, room = self._gate.limits, self._gate.room
        self._body = Chunks(most, limits.header, room) if head.chunked else Sized(head.length, room)
        self._head = head
        self._step += 1
        if waits and not self._turns and self._transport is not None:
            self._transport.write(CONTINUE)

    def _chunks(self, data: memoryview) -> int:
        used = self._body.feed(bytes(data)) if isinstance(self._body, Chunks) else 0
        self._complete()
        return used

    def _received(self, size: int) -> None:
        if isinstance(self._body, Sized):
            self._body.got += size
            if self._body.complete:  # once the read has let go of it, or it could only be copied
                asyncio.get_running_loop().call_soon(self._complete)

    def _complete(self) -> None:
        """Hands the request on, if its body has come to its end."""
        head, body = self._head, self._body
        if head is not None and body is not None and body.complete:
            payload = body.body()
            self._drop_body()
            self._request(head, payload)
            if self._waits():
                self._pause()

    def _drop_body(self) -> None:
        if self._body is not None:
            self._body.close()
        self._head = self._body = None

    def _request(self, head: Head, payload: bytes) -> None:
        self._step += 1
        self._blank = 0
        self._fresh = False
        if not head.keep:
            self._last = True
        turn = Turn(head, self._answered, near=self._gate.listener.bound.loopback)
        self._turns.append(turn)
        self._gate.application.take(head, payload, turn, self._check_control)

    def _check_control(self, head: Head) -> str:
        """Who is at the other end, for the audit; EdgedError `forbidden` for who may not control the box."""
        return self._gate.listener.controller(head.token, self._transport)

    # --- answers ------------------------------------------------------------------------------------

    def _answered(self) -> None:
        """Writes what is ready and in its turn."""
        turns, transport = self._turns, self._transport
        if transport is None:
            return
        self._step += 1
        while turns and (reply := turns[0].reply) is not None:
            head = turns.popleft().head
            ending = CLOSE if self._last and not turns and self._head is None else head.ending
            if head.method == "HEAD":
                transport.write(reply.head + ending)
                continue
            self.taking.wrote += len(reply.head) + len(reply.body)
            if len(reply.body) <= _JOINED:
                transport.write(b"".join((reply.head, ending, reply.body)))
            else:
                transport.writelines((reply.head + ending, reply.body))
        if not turns:
            self._all_answered(transport)
        if self._paused:
            self._go_on()

    def _all_answered(self, transport: asyncio.Transport) -> None:
        if self._refusal is not None:
            self._say(self._refusal)
        elif self._head is not None:
            if self._head.expects and self._body is not None and not self._body.got:
                transport.write(CONTINUE)
        elif self._last:
            transport.close()

    def _pause(self) -> None:
        if not self._paused and self._transport is not None and self._refusal is None:
            self._paused = True
            self._transport.pause_reading()

    def _go_on(self) -> None:
        """Takes what was left lying, then reads again, unless something else has to be waited for."""
        self._behind = False
        if not self._paused or self._waits() or self._transport is None:
            return
        if self._held and self._refusal is None:
            data, self._held = bytearray(self._held), b""  # answers that come at once come back here
            self._parse(data, memoryview(data), len(data))
        if self._transport is not None and not self._waits():
            self._paused = False
            self._step += 1
            self._transport.resume_reading()

    # --- the end ------------------------------------------------------------------------------------

    def leave(self) -> None:
        """Takes no further request; the connection ends when what is owed is answered: at once when nothing is."""
        self._last = True
        self._held = self._held if self._head is not None else b""
        if self._transport is not None and self._head is None and not self._turns and self._refusal is None:
            self._step += 1
            self._transport.close()

    def give_up(self, problem: Fault) -> None:
        """Answers everything that is owed or under way with `problem`."""
        if self._head is not None:
            self.refuse(problem)
        for turn in tuple(self._turns):
            turn.settle(problem)

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def refuse(self, problem: Fault) -> None:
        """Takes nothing more from this client, and says why after the answers that it waits for."""
        if self._refusal is not None:
            return
        self._refusal = problem
        self._gate.count(problem.code)
        self._drop_body()
        self._held = b""
        self._step += 1
        if not self._turns:
            self._say(problem)

    def _say(self, problem: Fault) -> None:
        transport = self._transport
        if transport is None:
            return
        reply = replies.refused(problem)
        transport.write(b"".join((reply.head, CLOSE, reply.body)))
        if transport.can_write_eof():
            transport.write_eof()
        transport.resume_reading()  # and drop it

    # --- time ---------------------------------------------------------------------------------------

    def sweep(self, now_s: float) -> None:
        """Ends what took too long by `now_s`; called every `sweep_s`."""
        if self._transport is None:
            return
        for turn in tuple(self._turns):
            if turn.latest_s < now_s:
                turn.settle(fault("deadline", "no outcome came, long after the deadline"))
        limits, taking = self._gate.limits, self.taking
        taking.look(self._transport.get_write_buffer_size(), limits.body_s / limits.sweep_s)
        got = self._body.got if self._body else 0
        late = self._patience.look(now_s, self._step, self._doing(), got=got, taking=taking)
        if late is None:
            return
        if late.problem is not None:
            self.refuse(late.problem)
        else:
            self.abort()  # close() would wait for ever for a client that does not read

    def _doing(self) -> Doing:
        if self._refusal is not None and not self._turns:
            return Doing.END
        if not self._paused:  # else it is us who do not read
            if self._head is not None:
                return Doing.BODY
            if self._held or self._blank or self._fresh:
                return Doing.HEADER
        return Doing.WORK if self._turns else Doing.REST


def _long_header(limit: int) -> EdgedError:
    return EdgedError("too_large", f"the header is above {limit} bytes", "Send fewer or shorter headers.")
