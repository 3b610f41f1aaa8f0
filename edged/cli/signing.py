"""The options of every command that signs: which key, what has it, and its passphrase."""

from __future__ import annotations

import argparse
import getpass
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from edged.cli import named
from edged.errors import EdgedError

if TYPE_CHECKING:
    from edged.delivery.documents import Trust
    from edged.delivery.trust import RoleName
    from edged.fleet.keyring import Keyring
    from edged.fleet.signers import Signer
    from edged.fleet.trustbook import TrustBook

_LARGEST: Final = 4096


def arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("signing")
    group.add_argument("--key", metavar="KEY", default="", help="sign with this one: a name, an id or a PEM file")
    group.add_argument(
        "--sign-with",
        metavar="CMD",
        default="",
        help="a program that has the private key to the public --key: the bytes on its stdin ({}: in that file), "
        "the signature on its stdout",
    )
    passphrase_file(group)


def passphrase_file(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    parser.add_argument("--passphrase-file", metavar="FILE", default="", help="its first line opens encrypted keys")


def signers(
    args: argparse.Namespace, ring: Keyring, keyids: Iterable[str], of: str, *, needed: bool = True
) -> tuple[Signer, ...]:
    """Who signs, as `edged.fleet.signers.choose` says. Raises EdgedError bad_key."""
    from edged.fleet.signers import choose

    def ask(name: str) -> bytes:
        return from_file(args.passphrase_file) or asked(f"passphrase of {name}: ")

    return choose(ring, keyids, of, ask, key=args.key, command=args.sign_with, needed=needed)


def of_role(
    args: argparse.Namespace, ring: Keyring, book: TrustBook, role: RoleName
) -> tuple[Trust | None, tuple[Signer, ...]]:
    """The trust document here, and who signs for `role` by it. Without one (None) whatever key is named may sign:
    the boxes know whether it counts. Raises EdgedError no_trust, bad_key.
    """
    from edged.delivery.trust import role_of

    trust = book.anchored().trust if book.newest.exists() or not args.key else None
    keyids = role_of(trust, role).keyids if trust is not None else ()
    return trust, signers(args, ring, keyids, f"the role {role}")


def from_file(name: str) -> bytes:
    """The first line of a passphrase's file; b"" when none is named. Raises EdgedError bad_config, bad_key."""
    if not name:
        return b""
    try:
        with Path(name).open("rb") as file:
            found = file.readline(_LARGEST).rstrip(b"\r\n")
    except OSError as error:
        raise named.unreadable(Path(name), error) from error
    if not found:
        raise EdgedError("bad_key", f"{name}: its first line is empty")
    return found


def asked(prompt: str) -> bytes:
    """A passphrase that is typed. Raises EdgedError bad_key where nobody sits there."""
    if not sys.stdin.isatty():
        raise EdgedError("bad_key", "the key is encrypted", "--passphrase-file FILE opens it without a question.")
    return getpass.getpass(prompt).encode()
