"""Files that outlive a power cut: space reserved, written under another name, fsynced, renamed, the folder fsynced.

Nothing here follows a symbolic link, or waits for a pipe's other end. Everything blocks. Raises OSError; `is_full`
tells which kind.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
from pathlib import Path
from typing import Final

BLOCK: Final = 2**20
# What a full disk, a quota and a file size limit say (posix_fallocate(3), setrlimit(2)).
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
# What open(2) says of a folder, a pipe that nobody reads, and a symbolic link.
_NO_FILE: Final = frozenset({errno.EISDIR, errno.ENXIO, errno.ELOOP})
# A file system that cannot reserve space: the write itself then says that it is full.
_CANNOT_RESERVE: Final = frozenset({errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS})


def is_full(error: OSError) -> bool:
    """Whether the disk, a quota or a size limit is what stands in the way."""
    return error.errno in _FULL


def reserve(descriptor: int, size: int) -> None:
    """Space for all of a file before its first byte; what the file has already stays as it is."""
    if not size:
        return
    try:
        os.posix_fallocate(descriptor, 0, size)
    except OSError as error:
        if error.errno not in _CANNOT_RESERVE:
            raise


def free(folder: Path) -> int:
    """Bytes that its file system has left for programs without special rights."""
    there = os.statvfs(folder)
    return there.f_bavail * there.f_frsize


def write(path: Path, content: bytes, mode: int = 0o640) -> Path:
    """A new, durable file under a name that nobody reads yet; nothing is left of it when that fails."""
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        try:
            reserve(descriptor, len(content))
            write_at(descriptor, content, 0)
            os.fchmod(descriptor, mode)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError:
        path.unlink(missing_ok=True)
        raise
    return path


def write_at(descriptor: int, content: bytes, offset: int) -> None:
    """All of `content` at `offset`: the kernel may take it piece by piece (pwrite(2))."""
    view = memoryview(content)
    while view:
        taken = os.pwrite(descriptor, view, offset)
        if not taken:
            raise OSError(errno.EIO, "nothing was written")
        view, offset = view[taken:], offset + taken


def read(path: Path, largest: int) -> bytes:
    """A small file's content. Raises ValueError for one above `largest`."""
    with os.fdopen(open_read(path), "rb") as file:
        try:
            content = file.read(largest + 1)
        except OSError as error:  # read(2) knows no name
            raise OSError(error.errno, error.strerror, str(path)) from error
    if len(content) > largest:
        raise ValueError(f"{path} is above {largest} bytes")
    return content


def open_read(path: Path) -> int:
    """A descriptor to read a file that is none of a symbolic link's doing."""
    return open_file(path, os.O_RDONLY)


def open_file(path: Path, flags: int, mode: int = 0o640) -> int:
    """A descriptor of a regular file. A link, a folder, a pipe or a device in its place is refused at once, by name."""
    try:
        descriptor = os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, mode)
    except OSError as error:
        if error.errno in _NO_FILE:
            raise OSError(error.errno, "is no file", str(path)) from error
        raise
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise OSError(errno.EINVAL, "is no file", str(path))


def hash_of(path: Path) -> str:
    """SHA-256 of a file, in hex; the one function that does follow links: a factory model may be one."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_of_open(descriptor: int) -> str:
    """SHA-256 of all that an open file holds, in hex."""
    digest, offset = hashlib.sha256(), 0
    while block := os.pread(descriptor, BLOCK, offset):
        digest.update(block)
        offset += len(block)
    return digest.hexdigest()


def sync_folder(folder: Path) -> None:
    """Makes the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_folder(folder: Path) -> None:
    """A folder of files, and them."""
    for entry in list(folder.iterdir()):
        entry.unlink(missing_ok=True)
    with contextlib.suppress(FileNotFoundError):
        folder.rmdir()
