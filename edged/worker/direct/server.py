"""The direct lane: this process serves the clients of its model's own socket, the daemon's channel beside them.

One turn: what is readable is read, once each; what that brings is run, as many inputs at once as batches pay for; each
client's answers go out together. The channel gets one message a turn, and a turn begins nothing after 2 ms, so that
neither waits for more than a batch of the other.
"""

from __future__ import annotations

import select
import socket
import time
from collections import deque
from collections.abc import Sequence
from typing import Final, Protocol

import msgspec

from edged import channel, frames, passed
from edged.channel import AnswerHead, InputHead, Open
from edged.door import Leave, Listen, Underway
from edged.errors import Fault, fault
from edged.frames import HEAD, IN_RING, MAGIC, NONFINITE, RESULT, RETRIED
from edged.lent import Rings
from edged.messages import FAST
from edged.tensors import Signature, metadata
from edged.worker.direct.caller import Caller, Request, Terms, in_excess
from edged.worker.direct.copies import Copies
from edged.worker.direct.counts import EVERY_S, Counts
from edged.worker.direct.limits import Limits, Room
from edged.worker.direct.suspects import Suspects, digest, mark
from edged.worker.direct.swift import Ran, Swift

_pack: Final = HEAD.pack
_TURN_S: Final = 0.002
_OUT: Final = select.EPOLLOUT
_IN: Final = select.EPOLLIN
_CPU_EVERY: Final = 16  # batches between two whose cost is looked at, which takes two system calls

Batch = list[tuple[Caller, Request]]


class Host(Protocol):
    """The worker that runs what clients send."""

    @property
    def sock(self) -> socket.socket:
        """Its channel."""

    def spent_ns(self) -> int:
        """What runs have cost so far: see session.Model."""

    def receive(self) -> Listen | Leave | None:
        """Takes one message of the channel; those about the socket are the caller's. Raises channel.Closed."""

    def answers(
        self, heads: Sequence[InputHead], parts: Sequence[memoryview]
    ) -> tuple[Sequence[tuple[AnswerHead, bytes]], tuple[int, ...]]:
        """Runs inputs; their answers, in order, and the rows of each run."""


class Server:
    """Serves a listening socket until the daemon says Leave. `most`: inputs that are run together."""

    def __init__(
        self,
        host: Host,
        listener: socket.socket,
        underway: Underway,
        terms: Listen,
        opening: Open,
        signature: Signature,
        most: int,
        swift: Swift,
        limits: Limits | None = None,
    ) -> None:
        self._host = host
        self._listener: socket.socket | None = listener
        self._underway = underway
        self._version = opening.version.encode()
        self._most = most
        self._swift = swift
        self._limits = limits or Limits()
        self._callers: dict[int, Caller] = {}
        self._ready: deque[Caller] = deque()
        self._said: dict[Caller, None] = {}  # who has something to be sent, this turn, in that order
        now_s = time.monotonic()
        self._counts = Counts(now_s)
        message = opening.message_limit
        room = Room(max(self._limits.frames, message + frames.HEAD.size + 255))
        rings = Rings(self._limits.ring, self._limits.rings)
        said = msgspec.json.encode(metadata(opening.model, opening.version, signature))
        self._terms = Terms(opening.model.encode(), message, self._limits, room, rings, self._counts.failed, said)
        self._copies = Copies(room)
        self._swept_s, self._hurry = now_s, False
        self._batches = 0
        self._epoll = select.epoll()
        self._epoll.register(host.sock.fileno(), _IN)
        listener.setblocking(False)
        self._epoll.register(listener.fileno(), _IN)
        self._deaf = False  # no descriptor was left for another client
        self.adopt(terms)

    def adopt(self, said: Listen) -> None:
        """What the daemon says, now or anew."""
        self._deadline_s = said.deadline_s
        self._suspects = Suspects(said.suspects, said.poison)

    def serve(self) -> None:
        """Until a Leave, and until what was read before it is answered. Raises channel.Closed after the same."""
        try:
            while self._listener is not None or self._callers:
                self._turn()
            told, payload = self._counts.take(time.monotonic(), left=True)
            channel.send(self._host.sock, told, payload)
        except channel.Closed:
            self._leave()
            while self._ready:
                self._run(time.monotonic())
            raise
        finally:
            for caller in list(self._callers.values()):
                caller.close()
            self._epoll.close()

    # --- a turn ---------------------------------------------------------------------------------------

    def _turn(self) -> None:
        asked = False
        events = self._epoll.poll(self._patience_s())
        now_s = time.monotonic()
        for descriptor, event in events:
            caller = self._callers.get(descriptor)
            if caller is not None:
                self._hear(caller, event, now_s)
            elif descriptor == self._host.sock.fileno():
                asked = True
            else:
                self._accept(now_s)
        if self._ready:
            self._run(now_s)
        if asked:
            self._told()
        if self._counts.any and now_s - self._counts.told_s >= EVERY_S:
            told, payload = self._counts.take(now_s)
            channel.send(self._host.sock, told, payload)
        if self._hurry and now_s - self._swept_s >= self._limits.sweep_s:
            self._sweep(now_s)

    def _patience_s(self) -> float:
        if self._ready:
            return 0.0
        if self._counts.any:
            return EVERY_S
        return self._limits.sweep_s if self._hurry else -1.0

    def _hear(self, caller: Caller, event: int, now_s: float) -> None:
        """What one client has sent, or has room for."""
        if caller.untaken:
            if event & ~_IN:
                self._send(caller, now_s)
            return
        if caller.requests or self._listener is None:
            return  # nothing more is read before those are answered, and nothing at all when leaving
        if caller.read(now_s):
            self._ready.append(caller)
        elif caller.gone:
            self._drop(caller)
        elif caller.waits_for_bytes:
            self._hurry = True

    def _told(self) -> None:
        """One message of the channel."""
        said = self._host.receive()
        if isinstance(said, Listen):
            self.adopt(said)
        elif isinstance(said, Leave):
            self._leave()

    def _leave(self) -> None:
        """Another process serves the socket now: those who wait for nothing are closed, and come back to it."""
        if self._listener is None:
            return
        if not self._deaf:
            self._epoll.unregister(self._listener.fileno())
        self._listener.close()
        self._listener = None
        for caller in list(self._callers.values()):
            if not (caller.requests or caller.untaken):
                self._drop(caller)

    # --- clients --------------------------------------------------------------------------------------

    def _accept(self, now_s: float) -> None:
        while self._listener is not None:
            try:
                sock, _ = self._listener.accept()
                caller = Caller(sock, self._terms, now_s)
            except BlockingIOError:
                return
            except ConnectionError:
                continue
            except (
                OSError,
                MemoryError,
            ):  # no descriptor, or no memory, is left: those who wait are looked after later
                self._epoll.unregister(self._listener.fileno())
                self._deaf = self._hurry = True
                return
            sock.setblocking(False)
            if len(self._callers) >= self._limits.connections:
                self._turn_away(sock)
                continue
            self._callers[caller.fd] = caller
            self._epoll.register(caller.fd, _IN)

    def _turn_away(self, sock: socket.socket) -> None:
        what = f"the socket has {self._limits.connections} connections already"
        problem = fault("queue_full", what, "Close idle connections, or send more requests on each.")
        self._counts.failed(problem.code)
        with sock:
            passed.drop(sock)
            try:
                sock.send(frames.error(0, problem))
            except OSError:
                return

    def _send(self, caller: Caller, now_s: float) -> None:
        """What waits for a client; what it does not take is sent when it does, and nothing is read until then."""
        waited = caller.blocked
        caller.blocked = not caller.flush(now_s)
        if caller.gone or (not caller.blocked and not caller.requests and (caller.closing or self._listener is None)):
            self._drop(caller)
        elif caller.blocked is not waited:
            self._epoll.modify(caller.fd, _OUT if caller.blocked else _IN)
            self._hurry = True
        # What was left unrun because answers waited; often enough they have gone at once, without a wait.
        if caller.requests and not (caller.gone or caller.blocked or caller in self._ready):
            self._ready.append(caller)

    def _drop(self, caller: Caller) -> None:
        if self._callers.get(caller.fd) is caller:
            self._epoll.unregister(caller.fd)
            del self._callers[caller.fd]
        caller.close()

    def _sweep(self, now_s: float) -> None:
        """Cuts who has begun a frame, or has answers to take, and does nothing about it, or too little."""
        self._swept_s, self._hurry = now_s, self._deaf
        for caller in list(self._callers.values()):
            caller.shrink()
            if late := caller.late(now_s):
                self._cut(caller, late, now_s)
            else:
                self._hurry |= caller.untaken > 0 or caller.waits_for_bytes
        for caller in in_excess(self._callers.values(), self._limits.answers):
            self._cut(caller, "", now_s)
        if self._deaf and self._listener is not None:
            self._deaf = False
            self._epoll.register(self._listener.fileno(), _IN)

    def _cut(self, caller: Caller, why: str, now_s: float) -> None:
        self._counts.failed("timeout")
        if not caller.untaken:
            caller.say(frames.error(0, fault("timeout", why)))
            caller.flush(now_s)
        self._drop(caller)

    # --- what they ask for ----------------------------------------------------------------------------

    def _run(self, now_s: float) -> None:
        """Runs what was read, batch by batch, for a while; then each client gets its answers."""
        until_s = now_s + _TURN_S
        while self._ready:
            self._answer(self._take(now_s))
            self._copies.clear()
            now_s = time.monotonic()
            if now_s >= until_s:
                break
        said, self._said = self._said, {}
        for caller in said:
            caller.moved_s = now_s
            self._send(caller, now_s)
            self._hurry |= caller.waits_for_bytes

    def _take(self, now_s: float) -> Batch:
        """The next batch: as many of one client's requests as fit, then of the next one's."""
        batch: Batch = []
        ready = self._ready
        while ready and len(batch) < self._most:
            caller = ready[0]
            self._said[caller] = None
            if caller.gone or caller.untaken > self._limits.untaken:
                ready.popleft()  # it comes back when it has taken some
            elif not self._add(caller, batch, now_s):
                break
            elif caller.requests:
                ready.rotate(-1)
            else:
                ready.popleft()
        return batch

    def _add(self, caller: Caller, batch: Batch, now_s: float) -> bool:
        """Adds a client's requests to a batch; False when nothing more may be added to it.

        What is not run is answered when it is first in its batch, so that answers leave in the order of requests. A
        suspect is a batch by itself.
        """
        requests, late_s = caller.requests, now_s - caller.read_s
        while requests and len(batch) < self._most:
            one = requests[0]
            if isinstance(one, bytes):
                if batch:
                    return False
                caller.say(one)
            elif late_s > (one[3] / 1000 if one[3] else self._deadline_s):
                if batch:
                    return False
                self._refuse(caller, one, fault("deadline", "the deadline passed before its turn came"))
            else:
                taken = self._copies.of(one) if one[1] & IN_RING else one
                if isinstance(taken, Fault):
                    if batch:
                        return False
                    self._refuse(caller, one, taken)
                elif self._suspects and self._suspects.suspect(mark(taken[2])):
                    if not batch:
                        batch.append((caller, taken))
                        requests.popleft()
                    return False
                else:
                    batch.append((caller, taken))
            requests.popleft()
        return True

    def _refuse(self, caller: Caller, one: Request, problem: Fault, *, own: bool = False) -> None:
        self._counts.failed(problem.code, own=own)
        caller.say(frames.error(one.id, problem))

    def _answer(self, batch: Batch) -> None:
        if not batch:
            return
        bodies = [one[2] for _, one in batch]
        marks, alone = list(map(mark, bodies)), 0
        if self._suspects and self._suspects.suspect(marks[0]):
            alone = digest(bodies[0])
            if (problem := self._suspects.verdict(marks[0], alone)) is not None:
                self._refuse(*batch[0], problem)
                return
        self._batches += 1
        looks = self._batches % _CPU_EVERY == 1 and self._counts.wants_cpu
        spent_ns = self._host.spent_ns() if looks else 0
        started_ns = time.monotonic_ns()
        self._underway.begin(started_ns, marks, digest=alone)
        ran = None if alone or self._copies.size else self._swift.run(bodies)  # which copies again, and knows no rooms
        answers, rows = (
            ((), (ran.rows,)) if ran else self._host.answers([InputHead(len(b), FAST) for b in bodies], bodies)
        )
        ended_ns = time.monotonic_ns()
        self._underway.end(ended_ns)
        if alone:
            self._suspects.clear(marks[0])
        if looks:
            self._counts.cpu((self._host.spent_ns() - spent_ns) // len(batch))
        self._counts.ran(rows, ended_ns - started_ns)
        if ran:
            self._say_alike(batch, ran, ended_ns / 1e9)
        else:
            self._say(batch, answers, RETRIED if alone else 0, ended_ns / 1e9)

    def _say(self, batch: Batch, answers: Sequence[tuple[AnswerHead, bytes]], flags: int, now_s: float) -> None:
        version, named = self._version, len(self._version)
        for (caller, one), (head, payload) in zip(batch, answers, strict=True):
            if head.fault is not None:
                self._refuse(caller, one, head.fault, own=head.own)
                continue
            said = flags | NONFINITE if head.nonfinite else flags
            if one.room is not None and not caller.has_left() and (note := one.room.put(payload)):
                payload, said = note, said | IN_RING  # noqa: PLW2901  -  what is sent in its place
            caller.answer(_pack(named + len(payload), MAGIC, RESULT, said, named, one[0], 0, 0) + version, payload)
            self._counts.ok(1, now_s - caller.read_s, head.nonfinite)
            self._counts.sample(one[2], now_s)
            self._swift.learn(one[2])

    def _say_alike(self, batch: Batch, ran: Ran, now_s: float) -> None:
        begin, bad = self._version + ran.begin, ran.nonfinite
        size, named = len(begin) + ran.each, len(self._version)
        counted, read_s = 0, batch[0][0].read_s
        for index, ((caller, one), part) in enumerate(zip(batch, ran.parts, strict=True)):
            flags = NONFINITE if bad and bad[index] else 0
            caller.answer(_pack(size, MAGIC, RESULT, flags, named, one[0], 0, 0) + begin, part)
            if caller.read_s != read_s:  # those that were read in one turn are counted together
                self._counts.ok(index - counted, now_s - read_s)
                counted, read_s = index, caller.read_s
        self._counts.ok(len(batch) - counted, now_s - read_s, sum(bad))
        self._counts.sample(batch[0][1][2], now_s)
