"""`edged pin`: holds a model at a version against every want."""

from __future__ import annotations

import argparse
from typing import Final

from edged.cli import local

HELP = "hold a model at a version that is on this box, whatever is wanted, until `edged unpin`"
EXAMPLES = """
edged pin digits 3
"""

_LOADING_S: Final = 180.0  # the version may have to be loaded


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument("version", metavar="VERSION", type=int, help="the one that answers, or the one before it")
    local.arguments(parser)


def run(args: argparse.Namespace) -> int:
    daemon = local.connect(args, _LOADING_S)
    daemon.post(f"/edged/models/{local.segment(args.model)}/pin", {"version": args.version})
    print(f"{args.model}: held at version {args.version} until `edged unpin {args.model}`")
    return 0
