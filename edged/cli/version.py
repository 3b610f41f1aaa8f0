"""`edged version`: which edged this is, and every package beside it, for whoever keeps account of them."""

from __future__ import annotations

import argparse
import json
import platform
import re
from importlib import metadata
from typing import Any, Final

import edged

HELP = "say which edged this is, and with which packages and licences"
EXAMPLES = """
edged version
edged version --json
edged version --json | jq -r '.packages[] | [.name, .version, .licence] | @tsv'
"""

_LICENCE: Final = 80  # characters: some put all of the text there
_CLASSIFIER: Final = "License :: "


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--json",
        action="store_true",
        help="one JSON object: edged, python, platform, onnxruntime, and all packages with version, licence and purl",
    )


def run(args: argparse.Namespace) -> int:
    print(json.dumps(bill(), indent=2) if args.json else f"edged {edged.__version__}")
    return 0


def bill() -> dict[str, Any]:
    """The bill of materials: what runs here, and every package that this Python would import something from."""
    from edged.worker.session import installed

    version, providers = installed()
    libc, libc_version = platform.libc_ver()
    return {
        "edged": edged.__version__,
        "python": platform.python_version(),
        "platform": {
            "system": platform.system().lower(),
            "release": platform.release(),
            "machine": platform.machine(),
            "libc": f"{libc} {libc_version}".strip(),
        },
        "onnxruntime": {"version": version, "providers": list(providers)},
        "packages": packages(),
    }


def packages() -> list[dict[str, str | None]]:
    """Each with `name`, `version`, `licence` (None: it does not say) and `purl`, in the order of their names.

    Of two with one name the first on Python's path counts, as for an import.
    """
    found: dict[str, dict[str, str | None]] = {}
    for one in metadata.distributions():
        if not one.metadata["Name"]:  # a folder that somebody has begun to remove
            continue
        name = re.sub(r"[-_.]+", "-", one.metadata["Name"]).lower()  # the Python packaging specification's normal form
        purl = f"pkg:pypi/{name}@{one.version}"  # package-url's specification of the type pypi
        found.setdefault(name, {"name": name, "version": one.version, "licence": licence(one.metadata), "purl": purl})
    return [found[name] for name in sorted(found)]


def licence(said: metadata.PackageMetadata) -> str | None:
    """What a package says of it: an SPDX expression, else its own words where they are a name, else its classifiers."""
    fields = said.json
    words = str(fields.get("license_expression") or fields.get("license") or "").strip()
    if words and "\n" not in words and len(words) <= _LICENCE:
        return words
    named = [str(one) for one in fields.get("classifier") or [] if str(one).startswith(_CLASSIFIER)]
    return " OR ".join(sorted({one.rpartition(" :: ")[2] for one in named})) or None
