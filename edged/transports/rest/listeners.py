"""The sockets that HTTP is served on: bound here, with their rights, and taken away again."""

from __future__ import annotations

import contextlib
import errno
import grp
import ipaddress
import os
import socket
import ssl
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from edged.config.certificates import server_context
from edged.config.schema import Sockets
from edged.errors import EdgedError
from edged.transports.rest.rights import Rights

GROUP: Final = "edged"
_BACKLOG: Final = 128
_PROBE_S: Final = 1.0


class Listener(msgspec.Struct, frozen=True, eq=False):
    """A bound, listening socket. `address` is the path, or host:port; `inode` is the path's, 0 for TCP."""

    socket: socket.socket
    address: str
    local: bool
    inode: int = 0
    rights: Rights = Rights()
    tls: ssl.SSLContext | None = None

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


def bind(sockets: Sockets) -> list[Listener]:
    """Opens every socket of the configuration, or none: EdgedError `no_listener` says which and why."""
    listeners: list[Listener] = []
    try:
        listeners.extend(_each(sockets))
    except BaseException:
        for listener in listeners:
            listener.close()
        raise
    return listeners


def _each(sockets: Sockets) -> Iterator[Listener]:
    """TLS and the token hold for every TCP address of `http`; whoever may open a UNIX socket has shown who it is."""
    tls = _tls(sockets)
    metrics = Rights(metrics_only=True)
    for address in ([f"unix:{sockets.unix}"] if sockets.unix else []) + list(sockets.http):
        if address.startswith("unix:"):
            rights = Rights(admin_token=sockets.admin_token)
            yield _unix(Path(address.removeprefix("unix:")), rights)
        else:
            yield _tcp(address, Rights(sockets.token, sockets.admin_token), tls, safe=bool(tls and sockets.token))
    for address in sockets.metrics:
        if address.startswith("unix:"):
            yield _unix(Path(address.removeprefix("unix:")), metrics)
        else:
            yield _tcp(address, metrics, tls, safe=tls is not None)


def _tls(sockets: Sockets) -> ssl.SSLContext | None:
    if not sockets.tls.cert:
        return None
    try:
        return server_context(sockets.tls.cert, sockets.tls.key, sockets.tls.client_ca)
    except ValueError as error:  # it was right when the configuration was read
        raise EdgedError("no_listener", f"sockets.tls: {error}", "`edged check` says more.") from error


def _unix(path: Path, rights: Rights) -> Listener:
    """The UNIX socket: 0660, group `edged` where there is one and we may; a file left behind is replaced."""
    group = _group()
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _make_folder(path.parent, group)
        _remove_stale(path)
        sock.bind(str(path))
        # Nobody can connect before listen(), so nobody sees the file with other rights than these.
        _give(path, group, 0o660)
        sock.listen(_BACKLOG)
        return Listener(sock, str(path), local=True, inode=path.stat().st_ino, rights=rights)
    except OSError as error:
        sock.close()
        reason = error.strerror or str(error)
        raise EdgedError(
            "no_listener",
            f"cannot open the socket {path}: {reason}",
            "Check sockets.unix and the rights of its folder.",
        ) from error
    except BaseException:
        sock.close()
        raise


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


def _remove_stale(path: Path) -> None:
    """Removes a socket file that nobody listens on; EdgedError when somebody does, or it is no socket."""
    try:
        kind = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(kind):
        raise EdgedError("no_listener", f"{path} is there and is no socket", "Move it away, or change sockets.unix.")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_PROBE_S)
        problem = probe.connect_ex(str(path))
    if problem != errno.ECONNREFUSED:  # a full backlog and a missing right are signs of life too
        raise EdgedError(
            "no_listener", f"somebody answers on {path}: another edged runs", "Stop it first: `systemctl stop edged`"
        )
    path.unlink()


def _tcp(address: str, rights: Rights, tls: ssl.SSLContext | None, *, safe: bool) -> Listener:
    """A TCP socket from `host:port`, on loopback unless it is `safe` elsewhere; port 0 takes a free one.

    Metrics for this box alone go without TLS, whatever others need: there is nothing in them to protect from it.
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
    plain = here and rights.metrics_only
    return Listener(sock, f"{host}:{bound[1]}", local=False, rights=rights, tls=None if plain else tls)
