"""The direct lane, as the daemon sees it: a model's own socket, and which of its processes serves it.

- The socket is opened here and stays here: a connect is never refused while the model is configured. Whoever comes
  while no process serves it waits for the next one, or is told why there is none.
- The process that answers is told to serve it. At a switch the one before is told to leave: it answers what it has
  read.
- What was under way on the socket when a process ended is suspect, and runs alone in the next; what ends a process
  alone is poison (RULES 13). Their bytes were never here: they are known by marks that the process has noted.
- Counts come from the processes, every 200 ms; the daemon owns the counters (RULES 28).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, Protocol

from edged import frames, passed
from edged.channel import InputHead
from edged.config.schema import Model
from edged.door import MOST, Leave, Listen, Tallies, Underway
from edged.errors import Fault
from edged.messages import FAST
from edged.observe.executions import Served
from edged.serving.generation import Generation
from edged.serving.observer import Observer

DEADLINE_S: Final = 10.0  # of a request that sets none, of a model that sets none
_AGAIN_S: Final = 0.02  # until a message is sent that its channel had no room for
_GOODBYE_S: Final = 1.0  # for a process to answer what it has read
_DEAF_S: Final = 0.5  # until clients are looked for again, when no descriptor was left for one
_SUSPECT_S: Final = 60.0  # how long a process that starts is told what was under way at a death
_REMEMBERED_S: Final = 300.0  # how long poison is refused without being run
_MOST_POISON: Final = 64
_MOST_SUSPECTS: Final = 4 * MOST  # 36 KiB of the message that tells them
_NOT_RUN: Final = frozenset({"deadline", "poison_input", "queue_full", "timeout", "too_large", "unknown_model"})

log = logging.getLogger("edged.serving")


class Listener(Protocol):
    """An open socket; listening.Bound is one."""

    @property
    def socket(self) -> socket.socket: ...
    @property
    def address(self) -> str: ...
    def close(self) -> None:
        """Takes it away: nobody new connects."""


class Door:
    """One model's own socket. `listen` opens it, None: it has none. `sampled` gets an input for trials at times."""

    def __init__(
        self,
        settings: Model,
        listen: Callable[[], Listener] | None,
        observer: Observer,
        sampled: Callable[[InputHead, bytes], None],
    ) -> None:
        self._model: Final = settings.name
        self._listen: Final = listen
        self._observer: Final = observer
        self._sampled: Final = sampled
        self._loop = asyncio.get_running_loop()
        self._deadline_s = _deadline_s(settings)
        self._listener: Listener | None = None
        self._server: Generation | None = None
        self._pages: dict[Generation, Underway] = {}  # of those that serve it, or are leaving
        self._leaving: dict[Generation, asyncio.Future[None]] = {}
        self._suspects: dict[int, float] = {}  # their marks, and when the process that ran them ended
        self._refusal: Fault | None = None
        self._poison: dict[tuple[int, int], float] = {}

    @property
    def address(self) -> str:
        """Where clients find it; "" when it has none."""
        return "" if self._listener is None else self._listener.address

    def open(self) -> None:
        """Raises EdgedError no_listener."""
        if self._listen is not None and self._listener is None:
            self._listener = self._listen()

    def close(self) -> None:
        """Nobody new connects; those who wait for a process are sent away."""
        self._refuse_nobody()
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    def refuse(self, problem: Fault) -> None:
        """No process is going to serve it soon: who connects, or waits already, is told why, until one does."""
        if self._listener is not None:
            self._refusal = problem
            self._listener.socket.setblocking(False)
            self._refuse_on()

    def _refuse_on(self) -> None:
        if self._listener is not None and self._refusal is not None:
            self._loop.add_reader(self._listener.socket.fileno(), self._send_off)

    def _refuse_nobody(self) -> None:
        if self._refusal is not None and self._listener is not None:
            self._loop.remove_reader(self._listener.socket.fileno())
        self._refusal = None

    def _send_off(self) -> None:
        """One client: the loop calls again while there are more."""
        if self._listener is None or self._refusal is None:
            return
        try:
            client, _ = self._listener.socket.accept()
        except (BlockingIOError, ConnectionError):
            return
        except OSError:  # no descriptor is left, and the loop would call again at once
            self._loop.remove_reader(self._listener.socket.fileno())
            self._loop.call_later(_DEAF_S, self._refuse_on)
            return
        with client, contextlib.suppress(OSError):
            client.setblocking(False)
            passed.drop(client)
            client.send(frames.error(0, self._refusal))
        self._observer.answered(self._model, "", self._refusal.code, 0.0)

    def adopt(self, settings: Model) -> None:
        """Other settings from now on."""
        self._deadline_s = _deadline_s(settings)
        self._tell_server()

    def serve_by(self, generation: Generation | None) -> None:
        """`generation` serves it from now on, and the one before leaves; None: nobody does."""
        before, self._server = self._server, generation if self._listener is not None else None
        if generation is not None:
            self._refuse_nobody()
        if before is not None and before is not generation:
            self._send_away(before)
        self._tell_server()

    def _tell_server(self) -> None:
        """Gives the socket to whoever is to serve it, and says anew what holds there."""
        server, listener = self._server, self._listener
        if server is None or listener is None or not server.alive:
            return
        try:
            underway, descriptor = Underway.create() if server not in self._pages else (self._pages[server], -1)
        except OSError as error:
            log.error("its own socket has to wait: %s", error.strerror, extra=self._extra(server))
            self._loop.call_later(_GOODBYE_S, self._tell_server)
            return
        since_s = time.monotonic() - _SUSPECT_S
        self._suspects = {mark: died_s for mark, died_s in self._suspects.items() if died_s > since_s}
        said = Listen(self._deadline_s, tuple(self._suspects), tuple(self._poison_now()))
        descriptors = [listener.socket.fileno(), descriptor] if descriptor >= 0 else []  # it has them already
        try:
            told = server.tell(said, descriptors)
        finally:
            if descriptor >= 0:
                os.close(descriptor)
        if not told:
            self._loop.call_later(_AGAIN_S, self._tell_server)
            return
        server.on_tallies = partial(self._tallied, server)
        if descriptor >= 0:
            self._pages[server] = underway
            server.overtime.look_at(underway)

    def _send_away(self, generation: Generation) -> None:
        if generation not in self._pages or not generation.alive:
            return
        self._leaving.setdefault(generation, self._loop.create_future())
        if not generation.tell(Leave()):
            self._loop.call_later(_AGAIN_S, self._send_away, generation)

    async def left(self, limit_s: float = _GOODBYE_S) -> None:
        """Waits until every process that was told to leave has left, or ended."""
        if self._leaving:
            await asyncio.wait(list(self._leaving.values()), timeout=limit_s)

    def retire(self, generation: Generation) -> None:
        """Ends a process, once it has left."""
        left = self._leaving.get(generation)
        if left is None:
            generation.close()
        else:
            left.add_done_callback(lambda _: generation.close())
            self._loop.call_later(_GOODBYE_S, generation.close)

    def _tallied(self, generation: Generation, told: Tallies, payload: memoryview) -> None:
        tally, outcomes = generation.tally, told.outcomes
        run = sum(count for code, count in outcomes.items() if code not in _NOT_RUN)
        generation.answered += run
        tally.runs += run
        tally.faults += told.own
        tally.nonfinite += told.nonfinite
        tally.cpu_s.extend(spent / 1e9 for spent in told.cpu_ns)
        version = generation.release.version
        served = Served(outcomes, told.durations, told.seconds, told.runs)
        self._observer.served(self._model, version, served)
        if told.heads:
            self._sampled(InputHead(len(payload), FAST), bytes(payload))
        if told.left:
            self._gone(generation)
            if generation is self._server:  # it was to serve again before it had left
                self._tell_server()

    def _gone(self, generation: Generation) -> None:
        """It serves nobody any more."""
        self._pages.pop(generation, None)
        generation.overtime.look_at(None)
        left = self._leaving.pop(generation, None)
        if left is not None and not left.done():
            left.set_result(None)

    # --- deaths -----------------------------------------------------------------------------------------

    def running(self, generation: Generation) -> bool:
        """Whether it runs, or was running when it ended, what clients of the socket have sent."""
        underway = self._pages.get(generation)
        return underway is not None and underway.started_s > 0

    def lost(self, generation: Generation) -> bool:
        """A process has ended. True when a poison input was found."""
        underway, found = self._pages.get(generation), False
        if underway is not None and underway.started_s:
            marks, digest = underway.marks, underway.digest
            if digest and marks:
                found = True
                self._found(marks[0], digest, generation)
                self._suspects.pop(marks[0], None)
            else:
                self._suspect(marks)
        self._gone(generation)
        if self._server is generation:
            self._server = None
        else:
            self._tell_server()  # its clients are about to send again what was under way
        return found

    def _suspect(self, marks: Sequence[int]) -> None:
        """Beside those of deaths before: one of them may be yet to come again. The oldest make room."""
        now_s = time.monotonic()
        for mark in marks:
            self._suspects.pop(mark, None)
            self._suspects[mark] = now_s
        for mark in list(self._suspects)[:-_MOST_SUSPECTS]:
            del self._suspects[mark]

    def _found(self, mark: int, digest: int, generation: Generation) -> None:
        log.error(
            "an input over its own socket ended the model's process twice",
            extra={**self._extra(generation), "code": "poison_input"},
        )
        self._poison_now()
        while len(self._poison) >= _MOST_POISON:
            del self._poison[next(iter(self._poison))]
        self._poison[mark, digest] = time.monotonic()

    def _poison_now(self) -> list[tuple[int, int]]:
        until_s = time.monotonic() - _REMEMBERED_S
        self._poison = {one: found_s for one, found_s in self._poison.items() if found_s > until_s}
        return list(self._poison)

    def _extra(self, generation: Generation) -> dict[str, str]:
        return {"model": self._model, "version": generation.release.version}


def _deadline_s(settings: Model) -> float:
    deadline = settings.queue.deadline
    return DEADLINE_S if deadline is None else float(deadline)
