"""Every parser of what arrives signed, and how to tell that it keeps its word: a value or a refusal, nothing else.

tests/unit gives them what Hypothesis makes; tests/fuzz/documents.py, with --soak, what atheris finds.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable
from typing import Final, TypeVar

from edged.delivery import documents, envelope, keys, strict, trust
from edged.delivery.documents import Key, Release, Trust, Undo, Want
from edged.delivery.envelope import Envelope
from edged.delivery.strict import Malformed
from edged.errors import CODES, EdgedError
from tests.signing import Operator, release_of, sign, undo_of, want_of

T = TypeVar("T", Trust, Release, Want, Undo)

OPERATOR: Final = Operator()
RELEASE: Final = release_of({"model.onnx": b"model", "golden.npz": b"golden"})
WANT: Final = want_of(RELEASE)
UNDO: Final = undo_of(WANT)


def plain(content: bytes) -> None:
    with contextlib.suppress(Malformed):
        strict.plain(content)


def trust_document(content: bytes) -> None:
    _again(content, documents.read_trust)


def release_document(content: bytes) -> None:
    found = _again(content, documents.read_release)
    if found is not None:
        assert all(documents.is_file_name(name) for name in found.files)
        assert all(file.count * documents.HASH_SIZE <= file.chunk or file.count == 1 for file in found.files.values())


def want_document(content: bytes) -> None:
    _again(content, documents.read_want)


def undo_document(content: bytes) -> None:
    _again(content, documents.read_undo)


def any_envelope(content: bytes) -> None:
    try:
        found = envelope.decode(content, "trust", "release", "want", "undo")
    except Malformed:
        return
    assert envelope.decode(found.encode(), found.kind) == found
    assert found.sha256 == hashlib.sha256(found.payload).hexdigest()


def signed_as_release(content: bytes) -> None:
    """The payload of an envelope that the right key has signed: what a stolen key could send."""
    found = Envelope("release", content)
    found = found.with_signature(OPERATOR.release.keyid, OPERATOR.release.sign(found.signed))
    _refusal(lambda: trust.release(OPERATOR.trust, found.encode()))


def strangers(content: bytes) -> None:
    """What arrives on the topics, whoever sent it."""
    anchored = trust.Anchored(OPERATOR.trust, b"", "")
    _refusal(lambda: trust.root(content))
    _refusal(lambda: trust.advance(anchored, content))
    _refusal(lambda: trust.release(OPERATOR.trust, content))
    _refusal(lambda: trust.order(OPERATOR.trust, content))


def public_key(content: bytes) -> None:
    text = content.decode("latin-1")
    for scheme in keys.SCHEMES:
        try:
            found = keys.public(Key(scheme, text))
        except Malformed:
            continue
        assert found.keyid == keys.keyid(Key(scheme, text))


PARSERS: Final[dict[str, Callable[[bytes], None]]] = {
    "plain": plain,
    "trust": trust_document,
    "release": release_document,
    "want": want_document,
    "undo": undo_document,
    "envelope": any_envelope,
    "signed": signed_as_release,
    "strangers": strangers,
    "key": public_key,
}
# Something good for each to begin with.
SEEDS: Final[dict[str, bytes]] = {
    "plain": b'{"a": [1, -2.5e3, "\\u00e4", true, null]}',
    "trust": documents.encode(OPERATOR.trust),
    "release": documents.encode(RELEASE),
    "want": documents.encode(WANT),
    "undo": documents.encode(UNDO),
    "envelope": sign(WANT, OPERATOR.deploy, OPERATOR.root),
    "signed": documents.encode(release_of({"model.onnx": b""})),
    "strangers": sign(OPERATOR.trust, OPERATOR.root),
    "key": OPERATOR.deploy.key.public.encode(),
}


def _again(content: bytes, read: Callable[[bytes], T]) -> T | None:
    """What was read, which is the same when it is written and read again."""
    try:
        found = read(content)
    except Malformed:
        return None
    assert read(documents.encode(found)) == found
    return found


def _refusal(call: Callable[[], object]) -> None:
    try:
        call()
    except EdgedError as error:
        assert error.fault.code in CODES
