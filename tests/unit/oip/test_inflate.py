"""Compressed bodies: whole or refused, and never larger than their limit."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.errors import EdgedError
from edged.oip.inflate import Inflater, Inflation

LIMIT = 1_000_000


def squeezed(coding: str, data: bytes) -> bytes:
    return zlib.compress(data) if coding == "deflate" else gzip.compress(data)


@pytest.mark.parametrize("coding", ["gzip", "x-gzip", "deflate"])
@pytest.mark.parametrize("size", [0, 1, 1000, LIMIT])
def test_what_was_compressed_comes_back(coding: str, size: int) -> None:
    data = bytes(range(256)) * (size // 256) + bytes(size % 256)
    assert Inflation(coding, squeezed(coding, data), LIMIT).finish() == data


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_a_bomb_is_cut_while_it_is_inflated(coding: str) -> None:
    bomb = squeezed(coding, bytes(300_000_000))
    tracemalloc.start()
    try:
        with pytest.raises(EdgedError, match="too_large"):
            Inflation(coding, bomb, LIMIT).finish()
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
@pytest.mark.parametrize(
    "change", [lambda data: data[:-1], lambda data: data + b"x", lambda data: b"x" + data, lambda _: b""]
)
def test_what_is_damaged_is_refused(coding: str, change: object) -> None:
    data = squeezed(coding, b"some text" * 100)
    with pytest.raises(EdgedError, match="bad_input"):
        Inflation(coding, change(data), LIMIT).finish()  # type: ignore[operator]


@given(st.sampled_from(["gzip", "deflate"]), st.binary(max_size=300))
def test_any_bytes_are_refused_or_short(coding: str, data: bytes) -> None:
    try:
        assert len(Inflation(coding, data, 1000).finish()) <= 1000
    except EdgedError as error:
        assert error.fault.code in ("bad_input", "too_large")


def test_blocks_that_hold_nothing_go_to_the_thread_too() -> None:
    """16 MiB of tables of codes without a byte behind them took more than a second."""
    nothing = zlib.compress(b"")[:2] + b"\0\0\0\xff\xff" * 100_000
    started = Inflater().at_once("deflate", nothing, LIMIT)
    assert isinstance(started, Inflation)
    with pytest.raises(EdgedError, match="ends before its end"):
        started.finish()
    whole = nothing + zlib.compress(b"x")[2:]
    assert Inflation("deflate", whole, LIMIT).finish() == b"x"
    with pytest.raises(EdgedError, match="bytes follow"):
        Inflation("deflate", whole + nothing, LIMIT).finish()


NOISE = st.integers(0, 100_000).map(hashlib.shake_128(b"noise").digest)


@given(st.binary(max_size=1000) | NOISE, st.integers(0, 9))
def test_pieces_and_steps_meet_anywhere(data: bytes, level: int) -> None:
    inflation = Inflation("deflate", zlib.compress(data, level), LIMIT)
    while not inflation.more(4096):
        pass
    assert inflation.body() == data


def test_what_is_long_goes_to_the_thread_and_few_wait_for_it() -> None:
    async def story() -> None:
        inflater = Inflater()
        long = gzip.compress(bytes(LIMIT))
        assert inflater.at_once("gzip", gzip.compress(b"short"), LIMIT) == b"short"
        started = [inflater.at_once("gzip", long, LIMIT) for _ in range(9)]
        works = [inflater.later(one) for one in started if isinstance(one, Inflation)]
        found = await asyncio.gather(*works, return_exceptions=True)
        assert [one == bytes(LIMIT) for one in found] == [True] * 8 + [False]
        assert isinstance(found[-1], EdgedError)
        assert found[-1].fault.code == "queue_full"
        again = inflater.at_once("gzip", long, LIMIT)
        assert isinstance(again, Inflation)
        assert await inflater.later(again) == bytes(LIMIT)

    asyncio.run(story())
