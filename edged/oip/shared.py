"""Requests whose tensors lie in shared memory regions: brought into the body for the worker, and answers laid down.

A worker sees an ordinary request with raw tensors; what is in a region is read before it is offered and written when
its answer is there. How a request says where its tensors are is its transport's to know.
"""

from __future__ import annotations

import asyncio
import io
import logging
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final

import msgspec

from edged.errors import EdgedError, Fault, fault
from edged.messages import Answer, Outcome
from edged.oip.regions import Listed, Regions, Window

logger = logging.getLogger("edged.oip")

AT_ONCE: Final = 1024 * 1024  # bytes that are copied in the loop: some 100 us; more goes to a thread
ABOUT_REGIONS: Final = ("shared_memory_region", "shared_memory_offset", "shared_memory_byte_size")
NO_CUDA: Final = "edged reads no CUDA shared memory: register system shared memory"
_SIZE_HINT: Final = "It is the tensor's bytes, or for an output the room for it."
_HINT: Final = "Exactly one of the request itself and shared_memory_region says where a tensor is."


class Brought(msgspec.Struct, frozen=True, eq=False):
    """A request as the worker is to see it: `head` and `parts` are joined by `body`. `places`: where an output goes."""

    head: bytes
    parts: tuple[bytes | memoryview | Window, ...]
    places: dict[str, Window]
    size: int

    def body(self) -> bytes:
        """The whole body; what is in regions is read now. For a thread where `size` is large. Raises EdgedError."""
        parts = (self.head, *self.parts)
        sizes = [part.size if isinstance(part, Window) else len(part) for part in parts]
        buffer, at = io.BytesIO(bytes(sum(sizes))), 0  # which is filled in its place, and given out without a copy
        with buffer.getbuffer() as place:
            for part, size in zip(parts, sizes, strict=True):
                if isinstance(part, Window):
                    part.read_into(place[at : at + size])
                else:
                    place[at : at + size] = part
                at += size
        return buffer.getvalue()

    def close(self) -> None:
        """For the loop's thread, when the request has its outcome: regions that are forgotten may go now."""
        for window in (*self.parts, *self.places.values()):
            if isinstance(window, Window):
                window.close()


class Bringing:
    """One request while its transport walks through it, and fills `parts`.

    `size` is of the request itself: with what is in regions it may have `limit` bytes.
    """

    def __init__(self, regions: Regions, size: int, limit: int) -> None:
        self._regions = regions
        self._size = size
        self._limit = limit
        self.parts: list[bytes | memoryview | Window] = []
        self._places: dict[str, Window] = {}

    def input(self, region: str, offset: int, size: int | None, *, besides: bool) -> Window:
        """Where an input lies, for `parts`; `besides`: it has values in the request as well.

        Raises EdgedError `bad_input` for what is not there, `input_too_large` above the limit.
        """
        if besides:
            raise EdgedError("bad_input", "an input has shared_memory_region and values besides", _HINT)
        length = _length(size)
        self._size += length
        if self._size > self._limit:
            raise EdgedError(
                "input_too_large", f"the inputs in shared memory are above the limit of {self._limit} bytes"
            )
        return self._regions.window(region, offset, length, write=False)

    def output(self, name: object, region: str, offset: int, size: int | None) -> None:
        """An output that is to lie in a region. Raises EdgedError `bad_input`."""
        if not isinstance(name, str) or name in self._places:
            raise EdgedError("bad_input", "an output is asked for twice, or has no name")
        self._places[name] = self._regions.window(region, offset, _length(size), write=True)

    def brought(self, head: bytes) -> Brought:
        return Brought(head, tuple(self.parts), self._places, self._size)


def _length(size: int | None) -> int:
    if size is None:
        raise EdgedError("bad_input", "a tensor in shared memory has no shared_memory_byte_size", _SIZE_HINT)
    return size


Later = Callable[[Coroutine[Any, Any, None]], None]


def read(brought: Brought, queue: Callable[[bytes], None], later: Later) -> None:
    """Has `queue` called with the body: at once, or by `later`, which has a coroutine done. Raises EdgedError."""

    async def in_thread() -> None:
        try:
            body = await asyncio.to_thread(brought.body)
        except BaseException:
            brought.close()
            raise
        queue(body)

    if brought.size > AT_ONCE:
        later(in_thread())
        return
    try:
        body = brought.body()
    except BaseException:
        brought.close()
        raise
    queue(body)


def laying_down(
    brought: Brought,
    shortened: Callable[[Answer, Mapping[str, Window]], Answer],
    settle: Callable[[Outcome], None],
    later: Later,
) -> Callable[[Outcome], None]:
    """The `reply` of an input that was brought in: lays the outputs down in their regions, then settles.

    `shortened` writes the outputs that have a place there, and gives the answer without them. `later` has a coroutine
    done, for what takes longer. What a worker says is not believed: an answer that makes no sense is a fault.
    """

    def laid_down(outcome: Outcome) -> Outcome:
        try:
            return outcome if isinstance(outcome, Fault) else shortened(outcome, brought.places)
        except EdgedError as error:
            return error.fault
        except Exception:
            logger.exception("an answer could not be laid down in shared memory")
            return fault("internal", "edged failed to lay the answer down in shared memory")

    def reply(outcome: Outcome) -> None:
        if not brought.places:
            brought.close()
            settle(outcome)
        elif isinstance(outcome, Fault) or len(outcome.payload) <= AT_ONCE:
            settle(laid_down(outcome))
            brought.close()
        else:
            later(in_thread(outcome))

    async def in_thread(outcome: Outcome) -> None:
        try:
            settle(await asyncio.to_thread(laid_down, outcome))
        finally:
            brought.close()

    return reply


def manage(regions: Regions, kind: str, name: str, said: dict[str, Any], *, near: bool) -> list[Listed]:
    """What a client asks of the regions: `shared_status`, `shared_register` or `shared_unregister`.

    `near`: it is on this box. Raises EdgedError `forbidden`, and what `regions` raises.
    """
    if not near:
        raise EdgedError("forbidden", "shared memory is for clients on this box", "Send tensors in the request.")
    if kind == "shared_status":
        return regions.listed(name)
    if kind == "shared_unregister":
        regions.unregister(name)
    else:
        regions.take(name, said)
    return []
