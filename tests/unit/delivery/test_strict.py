"""JSON from strangers: what is read, what is refused, and that nothing else can come of it."""

from __future__ import annotations

import base64
import json
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edged.delivery import strict
from edged.delivery.strict import DEEPEST, LARGEST, Malformed, base64_bytes, plain

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(-(2.0**52), 2.0**52)
    | st.text(st.characters(codec="utf-8"), max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)


def depth(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(depth, inner), default=0)


def whole(value: Any) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


@given(VALUES)
def test_what_is_written_is_read(value: Any) -> None:
    if depth(value) <= DEEPEST and whole(value):
        assert plain(json.dumps(value).encode()) == value
        assert plain(json.dumps(value, ensure_ascii=False).encode()) == value


@given(st.binary(max_size=300) | st.text('[]{}",:\\u0dDeE1.-tru fals\n', max_size=100).map(str.encode))
@example(b"[" * LARGEST)
@example(b'{"a":' * 20_000)
@example(b"[1e999]")
@example(b"1" * 5000)
@example(b'"\\ud800"')
@example(b'\xef\xbb\xbf"byte order mark"')
@example("\ud800".encode("utf-8", "surrogatepass"))
def test_any_bytes_are_a_value_or_malformed(content: bytes) -> None:
    try:
        value = plain(content)
    except Malformed:
        return
    assert depth(value) <= DEEPEST
    assert whole(value)
    assert plain(json.dumps(value).encode()) == value


def test_ota_F48_more_than_64_kib_is_not_even_looked_at() -> None:
    assert plain(b'"' + b"a" * (LARGEST - 2) + b'"')
    with pytest.raises(Malformed, match="65537 bytes"):
        plain(b'"' + b"a" * (LARGEST - 1) + b'"')
    with pytest.raises(Malformed, match="11 bytes"):
        plain(b'"123456789"', largest=10)


def test_ota_F48_eight_levels_and_no_more() -> None:
    assert plain(b"[" * DEEPEST + b"]" * DEEPEST)
    assert plain(json.dumps("[" * 100).encode()) == "[" * 100
    for content in (b"[" * 9 + b"]" * 9, b'{"a":' * 9 + b"1" + b"}" * 9, b"[" * 50_000, b"[{" * 30_000):
        with pytest.raises(Malformed):
            plain(content)


def test_ota_F48_a_name_comes_once() -> None:
    with pytest.raises(Malformed, match="twice"):
        plain(b'{"version": 1, "version": 2}')
    with pytest.raises(Malformed, match="twice"):
        plain(b'[{"a": {"b": 1, "\\u0062": 2}}]')


@pytest.mark.parametrize(
    "number", ["9007199254740992", "-9007199254740992", "1" * 4000, "1" * 60_000, "1e16", "1e999", "-1e999", "9" * 400]
)
def test_ota_F48_a_number_is_one_that_every_reader_keeps(number: str) -> None:
    with pytest.raises(Malformed):
        plain(number.encode())
    with pytest.raises(Malformed):
        plain(b'{"a": [' + number.encode() + b"]}")


def test_the_largest_numbers_that_are_kept() -> None:
    assert plain(b"[9007199254740991, -9007199254740991, 1e15, 1e-400]") == [2**53 - 1, 1 - 2**53, 1e15, 0.0]


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity"])
def test_words_that_are_no_numbers(word: str) -> None:
    with pytest.raises(Malformed, match="no number"):
        plain(word.encode())


@pytest.mark.parametrize("text", [r'"\ud800"', r'{"\udfff": 1}', r'["\udc00\ud800"]', r'"a\ud83d"'])
def test_half_a_character_is_none(text: str) -> None:
    """It could not be written down again, nor shown."""
    with pytest.raises(Malformed, match="half"):
        plain(text.encode())
    assert plain(rb'"\ud83d\ude00"') == "\U0001f600"
    assert plain(rb'"\\ud800"') == "\\ud800"


class Known(msgspec.Struct, forbid_unknown_fields=True):
    a: int


@pytest.mark.parametrize(
    "content", [b'{"a": 1, "b": 2}', b"{}", b'{"a": 1.0}', b'{"a": "1"}', b'{"a": true}', b"[1]", b"1", b"null", b""]
)
def test_a_struct_is_what_it_says_and_no_more(content: bytes) -> None:
    assert strict.read(b'{"a": 1}', Known) == Known(1)
    with pytest.raises(Malformed):
        strict.read(content, Known)


@given(st.binary(max_size=50))
def test_base64_comes_back(content: bytes) -> None:
    assert base64_bytes(base64.b64encode(content).decode()) == content


@given(st.text(max_size=12))
@example("QR==")  # bits left over
@example("QQ")
@example("QQ==\n")
@example("Q-_=")
@example("\ud800")
def test_base64_has_one_way(text: str) -> None:
    try:
        found = base64_bytes(text)
    except Malformed:
        return
    assert base64.b64encode(found).decode() == text
