"""The commands' HTTP over a UNIX socket, against a real one of the standard library."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import socket
import socketserver
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from edged.cli.local import Daemon, segment, sockets
from edged.errors import EdgedError, Fault


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path == "/html":
            return self._answer(502, b"<html>bad gateway</html>")
        if self.path == "/newer":
            return self._answer(409, json.dumps({"error": "pinned", "code": "pinned_v9"}).encode())
        return self._answer(200, json.dumps({"path": self.path}).encode())

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path == "/fails":
            self._answer(
                503,
                json.dumps({"error": "full", "code": "queue_full", "hint": "wait"}).encode(),
            )
        else:
            said = {"body": body.decode(), "type": self.headers.get("Content-Type")}
            self._answer(200, json.dumps(said).encode())

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self) -> str:
        return "unix"

    def log_message(self, *_: object) -> None:
        """Says nothing."""


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "s"
    with Server(str(path), Handler) as serving:
        thread = threading.Thread(target=serving.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield path
        serving.shutdown()
        thread.join()


def test_get_and_post(server: Path) -> None:
    daemon = Daemon([server])
    assert daemon.get("/a").json() == {"path": "/a"}
    said = cast("dict[str, str]", daemon.post("/b", {"x": 1}).json())
    assert (json.loads(said["body"]), said["type"]) == ({"x": 1}, "application/json")
    assert daemon.post("/b").json() == {"body": "", "type": None}


def test_the_daemons_own_error_arrives(server: Path) -> None:
    with pytest.raises(EdgedError) as caught:
        Daemon([server]).post("/fails", {})
    assert caught.value.fault == Fault("queue_full", "full", "wait")


def test_an_answer_that_is_no_json_or_has_an_unknown_code_is_still_told(server: Path) -> None:
    with pytest.raises(EdgedError, match="502: <html>bad gateway"):
        Daemon([server]).get("/html")
    with pytest.raises(EdgedError, match="pinned_v9: pinned"):
        Daemon([server]).get("/newer")


def test_a_daemon_that_goes_away_in_the_middle(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()

        def hang_up() -> None:
            connection, _ = listener.accept()
            connection.close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        with pytest.raises(EdgedError) as caught:
            Daemon([tmp_path / "s"]).get("/")
        thread.join()
    assert caught.value.fault.code == "no_daemon"


def test_a_daemon_that_says_nothing(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        with pytest.raises(EdgedError, match=r"within 0\.05 s"):
            Daemon([tmp_path / "s"], timeout_s=0.05).get("/")


def test_nobody_listens(tmp_path: Path) -> None:
    with pytest.raises(EdgedError) as caught:
        Daemon([tmp_path / "none", tmp_path / "neither"]).get("/")
    assert caught.value.fault.code == "no_daemon"
    assert "neither" in caught.value.fault.message


def test_the_second_candidate_is_tried(server: Path, tmp_path: Path) -> None:
    daemon = Daemon([tmp_path / "none", server])
    assert daemon.get("/x").status == 200


@contextlib.contextmanager
def an_ordinary_user() -> Iterator[None]:
    """root may open every socket, so root's test run becomes nobody for a moment."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_no_access_says_how_to_get_it(server: Path) -> None:
    server.chmod(0)
    with an_ordinary_user(), pytest.raises(EdgedError) as caught:
        Daemon([server]).get("/")
    assert caught.value.fault.code == "forbidden"
    assert "usermod -aG edged" in caught.value.fault.hint


def test_places_to_look_and_a_path_segment() -> None:
    found = sockets({"XDG_RUNTIME_DIR": "/run/user/7", "RUNTIME_DIRECTORY": ""})
    assert found[-1] == Path("/run/edged/edged.sock")
    assert segment("../a b") == "..%2Fa%20b"
