"""Doors for others than this box: TLS and tokens; control over TCP; metrics by themselves (RULES 21, 22)."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from edged.config.schema import Sockets, Tls
from edged.transports.rest.limits import Limits
from tests.certificates import Authority
from tests.integration.http.double import Served, response
from tests.waiting import until

TOKEN, ADMIN = "t" * 32, "a" * 32
LIMITS = Limits(header_s=1, sweep_s=0.05, linger_s=0.5, connections=4)
INFER = b'{"inputs":[]}'


def tls(authority: Authority, *, client_ca: bool = False) -> Tls:
    folder = authority.folder
    return Tls(str(folder / "box.crt"), str(folder / "box.key"), str(authority.ca) if client_ca else "")


@pytest.fixture(params=["uvloop", "asyncio"])
def door(request: pytest.FixtureRequest, short_path: Path, authority: Authority) -> Iterator[Served]:
    """Reached from everywhere: all addresses of this machine, TLS, a token; and /metrics beside it."""
    sockets = Sockets(http=("0.0.0.0:0",), metrics=("0.0.0.0:0",), tls=tls(authority), token=TOKEN, admin_token=ADMIN)
    with Served(short_path, LIMITS, loop=request.param, sockets=sockets) as running:
        yield running


@pytest.fixture(params=["uvloop", "asyncio"])
def closed_door(request: pytest.FixtureRequest, short_path: Path, authority: Authority) -> Iterator[Served]:
    """As `door`, and clients need a certificate."""
    sockets = Sockets(http=("0.0.0.0:0",), tls=tls(authority, client_ca=True), token=TOKEN)
    with Served(short_path, LIMITS, loop=request.param, sockets=sockets) as running:
        yield running


def dial(port: int, authority: Authority, certificate: Path | None = None) -> ssl.SSLSocket:
    context = ssl.create_default_context(cafile=str(authority.ca))
    if certificate is not None:
        context.load_cert_chain(certificate, certificate.with_suffix(".key"))
    return context.wrap_socket(socket.create_connection(("127.0.0.1", port), timeout=10), server_hostname="localhost")


def ask(
    served: Served, authority: Authority, method: str, path: str, token: str = "", body: bytes = b"", *, index: int = 1
) -> tuple[int, dict[str, str], bytes]:
    with dial(served.port_of(index), authority) as client:
        lines = [f"{method} {path} HTTP/1.1", f"Content-Length: {len(body)}"]
        lines += [f"Authorization: Bearer {token}"] if token else []
        client.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        return response(client, method)


def test_the_token_opens_it_and_nothing_else_does(door: Served, authority: Authority) -> None:
    assert ask(door, authority, "POST", "/v2/models/echo/infer", TOKEN, INFER)[0] == 200
    assert ask(door, authority, "GET", "/edged/status", TOKEN)[0] == 200
    for token in ("", "t" * 31, TOKEN + "t"):
        status, headers, body = ask(door, authority, "POST", "/v2/models/echo/infer", token, INFER)
        assert (status, json.loads(body)["code"]) == (401, "unauthorized")
        assert (headers["www-authenticate"], headers["connection"]) == ("Bearer", "close")
    assert ask(door, authority, "GET", "/edged/status")[0] == 401
    assert len(door.double.offered) == 1
    assert door.double.refused["", "unauthorized"] == 4


def test_a_body_without_a_token_is_not_read(door: Served, authority: Authority) -> None:
    with dial(door.port, authority) as client:
        client.sendall(b"POST /v2/models/echo/infer HTTP/1.1\r\nContent-Length: 900000\r\n\r\n")
        assert response(client)[0] == 401
    assert door.rest.gates[1].room.used == 0


def test_health_and_metrics_need_no_token(door: Served, authority: Authority) -> None:
    for path in ("/v2/health/live", "/v2/health/ready", "/metrics"):
        assert ask(door, authority, "GET", path)[0] == 200


def test_large_bodies_and_many_requests_pass_through_tls(door: Served, authority: Authority) -> None:
    body = bytes(range(256)) * 3000
    with dial(door.port, authority) as client:
        for _ in range(5):
            head = f"POST /v2/models/seen/infer HTTP/1.1\r\nAuthorization: bearer {TOKEN}\r\n"
            client.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            status, _, answer = response(client)
            assert (status, json.loads(answer)["seen"][3]) == (200, len(body))
    assert door.double.offered[-1].payload == body


def test_control_over_tcp_takes_the_admin_token(door: Served, authority: Authority) -> None:
    status, _, body = ask(door, authority, "POST", "/edged/models/echo/rollback", TOKEN)
    assert (status, json.loads(body)["code"]) == (403, "forbidden")
    assert ask(door, authority, "POST", "/edged/models/echo/rollback", ADMIN)[0] == 200
    assert door.double.control_calls == [("rollback", "echo")]
    assert door.double.asked_by == ["the admin token, from 127.0.0.1"]


def test_the_unix_socket_needs_no_token(door: Served) -> None:
    assert door.request("GET", "/edged/status")[0] == 200
    assert door.request("POST", "/v2/models/echo/infer", INFER)[0] == 200
    assert door.request("POST", "/edged/models/echo/rollback")[0] == 200


def test_the_metrics_door_serves_metrics_alone(door: Served, authority: Authority) -> None:
    assert ask(door, authority, "GET", "/metrics", index=2)[0] == 200
    for method, path in (("GET", "/edged/status"), ("GET", "/v2/health/live"), ("POST", "/edged/models/echo/rollback")):
        assert ask(door, authority, method, path, ADMIN, index=2)[0] == 404
    assert door.double.control_calls == []


def test_a_client_without_the_right_certificate_does_not_come_in(closed_door: Served, authority: Authority) -> None:
    (authority.folder / "other").mkdir()
    strange, _ = Authority(authority.folder / "other", "others").issue("client")
    for certificate in (None, strange):
        with pytest.raises((OSError, ConnectionError)), dial(closed_door.port, authority, certificate) as client:
            client.sendall(b"GET /v2/health/live HTTP/1.1\r\n\r\n")  # TLS 1.3 tells only with the first answer
            response(client)
    until(lambda: closed_door.double.refused["", "unauthorized"] == 2)
    with dial(closed_door.port, authority, authority.folder / "client.crt") as client:
        client.sendall(b"GET /v2/health/live HTTP/1.1\r\n\r\n")
        assert response(client)[0] == 200


def test_plain_http_noise_and_silence_end_and_disturb_nobody(door: Served, authority: Authority) -> None:
    for sent in (b"GET /v2 HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x00\xff", b""):
        with socket.create_connection(("127.0.0.1", door.port), timeout=10) as client:
            client.sendall(sent)
            assert client.recv(100)[:4] != b"HTTP"
    until(lambda: door.double.refused == {("", "bad_input"): 1, ("", "timeout"): 2})
    assert ask(door, authority, "GET", "/v2/health/live")[0] == 200


def test_handshakes_count_as_connections(short_path: Path, authority: Authority) -> None:
    sockets, limits = Sockets(http=("0.0.0.0:0",), tls=tls(authority), token=TOKEN), Limits(header_s=60, connections=4)
    with Served(short_path, limits, sockets=sockets) as served:
        gate = served.rest.gates[1]
        clients = [socket.create_connection(("127.0.0.1", served.port), timeout=30) for _ in range(84)]
        # The limit, those above it that would have been told, and the one that shows that it is full.
        until(lambda: gate.greeting == limits.connections + 65)
        assert clients[-1].recv(1) == b""
        for client in clients:
            client.close()
        until(lambda: gate.greeting == 0)
        assert ask(served, authority, "GET", "/v2/health/live")[0] == 200


def test_a_stop_waits_for_no_handshake(short_path: Path, authority: Authority) -> None:
    sockets = Sockets(http=("0.0.0.0:0",), tls=tls(authority), token=TOKEN)
    with (
        Served(short_path, Limits(), sockets=sockets) as served,
        socket.create_connection(("127.0.0.1", served.port), timeout=5) as client,
    ):
        until(lambda: served.rest.gates[1].greeting == 1)
        served.run(served.rest.stop(1), timeout_s=3)
        assert client.recv(1) == b""


def test_loopback_asks_for_the_token_where_there_is_one(short_path: Path) -> None:
    with Served(short_path, sockets=Sockets(http=("127.0.0.1:0",), token=TOKEN)) as served:
        for headers, status in (({}, 401), ({"Authorization": f"Bearer {TOKEN}"}, 200)):
            client = http.client.HTTPConnection("127.0.0.1", served.port, timeout=10)
            client.request("GET", "/v2", headers=headers)
            assert client.getresponse().status == status
            client.close()


def test_a_second_unix_socket_is_as_the_first(short_path: Path) -> None:
    other = short_path / "other.sock"
    with Served(short_path, sockets=Sockets(http=(f"unix:{other}",), token=TOKEN)) as served:
        assert other.stat().st_mode & 0o777 == 0o660
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(other))
            client.sendall(b"POST /edged/models/echo/rollback HTTP/1.1\r\n\r\n")
            assert response(client)[0] == 200
        assert [call[0] for call in served.double.control_calls] == ["rollback"]
    assert not other.exists()


def test_curl_as_the_manual_prints_it(door: Served, authority: Authority) -> None:
    command = ["curl", "-s", "--cacert", str(authority.ca), "-H", f"Authorization: Bearer {TOKEN}"]
    done = subprocess.run(
        [*command, f"https://localhost:{door.port}/v2/models/echo", "--resolve", f"localhost:{door.port}:127.0.0.1"],
        capture_output=True,
        timeout=20,
        check=True,
    )
    assert json.loads(done.stdout)["name"] == "echo"


def test_a_descriptor_that_nobody_asked_for_is_refused_by_the_kernel(served: Served) -> None:
    """Closing one that lingers would take the loop's time: as much as its sender likes."""
    with served.connect() as client, socket.socket() as passed:
        if not _can_refuse(client):
            pytest.skip("descriptors can be refused from Linux 6.16 on")
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, passed.fileno().to_bytes(4, sys.byteorder))]
        with pytest.raises(PermissionError):
            client.sendmsg([b"G"], rights)
        client.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n")
        assert response(client)[0] == 200


def _can_refuse(client: socket.socket) -> bool:
    try:
        client.getsockopt(socket.SOL_SOCKET, 83)  # SO_PASSRIGHTS
    except OSError:
        return False
    return True
