"""`edged sign`: adds a signature to a release, or to a trust document on its way."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from edged.cli import signing
from edged.errors import EdgedError

if TYPE_CHECKING:
    from edged.delivery.envelope import Envelope
    from edged.fleet.keyring import Keyring
    from edged.fleet.trustbook import TrustBook

HELP = "sign a release, or a trust document on its way, with the keys that are here"
EXAMPLES = """
edged sign releases/digits-7
edged sign releases/digits-7 --key ci
edged sign releases/digits-7 --key card.pub.pem --sign-with "openssl dgst -sha256 -sign card.pem"
edged sign /media/stick/4.draft.json
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "what", metavar="RELEASE", help="a release's folder, whose files are looked at, or the file of a document"
    )
    signing.arguments(parser)


def run(args: argparse.Namespace) -> int:
    from edged.delivery import envelope
    from edged.delivery.documents import RELEASE_FILE
    from edged.delivery.strict import Malformed
    from edged.fleet import config
    from edged.fleet.keyring import Keyring
    from edged.fleet.trustbook import TrustBook, read

    fleet = config.read()
    ring, book = Keyring(fleet.keys), TrustBook(fleet.trust)
    path = Path(args.what)
    path = path / RELEASE_FILE if path.is_dir() else path
    try:
        found = envelope.decode(read(path), "release", "trust")
    except FileNotFoundError as error:
        raise EdgedError("bad_config", f"there is no {path}", "Name a release's folder, or a file to sign.") from error
    except Malformed as error:
        raise EdgedError("bad_document", f"{path}: {error}") from error
    return _release(args, path, found, ring, book) if found.kind == "release" else _trust(args, path, found, ring, book)


def _release(args: argparse.Namespace, path: Path, found: Envelope, ring: Keyring, book: TrustBook) -> int:
    from edged.delivery.documents import read_release
    from edged.delivery.strict import Malformed
    from edged.fleet.signers import missing, signed
    from edged.fleet.trustbook import write

    try:
        release = read_release(found.payload)
    except Malformed as error:
        raise EdgedError("bad_document", f"{path}: {error}") from error
    if Path(args.what).is_dir():
        from edged.fleet.checking import check

        check(Path(args.what), None)  # a signature is worth what its giver has looked at
    trust, signers = signing.of_role(args, ring, book, "release")
    found = signed(found, signers)
    write(path, found.encode())
    names = ", ".join(one.keyid for one in signers)
    print(f"{release.model} version {release.version} ({found.sha256[:12]}): signed by {names}")
    if trust is None:
        print(f"edged: no trust document at {book.newest} says whether that key counts", file=sys.stderr)
    elif lack := missing(found, trust, "release"):
        print(f"  {lack} more of {len(trust.roles.release.keyids)} keys have to sign it")
    return 0


def _trust(args: argparse.Namespace, path: Path, found: Envelope, ring: Keyring, book: TrustBook) -> int:
    from edged.cli.trust import lines, roots, tell
    from edged.fleet.signers import signed
    from edged.fleet.trustbook import opened, write

    _, document = opened(found.encode())
    before = book.anchored().trust if book.newest.exists() else None
    print("\n".join(lines(document, ring)))
    # A key that goes counts for the version before, which an offline machine may not have: then it is to be named.
    keyids = roots(before, document) if before is not None or not args.key else ()
    found = signed(found, signing.signers(args, ring, keyids, "the role root"))
    draft = book.draft()
    if draft is not None and draft.path.resolve() == path.resolve():
        return tell(book.keep(draft, found), ring, book)
    write(path, found.encode())
    print(f"signed: bring it back and `edged trust accept {path.name}`")
    return 0
