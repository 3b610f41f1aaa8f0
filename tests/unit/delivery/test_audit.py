"""The audit's chain: what was changed, taken out or put in shows, and where."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.delivery.audit import FIRST_PREV, Chain, Decision, Entry, Link, decode, encode, entry

NOW_MS = 1_780_000_000_123


def chain(count: int, after: Link = Link()) -> list[bytes]:  # noqa: B008 - a frozen value
    """Lines without their newline."""
    found = []
    for number in range(count):
        line, after = encode(entry(Decision("switched", f"the {number}th", "digits", "2"), after, NOW_MS + number))
        found.append(line.rstrip(b"\n"))
    return found


def problems(lines: list[bytes]) -> list[str]:
    walk = Chain()
    return [problem for _, problem in map(walk.take, lines) if problem]


def test_a_line_is_json_with_its_hash_at_the_end() -> None:
    line, link = encode(
        entry(Decision("rolled_back", "back", "digits", "2", "ab" * 32, "undone", "uid 0"), Link(), NOW_MS)
    )
    found = json.loads(line)
    assert found == {
        "n": 1,
        "ts": "2026-05-28T20:26:40.123Z",
        "event": "rolled_back",
        "message": "back",
        "model": "digits",
        "version": "2",
        "sha256": "ab" * 32,
        "code": "undone",
        "by": "uid 0",
        "prev": FIRST_PREV,
        "hash": link.hash,
    }
    assert line.endswith(b'"}\n')
    assert list(found)[-1] == "hash"


def test_a_whole_chain_has_no_problem_and_may_begin_later() -> None:
    lines = chain(5)
    assert problems(lines) == []
    assert problems(lines[2:]) == []


def test_a_line_that_was_changed_shows_and_the_rest_is_still_good() -> None:
    lines = chain(5)
    lines[2] = lines[2].replace(b"digits", b"digitz")
    assert problems(lines) == ["entry 3 was changed"]


def test_a_line_that_was_changed_and_hashed_anew_shows_at_the_next_one() -> None:
    lines = chain(5)
    forged = msgspec.structs.replace(decode(lines[2])[0], model="other")
    lines[2] = encode(forged)[0].rstrip(b"\n")
    assert problems(lines) == ["entry 4 does not follow from entry 3"]


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda lines: lines[:2] + lines[3:], ["entry 2 is followed by entry 4"]),
        (lambda lines: [*lines[:2], lines[1], *lines[2:]], ["entry 2 is followed by entry 2"]),
        (lambda lines: [*lines[:2], b"not a line", *lines[2:]], ["a line after entry 2 cannot be read"]),
        (lambda lines: [b"", *lines], ["a line cannot be read"]),
        (
            lambda lines: [lines[0], lines[2], lines[1]],
            ["entry 1 is followed by entry 3", "entry 3 is followed by entry 2"],
        ),
    ],
)
def test_what_was_taken_out_or_put_in_shows(change: object, found: list[str]) -> None:
    assert callable(change)
    assert problems(change(chain(3) + chain(2, decode(chain(3)[-1])[1]))[:5])[: len(found)] == found


def test_a_first_line_that_follows_from_nothing_shows() -> None:
    line, _ = encode(entry(Decision("started", "x"), Link(0, "1" * 64), NOW_MS))
    assert problems([line.rstrip(b"\n")]) == ["entry 1 was changed"]


@given(st.binary(max_size=300))
def test_no_bytes_are_too_strange(content: bytes) -> None:
    walk = Chain()
    found, problem = walk.take(content)
    assert found is None
    assert problem


@given(st.integers(0), st.binary(min_size=1, max_size=1))
def test_any_change_of_a_byte_shows(position: int, byte: bytes) -> None:
    lines = chain(3)
    at = position % len(lines[1])
    changed = lines[1][:at] + byte + lines[1][at + 1 :]
    assert bool(problems([lines[0], changed, lines[2]])) is (changed != lines[1])


@given(st.text(max_size=3000))
def test_what_a_stranger_wrote_cannot_break_the_line(text: str) -> None:
    line, _ = encode(entry(Decision("rejected", text, code="unsigned"), Link(), NOW_MS))
    assert line.count(b"\n") == 1
    found, _, whole = decode(line[:-1])
    assert whole
    assert isinstance(found, Entry)
    assert found.message == text[:2000].encode("utf-8", "backslashreplace").decode()


def test_a_path_that_is_no_utf8_can_be_told() -> None:
    line, _ = encode(entry(Decision("reload_refused", "/etc/\udcff.yaml"), Link(), NOW_MS))
    assert rb"\\udcff" in line
