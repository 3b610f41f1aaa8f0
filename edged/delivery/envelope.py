"""A signed document as it travels: payload, its type, and signatures over both, in the shape of DSSE v1.

What is signed are bytes, so there is no canonical form to agree on: PAE of
https://github.com/secure-systems-lab/dsse/blob/master/protocol.md. Pure; who may sign what is trust.py's.
"""

from __future__ import annotations

import base64
import hashlib
from typing import Final

import msgspec

from edged.delivery import strict
from edged.delivery.strict import Malformed, base64_bytes

SIGNATURES: Final = 16  # of one envelope; each costs a verification
_LONGEST: Final = 512  # bytes of a signature: Ed25519 has 64, ECDSA P-256 up to 72
_LONGEST_ID: Final = 64
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

    def with_signature(self, keyid: str, sig: bytes) -> Envelope:
        """The same with this signature, in the place of an earlier one of the key."""
        others = tuple(one for one in self.signatures if one.keyid != keyid)
        return Envelope(self.kind, self.payload, (*others, Signature(keyid, sig)))

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


def decode(content: bytes, *kinds: str) -> Envelope:
    """An envelope of one of these kinds. Raises Malformed; nothing is verified."""
    found = strict.read(content, _Envelope)
    kind = next((one for one in kinds if found.payloadType == TYPE.format(one)), None)
    if kind is None:
        expected = " or ".join(TYPE.format(one) for one in kinds)
        raise Malformed(f"payloadType is {found.payloadType[:60]!r} where {expected} is expected")
    if len(found.signatures) > SIGNATURES:
        raise Malformed(f"more than {SIGNATURES} signatures")
    signatures = tuple(_signature(one) for one in found.signatures)
    return Envelope(kind, base64_bytes(found.payload), signatures)


def pae(kind: str, payload: bytes) -> bytes:
    """DSSE's pre-authentication encoding."""
    name = kind.encode()
    return b"DSSEv1 %d %s %d %s" % (len(name), name, len(payload), payload)


def _signature(found: _Signature) -> Signature:
    if len(found.keyid) > _LONGEST_ID or len(found.sig) > _LONGEST * 4 // 3 + 4:
        raise Malformed("a signature or its keyid is too long")
    return Signature(found.keyid, base64_bytes(found.sig))
