"""Clients of a fast socket for tests that need many at once, in one loop; edged/client.py is the one for users."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any

import numpy as np

from edged import frames
from edged.frames import Head

Answer = tuple[Head, bytes, bytes]  # head, name, body


def request(
    number: int, array: np.ndarray[Any, Any], *, name: str = "x", flags: int = 0, deadline_ms: int = 0
) -> bytes:
    """An infer frame with one tensor, without a model's name."""
    datatype = {"float32": "FP32", "int64": "INT64"}[str(array.dtype)]
    data = array.tobytes()
    begin, _ = frames.describe([(name, datatype, array.shape, len(data))])
    size = len(begin) + len(data)
    return frames.head(frames.INFER, size, number, flags=flags, deadline_ms=deadline_ms) + begin + data


def row(*values: float) -> np.ndarray[Any, Any]:
    return np.array([values], np.float32)


class Caller:
    """One connection."""

    def __init__(self, path: str) -> None:
        self.path = path

    async def connect(self) -> None:
        self.reader, self.writer = await asyncio.open_unix_connection(self.path)

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()

    def send(self, *parts: bytes) -> None:
        self.writer.writelines(parts)

    async def frame(self) -> Answer:
        """Raises IncompleteReadError at the end, or ConnectionResetError."""
        head = frames.read_head(await self.reader.readexactly(frames.HEAD.size))
        rest = await self.reader.readexactly(head.size)
        return head, rest[: head.name], rest[head.name :]

    async def ask(self, number: int, array: np.ndarray[Any, Any], name: str = "x") -> Answer:
        self.send(request(number, array, name=name))
        return await self.frame()


@contextlib.asynccontextmanager
async def calling(path: str) -> AsyncIterator[Caller]:
    """A connection that is closed at the end."""
    caller = Caller(path)
    await caller.connect()
    try:
        yield caller
    finally:
        await caller.close()


async def ask_all(
    path: str, arrays: Sequence[np.ndarray[Any, Any]], *, name: str = "x", depth: int = 4
) -> list[Answer]:
    """Every array once, `depth` under way at a time; what a connection that ends leaves unanswered is sent again.

    Returns the answers in the order in which they came.
    """
    answers: list[Answer] = []
    done: set[int] = set()
    tried: set[int] = set()
    while len(done) < len(arrays):
        async with calling(path) as caller:
            left = [number for number in range(len(arrays)) if number not in done]
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                for at in range(len(left) + depth):
                    if at < len(left):
                        number = left[at]
                        flags = frames.RESENT if number in tried else 0
                        tried.add(number)
                        caller.send(request(number, arrays[number], name=name, flags=flags))
                    if at >= depth:
                        answers.append(await caller.frame())
                        done.add(answers[-1][0].id)
    return answers
