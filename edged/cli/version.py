"""`edged version`: which edged this is, and which packages it runs with."""

from __future__ import annotations

import argparse
import json
import platform
import re
from importlib import metadata

import edged

HELP = "say which edged this is and which packages it runs with"
EXAMPLES = """
edged version
edged version --json
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--json",
        action="store_true",
        help="one JSON object, with every installed package",
    )


def run(args: argparse.Namespace) -> int:
    found = {
        "edged": edged.__version__,
        "python": platform.python_version(),
        "packages": packages(),
    }
    print(json.dumps(found, indent=2) if args.json else f"edged {edged.__version__}")
    return 0


def packages() -> dict[str, str]:
    """The version of each installed package that edged asks for; none when it runs from a bare folder."""
    try:
        wanted = metadata.requires("edged") or []
    except metadata.PackageNotFoundError:
        return {}
    found = {}
    for line in wanted:
        name = re.split(r"[^A-Za-z0-9_.-]", line, maxsplit=1)[0]
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue  # an extra that is not installed
    return found
