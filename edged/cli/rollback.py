"""`edged rollback`: goes back to the version before, on this box."""

from __future__ import annotations

import argparse
from typing import Final

from edged.cli import local

HELP = "go back to the version of a model that ran before, and hold it there until `edged unpin`"
EXAMPLES = """
edged rollback digits
"""

_LOADING_S: Final = 180.0  # the version before may have to be loaded


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL")
    local.arguments(parser)


def run(args: argparse.Namespace) -> int:
    daemon = local.connect(args, _LOADING_S)
    status = daemon.post(f"/edged/models/{local.segment(args.model)}/rollback").json()
    active = status.get("active") if isinstance(status, dict) else None
    version = active.get("version", "") if isinstance(active, dict) else ""
    print(f"{args.model}: version {version} answers again, held until `edged unpin {args.model}`")
    return 0
