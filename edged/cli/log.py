"""`edged log`: the audit of this box, read from its files; needs no daemon."""

from __future__ import annotations

import argparse
import datetime
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from edged.cli.words import plain
from edged.config.places import places
from edged.errors import EdgedError

if TYPE_CHECKING:
    from edged.delivery.audit import Entry
    from edged.delivery.history import Question

HELP = "show what was decided on this box: pushes, switches, rollbacks, reloads; 1 where the chain is broken"
EXAMPLES = """
edged log
edged log digits --since 1d
edged log --json | jq .
"""

_SERVICE: Final = Path("/var/lib/edged")


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", nargs="?", default="", help="this model's alone (default: all)")
    parser.add_argument("--since", metavar="1d", default="", help="the newest ones, such as 2h or 7d")
    parser.add_argument("--json", action="store_true", help="the lines as they are, one JSON object each")


def run(args: argparse.Namespace) -> int:
    """0 where the chain is whole, whatever was asked for; 1 where it is not, which stderr tells."""
    from edged.delivery.history import walk

    question, intact, found = _question(args), True, False
    try:
        folder = _folder()
        for line, entry, problem in walk(folder, question):
            if problem:
                intact = False
                print(f"edged: the audit is broken: {problem}", file=sys.stderr)
            if entry is None:
                continue
            found = True
            print(line.decode(errors="replace") if args.json else _shown(entry))
    except BrokenPipeError:  # of what is printed, not of a file
        raise
    except PermissionError as error:
        hint = "Join its group and log in again: sudo usermod -aG edged $USER"
        raise EdgedError("forbidden", f"{error.filename}: no access", hint) from error
    except OSError as error:
        raise EdgedError("no_state", f"{error.filename}: {error.strerror}") from error
    if not found and not args.json:
        since = f" in the last {args.since}" if args.since else ""
        print(f"edged: nothing about {args.model or 'anything'}{since} in the audit in {folder}", file=sys.stderr)
    return 0 if intact else 1


def _folder(environment: Mapping[str, str] = os.environ) -> Path:
    """This user's state directory, or the service's where this user has no audit of their own."""
    from edged.delivery.trail import NAME

    own = places(environment).state
    for folder in (own, _SERVICE):
        try:
            (folder / NAME).stat()
        except FileNotFoundError:
            continue
        return folder
    where = " or ".join(dict.fromkeys(map(str, (own, _SERVICE))))
    raise EdgedError("no_state", f"there is no audit in {where}", "Has edged run on this box?")


def _question(args: argparse.Namespace) -> Question:
    from edged.delivery.history import Question, since

    try:
        return Question(args.model, since(args.since, datetime.datetime.now(datetime.UTC)))
    except ValueError as error:
        raise EdgedError("bad_config", f"--since {args.since}: {error}", "Such as 30m, 12h or 7d.") from error


def _shown(entry: Entry) -> str:
    """`2026-11-26 05:40:12Z  digits  rolled_back  back to version 1: ... [undone] by uid 0`."""
    parts = [entry.ts[:19].replace("T", " ") + "Z", f"{entry.model or '-':12}", f"{entry.event:16}", entry.message]
    if entry.code:
        parts.append(f"[{entry.code}]")
    if entry.by:
        parts.append(f"by {entry.by}")
    if entry.count > 1:
        parts.append(f"({entry.count} times)")
    return plain("  ".join(parts))
