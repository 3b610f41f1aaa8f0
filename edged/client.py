"""A client of edged's fast lane: numpy and the standard library alone, to use or to copy. docs/fast.md has the bytes.

with Client("/run/edged/fast.sock") as edged:
    answer = edged.infer("digits", {"x": scan})  # {"y": array}
"""

from __future__ import annotations

import array
import errno
import fcntl
import json
import mmap
import os
import select
import socket
import struct
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final, Self

import numpy as np

_MAGIC: Final = 0xED
_HEAD: Final = struct.Struct("<IBBBBQII")  # size, 0xED, kind, flags, length of the name, id, deadline in ms, 0
_INFER, _DESCRIBE, _RING, _RESULT, _DESCRIPTION, _ERROR = 0x01, 0x02, 0x03, 0x81, 0x82, 0xFF
_IN_RING, _RESENT = 0x01, 0x02
_DTYPES: Final = [
    np.dtype(f"<{kind}") for kind in ("?", "u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8")
]
_BYTES: Final = len(_DTYPES) + 1  # the number of strings; the others count from 1
_SLOTS: Final = 8  # pieces of the ring: half of each for a request, half for its result
_LARGE: Final = 16384  # bytes of a body that is worth the ring
_LATER: Final = ("stopping", "starting")  # errors of a daemon that will answer in a moment
_TIMES: Final = 4  # how often a request is sent: it may be the one that ends its connections
_WHERE: Final = "The fast lane's is sockets.fast of the configuration, which `edged check` shows; it is off by default."


class EdgedError(Exception):
    """An answer that is an error; `code` is one of docs/errors.md, `hint` says what to do."""

    def __init__(self, code: str, message: str, hint: str = "") -> None:
        super().__init__(f"{code}: {message}" + (f" ({hint})" if hint else ""))
        self.code, self.message, self.hint = code, message, hint


class _Sent:
    """A request without an answer: how often it was sent, and the slot of the ring that is its own, -1 for none."""

    def __init__(self, kind: int, model: str, body: list[Any], deadline_ms: int) -> None:
        self.kind, self.model, self.body, self.deadline_ms = kind, model, body, deadline_ms
        self.times, self.slot = 0, -1


class Client:
    """One connection, for one thread. `address`: a socket's path, or host:port.

    A request whose connection ended before its answer is sent again: a model has no memory, so that does no harm.
    `timeout_s` bounds one wait for an answer, and for a daemon that is away. `ring`: bytes of memory that it shares
    with edged, for tensors of 16 KiB and more over a UNIX socket.
    """

    def __init__(self, address: str, *, timeout_s: float = 30.0, ring: int = 0) -> None:
        self._address, self._timeout_s = address, timeout_s
        self._socket: socket.socket | None = None
        self._number = 0
        self._sent: dict[int, _Sent] = {}  # what has no answer yet
        self._answers: dict[int, Any] = {}
        self._local = "/" in address
        if not self._local and not address.rpartition(":")[2].isdecimal():
            raise ValueError(f"{address!r} is neither the path of a socket nor host:port")
        self._met = False  # whether it has ever answered with a frame
        self._half = ring // _SLOTS // 2 // mmap.PAGESIZE * mmap.PAGESIZE if self._local else 0
        self._free = list(range(_SLOTS)) if self._half else []
        if self._half:
            size = 2 * _SLOTS * self._half
            self._memfd = os.memfd_create("edged-client", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
            os.ftruncate(self._memfd, size)
            fcntl.fcntl(self._memfd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
            self._memory = memoryview(mmap.mmap(self._memfd, size))

    def infer(self, model: str, inputs: Mapping[str, Any], **options: Any) -> dict[str, Any]:
        """The outputs by name; `options` as in send. Raises EdgedError, and OSError when nobody answers in time."""
        found: dict[str, Any] = self._ask(self.send(model, inputs, **options))
        return found

    def describe(self, model: str) -> Any:
        """The model's inputs and outputs: name, datatype, shape (-1: any size)."""
        return self._ask(self._send(_Sent(_DESCRIBE, model, [], 0)))

    def send(
        self,
        model: str,
        inputs: Mapping[str, Any],
        *,
        outputs: Sequence[str] = (),
        deadline_ms: int = 0,
        steps: bool = False,
    ) -> int:
        """Sends a request and does not wait for its answer; the number that it returns is receive's."""
        return self._send(_Sent(_INFER, model, _packed(inputs, outputs, int(steps)), deadline_ms))

    def receive(self, number: int) -> Any:
        """Waits for the answer to one request; others that come meanwhile are kept for their own turn."""
        until_s = time.monotonic() + self._timeout_s
        while number not in self._answers:
            if number not in self._sent:
                raise KeyError(number)
            try:
                if self._socket is not None:
                    self._read(self._socket)
                else:
                    self._connect()
            except OSError as error:  # it is away: perhaps it comes back
                self._hang_up()
                if isinstance(error, TimeoutError) or time.monotonic() > until_s:
                    if error.errno is None:  # else a file's name would stand in the place of its words
                        error.errno, error.strerror = errno.ETIMEDOUT, str(error)
                    error.filename = self._address  # beside the reason, as of a file
                    raise
                time.sleep(0.02)
        answer = self._answers.pop(number)
        if isinstance(answer, EdgedError):
            raise answer
        return answer

    def close(self) -> None:
        """Ends the connection; what was not answered is forgotten."""
        self._hang_up()
        self._sent.clear()
        if self._half:
            os.close(self._memfd)
            self._half = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(self, number: int) -> Any:
        """The answer; who gives up waiting for it wants none any more, and the next connection is not to ask again."""
        try:
            return self.receive(number)
        finally:
            if number in self._sent:
                self._hang_up()
                self._answer(number, None)
                del self._answers[number]

    def _send(self, request: _Sent) -> int:
        self._number += 1
        self._sent[self._number] = request
        try:
            if self._socket is None:
                self._connect()
            else:
                self._write(self._socket, self._number)
        except OSError:
            self._hang_up()  # receive connects again
        return self._number

    def _connect(self) -> socket.socket:
        """Connects, and sends what has no answer."""
        if self._local:
            sock = self._socket = socket.socket(socket.AF_UNIX)
            sock.settimeout(self._timeout_s)
            sock.connect(self._address)
        else:
            host, _, port = self._address.rpartition(":")
            sock = self._socket = socket.create_connection((host.strip("[]"), int(port)), self._timeout_s)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._half:
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [self._memfd]))]
            sock.sendmsg([_HEAD.pack(0, _MAGIC, _RING, 0, 0, 0, 0, 0)], rights)
        for number in list(self._sent):
            if number in self._sent:  # else its answer came meanwhile
                self._write(sock, number)
        return sock

    def _write(self, sock: socket.socket, number: int) -> None:
        request = self._sent[number]
        if request.times == _TIMES and not self._met:
            self._no_lane(f"{self._address} ends every connection without a word")
            return
        if request.times == _TIMES:
            text = f"{_TIMES} connections have ended without an answer to it"
            self._answer(number, EdgedError("poison_input", text, "Keep the input: it may be what ends them."))
            return
        request.times += 1
        body, name, flags = request.body, request.model.encode(), _RESENT if request.times > 1 else 0
        size = sum(map(len, body))
        if _LARGE <= size <= self._half and (request.slot >= 0 or self._free):
            request.slot = request.slot if request.slot >= 0 else self._free.pop()
            at = start = 2 * request.slot * self._half
            for part in body:
                self._memory[at : at + len(part)] = part
                at += len(part)
            body = [struct.pack("<QQQQ", start, size, start + self._half, self._half)]
            flags, size = flags | _IN_RING, 32
        poll = select.poll()
        poll.register(sock, select.POLLIN | select.POLLOUT)
        head = _HEAD.pack(len(name) + size, _MAGIC, request.kind, flags, len(name), number, request.deadline_ms, 0)
        left = memoryview(b"".join((head, name, *body)))
        while left:  # edged reads no further from a client that does not take its answers
            if not (ready := poll.poll(self._timeout_s * 1000)):
                raise TimeoutError(errno.ETIMEDOUT, "takes nothing")
            if ready[0][1] & select.POLLOUT:
                left = left[sock.send(left) :]
            else:
                self._read(sock)

    def _read(self, sock: socket.socket) -> None:
        """Takes one frame."""
        head = _exactly(sock, _HEAD.size)
        size, magic, kind, flags, name, number, _, _ = _HEAD.unpack(head)
        if magic != _MAGIC:
            says = "speaks HTTP" if bytes(head[:5]) == b"HTTP/" else "does not speak as the fast lane does"
            self._no_lane(f"{self._address} {says}")
            return
        self._met = True
        body = _exactly(sock, size)[name:]
        if kind == _RESULT:
            if flags & _IN_RING:
                start, size = struct.unpack("<QQ", body)
                body = memoryview(bytes(self._memory[start : start + size]))
            self._answer(number, _unpacked(body))
        elif kind == _DESCRIPTION:
            self._answer(number, json.loads(bytes(body)))
        elif kind == _ERROR:
            error = EdgedError(**json.loads(bytes(body)))
            if number not in self._sent:  # it is about the connection, which ends
                self._hang_up()
                raise error
            if error.code in _LATER and self._sent[number].times < _TIMES:
                raise ConnectionError(error.message)  # it is sent again
            self._answer(number, error)

    def _no_lane(self, what: str) -> None:
        """Whoever listens there is somebody else, who answers none of the requests."""
        self._hang_up()
        for number in list(self._sent):
            self._answer(number, EdgedError("no_daemon", what, _WHERE))

    def _answer(self, number: int, answer: Any) -> None:
        request = self._sent.pop(number, None)
        if request is not None:
            self._answers[number] = answer
            if request.slot >= 0:
                self._free.append(request.slot)

    def _hang_up(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _exactly(sock: socket.socket, size: int) -> memoryview:
    view, got = memoryview(bytearray(size)), 0
    while got < size:
        read = sock.recv_into(view[got:])
        if not read:
            raise ConnectionError("edged has closed the connection")
        got += read
    return view


def _packed(inputs: Mapping[str, Any], outputs: Sequence[str], flags: int) -> list[Any]:
    """A request's body, in pieces."""
    said, data = b"", list[Any]()
    for name, value in inputs.items():
        tensor = np.asarray(value)
        if tensor.dtype.kind in "OSU":
            texts = [item.encode() if isinstance(item, str) else item for item in tensor.ravel().tolist()]
            if not all(isinstance(text, bytes) for text in texts):
                raise TypeError(f"{name} has elements that are neither str nor bytes")
            code, raw = _BYTES, memoryview(b"".join(struct.pack("<I", len(text)) + text for text in texts))
        else:
            dtype = tensor.dtype.newbyteorder("<")
            if dtype not in _DTYPES:
                raise TypeError(f"{name} is {dtype}, which no model takes")
            code, raw = _DTYPES.index(dtype) + 1, memoryview(tensor.astype(dtype, copy=False).tobytes())
        text = name.encode()
        said += struct.pack(f"<BBHI{tensor.ndim}I", code, tensor.ndim, len(text), len(raw), *tensor.shape) + text
        data.append(raw)
    for name in outputs:
        text = name.encode()
        said += struct.pack("<H", len(text)) + text
    pieces: list[Any] = [struct.pack("<BBHI", flags, len(outputs), len(inputs), len(said)) + said]
    at = len(pieces[0])
    for raw in data:
        gap = -at % 8
        pieces += (bytes(gap), raw)
        at += gap + len(raw)
    return pieces


def _unpacked(body: memoryview) -> dict[str, Any]:
    """A result's tensors; BYTES are strings."""
    _, _, count, length = struct.unpack_from("<BBHI", body)
    at, start, found = 8, 8 + length, dict[str, Any]()
    for _ in range(count):
        code, axes, named, size = struct.unpack_from("<BBHI", body, at)
        shape = struct.unpack_from(f"<{axes}I", body, at + 8)
        at += 8 + 4 * axes + named
        start += -start % 8
        data, name = body[start : start + size], str(body[at - named : at], "utf-8")
        start += size
        if code < _BYTES:
            found[name] = np.ndarray(shape, _DTYPES[code - 1], data)
            continue
        texts, where = np.empty(shape, object), 0
        for index in range(texts.size):
            end = where + 4 + int.from_bytes(data[where : where + 4], "little")
            texts.flat[index], where = str(data[where + 4 : end], "utf-8"), end
        found[name] = texts
    return found
