"""Sockets that edged listens on: opened with their rights, and taken away again. Every transport's."""

from __future__ import annotations

import contextlib
import errno
import grp
import ipaddress
import os
import socket
import stat
from pathlib import Path
from typing import Final

import msgspec

from edged.errors import EdgedError

GROUP: Final = "edged"
_BACKLOG: Final = 128
_PROBE_S: Final = 1.0
_PASSRIGHTS: Final = 83  # SO_PASSRIGHTS, since Linux 6.16; Python 3.11 has no name for it


class Bound(msgspec.Struct, frozen=True, eq=False):
    """A bound, listening socket. `address` is the path, or host:port; `inode` is the path's, 0 for TCP.

    `loopback`: nobody but this box reaches it.
    """

    socket: socket.socket
    address: str
    local: bool
    inode: int = 0
    loopback: bool = True

    def close(self) -> None:
        """Removes the socket's file and closes the socket."""
        self.remove()
        self.socket.close()

    def remove(self) -> None:
        """Takes the socket's file away, so that nobody new connects; never one that another daemon put there."""
        if self.local:
            with contextlib.suppress(OSError):
                if Path(self.address).stat().st_ino == self.inode:
                    Path(self.address).unlink()


def unix(path: Path, key: str = "sockets.unix", *, descriptors: bool = False) -> Bound:
    """A UNIX socket: 0660, group `edged` where there is one and we may; a file left behind is replaced.

    `key` is what the configuration calls it, `descriptors` whether its clients have any to hand over. Raises EdgedError
    `no_listener`.
    """
    group = _group()
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _make_folder(path.parent, group)
        _remove_stale(path, key)
        sock.bind(str(path))
        # Nobody can connect before listen(), so nobody sees the file with other rights than these.
        _give(path, group, 0o660)
        if not descriptors:
            _take_no_descriptors(sock)
        sock.listen(_BACKLOG)
        return Bound(sock, str(path), local=True, inode=path.stat().st_ino)
    except OSError as error:
        sock.close()
        reason = error.strerror or str(error)
        raise EdgedError(
            "no_listener",
            f"cannot open the socket {path}: {reason}",
            f"Check {key} and the rights of its folder.",
        ) from error
    except BaseException:
        sock.close()
        raise


def _take_no_descriptors(sock: socket.socket) -> None:
    """Has the kernel refuse whoever passes descriptors (EPERM); accepted sockets inherit it.

    A read that does not ask for them has the kernel close them, in the thread that reads: a TCP socket with SO_LINGER
    takes as long as its sender likes (4 s of 4 s measured on 6.18), and here it is the loop's. Before 6.16 nothing
    helps but the rights of the socket's file (docs/http-api.md).
    """
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, _PASSRIGHTS, 0)


def _make_folder(folder: Path, group: int | None) -> None:
    if not folder.is_dir():
        folder.mkdir(parents=True, mode=0o750)
        _give(folder, group, 0o750)


def _give(path: Path, group: int | None, mode: int) -> None:
    if group is not None:
        with contextlib.suppress(PermissionError):
            os.chown(path, -1, group)
    path.chmod(mode)


def _group() -> int | None:
    try:
        return grp.getgrnam(GROUP).gr_gid
    except KeyError:
        return None


def _remove_stale(path: Path, key: str) -> None:
    """Removes a socket file that nobody listens on; EdgedError when somebody does, or it is no socket."""
    try:
        kind = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(kind):
        raise EdgedError("no_listener", f"{path} is there and is no socket", f"Move it away, or change {key}.")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_PROBE_S)
        problem = probe.connect_ex(str(path))
    if problem != errno.ECONNREFUSED:  # a full backlog and a missing right are signs of life too
        raise EdgedError(
            "no_listener", f"somebody answers on {path}: another edged runs", "Stop it first: `systemctl stop edged`"
        )
    path.unlink()


def tcp(address: str, *, safe: bool) -> Bound:
    """A TCP socket from `host:port`, on loopback unless it is `safe` elsewhere; port 0 takes a free one.

    Raises EdgedError `no_listener`.
    """
    host, _, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)[0]
    except (OSError, ValueError) as error:
        raise EdgedError("no_listener", f"sockets: {address!r} is no host:port: {error}") from error
    here = ipaddress.ip_address(where[0]).is_loopback
    if not (safe or here):
        hint = "Use 127.0.0.1:port or [::1]:port, or give sockets.token_file and sockets.tls."
        raise EdgedError("no_listener", f"sockets: {address} is not loopback", hint)
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # accepted sockets inherit it
        sock.bind(where)
        sock.listen(_BACKLOG)
    except OSError as error:
        sock.close()
        raise EdgedError("no_listener", f"cannot listen on {address}: {error.strerror}") from error
    bound = sock.getsockname()
    host = f"[{bound[0]}]" if ":" in bound[0] else bound[0]
    return Bound(sock, f"{host}:{bound[1]}", local=False, loopback=here)
