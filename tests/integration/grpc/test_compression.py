"""Compressed messages: read in any coding that edged tells, in their order, and never beyond their limit."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import pytest

from edged.transports.rpc import frames
from tests.integration.grpc.double import Client, Served, infer
from tests.integration.http.double import MESSAGE_LIMIT

OK, INVALID, EXHAUSTED, UNIMPLEMENTED, INTERNAL = 0, 3, 8, 12, 13


def opened(client: Client, stream: int, coding: bytes, method: bytes = b"ModelInfer") -> None:
    client.open(stream, method, (b"grpc-encoding", coding))


@pytest.mark.parametrize("size", [100, 400_000], ids=["in the loop", "in a thread"])
def test_compressed_messages_are_inflated(served: Served, size: int) -> None:
    message = infer(raw=b"abcd" * (size // 4))
    with served.client() as client:
        for stream, coding, squeezed in (
            (1, b"gzip", gzip.compress(message)),
            (3, b"deflate", zlib.compress(message)),
        ):
            opened(client, stream, coding)
            client.data(stream, squeezed, mark=1)
            client.send(frames.window(0, size + 100), frames.window(stream, size + 100))
            found = client.outcome(stream)
            assert (found.status, found.messages[0][-size:]) == (OK, b"abcd" * (size // 4))
        opened(client, 5, b"gzip")
        client.data(5, infer())  # which need not be compressed
        assert client.outcome(5).status == OK
        opened(client, 7, b"identity")
        client.data(7, infer())
        assert client.outcome(7).status == OK


def test_a_stream_keeps_its_order_whatever_takes_longer(served: Served) -> None:
    served.double.offered.clear()
    sent = [infer(id=str(number), raw=bytes(300_000 if number % 4 == 0 else 10)) for number in range(40)]
    with served.client() as client:
        client.send(frames.window(0, 2**25))
        opened(client, 1, b"gzip", b"ModelStreamInfer")
        client.send(frames.window(1, 2**25))
        for message in sent:
            client.data(1, gzip.compress(message), mark=1, end=False)
        client.send(frames.frame(frames.DATA, frames.END_STREAM, 1))
        found = client.outcome(1)
    assert (found.status, len(found.messages)) == (OK, 40)
    assert [item.payload for item in served.double.offered] == sent


def test_a_bomb_is_cut(served: Served) -> None:
    """A hundred times the limit, of zeros: as a request, and as a call that takes little."""
    bomb = gzip.compress(bytes(100 * MESSAGE_LIMIT))
    with served.client() as client:
        for stream, method in ((1, b"ModelInfer"), (3, b"ServerLive")):
            opened(client, stream, b"gzip", method)
            for at in range(0, len(bomb) + 5, 16384):
                whole = b"\1" + len(bomb).to_bytes(4, "big") + bomb
                last = at + 16384 >= len(whole)
                client.send(frames.frame(frames.DATA, last and frames.END_STREAM, stream, whole[at : at + 16384]))
            found = client.outcome(stream)
            assert (found.status, found.code) == (EXHAUSTED, "too_large")
        opened(client, 5, b"gzip", b"ModelStreamInfer")
        client.data(5, gzip.compress(bytes(5 * MESSAGE_LIMIT)), mark=1, end=False)
        client.data(5, gzip.compress(infer(id="next")), mark=1)
        found = client.outcome(5)  # where an error is one answer among others
        assert (found.status, len(found.messages)) == (OK, 2)
        assert b"too_large" in found.messages[0]
        assert b"next" in found.messages[1]


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-3], lambda data: data + b"x", lambda _: b"no gzip", lambda _: b""]
)
def test_what_is_damaged_is_told(served: Served, damage: object) -> None:
    with served.client() as client:
        opened(client, 1, b"gzip")
        client.data(1, damage(gzip.compress(infer())), mark=1)  # type: ignore[operator]
        found = client.outcome(1)
        assert (found.status, found.code) == (INVALID, "bad_input")
        assert client.call(3, message=infer()).status == OK


def test_a_coding_that_is_not_read_is_told_with_those_that_are(served: Served) -> None:
    """grpc/doc/compression.md: UNIMPLEMENTED with grpc-accept-encoding; INTERNAL for a mark that nobody announced."""
    with served.client() as client:
        opened(client, 1, b"snappy")
        found = client.outcome(1)
        assert (found.status, found.code) == (UNIMPLEMENTED, "unsupported")
        assert client._trailers[1][b"grpc-accept-encoding"] == b"identity,gzip,deflate"
        for stream, coding in ((3, b"identity"), (5, b"gzip")):
            opened(client, stream, coding)
            client.data(stream, infer(), mark=1 if coding == b"identity" else 2)
            found = client.outcome(stream)
            assert (found.status, found.code) == (INTERNAL, "bad_input")
        assert client.call(7, message=infer()).status == OK
        assert client._trailers[7][b"grpc-accept-encoding"] == b"identity,gzip,deflate"


def test_who_goes_while_a_message_is_inflated_harms_nobody(short_path: Path) -> None:
    message = gzip.compress(infer(raw=bytes(1_000_000)))
    with Served(short_path) as served:
        for _ in range(5):
            with served.client() as client:
                opened(client, 1, b"gzip")
                client.data(1, message, mark=1)
                client.send(frames.reset(1, frames.CANCEL))
        with served.client() as client:
            assert client.call(1, message=infer()).status == OK
            assert served.rpc.gates[0].room.used == 0
