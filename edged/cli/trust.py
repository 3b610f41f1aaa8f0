"""`edged trust`: the documents that say whose signatures the boxes believe."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from edged.cli import brokers, signing
from edged.errors import EdgedError

if TYPE_CHECKING:
    from edged.delivery.documents import Trust
    from edged.delivery.keys import PublicKey
    from edged.delivery.trust import RoleName
    from edged.fleet.config import Fleet
    from edged.fleet.keyring import Keyring
    from edged.fleet.trustbook import Draft, TrustBook

HELP = "say whose signatures the boxes believe: keys by role, bans; 1 where signatures are missing"
EXAMPLES = """
edged trust init
edged trust init --root anna --root otto --threshold root=2 --release ci --deploy anna
edged trust show
edged trust rotate --add release=ci-2 --drop release=ci --expires 365d
edged trust rotate --add deploy=anna-2 --drop deploy=anna --new-epoch
edged trust rotate --min-version digits=3
edged trust ban releases/digits-7 --reason "wrong labels"
edged trust unban releases/digits-7
edged trust revoke 3f2c9a81d07b6e54
edged trust accept /media/stick/4.draft.json
edged trust publish
"""

_ROLES: Final = ("root", "release", "deploy")


def arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    init = actions.add_parser("init", help="version 1: which key has which role")
    for role in _ROLES:
        init.add_argument(
            f"--{role}", metavar="KEY", action="append", help=f"a name, an id or a PEM file (default: the key {role})"
        )
    rotate = actions.add_parser("rotate", help="the next version: other keys, another end, floors, a new epoch")
    rotate.add_argument("--add", metavar="ROLE=KEY", action="append", default=[])
    rotate.add_argument("--drop", metavar="ROLE=KEY", action="append", default=[])
    rotate.add_argument(
        "--min-version",
        metavar="MODEL=N",
        action="append",
        default=[],
        help="nothing below it is installed; 0: no floor",
    )
    rotate.add_argument("--new-epoch", action="store_true", help="after a theft: sequences of orders begin anew")
    for one, otherwise in ((init, "never"), (rotate, "as before")):
        one.add_argument(
            "--threshold", metavar="ROLE=N", action="append", default=[], help="how many keys have to sign"
        )
        one.add_argument("--expires", metavar="365d", default="", help=f"in so long, or never (default: {otherwise})")
    ban = actions.add_parser("ban", help="boxes that run the release go back, and none installs it")
    ban.add_argument("release", metavar="RELEASE", help="its folder or its hash")
    ban.add_argument("--reason", metavar="TEXT", default="")
    unban = actions.add_parser("unban", help="take a ban back")
    unban.add_argument("release", metavar="RELEASE", help="its folder or its hash")
    revoke = actions.add_parser("revoke", help="a key counts no more; what runs by it stays, flagged")
    revoke.add_argument("keyid", metavar="KEYID", help="its id or its name")
    for one in (init, rotate, ban, unban, revoke):
        signing.arguments(one)
    accept = actions.add_parser("accept", help="take the signatures of a version that was signed elsewhere")
    accept.add_argument("file", metavar="FILE")
    publish = actions.add_parser("publish", help="bring every version to the broker, where the boxes get it")
    brokers.arguments(publish)
    show = actions.add_parser("show", help="the newest version, and the one on its way")
    show.add_argument("file", metavar="FILE", nargs="?", default="", help="another document")


def run(args: argparse.Namespace) -> int:
    """0 where the version is in force, 1 where signatures are missing."""
    from edged.fleet import config
    from edged.fleet.keyring import Keyring
    from edged.fleet.trustbook import TrustBook

    fleet = config.read()
    ring, book = Keyring(fleet.keys), TrustBook(fleet.trust)
    if args.action == "show":
        return _show(args.file, ring, book)
    if args.action == "publish":
        return _publish(args, fleet, book)
    if args.action == "accept":
        return tell(book.accept(_content(args.file)), ring, book)
    before = None if args.action == "init" else book.anchored().trust
    document = _first(args, ring, book) if before is None else _next(args, ring, before)
    draft = book.propose(document)
    signers = signing.signers(args, ring, roots(before, document), "the role root", needed=False)
    from edged.fleet.signers import signed

    return tell(book.keep(draft, signed(draft.envelope, signers)), ring, book)


def _publish(args: argparse.Namespace, fleet: Fleet, book: TrustBook) -> int:
    from edged.fleet.pushing import publish_trust

    anchored, versions = book.anchored(), book.versions()
    publish_trust(brokers.of_fleet(args, fleet), versions, anchored)
    print(f"the broker has trust version {anchored.trust.version}, and every one before it")
    return 0


def roots(before: Trust | None, document: Trust) -> list[str]:
    """The keys whose signatures count for `document`."""
    return [*document.roles.root.keyids, *(before.roles.root.keyids if before else ())]


def tell(draft: Draft, ring: Keyring, book: TrustBook) -> int:
    """Says whether the version is in force, and where not, who has to sign yet."""
    version = draft.trust.version
    if not draft.lacks:
        print(f"trust version {version} is in force here: {book.newest}")
        told = "boxes get it with `edged trust publish`, and with each `edged push`"
        print(told if version > 1 else "boxes get it as their push.trust")
        return 0
    print(f"trust version {version} lacks signatures: {draft.path}")
    for lack in draft.lacks:
        who = ", ".join(_called(ring, keyid) for keyid in lack.keyids)
        print(f"  {lack.count} more of the root keys of version {lack.version}: {who}")
    print("  carry the file there, `edged sign FILE`, and bring it back: `edged trust accept FILE`")
    return 1


def lines(trust: Trust, ring: Keyring) -> list[str]:
    """What a trust document says, for people."""
    from edged.cli.words import plain

    ends = "no end" if trust.expires is None else f"ends {_date(trust.expires)}"
    found = [f"trust version {trust.version}, epoch {trust.epoch}, {ends}"]
    for role, of in (("root", trust.roles.root), ("release", trust.roles.release), ("deploy", trust.roles.deploy)):
        who = ", ".join(f"{_called(ring, keyid)} ({trust.keys[keyid].scheme})" for keyid in of.keyids)
        found.append(f"  {role:<8} {of.threshold} of {len(of.keyids)}: {who}")
    found += [f"  floor    {model}: version {least}" for model, least in sorted(trust.min_version.items())]
    found += [f"  banned   {sha256}: {plain(why) or 'no reason given'}" for sha256, why in sorted(trust.banned.items())]
    return found


def _show(file: str, ring: Keyring, book: TrustBook) -> int:
    from edged.fleet.trustbook import opened

    if file:
        print("\n".join(lines(opened(_content(file))[1], ring)))
        return 0
    if book.newest.exists():
        print("\n".join(lines(book.anchored().trust, ring)))
    draft = book.draft()
    if draft is None:
        book.anchored()  # which says that there is none
        return 0
    print("\n".join(["on its way:", *lines(draft.trust, ring)]))
    return tell(draft, ring, book)


def _first(args: argparse.Namespace, ring: Keyring, book: TrustBook) -> Trust:
    from edged.fleet.successors import first

    if book.newest.exists():
        raise EdgedError(
            "bad_config", f"{book.newest} is there already", "`edged trust rotate` makes the next version."
        )
    keys: dict[RoleName, list[PublicKey]] = {
        "root": [ring.find(word) for word in args.root or ["root"]],
        "release": [ring.find(word) for word in args.release or ["release"]],
        "deploy": [ring.find(word) for word in args.deploy or ["deploy"]],
    }
    return first(keys, _counts(args.threshold), _expires(args.expires))


def _next(args: argparse.Namespace, ring: Keyring, before: Trust) -> Trust:
    import msgspec

    from edged.fleet import successors

    if args.action == "ban":
        return successors.banned(before, _release(args.release), args.reason)
    if args.action == "unban":
        return successors.unbanned(before, _release(args.release))
    if args.action == "revoke":
        return successors.revoked(before, _keyid(ring, before, args.keyid))
    add: dict[RoleName, list[PublicKey]] = {}
    drop: dict[RoleName, list[str]] = {}
    for role, word in _pairs("--add", args.add):
        add.setdefault(_role(role), []).append(ring.find(word))
    for role, word in _pairs("--drop", args.drop):
        drop.setdefault(_role(role), []).append(_keyid(ring, before, word))
    expires = {"expires": _expires(args.expires)} if args.expires else {}
    found = successors.following(
        before,
        add=add,
        drop=drop,
        thresholds=_counts(args.threshold),
        min_version={
            model: _number("--min-version", number) for model, number in _pairs("--min-version", args.min_version)
        },
        new_epoch=args.new_epoch,
        **expires,
    )
    if found == msgspec.structs.replace(before, version=found.version):
        raise EdgedError("bad_config", "nothing would change", "To renew it: `edged trust rotate --expires 365d`.")
    return found


def _keyid(ring: Keyring, trust: Trust, word: str) -> str:
    """The id that is meant; a key whose file is gone is known to the trust document all the same."""
    keyid = word if word in trust.keys else ring.id_of(word)
    if keyid not in trust.keys:
        raise EdgedError("bad_config", f"{word} is no key that the boxes believe", "`edged trust show` lists them.")
    return keyid


def _release(word: str) -> str:
    from edged.delivery import envelope
    from edged.delivery.documents import RELEASE_FILE, is_hash
    from edged.delivery.strict import Malformed

    if is_hash(word):
        return word
    path = Path(word)
    try:
        return envelope.decode(_content(str(path / RELEASE_FILE if path.is_dir() else path)), "release").sha256
    except Malformed as error:
        raise EdgedError("bad_release", f"{word}: {error}") from error


def _content(file: str) -> bytes:
    from edged.fleet.trustbook import read

    try:
        return read(Path(file))
    except FileNotFoundError as error:
        raise EdgedError("bad_config", f"{file} does not exist", "") from error


def _pairs(option: str, words: Iterable[str]) -> list[tuple[str, str]]:
    found = [word.partition("=")[::2] for word in words]
    for (left, right), word in zip(found, words, strict=True):
        if not left or not right:
            raise EdgedError("bad_config", f"{option} {word}: two words with = between are expected", "")
    return found


def _role(word: str) -> RoleName:
    from edged.delivery.trust import ROLES

    for role in ROLES:
        if role == word:
            return role
    raise EdgedError("bad_config", f"{word} is no role", f"The roles are {', '.join(ROLES)}.")


def _counts(words: Iterable[str]) -> dict[RoleName, int]:
    return {_role(role): _number("--threshold", number) for role, number in _pairs("--threshold", words)}


def _number(option: str, word: str) -> int:
    if not word.isascii() or not word.isdigit() or len(word) > 9:
        raise EdgedError("bad_config", f"{option} {word}: a whole number is expected", "")
    return int(word)


def _expires(word: str) -> int | None:
    from edged.config.units import Duration

    if word in ("", "never"):
        return None
    try:
        return int((time.time() + Duration.parse(word)) * 1000)
    except ValueError as error:
        raise EdgedError("bad_config", f"--expires {word}: {error}", "For example 365d, or never.") from error


def _called(ring: Keyring, keyid: str) -> str:
    name = ring.name_of(keyid)
    return f"{name} {keyid}" if name else keyid


def _date(at_ms: int) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(min(at_ms / 1000, 253402300799)))
