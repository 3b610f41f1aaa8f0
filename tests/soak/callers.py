"""Those who ask a box over sockets in the soak test: each in a thread, with its share of bad requests, and counted."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import random
import socket
import struct
import threading
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Self

import numpy as np

from edged import frames
from edged.client import Client, EdgedError
from tests.box import Box, UnixConnection
from tests.clients import oip
from tests.senders import scans

LARGE: Final = 60_000  # float32: 240 kB, which go through the rings
OVERLOADED: Final = ("queue_full", "deadline")  # answers too, of a box that has too much to do
_BAD_EVERY: Final = 10


class Work(threading.Thread):
    """Turns until it is told to leave, with a pause after each. What comes out of `counts`:

    sent = good + refused (as it ought to be) + overloaded, and nothing else.
    """

    def __init__(self, name: str, pause_s: float) -> None:
        super().__init__(name=name, daemon=True)
        self.pause_s = pause_s
        self.counts: Counter[str] = Counter()
        self.faults: list[str] = []
        self._leave = threading.Event()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._leave.set()
        self.join(60)
        if self.is_alive():
            self.faults.append(f"{self.name} hangs")

    def run(self) -> None:
        try:
            with contextlib.ExitStack() as stack:
                self.open(stack)
                while not self._leave.is_set():
                    self.turn()
                    self._leave.wait(self.pause_s)
        except Exception:  # noqa: BLE001 - told in the test's thread
            self.faults.append(f"{self.name}: {traceback.format_exc()}")

    def open(self, stack: contextlib.ExitStack) -> None:
        """What it needs for its turns."""

    def turn(self) -> None:
        raise NotImplementedError

    @property
    def unanswered(self) -> int:
        return self.counts["sent"] - sum(self.counts[what] for what in ("good", "refused", "overloaded"))

    def count(self, code: str, expected: str) -> None:
        """An answer's error code, "" for none."""
        if code == expected:
            self.counts["refused" if code else "good"] += 1
        elif code in OVERLOADED:
            self.counts["overloaded"] += 1
        else:
            self.counts["other"] += 1
            self.faults.append(f"{self.name}: answered {code or 'well'!r} where {expected or 'well'!r} was due")

    def is_bad(self) -> bool:
        return self.counts["sent"] % _BAD_EVERY == 0


class Http(Work):
    """JSON to digits, binary to linear and large, over one connection or a new one each time."""

    def __init__(self, box: Box, kind: str, pause_s: float, *, fresh: bool = False) -> None:
        super().__init__(f"HTTP {kind}{', a connection each' if fresh else ''}", pause_s)
        self._where = box.socket
        self._kind = kind
        self._fresh = fresh
        self._bad = itertools.cycle(_bad_requests())

    def open(self, stack: contextlib.ExitStack) -> None:
        self._client = stack.enter_context(oip.Client(self._where))

    def turn(self) -> None:
        if self._fresh:
            with oip.Client(self._where) as client:
                self._ask(client)
        else:
            self._ask(self._client)

    def _ask(self, client: oip.Client) -> None:
        self.counts["sent"] += 1
        if self.is_bad():
            model, body, headers, code = next(self._bad)
            reply = client.post(model, body, **headers)
            self.count(reply.json().get("code", "") if reply.status != 200 else "", code)
            return
        model, tensors, expected = _good(self._kind, self.counts["sent"])
        if self._kind == "json":
            listed = [_listed(name, tensor) for name, tensor in tensors.items()]
            reply = client.post(model, json.dumps({"inputs": listed}).encode(), "application/json")
        else:
            body, headers = oip.binary(tensors)
            reply = client.post(model, body, **headers)
        self.count(reply.json().get("code", "") if reply.status != 200 else "", "")
        if reply.status == 200 and expected is not None:
            _same(self, next(iter(reply.tensors().values())), expected)


class Fast(Work):
    """Frames, eight under way at a time, with edged's own client."""

    def __init__(self, path: str, kind: str, pause_s: float, *, ring: int = 0, name: str = "fast") -> None:
        super().__init__(f"{name} {kind}{', ring' if ring else ''}", pause_s)
        self._path = path
        self._kind = kind
        self._ring = ring

    def open(self, stack: contextlib.ExitStack) -> None:
        self._client = stack.enter_context(Client(self._path, ring=self._ring))

    def turn(self) -> None:
        under_way = []
        for _ in range(8):
            self.counts["sent"] += 1
            model, tensors, expected = _good(self._kind, self.counts["sent"])
            bad = self.is_bad()
            if bad:
                tensors, expected = {"nobody's": next(iter(tensors.values()))}, None
            under_way.append((self._client.send(model, tensors), "bad_input" if bad else "", expected))
        for number, code, expected in under_way:
            try:
                answer = self._client.receive(number)
            except EdgedError as error:
                self.count(error.code, code)
            else:
                self.count("", code)
                if expected is not None:
                    _same(self, next(iter(answer.values())), expected)


class Slow(Work):
    """Sends a large request in pieces, and takes the answer in pieces: it is owed one like everybody else."""

    def __init__(self, box: Box, fast: str, pause_s: float) -> None:
        super().__init__("slow clients", pause_s)
        body, headers = oip.binary({"x": np.zeros((1, LARGE), np.float32)})
        data = np.zeros((1, LARGE), np.float32).tobytes()
        begin, _ = frames.describe([("x", "FP32", (1, LARGE), len(data))])
        frame = frames.head(frames.INFER, 5 + len(begin + data), 1, name=5) + b"large" + begin + data
        http = (str(box.socket), _head(body, headers) + body, b"HTTP/1.1 200")
        self._ways = itertools.cycle((http, (fast, frame, b"")))

    def turn(self) -> None:
        where, request, begins = next(self._ways)
        self.counts["sent"] += 1
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(30)
            connection.connect(where)
            step = len(request) // 10 + 1
            for start in range(0, len(request), step):
                connection.sendall(request[start : start + step])
                self._leave.wait(0.02)
            answer = b""
            while len(answer) < 4 * LARGE:  # the tensor comes back, behind a head
                piece = connection.recv(32768)
                if not piece:
                    raise ConnectionError(f"{where}: it ended after {len(answer)} bytes: {answer[:200]!r}")
                answer += piece
                self._leave.wait(0.01)
        self.count("" if answer.startswith(begins) else answer[:100].decode(errors="replace"), "")


class Rude(Work):
    """Comes, and leaves in the middle of something, or takes no answer; never waits for one."""

    def __init__(self, box: Box, fast: list[str], pause_s: float) -> None:
        super().__init__("vanishing clients", pause_s)
        self._http = str(box.socket)
        self._fast = fast
        self._random = random.Random(1)  # noqa: S311 - which of them comes next
        self._deeds = itertools.cycle(_deeds())

    def turn(self) -> None:
        lane, said, times = next(self._deeds)
        where = self._random.choice(self._fast) if lane else self._http
        self.counts["came"] += 1
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(5)
            connection.connect(where)
            with contextlib.suppress(OSError):  # it may well be cut
                for _ in range(times):
                    connection.sendall(said)
                time.sleep(self._random.choice((0, 0, 0.01, 0.3)))


class Curious(Work):
    """Metadata, metrics, status, statistics: what dashboards ask for."""

    def __init__(self, box: Box, pause_s: float) -> None:
        super().__init__("dashboards", pause_s)
        self._where = box.socket
        paths = ("/metrics", "/edged/status", "/v2/models/digits", "/v2/models/stats", "/v2/health/ready")
        self._paths = itertools.cycle(paths)

    def turn(self) -> None:
        connection = UnixConnection(self._where)
        with contextlib.closing(connection):
            self.counts["sent"] += 1
            connection.request("GET", path := next(self._paths))
            response: http.client.HTTPResponse = connection.getresponse()
            response.read()
            if response.status == 200:
                self.counts["good"] += 1
            else:
                self.faults.append(f"{path}: status {response.status}")


def _good(kind: str, number: int) -> tuple[str, dict[str, Any], Any]:
    """(model, tensors, what comes back where that is known without running the model)"""
    if kind == "large":
        tensor = np.full((1, LARGE), number % 1000, np.float32)
        return "large", {"x": tensor}, tensor
    if kind == "linear":
        return "linear", {"x": np.full((1, 4), number % 7, np.float32)}, None
    pixels = np.array(scans()[number % len(scans())][1], np.float32).reshape(1, 1, 8, 8) / 16
    return "digits", {"image": pixels}, None


def _listed(name: str, tensor: Any) -> dict[str, Any]:
    return {"name": name, "shape": tensor.shape, "datatype": "FP32", "data": tensor.ravel().tolist()}


def _same(work: Work, found: Any, expected: Any) -> None:
    if not np.array_equal(found, expected):
        work.faults.append(f"{work.name}: the answer to {expected.flat[0]} begins with {found.flat[0]}")


def _bad_requests() -> Iterator[tuple[str, bytes, dict[str, str], str]]:
    """(model, body, headers, the code that is due)"""
    wrong, _ = oip.binary({"x": np.zeros((1, 5), np.float32)})
    good, headers = oip.binary({"x": np.zeros((1, 4), np.float32)})
    yield "linear", b'{"inputs": [', {"Content-Type": "application/json"}, "bad_input"
    yield "linear", wrong, oip.binary({"x": np.zeros((1, 5), np.float32)})[1], "bad_input"
    yield "linear", good[:-3], headers, "bad_input"
    yield "nobody", good, headers, "unknown_model"
    yield "linear", b"[" * 5000, {"Content-Type": "application/json"}, "bad_input"
    yield "digits", b'{"inputs": [{"name": "image", "shape": [1], "datatype": "FP32", "data": ["a"]}]}', {}, "bad_input"


def _deeds() -> Iterator[tuple[bool, bytes, int]]:
    """(on the fast lane, what is sent, how often)"""
    body, headers = oip.binary({"x": np.zeros((1, LARGE), np.float32)})
    head = _head(body, headers)
    data = np.zeros((1, 1, 8, 8), np.float32).tobytes()
    begin, _ = frames.describe([("image", "FP32", (1, 1, 8, 8), len(data))])
    frame = frames.head(frames.INFER, 6 + len(begin + data), 1, name=6) + b"digits" + begin + data
    yield False, head[:40], 1
    yield False, head + body[: len(body) // 2], 1
    yield False, head + body, 3  # and takes none of the answers
    yield False, b"\x16\x03\x01" + bytes(100), 1
    yield True, frame[:30], 1
    yield True, frame, 50
    yield True, struct.pack("<I", 2**31) + bytes(20), 1
    yield True, frames.head(frames.RING, 0, 0), 1  # a ring that is not there


def _head(body: bytes, headers: dict[str, str]) -> bytes:
    lines = ["POST /v2/models/large/infer HTTP/1.1", "Host: x", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode()


def direct_path(box: Box, model: str) -> str:
    return str(Path(box.model(model)["direct"]))
