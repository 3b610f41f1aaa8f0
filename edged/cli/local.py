"""The commands' way to the daemon on this box: finds its UNIX socket and speaks HTTP over it."""

from __future__ import annotations

import argparse
import http.client
import json
import os
import pwd
import socket
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Final
from urllib.parse import quote

import msgspec

from edged.config.mistakes import ConfigErrors
from edged.config.places import places
from edged.errors import CODES, EdgedError
from edged.frames import MAGIC

SERVICE_SOCKET: Final = Path("/run/edged/edged.sock")
_TIMEOUT_S: Final = 60.0  # above HTTP's default deadline of 10 s, so that the daemon's own error arrives first


class Reply(msgspec.Struct, frozen=True):
    """One HTTP answer; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> object:
        """The body as JSON; EdgedError `internal` when it is none."""
        try:
            return json.loads(self.body)
        except ValueError as error:
            raise EdgedError("internal", f"the daemon's answer is no JSON: {error}") from error


def arguments(parser: argparse.ArgumentParser) -> None:
    """What every command that talks to the daemon takes."""
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--socket", metavar="PATH", help="the daemon's UNIX socket (default: this user's, the service's)"
    )
    where.add_argument("--config", metavar="FILE", help="the configuration that names the daemon's socket")


def connect(args: argparse.Namespace, timeout_s: float = _TIMEOUT_S) -> Daemon:
    """The daemon that `--socket` or `--config` names, else the one this box's configuration or habit names.

    Raises ConfigErrors for a --config that names no socket; nobody is asked to mend this box's own one here.
    """
    if args.socket:
        return Daemon([Path(args.socket)], timeout_s)
    from edged.config.load import find, unix_socket

    if args.config:
        return Daemon([Path(unix_socket(args.config))], timeout_s)
    try:
        configured = [Path(unix_socket(find(None)))]
    except ConfigErrors:  # there is none, or only the service may read it
        configured = []
    return Daemon(dict.fromkeys([*configured, *sockets()]), timeout_s)


def sockets(environment: Mapping[str, str] = os.environ) -> tuple[Path, ...]:
    """Where a daemon may listen when nobody says: this user's own one first, then the service's."""
    own = places(environment).runtime / "edged.sock"
    return tuple(dict.fromkeys((own, SERVICE_SOCKET)))


class Daemon:
    """A daemon reached over the first of `candidates` that somebody listens on.

    Each request has a connection of its own: a UNIX socket's costs little, and a kept one may be closed
    by the daemon in the moment it is used again.
    """

    def __init__(self, candidates: Iterable[Path], timeout_s: float = _TIMEOUT_S) -> None:
        self._candidates = tuple(candidates)
        self._timeout_s = timeout_s

    def get(self, path: str) -> Reply:
        """Raises what `request` raises."""
        return self.request("GET", path)

    def post(self, path: str, body: object = None) -> Reply:
        """POSTs `body` as JSON; None sends an empty body. Raises what `request` raises."""
        payload = b"" if body is None else json.dumps(body).encode()
        return self.request(
            "POST",
            path,
            payload,
            {"Content-Type": "application/json"} if payload else {},
        )

    def request(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """One exchange.

        Raises EdgedError: `no_daemon` when nobody listens or it went away, `forbidden` when this user may
        not open the socket, and the daemon's own code for an answer of 400 and above.
        """
        with closing(_Connection(self._candidates, self._timeout_s)) as connection:
            try:
                with suppress(BrokenPipeError):  # refused before all was sent: the answer says why
                    connection.request(method, path, body or None, {"Connection": "close", **(headers or {})})
                answer = connection.getresponse()
                names = {name.lower(): value for name, value in answer.getheaders()}
                reply = Reply(answer.status, names, answer.read())
            except TimeoutError as error:
                raise EdgedError("no_daemon", f"the daemon did not answer within {self._timeout_s:g} s") from error
            except http.client.RemoteDisconnected as error:
                raise EdgedError("no_daemon", f"{connection.path} ended the connection without a word") from error
            except http.client.BadStatusLine as error:
                raise _no_http(connection.path, str(error)) from error
            except (http.client.HTTPException, OSError) as error:
                said = str(error) or type(error).__name__
                raise EdgedError("no_daemon", f"the daemon ended the connection: {said}") from error
        if reply.status >= 400:
            raise _error(reply)
        return reply


def segment(name: str) -> str:
    """`name` as one level of an address: nothing in it can become another path."""
    return quote(name, safe="")


class _Connection(http.client.HTTPConnection):
    def __init__(self, candidates: Sequence[Path], timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._candidates = candidates
        self.path = Path()  # the one that somebody listens on

    def connect(self) -> None:
        tried = []
        for path in self._candidates:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            sock.settimeout(self.timeout)
            try:
                sock.connect(os.fspath(path))
            except PermissionError as error:
                sock.close()
                raise EdgedError("forbidden", f"{path}: no access for {_user()}", _access_hint()) from error
            except OSError as error:
                sock.close()
                tried.append(f"{path}: {error.strerror or error}")
            else:
                self.sock, self.path = sock, path
                return
        raise EdgedError("no_daemon", f"no daemon answers ({'; '.join(tried)})")


def _no_http(path: Path, said: str) -> EdgedError:
    """Somebody else listens there, whose first line is `said`; bytes are letters of the same number."""
    what = "is the socket of the fast lane" if said[4:5] == chr(MAGIC) else "does not speak HTTP"
    beside = path.with_name(SERVICE_SOCKET.name)
    meant = f", such as {beside}" if beside.is_socket() else ""
    hint = f"Name the one of sockets.unix{meant}, or leave --socket out."
    return EdgedError("no_daemon", f"{path} {what}; commands speak HTTP", hint)


def _error(reply: Reply) -> EdgedError:
    """What the daemon said, with its own code; a code of a newer daemon is kept in the message."""
    try:
        said = json.loads(reply.body)
    except ValueError:
        said = None
    if not isinstance(said, dict):
        said = {"error": reply.body.decode(errors="replace").strip()[:500]}
    code, message = (
        str(said.get("code", "")),
        str(said.get("error") or f"the daemon answered {reply.status}"),
    )
    if code in CODES:
        hint = said.get("hint")
        return EdgedError(code, message, None if hint is None else str(hint))  # "": there is nothing to do
    return EdgedError("internal", f"{code or reply.status}: {message}", str(said.get("hint", "")))


def _user() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:  # a uid without an entry, in a container
        return f"uid {os.geteuid()}"


def _access_hint() -> str:
    return "Join its group and log in again: sudo usermod -aG edged $USER"
