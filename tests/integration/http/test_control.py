"""Who may roll a model back (RULES 22)."""

from __future__ import annotations

import grp
import http.client
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from edged.delivery.documents import CHUNK_MAX
from edged.delivery.strict import LARGEST
from edged.errors import EdgedError
from edged.oip import peers
from edged.oip.peers import Peer
from edged.transports.rest.limits import Limits
from tests.integration.http.conftest import QUICK
from tests.integration.http.double import Served

AS_ANOTHER = """
import json, os, socket, sys
path, uid, groups = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3])
os.setgroups(groups)
os.setgid(uid)
os.setuid(uid)
client = socket.socket(socket.AF_UNIX)
client.connect(path)
client.sendall(b"POST /edged/models/echo/rollback HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n")
print(b"".join(iter(lambda: client.recv(65536), b"")).decode())
"""


def as_another(served: Served, uid: int, groups: list[int]) -> tuple[int, dict[str, str]]:
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    Path(served.path).chmod(0o666)
    Path(served.path).parent.chmod(0o755)
    Path(served.path).parent.parent.chmod(0o755)
    done = subprocess.run(
        [sys.executable, "-c", AS_ANOTHER, served.path, str(uid), json.dumps(groups)],
        capture_output=True,
        text=True,
        check=True,
        timeout=20,
    )
    head, _, body = done.stdout.partition("\n\n")
    return int(head.split()[1]), json.loads(body.strip())


def test_root_and_the_daemons_own_user_may(quick: Served) -> None:
    status, _, body = quick.request("POST", "/edged/models/echo/rollback")
    assert (status, json.loads(body)) == (200, {"model": "echo", "version": "2"})
    assert quick.double.control_calls == [("rollback", "echo")]
    assert quick.double.asked_by == [f"uid {os.geteuid()}"]


def test_a_control_that_cannot_says_why(quick: Served) -> None:
    status, _, body = quick.request("POST", "/edged/models/full/rollback")
    assert (status, json.loads(body)["code"]) == (409, "no_previous")
    status, _, body = quick.request("POST", "/edged/models/nobody/rollback")
    assert (status, json.loads(body)["code"]) == (404, "unknown_model")
    assert quick.double.control_calls == [("rollback", "full")]


CHUNK = "/edged/install/chunk/" + "0a" * 32


def test_what_a_release_is_made_of_arrives_as_it_is(quick: Served) -> None:
    """The largest chunk; nothing is looked for in it."""
    chunk = bytes(range(250)) * (QUICK.chunk // 250)
    assert quick.request("POST", CHUNK, chunk)[0] == 200
    assert quick.request("POST", "/edged/install", b"{not json")[0] == 200
    assert quick.request("GET", "/edged/install/missing")[0] == 200
    assert quick.double.control_calls == [("chunk", ""), ("offer", ""), ("missing", "")]
    assert quick.double.control_arguments[0] == {"payload": chunk, "sha256": "0a" * 32}
    assert quick.double.control_arguments[1]["payload"] == b"{not json"


def test_any_chunk_that_a_release_may_be_cut_into_fits() -> None:
    assert Limits().chunk == CHUNK_MAX
    assert Limits().control == LARGEST


def test_a_larger_chunk_is_refused_before_it_is_read(quick: Served) -> None:
    status, _, body = quick.request("POST", CHUNK, bytes(QUICK.chunk + 1))
    assert (status, json.loads(body)["code"]) == (413, "too_large")
    status, _, body = quick.request("POST", "/edged/install", bytes(64 * 1024 + 1))
    assert (status, json.loads(body)["code"]) == (413, "too_large")
    assert quick.double.control_calls == []


def test_a_verb_has_the_members_of_its_body(quick: Served) -> None:
    assert quick.request("POST", "/edged/models/echo/pin", b'{"version": 3, "model": "full"}')[0] == 200
    assert quick.double.control_arguments == [{"version": 3, "model": "echo"}]  # the address says which


@pytest.mark.parametrize("body", [b"[]", b"3", b"{", b"\xff", b"[" * 60_000])
def test_a_body_that_is_no_object_is_refused(quick: Served, body: bytes) -> None:
    status, _, answer = quick.request("POST", "/edged/models/echo/pin", body)
    assert (status, json.loads(answer)["code"]) == (400, "bad_input")
    assert json.loads(answer)["hint"].startswith("docs/http-api.md has what each address takes")
    assert quick.double.control_calls == []


def test_no_body_is_read_for_who_may_not(quick: Served) -> None:
    """Over TCP, where there is no telling who it is: refused while all of it is still to come."""
    with socket.create_connection(("127.0.0.1", quick.port), 10) as client:
        client.sendall(f"POST {CHUNK} HTTP/1.1\r\nHost: x\r\nContent-Length: {QUICK.chunk}\r\n\r\n".encode())
        assert client.recv(65536).startswith(b"HTTP/1.1 403 ")
    assert quick.double.control_calls == []


def test_nobody_may_over_tcp(quick: Served) -> None:
    client = http.client.HTTPConnection("127.0.0.1", quick.port, timeout=10)
    client.request("POST", "/edged/models/echo/rollback")
    answer = client.getresponse()
    assert (answer.status, json.loads(answer.read())["code"]) == (403, "forbidden")
    client.request("GET", "/edged/status")
    assert client.getresponse().read().startswith(b'{"device"')
    client.close()
    assert quick.double.control_calls == []


def test_another_user_may_not(quick: Served) -> None:
    status, body = as_another(quick, 12345, [])
    assert (status, body["code"]) == (403, "forbidden")
    assert "12345" in body["error"]
    assert quick.double.control_calls == []


def test_a_member_of_edged_admin_may(quick: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    # The box that runs the tests need not have the group: one of its groups plays it.
    monkeypatch.setattr(peers, "ADMIN_GROUP", "games")
    games = grp.getgrnam("games").gr_gid
    assert as_another(quick, 12345, [4, games])[0] == 200
    assert as_another(quick, games, [])[0] == 200
    assert as_another(quick, 12345, [4])[0] == 403


def test_the_kernel_tells_who_connected() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs:
        found = peers.peer_of(ours)
    assert (found.pid, found.uid, found.gid) == (os.getpid(), os.geteuid(), os.getegid())
    assert found.groups >= set(os.getgroups())


def test_without_the_group_nobody_is_a_member(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "ADMIN_GROUP", "no-such-group")
    with pytest.raises(EdgedError, match="may not control"):
        peers.check_control(Peer(1, 12345, 12345, frozenset({0, 4})))
