"""A signed document as it travels: payload, its type, and signatures over both, in the shape of DSSE v1.

What is signed are bytes, so there is no canonical form to agree on: PAE of
https://github.com/secure-systems-lab/dsse/blob/master/protocol.md. Pure; who may sign what is trust.py's.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import Any, Final

import msgspec

from edged.delivery import strict
from edged.delivery.strict import Malformed

SIGNATURES: Final = 16  # of one envelope; each costs a verification
_LONGEST: Final = 512  # bytes of a signature: Ed25519 has 64, ECDSA P-256 up to 72
TYPE: Final = "edged/{}+json;v=1"


class Signature(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`keyid` only says which key to try. `sig` is base64 in the envelope, bytes here."""

    keyid: str
    sig: bytes


class Envelope(msgspec.Struct, frozen=True):
    """`kind` is trust, release, want or undo; `payload` the very bytes that were signed."""

    kind: str
    payload: bytes
    signatures: tuple[Signature, ...] = ()

    @property
    def sha256(self) -> str:
        """The document's name: it stays when signatures are added."""
        return hashlib.sha256(self.payload).hexdigest()

    @property
    def signed(self) -> bytes:
        """What a signature is over."""
        return pae(TYPE.format(self.kind), self.payload)

    def encode(self) -> bytes:
        """The envelope as JSON. `decode` takes it."""
        signatures = [{"keyid": one.keyid, "sig": base64.b64encode(one.sig).decode()} for one in self.signatures]
        payload = base64.b64encode(self.payload).decode()
        return msgspec.json.encode(
            {"payloadType": TYPE.format(self.kind), "payload": payload, "signatures": signatures}
        )


class _Signature(msgspec.Struct, forbid_unknown_fields=True):
    keyid: str
    sig: str


class _Envelope(msgspec.Struct, forbid_unknown_fields=True):
    payloadType: str  # noqa: N815 - DSSE's own name
    payload: str
    signatures: list[_Signature] = []


def decode(content: bytes, kind: str) -> Envelope:
    """An envelope of this kind. Raises Malformed; nothing is verified."""
    found = strict.read(content, _Envelope)
    if found.payloadType != TYPE.format(kind):
        raise Malformed(f"payloadType is {found.payloadType[:60]!r} where {TYPE.format(kind)!r} is expected")
    if len(found.signatures) > SIGNATURES:
        raise Malformed(f"more than {SIGNATURES} signatures")
    signatures = tuple(Signature(one.keyid[:64], _base64(one.sig)) for one in found.signatures)
    if any(len(one.sig) > _LONGEST for one in signatures):
        raise Malformed("a signature is too long")
    return Envelope(kind, _base64(found.payload), signatures)


def pae(kind: str, payload: bytes) -> bytes:
    """DSSE's pre-authentication encoding."""
    name = kind.encode()
    return b"DSSEv1 %d %s %d %s" % (len(name), name, len(payload), payload)


def _base64(text: Any) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Malformed("base64 is expected") from error
