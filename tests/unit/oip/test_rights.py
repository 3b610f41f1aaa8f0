"""What a listener asks of those who come (RULES 21, 22)."""

from __future__ import annotations

import os

import pytest

from edged.errors import EdgedError
from edged.oip.peers import Peer
from edged.oip.rights import Rights
from edged.transports.rest.heads import Head, read

TOKEN, ADMIN = "t" * 16, "a" * 16
ASKS = Rights(TOKEN, ADMIN)
INFER, STATUS = "POST /v2/models/a/infer", "GET /edged/status"
US, STRANGER = Peer(1, os.geteuid(), 0, frozenset()), Peer(1, 12345, 12345, frozenset())


def head(start: str, authorization: str = "") -> Head:
    line = f"Authorization: {authorization}\r\n" if authorization else ""
    return read(f"{start} HTTP/1.1\r\n{line}\r\n".encode())


def check(rights: Rights, asked: Head) -> None:
    rights.check(asked.target.kind, asked.token)


@pytest.mark.parametrize("start", [INFER, STATUS, "GET /v2", "GET /v2/models/a/ready", "GET /nowhere"])
@pytest.mark.parametrize(
    "sent", ["", "Bearer", "Bearer x", f"Basic {TOKEN}", f"Bearer {TOKEN}t", f"Bearer {TOKEN[1:]}"]
)
def test_a_listener_with_a_token_asks_for_it(start: str, sent: str) -> None:
    with pytest.raises(EdgedError, match="unauthorized"):
        check(ASKS, head(start, sent))


@pytest.mark.parametrize("sent", [f"Bearer {TOKEN}", f"bearer  {TOKEN}", f"Bearer {ADMIN}"])
def test_the_token_and_the_admin_token_open_it(sent: str) -> None:
    check(ASKS, head(INFER, sent))
    check(ASKS, head(STATUS, sent))


@pytest.mark.parametrize("path", ["/v2/health/live", "/v2/health/ready", "/metrics"])
def test_probes_and_scrapers_need_none(path: str) -> None:
    check(ASKS, head(f"GET {path}"))


def test_without_a_token_nobody_is_asked() -> None:
    check(Rights(), head(INFER))
    check(Rights(admin_token=ADMIN), head(INFER))


def test_a_listener_for_metrics_serves_nothing_else() -> None:
    rights = Rights(metrics_only=True)
    check(rights, head("GET /metrics"))
    for start in (INFER, STATUS, "GET /v2/health/live", "POST /edged/models/a/rollback"):
        with pytest.raises(EdgedError, match="not_found"):
            check(rights, head(start))


def test_control_takes_the_admin_token_or_the_right_peer() -> None:
    rollback = "POST /edged/models/a/rollback"
    ASKS.check_control(head(rollback, f"Bearer {ADMIN}").token, None)
    ASKS.check_control(head(rollback, f"Bearer {ADMIN}").token, STRANGER)
    ASKS.check_control(head(rollback).token, US)
    for rights, sent, peer in (
        (ASKS, f"Bearer {TOKEN}", None),
        (ASKS, f"Bearer {TOKEN}", STRANGER),
        (Rights(), "Bearer", None),
        (Rights(), "", STRANGER),
    ):
        with pytest.raises(EdgedError, match="forbidden") as caught:
            rights.check_control(head(rollback, sent).token, peer)
        assert ("sockets.admin_token_file" in caught.value.fault.hint) == (peer is None)
