"""The commands' HTTP over a UNIX socket, against a real one of the standard library."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from edged import cli, frames
from edged.cli.local import Daemon, segment, sockets
from edged.config.load import unix_socket
from edged.config.mistakes import ConfigErrors
from edged.errors import EdgedError, Fault, fault
from tests.unit.cli.daemon import Double, double


@pytest.fixture
def server(short_path: Path) -> Iterator[Double]:
    with double(short_path) as serving:
        yield serving


def test_get_and_post(server: Double) -> None:
    daemon = Daemon([server.path])
    server.answers["/a"] = 200, {"a": 1}
    assert daemon.get("/a").json() == {"a": 1}
    daemon.post("/a", {"x": 1})
    daemon.post("/a")
    bodies = [(one.method, one.body, one.headers.get("content-type")) for one in server.asked]
    assert bodies == [("GET", b"", None), ("POST", b'{"x": 1}', "application/json"), ("POST", b"", None)]


def test_a_command_that_only_looks_for_the_socket_reads_no_more_of_a_configuration(
    server: Double, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An ordinary user may not read the secrets that it names, and has not the environment of the service."""
    file = tmp_path / "edged.yaml"
    socket_ = f"{server.path.parent}/${{NAME}}"
    file.write_text(
        f'mqtt: {{url: x, password: "${{SECRET}}"}}\nsockets: {{unix: "{socket_}", admin_token_file: none}}\n'
    )
    assert unix_socket(file, {"NAME": server.path.name}) == str(server.path)
    with pytest.raises(ConfigErrors, match="the environment has no NAME"):
        unix_socket(file, {})
    file.write_text(file.read_text().replace(socket_, str(server.path)))
    server.answers["/edged/models/digits/unpin"] = 200, {}
    assert cli.main(["unpin", "digits", "--config", str(file)]) == 0, capsys.readouterr().err
    assert cli.main(["unpin", "digits", "--config", str(tmp_path / "none.yaml")]) == 2
    assert "none.yaml: does not exist" in capsys.readouterr().err
    file.write_text("device: box\n")
    assert unix_socket(file, {"RUNTIME_DIRECTORY": "/run/here"}) == "/run/here/edged.sock"


def test_the_daemons_own_error_arrives(server: Double) -> None:
    server.answers["/a"] = 503, {"error": "full", "code": "queue_full", "hint": "wait"}
    with pytest.raises(EdgedError) as caught:
        Daemon([server.path]).post("/a", {})
    assert caught.value.fault == Fault("queue_full", "full", "wait")


def test_an_answer_that_is_no_json_or_has_an_unknown_code_is_still_told(server: Double) -> None:
    server.answers["/html"] = 502, b"<html>bad gateway</html>"
    server.answers["/newer"] = 409, {"error": "pinned", "code": "pinned_v9"}
    server.answers["/text"] = 200, b"hello"
    with pytest.raises(EdgedError, match="502: <html>bad gateway"):
        Daemon([server.path]).get("/html")
    with pytest.raises(EdgedError, match="pinned_v9: pinned"):
        Daemon([server.path]).get("/newer")
    with pytest.raises(EdgedError, match="no JSON"):
        Daemon([server.path]).get("/text").json()


def test_a_daemon_that_goes_away_in_the_middle(short_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(short_path / "s"))
        listener.listen()

        def hang_up() -> None:
            connection, _ = listener.accept()
            connection.close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        with pytest.raises(EdgedError) as caught:
            Daemon([short_path / "s"]).get("/")
        thread.join()
    assert caught.value.fault.code == "no_daemon"


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (frames.error(0, fault("bad_input", "no frame")), "is the socket of the fast lane"),
        (b"\0\0\x12\4\0\0", "does not speak HTTP"),
        (b"", "ended the connection without a word"),
    ],
)
def test_a_socket_that_is_not_the_one_of_http(short_path: Path, said: bytes, words: str) -> None:
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as right:
        right.bind(str(short_path / "edged.sock"))
        listener.bind(str(short_path / "s"))
        listener.listen()

        def answer() -> None:
            connection, _ = listener.accept()
            connection.recv(1000)
            connection.send(said)
            connection.close()

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(EdgedError, match=f"no_daemon: {short_path}/s {words}") as caught:
            Daemon([short_path / "s"]).get("/")
        thread.join()
    assert (f"such as {short_path}/edged.sock" in caught.value.fault.hint) == bool(said)


def test_an_answer_that_comes_before_the_body_was_taken(short_path: Path) -> None:
    """A daemon that refuses at the header and closes: the refusal counts, not that the rest could not be sent."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(short_path / "s"))
        listener.listen()

        def refuse() -> None:
            connection, _ = listener.accept()
            connection.recv(16)
            answer = b'{"code": "unknown_model", "error": "no such model"}'
            connection.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: %d\r\n\r\n%s" % (len(answer), answer))
            connection.close()

        thread = threading.Thread(target=refuse)
        thread.start()
        with pytest.raises(EdgedError) as caught:
            Daemon([short_path / "s"]).request("POST", "/", bytes(1_000_000))
        thread.join()
    assert caught.value.fault.code == "unknown_model"


def test_a_daemon_that_says_nothing(short_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(short_path / "s"))
        listener.listen()
        with pytest.raises(EdgedError, match=r"within 0\.05 s"):
            Daemon([short_path / "s"], timeout_s=0.05).get("/")


def test_nobody_listens(tmp_path: Path) -> None:
    with pytest.raises(EdgedError) as caught:
        Daemon([tmp_path / "none", tmp_path / "neither"]).get("/")
    assert caught.value.fault.code == "no_daemon"
    assert "neither" in caught.value.fault.message


def test_the_second_candidate_is_tried(server: Double, tmp_path: Path) -> None:
    server.answers["/x"] = 200, {}
    assert Daemon([tmp_path / "none", server.path]).get("/x").status == 200


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


def test_no_access_says_how_to_get_it(server: Double) -> None:
    server.path.chmod(0)
    with an_ordinary_user(), pytest.raises(EdgedError) as caught:
        Daemon([server.path]).get("/")
    assert caught.value.fault.code == "forbidden"
    assert "usermod -aG edged" in caught.value.fault.hint


def test_places_to_look_and_a_path_segment() -> None:
    found = sockets({"XDG_RUNTIME_DIR": "/run/user/7", "RUNTIME_DIRECTORY": ""})
    assert found[-1] == Path("/run/edged/edged.sock")
    assert segment("../a b") == "..%2Fa%20b"


def test_where_a_command_looks(
    server: Double, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    server.answers["/edged/status"] = 200, {"here": True}
    written = f"device: x\nsockets:\n  unix: {server.path}\n"
    (tmp_path / "named.yaml").write_text(written)
    assert cli.main(["status", "--json", "--config", str(tmp_path / "named.yaml")]) == 0
    (tmp_path / "edged").mkdir()
    (tmp_path / "edged" / "edged.yaml").write_text(written)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    for name in ("XDG_CONFIG_HOME", "XDG_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(tmp_path))
    assert cli.main(["status", "--json"]) == 0
    (tmp_path / "edged" / "edged.yaml").write_text("sockets: {unix: nonsense}\n")
    assert cli.main(["status", "--json"]) == 1
    assert f"no daemon answers ({tmp_path}/edged/edged.sock" in capsys.readouterr().err
    assert cli.main(["status", "--config", str(tmp_path / "edged" / "edged.yaml")]) == 2
