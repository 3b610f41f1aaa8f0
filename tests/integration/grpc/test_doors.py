"""Doors for others than this box, with gRPC's own client: TLS, certificates, tokens, control (RULES 22)."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edged import protobuf
from edged.config.schema import Sockets, Tls
from tests.box import ROOT
from tests.certificates import Authority
from tests.integration.grpc.double import Served, infer
from tests.integration.http.test_doors import ADMIN, TOKEN, tls


@pytest.fixture(params=["uvloop", "asyncio"])
def door(request: pytest.FixtureRequest, short_path: Path, authority: Authority) -> Iterator[Served]:
    """Reached from everywhere: all addresses of this machine, TLS, a token."""
    sockets = Sockets(grpc=("0.0.0.0:0",), tls=tls(authority), token=TOKEN, admin_token=ADMIN)
    with Served(short_path, loop=request.param, sockets=sockets) as running:
        yield running


def ask(target: str, method: str, message: bytes, *more: str) -> dict[str, Any]:
    program = [sys.executable, str(ROOT / "tests" / "clients" / "plain_grpc.py"), target, method, message.hex(), *more]
    done = subprocess.run(program, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr.decode()
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_the_token_opens_it_and_nothing_else_does(door: Served, authority: Authority) -> None:
    target, ca = f"127.0.0.1:{door.port}", ("--ca", str(authority.ca))
    found = ask(target, "ModelInfer", infer(raw=b"abc"), *ca, "--token", TOKEN)
    assert found["status"] == "OK"
    assert bytes.fromhex(found["answer"]).endswith(b"\x32\x03abc")
    refused = ask(target, "ModelInfer", infer(), *ca)
    assert refused["status"] == "UNAUTHENTICATED"
    assert refused["details"].startswith("unauthorized: the request brings no token")
    assert refused["trailers"]["edged-code"] == "unauthorized"
    assert ask(target, "ModelInfer", infer(), *ca, "--token", f"{TOKEN}t")["status"] == "UNAUTHENTICATED"
    assert ask(target, "ServerLive", b"", *ca)["status"] == "OK"
    assert ask(target, "/grpc.health.v1.Health/Check", b"", *ca)["status"] == "OK"  # for probes, which have none
    assert len(door.double.offered) == 1


def test_control_over_tcp_takes_the_admin_token(door: Served, authority: Authority) -> None:
    target, ca = f"127.0.0.1:{door.port}", ("--ca", str(authority.ca))
    message = protobuf.put(2, b"echo")
    assert ask(target, "RepositoryModelUnload", message, *ca, "--token", TOKEN)["status"] == "PERMISSION_DENIED"
    assert ask(target, "RepositoryModelUnload", message, *ca, "--token", ADMIN)["status"] == "OK"
    assert door.double.control_calls == [("unload", "echo")]
    assert door.double.asked_by == ["the admin token, from 127.0.0.1"]


def test_without_tls_nobody_gets_in(door: Served) -> None:
    assert ask(f"127.0.0.1:{door.port}", "ServerLive", b"")["status"] == "UNAVAILABLE"


def test_clients_need_a_certificate_where_their_authority_is_named(short_path: Path, authority: Authority) -> None:
    folder = authority.folder
    asks = Tls(str(folder / "box.crt"), str(folder / "box.key"), str(authority.ca))
    with Served(short_path, sockets=Sockets(grpc=("127.0.0.1:0",), tls=asks, token=TOKEN)) as door:
        target, ca = f"127.0.0.1:{door.port}", ("--ca", str(authority.ca))
        assert ask(target, "ServerLive", b"", *ca)["status"] == "UNAVAILABLE"
        assert ask(target, "ServerLive", b"", *ca, "--cert", str(folder / "client.crt"))["status"] == "OK"


def test_control_over_the_unix_socket_is_for_the_kernel_to_tell(short_path: Path) -> None:
    with Served(short_path) as door:
        found = ask(f"unix:{door.path}", "RepositoryModelLoad", protobuf.put(2, b"echo"))
        assert found["status"] == "OK"
        assert door.double.control_calls == [("load", "echo")]
        assert door.double.asked_by[0].startswith("uid ")
