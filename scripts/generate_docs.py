"""Writes the documents that are made from the code: docs/errors.md from the table of codes.

generate_docs.py            writes them
generate_docs.py --check    exits 1 when one differs from what it would write
"""

from __future__ import annotations

import sys
from pathlib import Path

from edged.errors import CODES

ROOT = Path(__file__).resolve().parent.parent


def errors() -> str:
    """docs/errors.md: one line a code."""
    lines = [
        "# Error codes",
        "",
        "Made by `scripts/generate_docs.py` from `edged/errors.py`; change it there.",
        "",
        "Every error has a stable `code`, a `message` that says what happened and a `hint` that says what to do.",
        'Over HTTP it is `{"error": message, "code", "hint"}` with the status below; over MQTT it is',
        '`{"id", "code", "message", "hint"}`; on the command line the program prints the same and exits 1,',
        "or 2 for `bad_config`. Scripts key on `code`.",
        "",
        "| code | HTTP | means | hint, where nothing better is known |",
        "|---|---|---|---|",
    ]
    lines += [f"| `{code}` | {one.http} | {one.means} | {one.hint} |" for code, one in CODES.items()]
    return "\n".join(lines) + "\n"


DOCUMENTS = {"docs/errors.md": errors}


def main() -> int:
    stale = [name for name, make in DOCUMENTS.items() if not _is(ROOT / name, make())]
    if sys.argv[1:] == ["--check"]:
        for name in stale:
            print(f"{name} is not up to date: run scripts/generate_docs.py")
        return int(bool(stale))
    for name in stale:
        (ROOT / name).write_text(DOCUMENTS[name]())
        print(f"wrote {name}")
    return 0


def _is(path: Path, text: str) -> bool:
    return path.exists() and path.read_text() == text


if __name__ == "__main__":
    sys.exit(main())
