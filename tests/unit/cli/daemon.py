"""A double of the daemon's HTTP for the commands' tests: answers from a table, and keeps what it was asked."""

from __future__ import annotations

import contextlib
import http.server
import json
import socketserver
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple


class Asked(NamedTuple):
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Double(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """`answers` maps a path to what is sent: (status, body; bytes as they are, anything else as JSON)."""

    daemon_threads = True

    def __init__(self, path: Path) -> None:
        super().__init__(str(path), _Handler)
        self.path = path
        self.answers: dict[str, tuple[int, object]] = {}
        self.asked: list[Asked] = []


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Double

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.asked.append(Asked(self.command, self.path, {k.lower(): v for k, v in self.headers.items()}, body))
        status, document = self.server.answers.get(self.path, (404, {"error": "nothing", "code": "not_found"}))
        answer = document if isinstance(document, bytes) else json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def do_POST(self) -> None:
        self.do_GET()

    def address_string(self) -> str:
        return "unix"

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@contextlib.contextmanager
def double(folder: Path) -> Iterator[Double]:
    with Double(folder / "s") as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
