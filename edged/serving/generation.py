"""A handle on one worker process: one version of a model, loaded, and what it has been asked to do."""

from __future__ import annotations

import asyncio
import collections
import logging
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, TypeVar

import msgspec

from edged import channel
from edged.channel import AnswerHead, Answers, Batch, Compare, Generate, Gild, InputHead, Open, Opened, Ready, Refused
from edged.door import Leave, Listen, Tallies
from edged.errors import EdgedError, Fault, fault
from edged.serving import claims
from edged.serving.overtime import Overtime
from edged.serving.release import Release, Tally
from edged.serving.rings import Rings
from edged.serving.starter import Ended, Starter, Worker
from edged.tensors import Compared
from edged.worker.providers.table import on_device

OPEN_LIMIT_S: Final = 120.0
FIRST_RUN_LIMIT_S: Final = 10.0  # of a model that nobody has measured yet
MEASURE_LIMIT_S: Final = 2.0  # of what a worker runs besides, to find out what batches gain

log = logging.getLogger("edged.serving")

T = TypeVar("T")


class Died(Exception):
    """The process ended before it answered."""


class Probe(msgspec.Struct, frozen=True):
    """What one input, run alone, gave: its fault (`own`: the model's), its cost, its answer as in AnswerHead."""

    fault: Fault | None
    own: bool
    nonfinite: bool
    cpu_s: float
    wall_s: float
    payload: bytes
    json_length: int = 0


Done = Callable[[Answers | None, memoryview], None]
Payloads = Sequence[bytes | memoryview]


class Flight(msgspec.Struct, frozen=True):
    """A message on its way. `done` gets its answers, or None when the process ended before them.

    `place`: where its payloads are; `room`: the slot of the worker's ring that its answer may use. A slot is free
    again when `done` has returned.
    """

    number: int
    sent_s: float
    inputs: int
    probe: bool
    done: Done
    place: int
    room: int


class Generation:
    """One worker process, from its first message to its end.

    `on_end` is called once, in the loop; its second argument says whether the process ended in a probe
    rather than in a batch, as far as the oldest unanswered message tells.
    """

    def __init__(self, worker: Worker, release: Release, tally: Tally, *, message_limit: int) -> None:
        self.release: Final = release
        self.tally: Final = tally
        self.facts: Ready | None = None
        self.reason: Fault | None = None
        self.low = False  # of low priority: it was started as a candidate
        self.on_end: Callable[[Generation, bool], None] | None = None
        self.flights: collections.deque[Flight] = collections.deque()
        self.answered = 0
        self.on_tallies: Callable[[Tallies, memoryview], None] | None = None  # once it serves clients itself
        self.overtime: Final = Overtime(FIRST_RUN_LIMIT_S, self._oldest_sent_s, self._overdue)
        self._worker = worker
        self._message_limit = message_limit
        self._loop = asyncio.get_running_loop()
        self._number = 0
        self._opened: asyncio.Future[Opened] = self._loop.create_future()
        self._ready: asyncio.Future[Ready] = self._loop.create_future()
        self._closed: asyncio.Future[None] = self._loop.create_future()
        self._on_writable: Callable[[], None] | None = None
        self._rings: Rings | None = None  # while it lives, from its first message on
        self._loop.add_reader(worker.sock.fileno(), self._read)

    @property
    def pid(self) -> int:
        return self._worker.pid

    @property
    def alive(self) -> bool:
        return not self._closed.done()

    @property
    def batch_max(self) -> int:
        return self.facts.batch_max if self.facts else 1

    async def load(self, opening: Open, *, run_limit_s: float | None) -> Ready:
        """Sends the first message and waits until the model has run.

        Raises EdgedError: what the worker said, too_slow past a limit, trial_crash when the process ended.
        """
        first_run_s = run_limit_s or FIRST_RUN_LIMIT_S
        if opening.providers != ("cpu",):
            first_run_s = max(first_run_s, FIRST_RUN_LIMIT_S)
        try:
            self._open(opening)
            await self._stage(self._opened, OPEN_LIMIT_S, "loading it")
            self.facts = await self._stage(self._ready, MEASURE_LIMIT_S + 3 * first_run_s, "its first runs")
        except BaseException as error:
            self.kill(error.fault if isinstance(error, EdgedError) else None)  # or its end would look like the kernel's
            raise
        least_s = FIRST_RUN_LIMIT_S if on_device(self.facts.providers) else 2.0  # each new shape is a first run there
        self.overtime.limit_s = run_limit_s or max(least_s, 20 * self.facts.run_s)
        return self.facts

    async def prepare(self, opening: Open) -> None:
        """Has the form of the model written that `opening.prepare` asks for; the process ends by it. Raises as load."""
        try:
            self._open(opening)
            await self._stage(self._opened, OPEN_LIMIT_S, "preparing it")
            await self._stage(self._closed, OPEN_LIMIT_S, "its end")
        except BaseException:
            self.kill()
            raise

    def _open(self, opening: Open) -> None:
        rings = Rings(self._message_limit)
        try:
            channel.send(self._worker.sock, opening, pass_on=rings.descriptors)
        except channel.ProtocolError as error:
            text = f"the steps of {self.release.model}, with their labels, are too long: {error}"
            raise EdgedError("bad_config", text) from error
        except (BrokenPipeError, ConnectionResetError):
            return  # the reader finds the end
        finally:
            rings.passed_on()
        self._rings = rings

    async def _stage(self, future: asyncio.Future[T], limit_s: float, what: str) -> T:
        try:
            return await asyncio.wait_for(asyncio.shield(future), limit_s)
        except TimeoutError as error:
            hint = None if future is self._ready else "Push a smaller model."  # limits.run has no part in loading
            raise EdgedError("too_slow", f"{what} took longer than {limit_s:g} s", hint) from error

    def submit(self, heads: Sequence[InputHead], payloads: Payloads, done: Done, *, probe: bool = False) -> bool:
        """Sends a batch; False when the channel is full just now (`when_writable` tells)."""
        rings = self._rings
        if rings is None:
            return False
        place, room = rings.place(sum(map(len, payloads)), len(heads)), rings.room()
        batch = Batch(self._number + 1, tuple(heads), place, room)
        return self._send(batch, payloads, rings) and self._fly(len(heads), done, place, room, probe=probe)

    def tell(self, message: Listen | Leave, pass_on: Sequence[int] = ()) -> bool:
        """Says what the worker is to do about the model's own socket; False when the channel is full just now."""
        try:
            channel.send(self._worker.sock, message, pass_on=pass_on)
        except BlockingIOError:
            return False
        except (BrokenPipeError, ConnectionResetError):
            pass  # the reader finds the end
        return True

    def when_writable(self, callback: Callable[[], None]) -> None:
        """Calls back once, when the channel takes messages again."""
        if self._on_writable is None and self.alive:
            self._on_writable = callback
            self._loop.add_writer(self._worker.sock.fileno(), self._writable)

    async def probe(self, head: InputHead, payload: bytes) -> Probe:
        """Runs one input alone, beside ordinary work. Raises Died when the process ended meanwhile."""
        sent_s = time.monotonic()
        answers, answer = await self._ask(lambda done: self.submit([head], [payload], done, probe=True))
        first = answers.heads[0]
        return Probe(
            fault=first.fault,
            own=first.own,
            nonfinite=first.nonfinite,
            cpu_s=answers.cpu_ns / 1e9,
            wall_s=time.monotonic() - sent_s,
            payload=answer,
            json_length=first.json_length,
        )

    async def run(self, heads: Sequence[InputHead], payloads: Sequence[bytes]) -> Answers:
        """Runs one batch beside ordinary work, and keeps no result. Raises Died when the process ended meanwhile."""
        answers, _ = await self._ask(lambda done: self.submit(heads, payloads, done))
        return answers

    async def generate(self, seed: int) -> tuple[bytes, int]:
        """One made-up input as an Open Inference Protocol binary request: (payload, length of its JSON).

        Raises Died when the process ended meanwhile, EdgedError input_too_large when it is above limits.message.
        """

        def ask(done: Done) -> bool:
            rings = self._rings
            if rings is None:
                return False
            room = rings.room()
            message = Generate(self._number + 1, seed, room)
            return self._send(message, (), rings) and self._fly(0, done, channel.INLINE, room, probe=True)

        head, payload = await self._answered(ask)
        return payload, head.json_length

    async def compare(self, asked: Compare | Gild) -> Compared:
        """Runs one case of a golden file, in their order from 0; or makes such a file. `asked.number` is not looked at.

        Raises Died when the process ended meanwhile, EdgedError golden for a file that does not fit, over_memory.
        """

        def ask(done: Done) -> bool:
            message = msgspec.structs.replace(asked, number=self._number + 1)
            rings = self._rings
            return (
                rings is not None
                and self._send(message, (), rings)
                and self._fly(0, done, channel.INLINE, channel.INLINE, probe=True)
            )

        _, payload = await self._answered(ask)
        try:
            return claims.compared(payload)
        except channel.ProtocolError as error:
            self.kill(fault("model_failed", f"its worker broke the protocol: {error}"))
            raise Died(self.release.version) from error

    def kill(self, reason: Fault | None = None) -> None:
        """SIGKILL; `reason` is what whoever asks is told. The end is noticed as any other."""
        if self.alive:
            self.reason = self.reason or reason
            self._worker.kill()

    def close(self) -> None:
        """Asks the worker to end by closing its channel."""
        if self.alive:
            self._end()

    async def ended(self, starter: Starter) -> Ended:
        """Waits for the end of the channel, then for that of the process, which is killed past a second."""
        await asyncio.shield(self._closed)
        return await starter.reap(self._worker, self.reason)

    # --- the channel --------------------------------------------------------------------------------

    async def _ask(self, submit: Callable[[Done], bool]) -> tuple[Answers, bytes]:
        """The answer to what `submit` sends, copied while its slot is not used again. Raises Died."""
        future: asyncio.Future[tuple[Answers, bytes]] = self._loop.create_future()

        def done(answers: Answers | None, payload: memoryview) -> None:
            if future.done():
                return
            if answers is None:
                future.set_exception(Died(self.release.version))
            else:
                future.set_result((answers, bytes(payload)))

        while not self.alive or not submit(done):
            if not self.alive:
                raise Died(self.release.version)
            await asyncio.sleep(0.01)
        return await future

    async def _answered(self, submit: Callable[[Done], bool]) -> tuple[AnswerHead, bytes]:
        """The one answer to what `submit` sends. Raises its fault, and Died."""
        answers, payload = await self._ask(submit)
        head = answers.heads[0]
        if head.fault is not None:
            raise EdgedError(head.fault.code, head.fault.message, head.fault.hint)
        return head, payload

    def _send(self, message: Batch | Generate | Compare | Gild, payloads: Payloads, rings: Rings) -> bool:
        """Sends what has its slots; they are free again when that fails."""
        sent = False
        try:
            channel.send(self._worker.sock, message, payloads, ring=rings.inputs)
            sent = True
        except (BlockingIOError, BrokenPipeError, ConnectionResetError):
            pass  # for a while, or for good: then the reader finds the end, after the answers sent before it
        finally:
            if not sent:
                rings.free(getattr(message, "place", channel.INLINE), getattr(message, "room", channel.INLINE))
        return sent

    def _fly(self, inputs: int, done: Done, place: int, room: int, *, probe: bool) -> bool:
        self._number += 1
        self.flights.append(Flight(self._number, time.monotonic(), inputs, probe, done, place, room))
        self.overtime.sent()
        return True

    def _oldest_sent_s(self) -> float | None:
        return self.flights[0].sent_s if self.flights else None

    def _overdue(self) -> None:
        log.error("a run took longer than %g s", self.overtime.limit_s, extra=self._fields("model_failed"))
        self.kill(fault("model_failed", f"the run took longer than {self.overtime.limit_s:g} s"))

    def _read(self) -> None:
        """One message: the loop calls again while there are more, which is cheaper than asking in vain."""
        ring = self._rings.results if self._rings is not None else None
        # Every result of a batch may be as large as one alone.
        limit = self._message_limit * (max(self.flights[0].inputs, 1) if self.flights else 1)
        try:
            message, payload = channel.receive(self._worker.sock, payload_limit=limit, ring=ring)
            claims.check(message)
            deliver = self._take(message, payload)
        except BlockingIOError:
            return
        except channel.Closed:
            self._end()
        except (channel.ProtocolError, OSError) as error:
            log.error("the worker broke the protocol: %s", error, extra=self._fields("model_failed"))
            self.kill(fault("model_failed", f"its worker broke the protocol: {error}"))
            self._end()
        else:
            deliver()  # what this raises is no doing of the worker's

    def _take(self, message: channel.Message, payload: memoryview) -> Callable[[], None]:
        """What is to be done with a message. Raises ProtocolError for one that must not come now."""
        if isinstance(message, Answers):
            flight = self.flights[0] if self.flights else None
            if flight is None or flight.number != message.number or len(message.heads) != max(flight.inputs, 1):
                raise channel.ProtocolError("an answer to nothing that was asked")
            if message.place not in (channel.INLINE, channel.MEMFD, flight.room):
                raise channel.ProtocolError("an answer in a slot that was not given for it")
            self.flights.popleft()
            self.overtime.answered()
            self.answered += flight.inputs
            return partial(self._land, flight, message, payload)
        if isinstance(message, Tallies) and self.on_tallies is not None:
            return partial(self.on_tallies, message, payload)
        if isinstance(message, Opened) and not self._opened.done():
            return partial(self._opened.set_result, message)
        if isinstance(message, Ready) and self._opened.done() and not self._ready.done():
            return partial(self._ready.set_result, message)
        if isinstance(message, Refused) and not self._ready.done():
            failure = EdgedError(message.fault.code, message.fault.message, message.fault.hint, where=message.where)
            return partial(self._fail_start, failure)
        raise channel.ProtocolError(f"an unexpected {type(message).__name__}")

    def _land(self, flight: Flight, answers: Answers, payload: memoryview) -> None:
        """Hands an answer on, which copies what it keeps, and only then lets its slots be used again."""
        try:
            flight.done(answers, payload)
        finally:
            if self._rings is not None:
                self._rings.free(flight.place, flight.room)

    def _fail_start(self, error: EdgedError) -> None:
        for future in (self._opened, self._ready):
            if not future.done():
                future.set_exception(error)
                future.exception()  # read, so that nobody is told twice

    def _end(self) -> None:
        """The channel has ended; whatever was not answered is handed back."""
        if not self.alive:
            return
        # First, so that nobody registers the socket again: libuv aborts over a closed descriptor.
        self._closed.set_result(None)
        self._loop.remove_reader(self._worker.sock.fileno())
        self._loop.remove_writer(self._worker.sock.fileno())
        channel.close(self._worker.sock)
        self._rings = None
        self.overtime.stop()
        why = self.reason or fault("trial_crash", "its process ended while it was loading")
        self._fail_start(EdgedError(why.code, why.message, why.hint))
        unanswered = list(self.flights)
        self.flights.clear()
        for flight in unanswered:
            flight.done(None, memoryview(b""))
        if self.on_end is not None:
            self.on_end(self, bool(unanswered) and unanswered[0].probe)

    def _writable(self) -> None:
        callback, self._on_writable = self._on_writable, None
        self._loop.remove_writer(self._worker.sock.fileno())
        if callback is not None:
            callback()

    def _fields(self, code: str) -> dict[str, str]:
        return {"model": self.release.model, "version": self.release.version, "code": code}
