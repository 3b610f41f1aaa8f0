"""Whatever a client sends: no 500, no hang, and a JSON error for what is refused."""

from __future__ import annotations

import json
import socket

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.integration.http.double import Served, response

PARTS = st.sampled_from(
    [
        "v2",
        "models",
        "echo",
        "nobody",
        "versions",
        "3",
        "infer",
        "ready",
        "health",
        "live",
        "edged",
        "metrics",
        "status",
        "rollback",
        "..",
        "%2e",
        "%2F",
        "%ZZ",
        "%",
        "?",
        "#",
        "é",
        "{}",
        "000000000000000000000000000",
        "",
        "a b",
    ]
)
PATHS = st.lists(PARTS, max_size=8).map(lambda parts: "/" + "/".join(parts))
METHODS = st.sampled_from(["GET", "POST", "HEAD", "PUT", "OPTIONS", "DELETE", "PATCH", "PRI", "get", "CONNECT", ""])
NAMES = st.sampled_from(
    [
        "Inference-Header-Content-Length",
        "Content-Type",
        "Content-Encoding",
        "Content-Length",
        "Transfer-Encoding",
        "Expect",
        "Upgrade",
        "Connection",
        "Host",
        "X",
    ]
)
VALUES = st.sampled_from(
    [
        "0",
        "5",
        "13",
        "-1",
        "99999999999999999999",
        "close",
        "keep-alive",
        "upgrade",
        "websocket",
        "h2c",
        "chunked",
        "gzip",
        "identity",
        "100-continue",
        "application/json",
        "application/x-npy",
        ";",
        "é",
        "\x7f",
        "",
        "a" * 300,
    ]
)
ROUGH = settings(max_examples=250, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


def talk(served: Served, request: bytes) -> bytes:
    """Everything that the server says to `request` and the end of the client's side."""
    with served.connect(timeout_s=8) as client:
        client.sendall(request)
        client.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: client.recv(65536), b""))


@ROUGH
@given(METHODS, PATHS, st.lists(st.tuples(NAMES, VALUES), max_size=4), st.sampled_from([b"", b'{"inputs":[]}']))
def test_no_request_is_a_500(
    served: Served, method: str, path: str, headers: list[tuple[str, str]], body: bytes
) -> None:
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers)]
    if body and not any(name in ("Content-Length", "Transfer-Encoding") for name, _ in headers):
        lines.append(f"Content-Length: {len(body)}")
    request = "\r\n".join(lines).encode("utf-8") + b"\r\n\r\n" + body
    with served.connect(timeout_s=8) as client:
        client.sendall(request + b"GET /metrics HTTP/1.1\r\nConnection: close\r\n\r\n")
        client.shutdown(socket.SHUT_WR)
        while True:
            try:
                status, found, answer = response(client, method)
            except (ConnectionError, KeyError):  # the end; or 100 Continue, which has no length
                break
            assert status < 500 or status == 501, request
            if status >= 400 and method != "HEAD":
                assert found["content-type"] == "application/json"
                assert set(json.loads(answer)) == {"error", "code", "hint"}


@ROUGH
@given(st.binary(max_size=300))
def test_bytes_without_sense_break_nothing(served: Served, noise: bytes) -> None:
    assert b" 500 " not in talk(served, noise)
    assert b" 500 " not in talk(served, b"POST /v2/models/echo/infer HTTP/1.1\r\n" + noise)
    length = b"Content-Length: %d\r\n\r\n" % len(noise)
    with served.connect() as client:
        client.sendall(b"POST /v2/models/seen/infer HTTP/1.1\r\n" + length + noise)
        assert response(client)[0] == (200 if noise else 400)


@ROUGH
@given(st.data())
def test_pieces_of_any_size_make_the_same_request(served: Served, data: st.DataObject) -> None:
    body = b'{"inputs":[]}'
    whole = b"POST /v2/models/seen/infer HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    whole += b"POST /v2/models/seen/infer HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\nT: t\r\n\r\n"
    cuts = sorted(data.draw(st.lists(st.integers(1, len(whole) - 1), max_size=6)))
    with served.connect() as client:
        for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True):
            client.sendall(whole[start:end])
        assert json.loads(response(client)[2])["seen"][3] == len(body)
        assert json.loads(response(client)[2])["seen"][3] == 5
