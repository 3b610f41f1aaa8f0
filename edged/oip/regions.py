"""System shared memory: regions below /dev/shm that clients on this box have registered, for inputs and outputs.

Read and written by pread and pwrite, never mapped: a client may shorten its file at any moment, and a mapping would
then end the daemon by SIGBUS. A region stays open while a request uses it, whoever unregisters it meanwhile. For the
event loop's thread; `Window.read` and `write` may run in another.
"""

from __future__ import annotations

import io
import os
import stat
from pathlib import Path
from typing import Any, Final

import msgspec

from edged.errors import EdgedError

MOST: Final = 64  # regions; each holds a descriptor
LARGEST: Final = 2**34  # bytes of one
_NAME: Final = 128  # characters of a region's name
_KEY: Final = 255  # bytes of a file's name
_SHM: Final = "/dev/shm"  # noqa: S108  -  where shm_open(3) keeps them, not a temporary file of ours
_FLAGS: Final = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_KEY_HINT: Final = "The key is what shm_open takes: a name such as /input_data, the file of that name lies in /dev/shm."


class Listed(msgspec.Struct, frozen=True):
    """A region as Triton's status shows it. `offset` is where in the file it begins."""

    name: str
    key: str
    offset: int
    byte_size: int


class _Region:
    """An open file, closed when the registry and the last window have let go of it."""

    def __init__(self, listed: Listed, file: int, *, writable: bool) -> None:
        self.listed = listed
        self.file = file
        self.writable = writable
        self._users = 1

    def hold(self) -> None:
        self._users += 1

    def let_go(self) -> None:
        self._users -= 1
        if not self._users:
            os.close(self.file)

    @property
    def forsaken(self) -> bool:
        """Its file is in no folder any more: whoever made it is gone, or done with it."""
        return not os.fstat(self.file).st_nlink


class Window:
    """A part of a region that one tensor is in, or goes to. `close` it when the request has its answer."""

    def __init__(self, region: _Region, offset: int, size: int) -> None:
        region.hold()
        self._region = region
        self.offset = offset
        self.size = size

    @property
    def name(self) -> str:
        return self._region.listed.name

    def read(self) -> bytes:
        """All of it. Raises EdgedError `bad_input` where the file has become shorter."""
        buffer = io.BytesIO(bytes(self.size))  # gives out its bytes without a copy
        with buffer.getbuffer() as place:
            self.read_into(place)
        return buffer.getvalue()

    def read_into(self, place: memoryview) -> None:
        """The same, into `size` bytes of memory."""
        at, got = self._region.listed.offset + self.offset, 0
        while got < self.size:  # once, nearly always
            try:
                part = os.preadv(self._region.file, [place[got:]], at + got)
            except OSError as error:
                raise _unusable(self.name, error) from error
            if not part:
                raise _shorter(self.name)
            got += part

    def write(self, data: bytes | memoryview) -> None:
        """To its beginning. Raises EdgedError `output_too_large`, or `bad_input` for a file that cannot take it."""
        if len(data) > self.size:
            what = f"the output has {len(data)} bytes, its part of shared memory region {self.name!r} {self.size}"
            raise EdgedError("output_too_large", what, "Give it a larger shared_memory_byte_size.")
        view, at = memoryview(data), self._region.listed.offset + self.offset
        if os.fstat(self._region.file).st_size < at + len(data):  # else it would grow, at our cost
            raise _shorter(self.name)
        while view:
            try:
                done = os.pwrite(self._region.file, view, at)
            except OSError as error:
                raise _unusable(self.name, error) from error
            view, at = view[done:], at + done

    def close(self) -> None:
        self._region.let_go()


class Regions:
    """Every region that is registered, by name."""

    def __init__(self, folder: str = _SHM) -> None:
        self._folder = folder
        self._regions: dict[str, _Region] = {}

    def __len__(self) -> int:
        return len(self._regions)

    def register(self, name: str, key: str, offset: int, size: int) -> None:
        """Opens the file `key` and calls `size` bytes of it from `offset` on `name`.

        Raises EdgedError: `bad_input` for what cannot be, `not_found` where there is no such file, `forbidden` where
        edged's user may not read it, `queue_full` when there are too many.
        """
        if not 0 < len(name) <= _NAME:
            raise EdgedError("bad_input", f"a region's name has 1 to {_NAME} characters", "Give it another one.")
        if name in self._regions:
            raise EdgedError("bad_input", f"there is a shared memory region {name!r} already", "Unregister it first.")
        if not (offset >= 0 and 0 < size <= LARGEST):
            what = f"offset {offset} and byte_size {size} name no part of a file"
            raise EdgedError("bad_input", what, f"A region has 1 to {LARGEST} bytes.")
        self._make_room()
        file, writable = _open(self._folder, _file_name(key))
        found = os.fstat(file)
        if offset + size > found.st_size:
            os.close(file)
            what = f"{key[:_KEY]} has {found.st_size} bytes, the region would end at {offset + size}"
            raise EdgedError("bad_input", what, "Make the file as large as that before it is registered.")
        self._regions[name] = _Region(Listed(name, key, offset, size), file, writable=writable)

    def take(self, name: str, said: dict[str, Any]) -> None:
        """Registers what a client says in Triton's words: `key`, `offset` (0) and `byte_size`. Raises as `register`."""
        key, offset, size = said.get("key"), said.get("offset", 0), said.get("byte_size")
        numbers = all(isinstance(one, int) and not isinstance(one, bool) for one in (offset, size))
        if not isinstance(key, str) or not numbers:
            what = "a region has `key`, a text, and `offset` and `byte_size`, whole numbers"
            raise EdgedError("bad_input", what, '{"key": "/input_data", "offset": 0, "byte_size": 4096}')
        self.register(name, key, offset, size or 0)

    def unregister(self, name: str = "") -> None:
        """Forgets a region, or all of them; one that is not there is none the less (as with Triton)."""
        for one in [name] if name else list(self._regions):
            region = self._regions.pop(one, None)
            if region is not None:
                region.let_go()

    def listed(self, name: str = "") -> list[Listed]:
        """The region of that name, or all. Raises EdgedError `not_found`."""
        if name and name not in self._regions:
            raise EdgedError("not_found", f"there is no shared memory region {name[:_NAME]!r}", "Register it first.")
        return [region.listed for region in self._regions.values() if not name or region.listed.name == name]

    def window(self, name: str, offset: int, size: int, *, write: bool) -> Window:
        """A part of a region, which the caller closes. Raises EdgedError `bad_input` for what is not there."""
        region = self._regions.get(name)
        if region is None:
            what = f"there is no shared memory region {name[:_NAME]!r}"
            raise EdgedError("bad_input", what, "Register it first, over HTTP or gRPC, or correct its name.")
        if not (offset >= 0 and size >= 0 and offset + size <= region.listed.byte_size):
            what = f"shared memory region {name!r} has {region.listed.byte_size} bytes"
            text = f"{what}, the tensor would be at {offset} to {offset + size}"
            raise EdgedError("bad_input", text, "Register a larger one, or correct offset and size.")
        if write and not region.writable:
            what = f"edged may not write the file of shared memory region {name!r}"
            raise EdgedError("bad_input", what, "Give edged's user the right to: chmod, or the group edged.")
        return Window(region, offset, size)

    def _make_room(self) -> None:
        if len(self._regions) >= MOST:
            for name in [name for name, region in self._regions.items() if region.forsaken]:
                self.unregister(name)
        if len(self._regions) >= MOST:
            what = f"{MOST} shared memory regions are registered already"
            raise EdgedError("queue_full", what, "Unregister those that are not used.")


def _file_name(key: str) -> str:
    """What shm_open(3) makes of a key. Raises EdgedError `bad_input` for one that is no plain name."""
    name = key.removeprefix("/")
    plain = name not in ("", ".", "..") and "/" not in name and "\0" not in name
    if not plain or len(name.encode("utf-8", "surrogatepass")) > _KEY:
        raise EdgedError("bad_input", f"{key[:_KEY]!r} is no key of shared memory", _KEY_HINT)
    return name


def _open(folder: str, name: str) -> tuple[int, bool]:
    """The file's descriptor, and whether it may be written. Raises EdgedError."""
    path = str(Path(folder) / name)
    try:
        try:
            file, writable = os.open(path, os.O_RDWR | _FLAGS), True
        except PermissionError:
            file, writable = os.open(path, os.O_RDONLY | _FLAGS), False
    except FileNotFoundError as error:
        raise EdgedError("not_found", f"there is no shared memory {name!r} on this box", _KEY_HINT) from error
    except PermissionError as error:
        what = f"edged's user may not open the shared memory {name!r}"
        raise EdgedError("forbidden", what, "Give it the right to: chmod, or the group edged.") from error
    except (OSError, ValueError) as error:
        raise EdgedError("bad_input", f"the shared memory {name!r} cannot be opened: {error}", _KEY_HINT) from error
    found = os.fstat(file)
    if not stat.S_ISREG(found.st_mode):
        os.close(file)
        raise EdgedError("bad_input", f"{name!r} is no shared memory", _KEY_HINT)
    if not os.geteuid() and found.st_uid and not found.st_mode & 0o004:
        os.close(file)  # root may read everything, and whoever asks perhaps not
        raise EdgedError(
            "forbidden", f"the shared memory {name!r} is somebody else's", "chmod o+rw, or run edged as its owner."
        )
    mine = os.geteuid() or not found.st_uid  # else what holds for reading holds for writing
    return file, writable and bool(mine or found.st_mode & 0o002)


def _shorter(name: str) -> EdgedError:
    what = f"the file of shared memory region {name!r} is shorter than when it was registered"
    return EdgedError("bad_input", what, "Leave it as large as it is until the region is unregistered.")


def _unusable(name: str, error: OSError) -> EdgedError:
    return EdgedError(
        "bad_input", f"shared memory region {name!r} cannot be used: {error.strerror}", "Is /dev/shm full?"
    )
