"""What edged relies on in uvicorn, pinned: an update that changes it fails here first (RULES 21)."""

from __future__ import annotations

import inspect

import httptools
import pytest
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from edged.errors import EdgedError
from edged.transports.rest.protocol import Connection, unreadable
from edged.transports.rest.server import Server


def test_the_protocol_stays_small() -> None:
    """Past 80 lines our own protocol on httptools is due, with an ADR."""
    lines = [line.strip() for line in inspect.getsource(Connection).splitlines()]
    assert len([line for line in lines if line and not line.startswith(("#", '"""'))]) < 80


def test_every_override_has_something_to_override() -> None:
    ours = {name for name, value in vars(Connection).items() if inspect.isfunction(value)}
    assert ours - set(dir(HttpToolsProtocol)) == {"watch", "late", "refuse", "say"}
    assert {name for name, value in vars(Server).items() if inspect.isfunction(value)} <= set(dir(uvicorn.Server))


def test_the_members_that_are_used_are_there() -> None:
    names = {"transport", "flow", "cycle", "loop", "app_state", "headers", "parser"}
    assert names <= set(inspect.getsource(HttpToolsProtocol.__init__).replace("self.", " ").replace(":", " ").split())
    for name in ("disconnected", "response_complete", "message_event", "keep_alive"):
        assert f"self.{name}" in inspect.getsource(RequestResponseCycle)
    assert {"connections", "tasks"} <= set(vars(ServerState()))
    assert "_unset_keepalive_if_required" in vars(HttpToolsProtocol)


def test_a_parser_that_stops_tells_whose_fault_it_is(caplog: pytest.LogCaptureFixture) -> None:
    class Raises:
        def __init__(self, error: Exception) -> None:
            self.error = error

        def on_headers_complete(self) -> None:
            raise self.error

    def stopped(error: Exception) -> str:
        with pytest.raises(httptools.HttpParserError) as caught:
            httptools.HttpRequestParser(Raises(error)).feed_data(b"GET / HTTP/1.1\r\n\r\n")
        return unreadable(caught.value).code

    assert stopped(EdgedError("too_large", "a body")) == "too_large"
    assert stopped(httptools.HttpParserInvalidURLError("no url")) == "bad_input"
    assert not caplog.records
    assert stopped(KeyError("a bug")) == "internal"
    assert "KeyError" in caplog.text
    assert unreadable(httptools.HttpParserError("nonsense")).code == "bad_input"
