"""`edged fleet forget`: what the broker keeps of a box that does not come back goes."""

from __future__ import annotations

import argparse
import secrets
import sys
from typing import TYPE_CHECKING, Any, Final

from edged.errors import EdgedError
from edged.topics import RESERVED_DEVICES, Ota, is_name

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from edged.fleet.kept import Kept
    from edged.transports.mqtt.retained import Heard, Retained

_ROUNDS: Final = 3  # of a broker that keeps so much of a box that it leaves some out of a list


def arguments(verbs: Any) -> None:
    forget = verbs.add_parser(
        "forget",
        help="a box that does not come back: what the broker keeps of it goes",
        description="Takes away every message that the broker keeps under the box's own topics, and the orders for it "
        "alone. Nothing happens on the box: should it connect again, it is back in the list, and follows the orders "
        "for all and for its groups.",
    )
    forget.add_argument("box", metavar="BOX")
    forget.add_argument("--yes", action="store_true", help="do not ask")
    forget.add_argument("--force", action="store_true", help="though the broker says that it is online")


def run(args: argparse.Namespace) -> int:
    """0 when nothing of it is left, 1 when somebody thought better of it."""
    from edged.fleet import config
    from edged.fleet.kept import Kept
    from edged.transports.mqtt.retained import Retained

    settings = config.read().broker()
    if not is_name(args.box) or args.box in RESERVED_DEVICES:
        raise EdgedError("bad_config", f"{args.box[:70]!r} is no box's name", "`edged fleet status` lists them.")

    def make(hear: Callable[[Heard], None]) -> Retained:
        return Retained(settings, f"edged-forget-{secrets.token_hex(4)}", hear)

    kept = Kept(make, Ota(settings.base).trust(0))
    try:
        topics = _topics(kept, settings.base, args.box)
        _check(topics, settings.base, args.box, force=args.force)
        if not args.yes and not _agreed(f"{args.box}: {_count(topics)} go from the broker. Go on?"):
            return 1
        gone: set[str] = set()
        for _ in range(_ROUNDS):
            kept.remove(topics)
            gone.update(topics)
            if not (topics := _topics(kept, settings.base, args.box)):
                break
    finally:
        kept.close()
    print(f"{args.box}: {_count(gone)} are gone from the broker")
    return 0


def _topics(kept: Kept, base: str, box: str) -> dict[str, bytes]:
    """What the broker keeps of the box, on a connection of its own: a second answer to one question may lack some."""
    ota, to = Ota(base), f"device/{box}"
    kept.connect()
    found = kept.listed([f"{base}/{box}/#", ota.want("+", to), ota.undo("+", to)])
    status = f"{base}/{box}/status"  # last: whoever is cut short finds the box in the list still
    return {topic: found[topic] for topic in sorted(found, key=lambda topic: (topic == status, topic))}


def _check(topics: dict[str, bytes], base: str, box: str, *, force: bool) -> None:
    """Raises EdgedError for a box of which nothing is kept, and for one that would say it all again."""
    if not topics:
        hint = "`edged fleet status` lists those that it knows."
        raise EdgedError("not_found", f"the broker keeps nothing of a box {box!r} under {base}", hint)
    if topics.get(f"{base}/{box}/status") == b"online" and not force:
        hint = "Stop it first: it would say everything again. A broker that is wrong about it: --force."
        raise EdgedError("busy", f"{box} is online", hint)


def _agreed(question: str) -> bool:
    if not sys.stdin.isatty():
        raise EdgedError("bad_config", "there is nobody to be asked here", "Say --yes.")
    try:
        return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        return False


def _count(topics: Collection[str]) -> str:
    return f"{len(topics)} message{'s' if len(topics) > 1 else ''}"
