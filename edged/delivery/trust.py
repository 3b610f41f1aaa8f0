"""Who may sign what: the box's root of trust, its successors, and which signatures on a document count.

The rules are TUF's (https://theupdateframework.github.io/specification/latest/, 5.3 and 6.1):

- a role's threshold counts distinct keys, not signatures; a key's id is the hash of the key;
- a trust document is signed by its own root role, and takes the place of the one before only when its version
  is the next one and the one before's root role has signed it too;
- nothing that a document says is read before its signatures count, but for a root's own;
- what a document was signed by is asked again under a newer trust: a key that is gone counts no more.

When a trust document ends (`expires`) is want.py's to ask: it ends new orders, not the walk to its successor.
Pure but for loading cryptography.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, Generic, Literal, TypeVar

import msgspec

from edged.delivery import documents, envelope, keys
from edged.delivery.documents import Order, Release, Role, Trust
from edged.delivery.envelope import Envelope
from edged.delivery.strict import Malformed
from edged.errors import EdgedError

RoleName = Literal["root", "release", "deploy"]
ROLES: Final[tuple[RoleName, ...]] = ("root", "release", "deploy")
STEPS: Final = 64  # successors walked in one go: a box may have been in a drawer for years, not for ever

D = TypeVar("D")


class Anchored(msgspec.Struct, frozen=True):
    """A trust document that the box believes. `envelope` is how it came, `sha256` its name."""

    trust: Trust
    envelope: bytes
    sha256: str


class Signed(msgspec.Struct, Generic[D], frozen=True):
    """A document that enough keys of its role have signed: `signers` are their ids, `sha256` is its name."""

    document: D
    sha256: str
    signers: tuple[str, ...]


def root(content: bytes) -> Anchored:
    """The trust document that the box was configured with. Raises EdgedError bad_document, signature."""
    found = _decoded(content, "trust")
    trust = _trust(found)
    _require(trust, "root", found)
    return Anchored(trust, content, found.sha256)


def advance(now: Anchored, content: bytes) -> Anchored:
    """The successor of `now`. Raises EdgedError bad_document, signature; `now` stays good then."""
    found = _decoded(content, "trust")
    _require(now.trust, "root", found)
    trust = _trust(found)
    if trust.version != now.trust.version + 1:
        raise EdgedError("bad_document", f"trust version {trust.version} does not follow {now.trust.version}")
    if trust.epoch < now.trust.epoch:
        raise EdgedError("bad_document", f"trust version {trust.version} goes back to epoch {trust.epoch}")
    _require(trust, "root", found)
    return Anchored(trust, content, found.sha256)


def release(trust: Trust, content: bytes) -> Signed[Release]:
    """A release that its role has signed. Raises EdgedError bad_document, signature."""
    found = _decoded(content, "release")
    signed_by = _require(trust, "release", found)
    return Signed(_read(found, documents.read_release), found.sha256, signed_by)


def order(trust: Trust, content: bytes) -> Signed[Order]:
    """A want or an undo that the deploy role has signed. Raises EdgedError bad_document, signature."""
    found = _decoded(content, "want", "undo")
    signed_by = _require(trust, "deploy", found)
    read: Callable[[bytes], Order] = documents.read_want if found.kind == "want" else documents.read_undo
    return Signed(_read(found, read), found.sha256, signed_by)


def counts(trust: Trust, role: RoleName, signers: Iterable[str]) -> bool:
    """Whether `signers`, who signed once, still reach the role's threshold under this trust."""
    asked = role_of(trust, role)
    return len(set(signers) & set(asked.keyids)) >= asked.threshold


def signers(trust: Trust, role: RoleName, found: Envelope) -> tuple[str, ...]:
    """The ids of the role's keys whose signature is good, each once."""
    asked = set(role_of(trust, role).keyids)
    good: dict[str, None] = {}
    for one in found.signatures:
        if one.keyid not in asked or one.keyid in good:
            continue
        if keys.public(trust.keys[one.keyid]).verify(one.sig, found.signed):
            good[one.keyid] = None
    return tuple(good)


def role_of(trust: Trust, role: RoleName) -> Role:
    """Who may sign as `role`."""
    found: Role = getattr(trust.roles, role)
    return found


def roles_of(trust: Trust, keyid: str) -> tuple[RoleName, ...]:
    """The roles that the key has."""
    return tuple(name for name in ROLES if keyid in role_of(trust, name).keyids)


def check_keys(trust: Trust) -> None:
    """That each key is one, and its id its own. Raises Malformed."""
    for keyid, key in trust.keys.items():
        if keys.public(key).keyid != keyid:
            raise Malformed(f"the key {keyid} has another id")


def _decoded(content: bytes, *kinds: str) -> Envelope:
    try:
        return envelope.decode(content, *kinds)
    except Malformed as error:
        raise EdgedError("bad_document", f"an envelope: {error}") from error


def _read(found: Envelope, read: Callable[[bytes], D]) -> D:
    try:
        return read(found.payload)
    except Malformed as error:
        raise EdgedError("bad_document", f"a {found.kind} document: {error}") from error


def _trust(found: Envelope) -> Trust:
    trust = _read(found, documents.read_trust)
    try:
        check_keys(trust)
    except Malformed as error:
        raise EdgedError("bad_document", f"a trust document: {error}") from error
    return trust


def _require(trust: Trust, role: RoleName, found: Envelope) -> tuple[str, ...]:
    good = signers(trust, role, found)
    needed = role_of(trust, role).threshold
    if len(good) < needed:
        raise EdgedError(
            "signature", f"a {found.kind} document has {len(good)} of {needed} signatures that count for {role}"
        )
    return good
