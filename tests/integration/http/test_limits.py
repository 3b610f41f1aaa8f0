"""What a client cannot do to the HTTP transport, and that it reads why (RULES 21)."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edged.messages import Answer
from tests.integration.http.conftest import QUICK
from tests.integration.http.double import MESSAGE_LIMIT, Served, infer, response
from tests.waiting import until

JSON = b'{"inputs":[]}'
LIVE = b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture(params=["uvloop", "asyncio"])
def quick(request: pytest.FixtureRequest, short_path: Path) -> Iterator[Served]:
    """On both loops, whose transports differ in how they close."""
    with Served(short_path, QUICK, loop=request.param) as running:
        yield running


def refusal(client: socket.socket) -> tuple[int, str]:
    """The status and code of an error response, after which the server has closed its side."""
    status, headers, body = response(client)
    assert headers["connection"] == "close"
    assert headers["content-type"] == "application/json"
    assert client.recv(1) == b""
    return status, json.loads(body)["code"]


def test_a_silent_client_and_half_a_header_end_in_time(quick: Served) -> None:
    for start in (b"", b"\r\n", b"GET /v2 HTT", b"GET /v2 HTTP/1.1\r\nHost: x\r\nA"):
        with quick.connect() as client:
            client.sendall(start)
            began = time.monotonic()
            assert refusal(client) == (408, "timeout")
            assert 0.2 < time.monotonic() - began < 3


def test_a_header_that_drips_ends_in_time(quick: Served) -> None:
    with quick.connect() as client:
        client.sendall(b"GET /v2 HTTP/1.1\r\n")
        began = time.monotonic()
        while time.monotonic() - began < 3:
            client.sendall(b"A: b\r\n")
            client.settimeout(0.05)
            try:
                if client.recv(1, socket.MSG_PEEK):
                    break
            except TimeoutError:
                continue
        assert time.monotonic() - began < 1.5
        client.settimeout(5)
        assert response(client)[0] == 408


def test_empty_lines_do_not_keep_a_used_connection(quick: Served) -> None:
    with quick.connect() as client:
        client.sendall(LIVE)
        assert response(client)[0] == 200
        client.sendall(b"\r\n")
        assert refusal(client) == (408, "timeout")


def test_an_idle_connection_is_closed_after_a_while(quick: Served) -> None:
    with quick.connect() as client:
        client.sendall(LIVE)
        assert response(client)[0] == 200
        began = time.monotonic()
        assert client.recv(1) == b""
        assert 0.8 < time.monotonic() - began < 3


@pytest.mark.parametrize(
    "piece",
    [b"A" * 65536, b"A: b\r\n" * 8192, b"\r\n" * 8192],
    ids=["one long name", "many headers", "empty lines"],
)
def test_a_header_of_64_mib_is_not_taken(quick: Served, piece: bytes) -> None:
    with quick.connect() as client:
        client.sendall(b"" if piece.startswith(b"\r\n") else b"GET /v2 HTTP/1.1\r\n")
        sent = 0
        try:
            while sent < 64 * 2**20:
                sent += client.send(piece)
        except OSError:  # the server has had enough
            pass
        status, _, body = response(client)
        assert (status, json.loads(body)["code"]) == (413, "too_large")
    assert quick.double.refused["", "too_large"] == 1


def test_the_header_limit_is_exact_within_one_piece(quick: Served) -> None:
    base = b"GET /v2 HTTP/1.1\r\nHost: x\r\nA: "
    with quick.connect() as client:
        client.sendall(base + b"a" * (QUICK.header - 40) + b"\r\n\r\n")
        assert response(client)[0] == 200
        client.sendall(base + b"a" * QUICK.header + b"\r\n\r\n")
        assert refusal(client) == (413, "too_large")


def test_a_large_body_does_not_count_as_header(quick: Served) -> None:
    with quick.connect() as client:
        client.sendall(infer("seen", b"a" * 400_000) + LIVE)  # one piece: body's end and the next header
        assert response(client)[0] == 200
        assert response(client)[0] == 200


@pytest.mark.parametrize("framing", [b"Content-Length: 1000000", b"Transfer-Encoding: chunked"])
@pytest.mark.parametrize(
    ("address", "code"), [(b"/v2/models/nobody/infer", "unknown_model"), (b"/v2/model/seen/infer", "not_found")]
)
def test_a_large_body_for_a_mistyped_address_is_told_so(
    quick: Served, address: bytes, code: str, framing: bytes
) -> None:
    """Before the body is read, and not that it is too large."""
    with quick.connect() as client:
        client.sendall(b"POST %b HTTP/1.1\r\n%b\r\n\r\n" % (address, framing))
        assert refusal(client) == (404, code)
    assert quick.double.refused["", code] == 1


def test_a_content_length_above_the_limit_is_refused_before_the_body(quick: Served) -> None:
    with quick.connect() as client:
        client.sendall(b"POST /v2/models/seen/infer HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % (MESSAGE_LIMIT + 1))
        assert refusal(client) == (413, "too_large")
    with quick.connect() as client:
        client.sendall(infer("seen", b"a" * MESSAGE_LIMIT))
        assert response(client)[0] == 200
    with quick.connect() as client:
        client.sendall(b"POST /v2/health/live HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % (QUICK.control + 1))
        assert refusal(client) == (413, "too_large")
    assert len(quick.double.offered) == 1


def test_a_sender_that_does_not_look_up_still_reads_its_413(quick: Served) -> None:
    # As http.client, tritonclient and most others do: everything is sent before anything is read.
    body = b"a" * (8 * MESSAGE_LIMIT)
    for client in (quick.connect(), socket.create_connection(("127.0.0.1", quick.port), timeout=10)):
        with client:
            client.sendall(infer("seen", body))
            assert refusal(client) == (413, "too_large")


def test_a_chunked_body_is_counted_while_it_comes(quick: Served) -> None:
    chunk = b"10000\r\n" + b"a" * 65536 + b"\r\n"
    head = b"POST /v2/models/seen/infer HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    with quick.connect() as client:
        client.sendall(head + chunk * 15 + b"0\r\n\r\n")
        status, _, body = response(client)
        assert (status, json.loads(body)["seen"][3]) == (200, 15 * 65536)
        client.sendall(head + chunk * 40)
        assert refusal(client) == (413, "too_large")
    assert len(quick.double.offered) == 1


@pytest.mark.parametrize("piece", [b"1;" + b"e" * 65536, b"0\r\n" + b"T: t\r\n" * 16384], ids=["extension", "trailers"])
def test_endless_chunk_extensions_and_trailers_are_refused(quick: Served, piece: bytes) -> None:
    with quick.connect() as client:
        client.sendall(b"POST /v2/models/seen/infer HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + piece)
        filler = b"e" * 65536 if piece.startswith(b"1") else b"T: t\r\n" * 8192
        try:
            for _ in range(64):
                client.sendall(filler)
        except OSError:
            pass
        assert response(client)[0] == 413


def test_bodies_under_way_share_a_room(quick: Served) -> None:
    # With `bodies` at its least there is room for one body of the largest size.
    half = infer("seen", b"a" * MESSAGE_LIMIT)[: MESSAGE_LIMIT // 2 + 100_000]
    with quick.connect() as first, quick.connect() as second:
        first.sendall(half)
        second.sendall(half)
        assert refusal(second) == (503, "queue_full")
        first.close()
    with quick.connect() as client:
        for _ in range(5):
            client.sendall(infer("seen", b"a" * MESSAGE_LIMIT))
            assert response(client)[0] == 200
    assert quick.rest.gates[0].room.used == 0


def test_a_slow_body_ends_in_time(quick: Served) -> None:
    with quick.connect() as client:
        client.sendall(b"POST /v2/models/seen/infer HTTP/1.1\r\nContent-Length: 100\r\n\r\nabc")
        assert refusal(client) == (408, "timeout")
    until(lambda: not quick.rest.gates[0].open)
    assert quick.rest.gates[0].room.used == 0
    assert quick.double.offered == []
    assert quick.double.refused["", "timeout"] == 1
    assert quick.double.refused["", "client_gone"] == 0


def test_what_is_no_http_gets_json_too(quick: Served) -> None:
    bad = [b"hello\r\n\r\n", b"GET /\xff HTTP/1.1\r\n\r\n", b"GET /v2 HTTP/9\r\n\r\n", b"CONNECT a:1 HTTP/1.1\r\n\r\n"]
    bad += [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"GET /v2 HTTP/1.1\r\nA b\r\n\r\n"]
    bad += [b"G\0\0\0\xed\1\0\6"]  # a frame of the fast lane, whose size may be a letter
    bad += [b"POST /v2 HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"]
    bad += [b"POST /v2 HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n"]
    for one in bad:
        with quick.connect() as client:
            client.sendall(one)
            assert refusal(client) == (400, "bad_input"), one


def test_connections_are_bounded_per_listener(quick: Served) -> None:
    clients = [quick.connect() for _ in range(QUICK.connections)]
    try:
        for client in clients:
            client.sendall(LIVE)
            assert response(client)[0] == 200
        with quick.connect() as one_more:
            assert refusal(one_more) == (503, "queue_full")
        with socket.create_connection(("127.0.0.1", quick.port), timeout=5) as other_door:
            other_door.sendall(LIVE)
            assert response(other_door)[0] == 200
    finally:
        for client in clients:
            client.close()
    until(lambda: not quick.rest.gates[0].open)
    with quick.connect() as client:
        client.sendall(LIVE)
        assert response(client)[0] == 200


def test_keep_alive_and_pipelining_keep_their_order(quick: Served) -> None:
    with quick.connect() as client:
        for _ in range(50):
            client.sendall(LIVE)
            assert response(client)[0] == 200
        bodies = [b'{"id":"%d","inputs":[]}' % index for index in range(20)]
        client.sendall(b"".join(infer("slow" if index % 5 == 0 else "echo", body) for index, body in enumerate(bodies)))
        for index in range(20):
            assert json.loads(response(client)[2])["id"] == str(index)


@pytest.mark.parametrize(
    ("bad", "status"),
    [
        (b"POST /v2/models/seen/infer HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n", 413),
        (b"nonsense\r\n\r\n", 400),
        (b"POST /v2/models/seen/infer HTTP/1.1\r\nContent-Length: 9\r\n\r\nabc", 408),
        (b"GET /v2 HTTP", 408),
    ],
)
def test_a_refusal_waits_for_the_answers_before_it(quick: Served, bad: bytes, status: int) -> None:
    with quick.connect() as client:
        client.sendall(infer("slow", JSON) + infer("slow", JSON) + LIVE + bad)
        stream = client.makefile("rb")
        text = stream.read()
        stream.close()
    found = re.findall(rb"HTTP/1\.1 (\d+) ", text)
    assert found == [b"200", b"200", b"200", b"%d" % status]


def test_time_in_which_we_do_not_read_is_not_the_clients(quick: Served) -> None:
    with quick.connect() as client:
        client.sendall(infer("held", JSON))
        deadline = time.monotonic() + 5
        while not quick.double.held and time.monotonic() < deadline:
            time.sleep(0.01)
        client.sendall(QUICK.pipeline * LIVE + LIVE[:10])  # with as many waiting in line, nothing more is read
        time.sleep(1.5 * QUICK.header_s)
        item = quick.double.held.pop()
        quick.loop.call_soon_threadsafe(item.reply, Answer(b"{}", 0, "3"))
        for _ in range(1 + QUICK.pipeline):
            assert response(client)[0] == 200
        client.sendall(LIVE[10:])
        assert response(client)[0] == 200


def test_a_client_that_goes_away_breaks_nothing(quick: Served) -> None:
    client = quick.connect()
    client.sendall(infer("held", JSON))
    deadline = time.monotonic() + 5
    while not quick.double.held and time.monotonic() < deadline:
        time.sleep(0.01)
    client.close()
    while not quick.double.refused["", "client_gone"] and time.monotonic() < deadline:
        time.sleep(0.01)
    assert quick.double.refused["", "client_gone"] == 1
    item = quick.double.held.pop()
    quick.loop.call_soon_threadsafe(item.reply, Answer(b"{}", 0, "3"))
    assert quick.request("GET", "/v2/health/live")[0] == 200


def test_a_client_that_goes_away_in_its_body_is_not_offered(quick: Served) -> None:
    with quick.connect() as client:
        client.sendall(b"POST /v2/models/seen/infer HTTP/1.1\r\nContent-Length: 100\r\n\r\nabc")
    assert quick.request("GET", "/v2/health/live")[0] == 200
    assert quick.double.offered == []


def test_a_client_that_never_reads_is_cut(quick: Served) -> None:
    big = b'{"id":"' + b"a" * 900_000 + b'","inputs":[]}'
    for close in ((), ("Connection: close",)):
        with quick.connect() as client:
            client.sendall(infer("echo", big, *close))
            time.sleep(0.1)
            until(lambda: not quick.rest.gates[0].open, 6)


@pytest.mark.parametrize("size", [2_000_000, 900_000])
def test_curl_sends_no_large_body_in_vain(quick: Served, short_path: Path, size: int) -> None:
    file = short_path / "body"
    file.write_bytes(b"a" * size)
    command = ["curl", "-sv", "--unix-socket", quick.path, "-H", "Expect: 100-continue", "--expect100-timeout", "5"]
    command += ["-H", "Content-Type: application/octet-stream", "--data-binary", f"@{file}"]
    done = subprocess.run([*command, "http://edged/v2/models/seen/infer"], capture_output=True, timeout=20)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    if size > MESSAGE_LIMIT:
        assert answer["code"] == "too_large"
        assert b"100 Continue" not in done.stderr
    else:
        assert answer["seen"] == ["application/octet-stream", -1, True, size]
        assert b"100 Continue" in done.stderr


def test_an_upgrade_is_declined_and_what_comes_with_it_is_served(served: Served) -> None:
    upgrade = {"Connection": "Upgrade", "Upgrade": "h2c"}
    with served.connect() as client:
        for _ in range(2):
            client.sendall(b"GET /v2/health/live HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")
            assert response(client)[0] == 200
    status, _, body = served.request("POST", "/v2/models/seen/infer", JSON, upgrade)
    assert (status, json.loads(body)["seen"][3]) == (200, len(JSON))


def test_curl_with_json_as_the_readme_prints_it(served: Served) -> None:
    body = '{"inputs":[{"name":"x","datatype":"FP32","shape":[1,2],"data":[1,2]}]}'
    done = subprocess.run(
        ["curl", "-s", "--unix-socket", served.path, "-d", body, "http://edged/v2/models/echo/infer"],
        capture_output=True,
        timeout=20,
        check=True,
    )
    assert json.loads(done.stdout)["outputs"][0]["data"] == [1, 2]
    live = ["curl", "-sf", "--unix-socket", served.path, "http://edged/v2/health/live"]
    assert subprocess.run(live, capture_output=True, timeout=20, check=True).stdout == b'{"live":true}'
