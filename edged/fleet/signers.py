"""Who signs for the operator: keys of the ring, or a program that has one (a card, a TPM, a cloud's key store, a CI).

A signature is checked with the public key before it is used, whoever made it.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import shlex
import subprocess
import tempfile
from collections.abc import Iterable
from typing import Final, Protocol

import msgspec

from edged.delivery import trust as trusts
from edged.delivery.documents import Trust
from edged.delivery.envelope import SIGNATURES, Envelope
from edged.delivery.keys import PublicKey
from edged.delivery.trust import RoleName
from edged.errors import EdgedError
from edged.fleet.keyring import Ask, Keyring

_PATIENCE_S: Final = 120.0  # somebody may have to type a PIN and touch a card
_LARGEST: Final = 4096  # of what the program prints; a signature has 64 to 72 bytes, 96 in base64
FILE: Final = "{}"  # in a command: the name of a file with the bytes, for programs that read none from a pipe


class Signer(Protocol):
    """Whoever signs. `sign` raises EdgedError bad_key."""

    @property
    def keyid(self) -> str: ...

    def sign(self, message: bytes) -> bytes: ...


class Program(msgspec.Struct, frozen=True):
    """A command line that gets the bytes to sign on its standard input and prints the signature, raw or in base64.

    Ed25519: 64 bytes; ECDSA: DER over SHA-256, as `openssl dgst -sha256 -sign` makes it. It runs without a
    shell; its errors go to the terminal. `{}` in it stands for a file with the bytes.
    """

    command: str
    public: PublicKey

    @property
    def keyid(self) -> str:
        return self.public.keyid

    def sign(self, message: bytes) -> bytes:
        """Raises EdgedError bad_key: it failed, or what it printed is no signature of this key."""
        printed = self._run(message)
        candidates = [printed]
        with contextlib.suppress(binascii.Error):
            candidates.append(base64.b64decode(b"".join(printed.split()), validate=True))
        for one in candidates:
            if self.public.verify(one, message):
                return one
        scheme = "ECDSA over SHA-256 as DER" if self.public.scheme == "ecdsa-p256" else "Ed25519, 64 bytes"
        raise EdgedError(
            "bad_key",
            f"{self._name}: what it printed ({len(printed)} bytes) is no signature of the key {self.keyid}",
            f"Is --key its public key? The signature is {scheme}, raw or in base64, over the bytes as they come.",
        )

    def _run(self, message: bytes) -> bytes:
        try:
            words = shlex.split(self.command)
        except ValueError as error:
            raise EdgedError("bad_key", f"--sign-with: {error}", "Quote it as for a shell.") from error
        if not words:
            raise EdgedError("bad_key", "--sign-with names no program")
        with tempfile.NamedTemporaryFile(prefix="edged-", suffix=".pae") as file:
            file.write(message)
            file.flush()
            words = [file.name if word == FILE else word for word in words]
            try:
                done = subprocess.run(  # noqa: S603 - the operator's own program, by the operator's own word
                    words, input=message, stdout=subprocess.PIPE, timeout=_PATIENCE_S, check=False
                )
            except OSError as error:
                raise EdgedError("bad_key", f"{self._name}: {error.strerror}") from error
            except subprocess.TimeoutExpired as error:
                raise EdgedError("bad_key", f"{self._name}: no answer in {_PATIENCE_S:.0f} s") from error
        if done.returncode != 0 or not 0 < len(done.stdout) <= _LARGEST:
            told = f"ended with {done.returncode}, {len(done.stdout)} bytes printed"
            raise EdgedError("bad_key", f"{self._name}: {told}", "It says more above.")
        return done.stdout

    @property
    def _name(self) -> str:
        return self.command.split(" ", 1)[0]


def choose(
    ring: Keyring, keyids: Iterable[str], of: str, ask: Ask, *, key: str = "", command: str = "", needed: bool = True
) -> tuple[Signer, ...]:
    """Who signs where the keys `keyids` count, which are those `of` a role: all that the ring has, or the one `key`.

    `command` signs in the ring's place, with the key whose public half is `key`. An empty `keyids` lets any
    key that is named sign. Raises EdgedError bad_key, also where nobody is left, unless that is
    not `needed`.
    """
    counted = set(keyids)
    if command and not key:
        raise EdgedError("bad_key", "--sign-with needs --key", "--key PUBLIC.pem is the public half of its key.")
    if key:
        public = ring.find(key)
        if counted and public.keyid not in counted:
            raise EdgedError("bad_key", f"the key {public.keyid} is none of {of}", "`edged trust show` lists them.")
        if command:
            return (Program(command, public),)
        counted = {public.keyid}
    found = tuple(ring.unlock(one, ask) for one in ring.held() if one.secret and one.public.keyid in counted)
    if not found and (needed or key):
        raise EdgedError(
            "bad_key",
            f"there is no private key of {of} in {ring.folder}",
            "Sign where one is, with `edged sign`, or with --sign-with and --key.",
        )
    return found


def signed(found: Envelope, signers: Iterable[Signer]) -> Envelope:
    """The envelope with everybody's signature. Raises EdgedError bad_key."""
    for one in signers:
        found = found.with_signature(one.keyid, one.sign(found.signed))
    if len(found.signatures) > SIGNATURES:
        raise EdgedError("bad_key", f"a document has at most {SIGNATURES} signatures", "Make it anew, and sign that.")
    return found


def missing(found: Envelope, trust: Trust, role: RoleName) -> int:
    """How many signatures the role's threshold still wants; 0 when there are enough."""
    return max(0, trusts.role_of(trust, role).threshold - len(trusts.signers(trust, role, found)))
