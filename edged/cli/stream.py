"""Standard input as inputs of a model, as they come and without an end: pictures of MJPEG, or lines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import BinaryIO, Final

from edged.cli import mjpeg
from edged.errors import EdgedError

PICTURE: Final = "image/jpeg"
LINE: Final = "application/json"
_CHUNK: Final = 65_536
_LONGEST: Final = 64 * 2**20


def inputs(source: BinaryIO) -> Iterator[tuple[bytes, str]]:
    """Each input with its content type, as soon as its end has come.

    Pictures one behind the other where the stream begins like one, or like a network camera's multipart answer; else a
    line each, of JSON or numbers; empty lines are none. Raises EdgedError bad_input for what has no end.
    """
    chunks = _chunks(source)
    start = b""
    while len(start) < len(mjpeg.START):
        chunk = next(chunks, b"")
        start += chunk
        if not chunk:
            break
    if start.startswith((mjpeg.START, mjpeg.BOUNDARY)):
        yield from ((picture, PICTURE) for picture in mjpeg.pictures(_behind(start, chunks)))
    else:
        yield from ((line, LINE) for line in _lines(_behind(start, chunks)))


def _chunks(source: BinaryIO) -> Iterator[bytes]:
    """What is there, without waiting for more; nothing is the end."""
    read = getattr(source, "read1", source.read)
    while chunk := read(_CHUNK):
        yield chunk


def _behind(start: bytes, chunks: Iterable[bytes]) -> Iterator[bytes]:
    yield start
    yield from chunks


def _lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    buffer = bytearray()
    for chunk in chunks:
        searched = len(buffer)
        buffer += chunk
        while (end := buffer.find(b"\n", searched)) >= 0:
            line = bytes(buffer[:end]).strip()
            del buffer[: end + 1]
            searched = 0
            if line:
                yield line
        if len(buffer) > _LONGEST:
            raise EdgedError("bad_input", f"a line of the stream does not end within {_LONGEST} bytes")
    if line := bytes(buffer).strip():
        yield line
