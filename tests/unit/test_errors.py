"""errors: one table of codes, and the shapes made from it."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from edged.errors import CODES, EdgedError, Fault, as_json, as_oip, fault, http_status

ROOT = Path(__file__).resolve().parents[2]

# These codes and statuses are promises that users' scripts rely on.
PROMISED = {
    "bad_input": 400,
    "poison_input": 400,
    "forbidden": 403,
    "unknown_model": 404,
    "too_large": 413,
    "internal": 500,
    "model_failed": 500,
    "queue_full": 503,
    "deadline": 503,
    "starting": 503,
    "over_memory": 503,
}


@pytest.mark.parametrize(("code", "status"), PROMISED.items())
def test_a_promised_code_keeps_its_status(code: str, status: int) -> None:
    assert http_status(code) == status


@pytest.mark.parametrize("code", CODES)
def test_every_code_says_what_it_means_and_what_to_do(code: str) -> None:
    assert re.fullmatch(r"[a-z][a-z_]*", code)
    assert CODES[code].means.endswith(".")
    assert CODES[code].hint
    assert 400 <= CODES[code].http < 600


def test_a_code_that_is_not_in_the_table_cannot_be_raised() -> None:
    with pytest.raises(KeyError, match="no_such_code"):
        EdgedError("no_such_code", "whatever")
    with pytest.raises(KeyError, match="no_such_code"):
        fault("no_such_code", "whatever")


def test_the_hint_is_the_tables_unless_one_is_given() -> None:
    assert fault("queue_full", "full").hint == CODES["queue_full"].hint
    assert fault("queue_full", "full", "wait").hint == "wait"
    assert fault("queue_full", "full", "").hint == ""
    assert EdgedError("queue_full", "full", "wait").fault == Fault("queue_full", "full", "wait")


def test_an_error_prints_its_code_and_message() -> None:
    assert str(EdgedError("queue_full", "64 inputs wait")) == "queue_full: 64 inputs wait"


def test_the_shapes() -> None:
    problem = Fault("deadline", "too late", "send slower")
    assert as_oip(problem) == {"error": "too late", "code": "deadline", "hint": "send slower"}
    assert as_json(problem) == {"code": "deadline", "message": "too late", "hint": "send slower"}
    assert list(as_json(problem, id="17")) == ["id", "code", "message", "hint"]
    assert list(as_json(problem, topic="cells/7")) == ["code", "message", "hint", "topic"]


def test_a_fault_travels_between_processes() -> None:
    problem = Fault("deadline", "zu spät", "send slower")
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(problem), type=Fault) == problem


def test_every_code_that_the_code_raises_is_in_the_table() -> None:
    """EdgedError checks at run time; this finds a slip in a line that no test reaches."""
    raised = re.compile(r'(?<![.\w])(?:EdgedError|fault|Fault)\(\s*"([^"]+)"')
    used = {code for file in (ROOT / "edged").rglob("*.py") for code in raised.findall(file.read_text())}
    assert used
    assert used <= set(CODES)
