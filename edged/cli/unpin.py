"""`edged unpin`: ends what `edged pin` and `edged rollback` began."""

from __future__ import annotations

import argparse

from edged.cli import local

HELP = "let a model follow what is wanted again, after `edged pin` or `edged rollback`"
EXAMPLES = """
edged unpin digits
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL")
    local.arguments(parser)


def run(args: argparse.Namespace) -> int:
    local.connect(args).post(f"/edged/models/{local.segment(args.model)}/unpin")
    print(f"{args.model}: follows what is wanted again")
    return 0
