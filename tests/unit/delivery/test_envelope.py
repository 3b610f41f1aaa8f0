"""Envelopes: DSSE's shape, one way to write each."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.delivery.envelope import SIGNATURES, Envelope, Signature, decode, pae
from edged.delivery.strict import Malformed

KINDS = ("trust", "release", "want", "undo")


def content(**changes: object) -> bytes:
    whole: dict[str, object] = {"payloadType": "edged/want+json;v=1", "payload": "e30=", "signatures": []}
    return json.dumps({**whole, **changes}).encode()


def test_what_is_signed_is_dsses_encoding() -> None:
    """The example of the protocol's own text."""
    assert pae("http://example.com/HelloWorld", b"hello world") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )
    assert Envelope("want", b"{}").signed == b"DSSEv1 19 edged/want+json;v=1 2 {}"


def test_the_wire_form() -> None:
    found = Envelope("want", b"{}").with_signature("0" * 16, b"\1\2")
    assert json.loads(found.encode()) == {
        "payloadType": "edged/want+json;v=1",
        "payload": "e30=",
        "signatures": [{"keyid": "0" * 16, "sig": "AQI="}],
    }


@given(
    kind=st.sampled_from(KINDS),
    payload=st.binary(max_size=200),
    signatures=st.lists(
        st.builds(Signature, st.text("0123456789abcdef", max_size=16), st.binary(max_size=80)), max_size=SIGNATURES
    ),
)
def test_an_envelope_comes_back(kind: str, payload: bytes, signatures: list[Signature]) -> None:
    found = Envelope(kind, payload, tuple(signatures))
    assert decode(found.encode(), *KINDS) == found


def test_a_key_signs_once() -> None:
    found = Envelope("want", b"{}").with_signature("a", b"1").with_signature("b", b"2").with_signature("a", b"3")
    assert found.signatures == (Signature("b", b"2"), Signature("a", b"3"))
    assert found.sha256 == Envelope("want", b"{}").sha256


@pytest.mark.parametrize(
    "changes",
    [
        {"payloadType": "edged/release+json;v=1"},
        {"payloadType": "edged/want+json;v=2"},
        {"payloadType": "application/json"},
        {"payload": "e30"},
        {"payload": "e31="},
        {"payload": "e30=\n"},
        {"payload": 1},
        {"signatures": [{"keyid": "a", "sig": "AQI=", "more": 1}]},
        {"signatures": [{"keyid": "a"}]},
        {"signatures": [{"keyid": "a" * 65, "sig": "AQI="}]},
        {"signatures": [{"keyid": "a", "sig": base64.b64encode(b"x" * 600).decode()}]},
        {"signatures": [{"keyid": "a", "sig": "AQI="}] * (SIGNATURES + 1)},
        {"signatures": {}},
        {"more": 1},
    ],
)
def test_an_envelope_is_what_it_says_and_no_more(changes: dict[str, object]) -> None:
    assert decode(content(), "want") == Envelope("want", b"{}")
    with pytest.raises(Malformed):
        decode(content(**changes), "want")
