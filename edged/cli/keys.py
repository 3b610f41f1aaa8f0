"""`edged keys`: the operator's keys."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from edged.cli import signing
from edged.errors import EdgedError

if TYPE_CHECKING:
    from edged.fleet.config import Fleet
    from edged.fleet.keyring import Held, Keyring

HELP = "make and list the keys that sign releases, orders and trust documents"
EXAMPLES = """
edged keys new root release deploy
edged keys new root --passphrase
edged keys new deploy --scheme ecdsa-p256
edged keys show
edged keys show release > release.pub.pem
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    new = actions.add_parser("new", help="make a key: NAME.pem, for you alone, and NAME.pub.pem")
    new.add_argument("names", metavar="NAME", nargs="+")
    new.add_argument("--scheme", choices=("ed25519", "ecdsa-p256"), default="ed25519", help="default: %(default)s")
    new.add_argument("--passphrase", action="store_true", help="ask for one and encrypt the private half")
    signing.passphrase_file(new)
    show = actions.add_parser("show", help="list the keys, or print the public half of one")
    show.add_argument("name", metavar="NAME", nargs="?", default="", help="a name or an id")
    show.add_argument("--json", action="store_true")


def run(args: argparse.Namespace) -> int:
    from edged.fleet import config
    from edged.fleet.keyring import Keyring

    fleet = config.read()
    ring = Keyring(fleet.keys)
    if args.action == "new":
        return _new(args, ring)
    if args.name:
        print(ring.find(args.name).pem().decode(), end="")
        return 0
    return _list(args, fleet, ring)


def _new(args: argparse.Namespace, ring: Keyring) -> int:
    passphrase = signing.from_file(args.passphrase_file)
    if args.passphrase and not passphrase:
        passphrase = signing.asked("passphrase: ")
        if not passphrase:
            raise EdgedError("bad_key", "the passphrase is empty", "Without --passphrase there is none.")
        if signing.asked("again: ") != passphrase:
            raise EdgedError("bad_key", "the two passphrases differ")
    for name in args.names:
        public = ring.create(name, args.scheme, passphrase or None)
        print(f"{name}: {public.scheme} {public.keyid} in {ring.folder}")
    return 0


def _list(args: argparse.Namespace, fleet: Fleet, ring: Keyring) -> int:
    from edged.cli.words import columns
    from edged.delivery.trust import roles_of
    from edged.fleet.trustbook import TrustBook

    book = TrustBook(fleet.trust)
    trust = book.anchored().trust if book.newest.exists() else None
    rows = [(one, roles_of(trust, one.public.keyid) if trust else ()) for one in ring.held()]
    if args.json:
        print(json.dumps([_shown(one, roles) for one, roles in rows], indent=2))
    elif not rows:
        print(f"no keys in {ring.folder}: `edged keys new root release deploy` makes three")
    else:
        table = [["NAME", "ID", "SCHEME", "PRIVATE HALF", "ROLES"]]
        for one, roles in rows:
            table.append([one.name, one.public.keyid, one.public.scheme, _where(one), ", ".join(roles) or "-"])
        print("\n".join(columns(table)))
    return 0


def _shown(one: Held, roles: Sequence[str]) -> dict[str, object]:
    public = one.public
    return {
        "name": one.name,
        "keyid": public.keyid,
        "scheme": public.scheme,
        "private": _where(one),
        "roles": list(roles),
    }


def _where(one: Held) -> str:
    return "elsewhere" if not one.secret else "encrypted" if one.encrypted else "here"
