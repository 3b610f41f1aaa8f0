"""Keys: what their ids are, whether a signature is one of theirs, and, for operators, the private halves.

The only user of cryptography, which is loaded at the first signature and not before: a box that takes no
signed release never pays its 25 ms. Ed25519, and ECDSA over P-256 with SHA-256 for what keeps keys in
hardware (PIV cards, TPMs and most clouds have no Ed25519).
"""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec

from edged.delivery.documents import Key
from edged.delivery.strict import Malformed, base64_bytes
from edged.errors import EdgedError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519

    Secret = ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey

Scheme = Literal["ed25519", "ecdsa-p256"]
SCHEMES: Final[tuple[Scheme, ...]] = ("ed25519", "ecdsa-p256")
_ID_DIGITS: Final = 16  # 64 bits: a second key of one's own id takes 2^64 tries, and root signs each key anyway


class PublicKey(msgspec.Struct, frozen=True):
    """A key that somebody may sign with. `key` is how a trust document writes it down."""

    keyid: str
    scheme: Scheme
    key: Key

    def verify(self, signature: bytes, message: bytes) -> bool:
        """Whether `signature` (Ed25519: 64 bytes; ECDSA: DER) is this key's over `message`. Never raises."""
        from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec, ed25519

        try:
            public = _loaded(self.key)
            if isinstance(public, ed25519.Ed25519PublicKey):
                public.verify(signature, message)
            else:
                public.verify(signature, message, ec.ECDSA(hashes.SHA256()))
        except (InvalidSignature, UnsupportedAlgorithm, Malformed, ValueError):
            return False
        return True

    def pem(self) -> bytes:
        """As `openssl pkey -pubout` writes it."""
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        found: bytes = _loaded(self.key).public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        return found


class PrivateKey(msgspec.Struct, frozen=True):
    """A key that signs. Its secret is not shown when it is printed."""

    public: PublicKey
    _secret: Any

    def __repr__(self) -> str:
        return f"PrivateKey({self.keyid})"

    @property
    def keyid(self) -> str:
        return self.public.keyid

    @property
    def key(self) -> Key:
        return self.public.key

    def sign(self, message: bytes) -> bytes:
        """Ed25519: 64 bytes; ECDSA: DER."""
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec

        if isinstance(self._secret, ec.EllipticCurvePrivateKey):
            return self._secret.sign(message, ec.ECDSA(hashes.SHA256()))
        signature: bytes = self._secret.sign(message)
        return signature

    def pem(self, passphrase: bytes | None = None) -> bytes:
        """PKCS #8, encrypted where there is a passphrase."""
        from cryptography.hazmat.primitives import serialization

        kept: serialization.KeySerializationEncryption = serialization.NoEncryption()
        if passphrase:
            kept = serialization.BestAvailableEncryption(passphrase)
        found: bytes = self._secret.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, kept)
        return found


def keyid(key: Key) -> str:
    """The id: SHA-256 of the DER SubjectPublicKeyInfo, its first 16 hex digits. Raises Malformed."""
    return hashlib.sha256(base64_bytes(key.public)).hexdigest()[:_ID_DIGITS]


def public(key: Key) -> PublicKey:
    """The key that a trust document writes down as `key`.

    Raises Malformed: no DER, another scheme, or written down in a way that is not the usual one: the same
    key must not get two ids, or it would count twice.
    """
    _loaded(key)
    return PublicKey(keyid(key), key.scheme, key)


def generate(scheme: Scheme = "ed25519") -> PrivateKey:
    """A new key from the operating system's random numbers."""
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519

    secret = ed25519.Ed25519PrivateKey.generate() if scheme == "ed25519" else ec.generate_private_key(ec.SECP256R1())
    return _private(secret)


def load_private(pem: bytes, passphrase: bytes | None = None) -> PrivateKey:
    """A private key from PEM. Raises EdgedError bad_key."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        secret = load_pem_private_key(pem, passphrase)
    except TypeError as error:  # a passphrase where there is none, or none where there is one
        raise EdgedError("bad_key", str(error).rstrip(".")) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        why = "the passphrase is wrong, or it is no private key" if passphrase else "it is no private key as PEM"
        raise EdgedError("bad_key", why) from error
    return _private(secret)


def load_public(pem: bytes) -> PublicKey:
    """A public key from PEM, or that of a certificate-less token exported with openssl. Raises EdgedError bad_key."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        return _public(load_pem_public_key(pem))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise EdgedError("bad_key", "it is no public key as PEM", "`openssl pkey -pubout` writes one.") from error


def _private(secret: Any) -> PrivateKey:
    return PrivateKey(_public(secret.public_key() if hasattr(secret, "public_key") else None), secret)


def _public(found: Any) -> PublicKey:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    scheme = _scheme(found)
    if scheme is None:
        raise EdgedError("bad_key", "it is neither an Ed25519 nor a P-256 key", "`edged keys new` makes one.")
    der = found.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    key = Key(scheme, base64.b64encode(der).decode())
    return PublicKey(keyid(key), scheme, key)


def _loaded(key: Key) -> Any:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

    der = base64_bytes(key.public)
    try:
        found = load_der_public_key(der)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise Malformed("a key is not a public key as DER") from error
    if _scheme(found) != key.scheme:
        raise Malformed(f"a key is not of the scheme {key.scheme}")
    if found.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) != der:
        raise Malformed("a key is not written in DER's one way")
    return found


def _scheme(found: Any) -> Scheme | None:
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519

    if isinstance(found, ed25519.Ed25519PublicKey):
        return "ed25519"
    if isinstance(found, ec.EllipticCurvePublicKey) and isinstance(found.curve, ec.SECP256R1):
        return "ecdsa-p256"
    return None
