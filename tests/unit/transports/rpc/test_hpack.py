"""HPACK: the examples of RFC 7541, appendix C, and whatever else may come."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.transports.rpc import huffman
from edged.transports.rpc.hpack import Decoder, Header, encode

CODES = {symbol: bin(code)[3:] for code, symbol in huffman._SYMBOLS.items()}


def coded(data: bytes) -> bytes:
    """What `huffman.decode` reads."""
    bits = "".join(CODES[byte] for byte in data)
    bits += "1" * (-len(bits) % 8)
    return bytes(int(bits[at : at + 8], 2) for at in range(0, len(bits), 8))


def block(text: str) -> bytes:
    return bytes.fromhex(text.replace(" ", ""))


FIRST: list[Header] = [
    (b":method", b"GET"),
    (b":scheme", b"http"),
    (b":path", b"/"),
    (b":authority", b"www.example.com"),
]
THIRD: list[Header] = [
    (b":method", b"GET"),
    (b":scheme", b"https"),
    (b":path", b"/index.html"),
    (b":authority", b"www.example.com"),
    (b"custom-key", b"custom-value"),
]


@pytest.mark.parametrize(
    "blocks",
    [
        (  # C.3
            "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
            "8286 84be 5808 6e6f 2d63 6163 6865",
            "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
        ),
        (  # C.4
            "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
            "8286 84be 5886 a8eb 1064 9cbf",
            "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
        ),
    ],
    ids=["plain", "huffman"],
)
def test_the_requests_of_the_rfc(blocks: tuple[str, ...]) -> None:
    decoder = Decoder(16384)
    found = [decoder.decode(block(one)) for one in blocks]
    assert found == [FIRST, [*FIRST, (b"cache-control", b"no-cache")], THIRD]


def test_what_the_table_has_no_room_for_leaves_it() -> None:
    decoder = Decoder(16384)
    decoder.decode(b"\x3f\x11")  # 48 bytes of table
    assert decoder.decode(b"\x40\x01a\x01b") == [(b"a", b"b")]
    assert decoder.decode(b"\xbe") == [(b"a", b"b")]
    decoder.decode(b"\x40\x01c\x01d")
    assert decoder.decode(b"\xbe") == [(b"c", b"d")]
    with pytest.raises(IndexError):
        decoder.decode(b"\xbf")
    decoder.decode(b"\x40\x01e\x14" + bytes(20))  # larger than the table: it empties it
    with pytest.raises(IndexError):
        decoder.decode(b"\xbe")


def test_the_version_tells_whether_a_block_still_means_the_same() -> None:
    decoder = Decoder(16384)
    before = decoder.version
    decoder.decode(b"\x82\x86\x00\x01a\x01b")
    assert decoder.version == before
    decoder.decode(b"\x40\x01a\x01b")
    assert decoder.version != before


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (b"\x80", "header 0"),
        (b"\xff\xff\xff\xff\xff\xff", "more than four bytes"),
        (b"\x82\x20", "before the first"),
        (b"\x20\x3f\xe1\x1f\x20", "twice"),
        (b"\x3f\xe2\x1f", "what it was allowed"),
        (b"\x00\x05ab", "ends after its block"),
        (b"\x00\x81\x00\x01b", "middle of a code"),
        (b"\x00\x84\xff\xff\xff\xff\x00", "end of a string"),
    ],
)
def test_what_is_no_block_is_refused(bad: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Decoder(16384).decode(bad)


def test_a_block_unfolds_to_no_more_than_the_limit() -> None:
    """One entry of four kilobytes, referred to by one byte each."""
    decoder = Decoder(16384)
    decoder.decode(b"\x40\x01a\x7f" + b"\xa1\x1e" + bytes(4000))
    with pytest.raises(ValueError, match="above 16384"):
        decoder.decode(b"\xbe" * 16)


@given(st.binary(max_size=200))
def test_any_bytes_survive_the_code(data: bytes) -> None:
    assert huffman.decode(coded(data)) == data


@given(st.lists(st.tuples(st.binary(min_size=1, max_size=20), st.binary(max_size=300)), max_size=5))
def test_what_edged_encodes_it_reads(headers: list[Header]) -> None:
    decoder = Decoder(16384)
    assert decoder.decode(encode(headers)) == headers
    assert decoder.version == 0


@given(st.lists(st.binary(max_size=60), max_size=4))
def test_garbage_is_read_or_refused(blocks: list[bytes]) -> None:
    decoder = Decoder(4096)
    for one in blocks:
        try:
            found = decoder.decode(one)
        except (ValueError, IndexError):
            return
        assert sum(32 + len(name) + len(value) for name, value in found) <= 4096
