"""A transport in memory, for a connection that is tested without a socket."""

from __future__ import annotations

from collections.abc import Iterable


class Pipe:
    """What was written, and whether it still reads."""

    def __init__(self) -> None:
        self.written = bytearray()
        self.reading = True
        self._closed = ""
        self.unsent = 0

    def write(self, data: bytes) -> None:
        assert not self._closed
        self.written += data

    def writelines(self, parts: Iterable[bytes]) -> None:
        self.write(b"".join(parts))

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def close(self) -> None:
        self._closed = self._closed or "closed"

    def abort(self) -> None:
        self._closed = "aborted"

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self._closed = "half"

    def end(self) -> str:
        """How it was closed, "" while it is open."""
        return self._closed

    def get_write_buffer_size(self) -> int:
        return self.unsent
