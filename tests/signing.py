"""Keys, and documents signed with them, for tests: a fleet's operator in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import msgspec

from edged.delivery import documents, keys
from edged.delivery.documents import Order, Release, Role, Roles, Trust, Undo, Want
from edged.delivery.envelope import Envelope
from edged.delivery.keys import PrivateKey
from edged.tensors import TensorSpec

ISSUED_MS = 1_780_000_000_000  # 2026-05-28
WEEK_MS = 7 * 24 * 3600 * 1000


class Operator:
    """One key a role; `trust` names them, version 1."""

    def __init__(self) -> None:
        self.root = keys.generate()
        self.release = keys.generate()
        self.deploy = keys.generate("ecdsa-p256")
        self.trust = trust_of([self.root], [self.release], [self.deploy])

    def sign_trust(self, trust: Trust | None = None, *more: PrivateKey) -> bytes:
        return sign(trust or self.trust, self.root, *more)

    def sign_release(self, release: Release) -> bytes:
        return sign(release, self.release)

    def sign_order(self, order: Order) -> bytes:
        return sign(order, self.deploy)


def trust_of(
    root: Iterable[PrivateKey], release: Iterable[PrivateKey], deploy: Iterable[PrivateKey], *, threshold: int = 1
) -> Trust:
    """A trust document, version 1; `threshold` is that of root."""
    root, release, deploy = list(root), list(release), list(deploy)
    return Trust(
        version=1,
        keys={one.keyid: one.key for one in (*root, *release, *deploy)},
        roles=Roles(
            root=Role(tuple(one.keyid for one in root), threshold),
            release=Role(tuple(one.keyid for one in release)),
            deploy=Role(tuple(one.keyid for one in deploy)),
        ),
    )


def sign(document: Trust | Release | Order, *by: PrivateKey) -> bytes:
    """The document's envelope, signed by each of `by`."""
    found = Envelope(type(document).__name__.lower(), documents.encode(document))
    for key in by:
        found = found.with_signature(key.keyid, key.sign(found.signed))
    return found.encode()


def sha256_of(document: Trust | Release | Order) -> str:
    """The document's name."""
    return hashlib.sha256(documents.encode(document)).hexdigest()


def file_of(content: bytes, chunk: int = documents.CHUNK) -> documents.File:
    """How a release writes down a file with this content."""
    hashes = [hashlib.sha256(content[at : at + chunk]).digest() for at in range(0, max(1, len(content)), chunk)]
    index = hashlib.sha256(b"".join(hashes)).hexdigest()
    return documents.File(len(content), hashlib.sha256(content).hexdigest(), index, chunk)


def release_of(files: dict[str, bytes], *, model: str = "digits", version: int = 2) -> Release:
    """A release of these files, `model.onnx` among them, that takes x and gives y, one FP32 each."""
    return Release(
        model=model,
        version=version,
        created=ISSUED_MS,
        files={name: file_of(content) for name, content in files.items()},
        inputs=(TensorSpec("x", "FP32", (1,)),),
        outputs=(TensorSpec("y", "FP32", (1,)),),
    )


def want_of(release: Release, *, to: str = "all", seq: int = ISSUED_MS, **changes: object) -> Want:
    """A want for the release that ends a week later."""
    found = Want(
        model=release.model,
        to=to,
        seq=seq,
        issued=ISSUED_MS,
        expires=ISSUED_MS + WEEK_MS,
        release=sha256_of(release),
        version=release.version,
    )
    return msgspec.structs.replace(found, **changes)


def undo_of(want: Want) -> Undo:
    """The way back from `want`: the next in its sequence."""
    return Undo(want.model, want.to, want.seq + 1, want.issued, want.expires, want.release, want.epoch)
