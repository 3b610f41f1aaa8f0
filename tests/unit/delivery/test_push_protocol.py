"""docs/push-protocol.md, read by somebody who has that page and a cryptographic library, and nothing of edged's."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_der_public_key

from edged.delivery import documents, trust
from edged.delivery.documents import Release, Trust, Undo, Want

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs/push-protocol.md").read_text()
SHOWN = re.compile(
    r"^The (?:payload|whole message|message) on `([^`]+)`[^\n]*:\n\n```\w*\n(.*?)\n```", re.MULTILINE | re.DOTALL
)
MESSAGES = dict(SHOWN.findall(PAGE))  # of the want's topic the whole message, which comes after its payload


def shown(topic: str) -> bytes:
    """The payload that the page shows for the topic that begins so."""
    (found,) = [text for name, text in MESSAGES.items() if name.startswith(f"edged/ota/{topic}")]
    return str(found).encode()


def name(payload: bytes) -> str:
    return hashlib.sha256(payload).hexdigest()


def fields(payload: bytes) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(payload)
    return found


def test_the_page_shows_all_of_them() -> None:
    kinds = [topic.split("/")[2] for topic, _ in SHOWN.findall(PAGE)]
    assert kinds == ["trust", "release", "want", "undo", "want", "blob"]


def test_a_release_is_named_by_its_payload_and_a_key_by_itself() -> None:
    assert f"edged/ota/release/{name(shown('release/'))}" in MESSAGES
    for keyid, key in fields(shown("trust/"))["keys"].items():
        assert keyid == name(base64.b64decode(key["public"]))[:16]
    assert fields(undo())["release"] == name(shown("release/"))


def undo() -> bytes:
    return shown("undo/")


def test_the_wants_signature_is_over_what_the_page_says() -> None:
    sealed = fields(shown("want/"))
    payload = base64.b64decode(sealed["payload"], validate=True)
    assert payload.decode() in PAGE
    kind = sealed["payloadType"]
    assert kind == "edged/want+json;v=1"
    signed = f"DSSEv1 {len(kind)} {kind} {len(payload)} ".encode() + payload
    (one,) = sealed["signatures"]
    trusted = fields(shown("trust/"))
    assert one["keyid"] in trusted["roles"]["deploy"]["keyids"]
    public = load_der_public_key(base64.b64decode(trusted["keys"][one["keyid"]]["public"]))
    assert isinstance(public, Ed25519PublicKey)
    public.verify(base64.b64decode(one["sig"]), signed)
    order, back = fields(payload), fields(undo())
    assert (back["to"], back["release"], back["seq"]) == (order["to"], order["release"], order["seq"] + 1)


def test_the_index_is_the_hashes_of_the_files_chunks(digits: Path) -> None:
    (file,) = fields(shown("release/"))["files"].values()
    content = (digits / "digits_v2_int8.onnx").read_bytes()
    chunks = [content[at : at + file["chunk"]] for at in range(0, len(content), file["chunk"])]
    index = b"".join(hashlib.sha256(chunk).digest() for chunk in chunks)
    assert bytes.fromhex(shown("blob/").decode()) == index
    assert (file["size"], file["sha256"], file["index"]) == (len(content), name(content), name(index))


def test_a_box_takes_the_message_as_it_is_shown() -> None:
    found = trust.order(documents.read_trust(shown("trust/")), shown("want/"))
    assert isinstance(found.document, Want)
    assert found.document.release == name(shown("release/"))
    assert documents.read_release(shown("release/")).model == found.document.model


def test_every_field_is_explained() -> None:
    """A field that a document gains shows here until the page names it."""
    for document, fixed in ((Release, "release"), (Want, "want"), (Trust, "trust"), (Undo, "want")):
        table = re.search(rf"^\| {fixed} \| \|\n(.*?)\n\n", PAGE, re.MULTILINE | re.DOTALL)
        assert table is not None
        words = set(re.findall(r"`(\w+)`", table[1]))
        assert {one for one in document.__struct_fields__ if one not in words} == set(), document
