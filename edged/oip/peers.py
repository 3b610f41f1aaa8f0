"""Who is at the other end of a UNIX connection, and what they may do (RULES 22)."""

from __future__ import annotations

import grp
import os
import socket
import struct
from typing import Any, Final

import msgspec

from edged.errors import EdgedError

ADMIN_GROUP: Final = "edged-admin"
_PEERCRED: Final = struct.Struct("iII")  # struct ucred of unix(7)
_PEERGROUPS: Final = getattr(socket, "SO_PEERGROUPS", 59)  # Linux 4.13; without a name in Python 3.11
_GROUPS_BYTES: Final = 1024  # the most that Python asks for: 256 groups


class Peer(msgspec.Struct, frozen=True):
    """A process, its user and its groups, in the kernel's word, as they were when it connected."""

    pid: int
    uid: int
    gid: int
    groups: frozenset[int]


def peer_of(sock: Any) -> Peer:
    """The credentials of a connected UNIX socket's other end (a socket, or uvloop's stand-in for one)."""
    pid, uid, gid = _PEERCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEERCRED.size))
    try:
        groups = sock.getsockopt(socket.SOL_SOCKET, _PEERGROUPS, _GROUPS_BYTES)
    except OSError:
        groups = b""  # an old kernel, or more groups than fit: its own user and group still count
    return Peer(pid, uid, gid, frozenset(struct.unpack(f"{len(groups) // 4}I", groups)))


def check_control(peer: Peer | None) -> str:
    """Who it is, for the audit, where it is root, the daemon's own user or a member of edged-admin.

    Raises EdgedError `forbidden` else, and for None, a TCP client: there is no telling who it is.
    """
    if peer is None:
        hint = "Use the UNIX socket, as edged's own commands do, or set sockets.admin_token_file and bring that token."
        raise EdgedError("forbidden", "control over TCP takes an admin token, and there is none here", hint)
    if peer.uid not in (0, os.geteuid()) and not _is_admin(peer):
        raise EdgedError(
            "forbidden", f"user {peer.uid} may not control edged", f"`usermod -aG {ADMIN_GROUP} $USER`, or be root."
        )
    # No name: to look it up may ask a server on the network. No process: its number is soon another's.
    return f"uid {peer.uid}"


def _is_admin(peer: Peer) -> bool:
    try:
        admin = grp.getgrnam(ADMIN_GROUP).gr_gid
    except KeyError:
        return False
    return admin == peer.gid or admin in peer.groups
