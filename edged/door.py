"""What the daemon and a worker tell each other of the model's own socket, the direct lane: messages, and memory.

The daemon owns the socket and every counter; a worker serves the socket while it is told to. What must outlive a
worker's end stands in memory that both have mapped: since when it has been running, and which inputs.
"""

from __future__ import annotations

import fcntl
import mmap
import os
from array import array
from collections.abc import Sequence
from typing import Final

import msgspec

MOST: Final = 1024  # inputs of a batch, the largest batch.max
_STARTED, _ENDED, _COUNT, _ALONE, _FIRST = range(5)  # words of eight bytes
_SIZE: Final = -(-8 * (_FIRST + MOST) // mmap.PAGESIZE) * mmap.PAGESIZE
_FIXED: Final = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW


class Listen(msgspec.Struct, frozen=True, tag="listen"):
    """Serve clients on the listening socket that comes with this, and note in the memory that comes behind it.

    Without them: what holds from now on, for a worker that serves already.

    `deadline_s` is for requests that set none. `suspects` are the marks of inputs that were under way when a process
    of this model ended, each to be run alone; `poison` those of inputs that ended one alone, as (mark, digest).
    """

    deadline_s: float
    suspects: tuple[int, ...] = ()
    poison: tuple[tuple[int, int], ...] = ()


class Leave(msgspec.Struct, frozen=True, tag="leave"):
    """Another process serves the socket: accept and read no more, answer what has been read whole, and close."""


class Sampled(msgspec.Struct, frozen=True, array_like=True):
    """An input as a client sent it, of `size` bytes: the body of a frame of the fast lane."""

    size: int


class Tallies(msgspec.Struct, frozen=True, tag="tallies"):
    """What was answered on the socket since the last of these.

    `outcomes`: "ok" or an error's code, and how many. `durations`: of those that were ok, by the index of
    observe.buckets, and their sum in `seconds`. `own` faults are the model's, `nonfinite` answers had NaN or infinity.
    `cpu_ns`: the CPU time of some inputs. `runs`, by their rows: how many, and nanoseconds of wall time. `heads` and
    the payload: an input for a trial, or none; `place` as in channel.Batch. `left`: the last one after a Leave.
    """

    outcomes: dict[str, int]
    durations: dict[int, int]
    seconds: float = 0.0
    own: int = 0
    nonfinite: int = 0
    cpu_ns: tuple[int, ...] = ()
    runs: dict[int, tuple[int, int]] = {}
    heads: tuple[Sampled, ...] = ()
    place: int = -1
    left: bool = False


class Underway:
    """What a worker runs at this moment for clients of its socket: written by the worker, read by the daemon.

    Sealed, so that no worker can cut it under the daemon. A word is written at once, so none is read in half.
    """

    __slots__ = ("_words",)

    def __init__(self, memory: mmap.mmap) -> None:
        self._words = memoryview(memory).cast("Q")

    @classmethod
    def create(cls) -> tuple[Underway, int]:
        """The daemon's side, and a descriptor to pass on. Raises OSError when the box has none left."""
        descriptor = os.memfd_create("edged-underway", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(descriptor, _SIZE)
            fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _FIXED)
            return cls(mmap.mmap(descriptor, _SIZE, mmap.MAP_SHARED, mmap.PROT_READ)), descriptor
        except BaseException:
            os.close(descriptor)
            raise

    @classmethod
    def attach(cls, descriptor: int) -> Underway:
        """The worker's side; `descriptor` may be closed afterwards."""
        return cls(mmap.mmap(descriptor, _SIZE, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE))

    def begin(self, now_ns: int, marks: Sequence[int], *, digest: int = 0) -> None:
        """The worker runs these inputs from now on. `digest`, not 0: of one that is suspect, and runs alone."""
        words, count = self._words, len(marks)
        words[_FIRST : _FIRST + count] = memoryview(array("Q", marks))
        words[_ALONE] = digest
        words[_COUNT] = count
        words[_STARTED] = now_ns

    def end(self, now_ns: int) -> None:
        """It has run them."""
        words = self._words
        words[_STARTED] = 0
        words[_COUNT] = 0
        words[_ENDED] = now_ns

    @property
    def started_s(self) -> float:
        """When it began to run what it runs, in seconds of the monotonic clock; 0 while it runs nothing."""
        return self._words[_STARTED] / 1e9

    @property
    def ended_s(self) -> float:
        """When it last finished."""
        return self._words[_ENDED] / 1e9

    @property
    def marks(self) -> tuple[int, ...]:
        """The inputs that it runs."""
        count = min(self._words[_COUNT], MOST)
        return tuple(self._words[_FIRST : _FIRST + count])

    @property
    def digest(self) -> int:
        """Of the suspect that it runs alone; 0 for none."""
        return self._words[_ALONE]
