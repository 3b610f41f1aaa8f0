"""The documents that docs/push-protocol.md shows: trust, a release of the digits example, a want and its undo, signed.

The keys are the hashes of their names, so that the page is the same every time it is made. Nobody must trust them.
"""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

from edged.delivery import documents, keys
from edged.delivery.chunks import cut
from edged.delivery.documents import HASH_SIZE, File, Release, Role, Roles, Trust, Undo, Want
from edged.delivery.envelope import Envelope, Signature
from edged.tensors import TensorSpec

_PKCS8 = bytes.fromhex("302e020100300506032b657004220420")  # RFC 8410, 7: an Ed25519 private key before its 32 bytes
_MODEL = Path(__file__).resolve().parent.parent / "examples/digits/digits_v2_int8.onnx"
_CHUNK = 16 * 1024  # so that this small file has more than one
_ISSUED = 1_790_000_000_000
_DAY = 86_400_000


def key(name: str) -> keys.PrivateKey:
    """An Ed25519 key whose secret everybody knows."""
    secret = base64.b64encode(_PKCS8 + hashlib.sha256(f"edged example {name}".encode()).digest())
    return keys.load_private(b"-----BEGIN PRIVATE KEY-----\n" + secret + b"\n-----END PRIVATE KEY-----\n")


def signed(document: Trust | Release | Want | Undo, by: str) -> Envelope:
    """In an envelope, signed by the key of that name."""
    bare = Envelope(type(document).__name__.lower(), documents.encode(document))
    signer = key(by)
    return Envelope(bare.kind, bare.payload, (Signature(signer.keyid, signer.sign(bare.signed)),))


def model() -> tuple[File, bytes]:
    """The release's file, and its index."""
    content = _MODEL.read_bytes()
    return cut((content[at : at + _CHUNK] for at in range(0, len(content), _CHUNK)), _CHUNK)


def all_of_them() -> tuple[Envelope, Envelope, Envelope, Envelope]:
    """Trust, release, want, undo."""
    names = ("root", "release", "deploy")
    roles = Roles(*(Role((key(name).keyid,)) for name in names))
    trust = Trust(version=1, keys={key(name).keyid: key(name).key for name in names}, roles=roles)
    release = signed(
        Release(
            model="digits",
            version=2,
            created=_ISSUED - _DAY,
            files={documents.MODEL_FILE: model()[0]},
            inputs=(TensorSpec("image", "FP32", (-1, 1, 8, 8)),),
            outputs=(TensorSpec("logits", "FP32", (-1, 10)),),
        ),
        "release",
    )
    order = {"model": "digits", "to": "group/line-2", "issued": _ISSUED, "expires": _ISSUED + 30 * _DAY}
    want = Want(**order, seq=_ISSUED, release=release.sha256, version=2)
    undo = Undo(**order, seq=_ISSUED + 1, release=release.sha256)
    return signed(trust, "root"), release, signed(want, "deploy"), signed(undo, "deploy")


def shown() -> list[str]:
    """The lines of the page: each payload, an envelope whole, an index."""
    trust, release, want, undo = all_of_them()
    topics = ("trust/1", f"release/{release.sha256}", "want/digits/group/line-2", "undo/digits/group/line-2")
    lines: list[str] = []
    for one, topic in zip((trust, release, want, undo), topics, strict=True):
        lines += [f"The payload on `edged/ota/{topic}`:", "", *_block(one.payload.decode(), "json")]
    lines += ["The whole message on `edged/ota/want/digits/group/line-2`:", "", *_block(want.encode().decode(), "json")]
    file, index = model()
    lines += [f"The message on `edged/ota/blob/{file.index}`, the index of `model.onnx`, in hex:", ""]
    return lines + _block("\n".join(index[at : at + HASH_SIZE].hex() for at in range(0, len(index), HASH_SIZE)))[:-1]


def _block(text: str, language: str = "") -> list[str]:
    return [f"```{language}", text, "```", ""]
