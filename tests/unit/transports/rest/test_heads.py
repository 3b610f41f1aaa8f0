"""Headers as values."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.errors import EdgedError
from edged.transports.rest.heads import Head, read
from edged.transports.rest.replies import CLOSE, KEEP, STAY
from edged.transports.rest.routes import Target


def head(*lines: str, start: str = "POST /v2/models/a/infer HTTP/1.1") -> Head:
    return read("\r\n".join((start, *lines)).encode() + b"\r\n\r\n")


def test_what_an_infer_request_says() -> None:
    found = head(
        "Host: x",
        "content-TYPE: Application/X-npy; a=b",
        "Content-Length: 12",
        "Inference-Header-Content-Length: 5",
        "Expect: 100-Continue",
    )
    assert (found.method, found.target) == ("POST", Target("infer", "a"))
    assert (found.length, found.chunked, found.expects) == (12, False, True)
    assert (found.content_type, found.json_length, found.problem) == ("application/x-npy", 5, None)


@pytest.mark.parametrize(
    ("start", "lines", "ending"),
    [
        ("GET /v2 HTTP/1.1", (), STAY),
        ("GET /v2 HTTP/1.1", ("Connection: close",), CLOSE),
        ("GET /v2 HTTP/1.0", (), CLOSE),
        ("GET /v2 HTTP/1.0", ("Connection: Keep-Alive",), KEEP),
        ("GET /v2 HTTP/1.1", ("Connection: Upgrade", "Upgrade: h2c"), STAY),
    ],
)
def test_what_becomes_of_the_connection(start: str, lines: tuple[str, ...], ending: bytes) -> None:
    found = head(*lines, start=start)
    assert (found.ending, found.keep) == (ending, ending is not CLOSE)


def test_an_http_1_0_client_is_not_told_to_go_on() -> None:
    assert not head("Expect: 100-continue", start="POST /v2 HTTP/1.0").expects


def test_an_upgrade_with_a_body_is_an_ordinary_request() -> None:
    found = head("Connection: Upgrade", "Upgrade: h2c", "Content-Length: 7")
    assert (found.length, found.keep) == (7, True)


def test_a_whole_address_is_its_path() -> None:
    assert head(start="GET http://box:8080/v2?x=1 HTTP/1.1").target == Target("server")


@pytest.mark.parametrize(
    "start",
    [
        "hello",
        "GET /v2",
        "GET /v2 HTTP/0.9",
        "GET /v2 HTTP/2.0",
        "PRI * HTTP/2.0",
        "CONNECT a:1 HTTP/1.1",
        "get /v2 HTTP/1.1",
        "GET /a b HTTP/1.1",
        "GET /é HTTP/1.1",
        "GET /v2 HTTP/1.1\nA: b",
    ],
)
def test_what_starts_as_no_request_is_bad_input(start: str) -> None:
    with pytest.raises(EdgedError, match="bad_input"):
        head(start=start)


@pytest.mark.parametrize(
    "lines",
    [
        ("A b",),
        (": b",),
        ("A: b\n\tc",),
        ("A: b\rc",),
        ("A: b", " c"),
        ("Content-Length: 5", "Content-Length: 5"),
        ("Content-Length: 5", "Transfer-Encoding: chunked"),
        ("Content-Length: -1",),
        ("Content-Length: +1",),
        ("Content-Length: 99999999999999999999",),
        ("Transfer-Encoding: gzip",),
        ("Transfer-Encoding: chunked, identity",),
    ],
)
def test_a_header_with_two_meanings_is_bad_input(lines: tuple[str, ...]) -> None:
    with pytest.raises(EdgedError, match="bad_input"):
        head(*lines)


@pytest.mark.parametrize(
    "lines", [("Transfer-Encoding: gzip, chunked",), ("Transfer-Encoding: gzip", "Transfer-Encoding: chunked")]
)
def test_a_body_coded_twice_is_unsupported(lines: tuple[str, ...]) -> None:
    with pytest.raises(EdgedError, match="bodies coded as 'gzip") as caught:
        head(*lines)
    assert caught.value.fault.code == "unsupported"


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("Content-Encoding: br", "unsupported"),
        ("Content-Encoding: gzip, gzip", "unsupported"),
        ("Inference-Header-Content-Length: x", "bad_input"),
        ("Inference-Header-Content-Length: 5, 5", "bad_input"),
    ],
)
def test_what_cannot_be_served_is_told_after_the_body(line: str, code: str) -> None:
    found = head(line, "Content-Length: 5")
    assert found.problem is not None
    assert (found.problem.code, found.length) == (code, 5)
    assert head(line, start="POST /v2 HTTP/1.1").problem is None


@pytest.mark.parametrize(
    ("line", "coding"),
    [
        ("Content-Encoding: gzip", "gzip"),
        ("Content-Encoding: GZip ", "gzip"),
        ("content-encoding: deflate", "deflate"),
        ("Content-Encoding: identity", ""),
        ("Accept-Encoding: gzip", ""),
    ],
)
def test_how_a_body_is_compressed(line: str, coding: str) -> None:
    found = head(line, "Content-Length: 5")
    assert (found.coding, found.problem) == (coding, None)
    assert head(line, start="POST /v2 HTTP/1.1").coding == ""


def test_the_same_header_is_read_once() -> None:
    assert head("Host: again") is head("Host: again")
    assert head("Host: again") is not head("Host: another")
    long = f"Host: {'x' * 2000}"  # not kept: strangers could fill the memory with them
    assert head(long) is not head(long)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_header_or_refused(noise: bytes) -> None:
    for data in (noise, b"POST /v2/models/a/infer HTTP/1.1\r\n" + noise):
        try:
            found = read(data + b"\r\n\r\n")
        except EdgedError as error:
            assert error.fault.code in ("bad_input", "unsupported")
        else:
            assert found.length >= 0
